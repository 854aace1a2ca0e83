//! A call: a tool with canonical arguments, by somebody.

use alloc::{
    borrow::ToOwned as _,
    string::{String, ToString as _},
    sync::Arc,
    vec::Vec,
};
use core::fmt::{self, Write as _};

use countersign_audit::canonical::{CanonicalError, canonical_digest_of_any_depth, to_canonical_string};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    id::{AgentId, ApprovalId, CallId, PersonId, SessionId, TeamName, ToolName, ToolVersion},
    tool::ToolSpec,
};

/// The field that every advertised tool has for the agent's stated reason. It is recorded, and stripped
/// before anything else sees the call. It begins with a letter, because some frameworks' models take no other name.
pub const REASON_FIELD: &str = "countersign_reason";
/// Every name under which a reason is taken: the one that is advertised, and the one that was before.
pub const REASON_FIELDS: &[&str] = &[REASON_FIELD, "_reason"];

/// A requester proposes calls. The front door authenticates it; it is never taken from the call itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// This agent proposes.
    pub agent: AgentId,
    /// The teams the agent belongs to, by configuration.
    pub teams: Vec<TeamName>,
    /// The call came in this session, to which limits and history attach.
    pub session: SessionId,
    /// The person the agent acts for, by configuration or token. Never an approver of its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<PersonId>,
}

impl Requester {
    /// Returns true if a person would answer for a call of their own: as the agent itself, or as whom it acts for.
    #[must_use]
    pub fn is_own(&self, person: &PersonId) -> bool {
        person.as_str() == self.agent.as_str() || self.on_behalf_of.as_ref() == Some(person)
    }
}

/// An agent proposed this, and nothing of it was checked yet.
#[derive(Debug, Clone)]
pub struct RawCall {
    /// The agent wrote this name of the tool.
    pub tool: String,
    /// The arguments, as the agent wrote them; may hold the reserved [`REASON_FIELD`].
    pub arguments: Value,
    /// The key by which the agent can repeat the call, where it gave one.
    pub key: Option<IdempotencyKey>,
    /// The place in its client's trace that the call came from, where that was said.
    pub trace: Option<TraceParent>,
}

/// This is a place in somebody's trace: the trace and the span (W3C Trace Context, `traceparent`).
///
/// Whoever calls makes it up, so that it is shown in traces and is good for nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    trace: u128,
    span: u64,
}

/// The text is no place in a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no `traceparent` of W3C Trace Context")]
pub struct BadTraceParent;

impl TraceParent {
    /// Parses `version-trace-span-flags`. Of later versions, what this one knows is read. The flags are not: whether we
    /// trace is for us to say.
    ///
    /// # Errors
    /// Fails with [`BadTraceParent`] if the text is of another form.
    pub fn parse(text: &str) -> Result<Self, BadTraceParent> {
        let hexadecimal = |part: &str, digits: usize| {
            let fits = part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if fits { Ok(()) } else { Err(BadTraceParent) }
        };
        let mut parts = text.split('-');
        let mut part = |digits| {
            let part = parts.next().ok_or(BadTraceParent)?;
            hexadecimal(part, digits).map(|()| part)
        };
        let (version, trace, span, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(BadTraceParent);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_no_number| BadTraceParent)?;
        let span = u64::from_str_radix(span, 16).map_err(|_no_number| BadTraceParent)?;
        // Zeros are how nothing is written.
        if trace == 0 || span == 0 { Err(BadTraceParent) } else { Ok(Self { trace, span }) }
    }

    /// Returns the trace.
    #[must_use]
    pub const fn trace(&self) -> u128 {
        self.trace
    }

    /// Returns the span.
    #[must_use]
    pub const fn span(&self) -> u64 {
        self.span
    }
}

impl TryFrom<String> for TraceParent {
    type Error = BadTraceParent;
    fn try_from(text: String) -> Result<Self, BadTraceParent> {
        Self::parse(&text)
    }
}

impl From<TraceParent> for String {
    fn from(place: TraceParent) -> Self {
        alloc::format!("{place}")
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// An idempotency key may have at most so many bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// An agent gives a call a key to be able to repeat it: the same key for the same call is the same call.
///
/// Visible ASCII characters, compared as they are. It belongs to the agent, and says nothing to the rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(Arc<str>);

/// The text is no idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters and no blanks")]
pub struct BadIdempotencyKey;

impl IdempotencyKey {
    /// Parses a key.
    ///
    /// # Errors
    /// Returns [`BadIdempotencyKey`] when the text is empty, too long or has another character.
    pub fn parse(text: &str) -> Result<Self, BadIdempotencyKey> {
        let fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(BadIdempotencyKey)
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = BadIdempotencyKey;
    fn try_from(text: String) -> Result<Self, BadIdempotencyKey> {
        Self::parse(&text)
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.as_str().to_owned()
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 over the canonical form of a value (RFC 8785), in hexadecimal.
///
/// # Errors
/// Fails when a number lies where doubles do not tell integers apart: two values that differ there would have one digest.
pub(crate) fn sha256_of(value: &Value) -> Result<String, CanonicalError> {
    canonical_digest_of_any_depth(value).map(|digest| digest.to_string())
}

/// SHA-256 over the canonical form of tool, version and arguments: what an approval is bound to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallDigest([u8; 32]);

impl CallDigest {
    /// Computes the digest of a tool at a version with arguments (RFC 8785 canonical JSON).
    ///
    /// # Errors
    /// Fails when the arguments have no canonical form, as the gate would refuse them: see [`to_canonical_string`].
    pub fn compute(
        tool: &ToolName,
        version: &ToolVersion,
        arguments: &Value,
    ) -> Result<Self, CanonicalError> {
        let arguments = to_canonical_string(arguments)?;
        Ok(Self::of_canonical(tool, version, &arguments))
    }

    /// As [`CallDigest::compute`], for arguments that are in canonical form already.
    #[must_use]
    pub fn of_canonical(tool: &ToolName, version: &ToolVersion, arguments: &str) -> Self {
        // The canonical form of the whole: its keys are in order, and names have nothing to escape.
        let parts = [
            r#"{"arguments":"#,
            arguments,
            r#","tool":""#,
            tool.as_str(),
            r#"","v":1,"version":""#,
            version.as_str(),
            r#""}"#,
        ];
        let hasher = parts.iter().fold(Sha256::new(), |hasher, part| hasher.chain_update(part));
        Self(hasher.finalize().into())
    }

    /// A digest of a tool and of a text that says what some of its calls have in common.
    #[must_use]
    pub fn of_form(tool: &ToolName, form: &str) -> Self {
        let hasher = ["form of ", tool.as_str(), "\n", form];
        Self(hasher.iter().fold(Sha256::new(), |hasher, part| hasher.chain_update(part)).finalize().into())
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Wraps bytes read back from the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for CallDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digits one by one, as for every hash: it is written several times in each call.
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        self.0.iter().try_for_each(|byte| {
            f.write_char(digit(byte >> 4))?;
            f.write_char(digit(byte & 0x0f))
        })
    }
}

impl fmt::Debug for CallDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallDigest({self})")
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a call digest has 64 hexadecimal digits")]
pub struct BadDigest;

impl core::str::FromStr for CallDigest {
    type Err = BadDigest;
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        if text.len() != 64 || !text.is_ascii() {
            return Err(BadDigest);
        }
        let mut bytes = [0_u8; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let at = i.saturating_mul(2);
            let pair = text.get(at..at.saturating_add(2)).ok_or(BadDigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_not_hexadecimal| BadDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for CallDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A parsed call: every check on its form is done. `A` is what the tool made of the arguments.
#[derive(Debug)]
pub struct Call<A> {
    /// We gave the call this id.
    pub id: CallId,
    /// This agent proposes the call.
    pub requester: Requester,
    /// The call is one of this tool, as it is declared.
    pub tool: Arc<ToolSpec>,
    /// The call has these arguments, as validated, without the reason.
    pub arguments: Value,
    /// An approval is bound to this digest over tool, version and arguments.
    pub digest: CallDigest,
    /// The agent says that the call is for this. It is recorded and shown, and never a rule's input.
    pub reason: Option<String>,
    /// The key by which its agent can repeat it.
    pub key: Option<IdempotencyKey>,
    /// This one takes the place of that call of the same proposal, because nothing came of it.
    pub replaces: Option<CallId>,
    /// The equal call of which it is not known whether it happened, and under whose id this one is sent, so that the system
    /// performs it once.
    pub again: Option<CallId>,
    /// The call came from this place in its client's trace.
    pub trace: Option<TraceParent>,
    /// A person made the call out of one that the agent proposed.
    pub narrowed: Option<Narrowed>,
    /// The tool made this of the arguments.
    pub parsed: A,
}

impl<A> Call<A> {
    /// The part that is stored with a request for approval, to be parsed again when it is granted.
    #[must_use]
    pub fn stored(&self) -> StoredCall {
        StoredCall {
            id: self.id.clone(),
            requester: self.requester.clone(),
            tool: self.tool.name.clone(),
            version: self.tool.version.clone(),
            arguments: self.arguments.clone(),
            digest: self.digest,
            reason: self.reason.clone(),
            key: self.key.clone(),
            again: self.again.clone(),
            trace: self.trace.clone(),
            narrowed: self.narrowed.clone(),
        }
    }
}

/// A call as the store keeps it: everything but what the tool made of the arguments, which is made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredCall {
    /// The call has this id.
    pub id: CallId,
    /// This agent proposed the call.
    pub requester: Requester,
    /// The tool's name.
    pub tool: ToolName,
    /// The version of the tool that the request was made for.
    pub version: ToolVersion,
    /// The call has these canonical arguments.
    pub arguments: Value,
    /// The call has this digest over tool, version and arguments.
    pub digest: CallDigest,
    /// The agent said that the call is for this.
    pub reason: Option<String>,
    /// The key by which its agent can repeat it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// The equal call under whose id it is sent; see [`Call::again`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<CallId>,
    /// The call came from this place in its client's trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// A person made the call out of one that the agent proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed: Option<Narrowed>,
}

/// A person changed the arguments of a call that waited for people. The call that came of it is the agent's as before, and is
/// decided as any other; its author cannot approve it in place of those whom the rules ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Narrowed {
    /// People were asked about the agent's own call by this request.
    pub from: ApprovalId,
    /// This person changed it.
    pub by: PersonId,
    /// The person did so for this reason, which reaches the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// This is true if the rules asked nobody about the changed call, which the agent could have made by itself: then its author
    /// may be the one who lets it run.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub free: bool,
    /// This is true if the change only took away, by what the tool's author declares and by what was measured: then its author is
    /// as good as any other of those whom the rules ask.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub less: bool,
}

impl Narrowed {
    /// Returns true if this person changed the call in a way that others have to look at.
    #[must_use]
    pub fn bars(&self, person: &PersonId) -> bool {
        !self.free && !self.less && self.by == *person
    }
}

/// A retry key is what two calls have in common where one is a retry of the other: who asks, and for which digest. The session
/// is not in it, because an agent names as many as it likes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetryKey {
    /// The agent that asks.
    pub agent: AgentId,
    /// The call has this digest over tool, version and arguments.
    pub digest: CallDigest,
}

impl RetryKey {
    /// The key of a call by this requester with this digest.
    #[must_use]
    pub fn new(requester: &Requester, digest: CallDigest) -> Self {
        Self { agent: requester.agent.clone(), digest }
    }

    /// Tells whether a call has this key.
    #[must_use]
    pub fn is_of(&self, call: &StoredCall) -> bool {
        self.digest == call.digest && self.agent == call.requester.agent
    }
}

impl StoredCall {
    /// The key by which a retry of this call is known.
    #[must_use]
    pub fn retry_key(&self) -> RetryKey {
        RetryKey::new(&self.requester, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use countersign_audit::canonical::INTEGER_MAX;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_visible_ascii_and_compared_as_it_is() {
        let longest = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX);
        for good in ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\"quoted\"", "a,b;c=d\\", &longest] {
            assert_eq!(IdempotencyKey::parse(good).unwrap().as_str(), good);
        }
        let longer = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1);
        for bad in ["", " ", "a b", "a\tb", "a\0", "ключ", "k\u{e9}", "\u{7f}", &longer] {
            assert_eq!(IdempotencyKey::parse(bad), Err(BadIdempotencyKey), "{bad:?}");
        }
        assert_ne!(IdempotencyKey::parse("k"), IdempotencyKey::parse("K"));
        assert!(serde_json::from_str::<IdempotencyKey>("\"a b\"").is_err());
    }

    #[test]
    fn a_place_in_a_trace_is_read_as_the_w3c_has_it() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let place = TraceParent::parse(good).unwrap();
        assert_eq!(
            (place.trace(), place.span()),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)
        );
        // Whether it is sampled is not taken over.
        assert_eq!(alloc::format!("{place}"), alloc::format!("{}01", good.get(..53).unwrap()));
        assert_eq!(
            TraceParent::parse(&alloc::format!("01{}-what-comes-later", good.get(2..).unwrap())),
            Ok(place)
        );
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
        ] {
            assert_eq!(TraceParent::parse(bad), Err(BadTraceParent), "{bad}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_canonical_whole() {
        let tool = ToolName::parse("billing:delete_rows").unwrap();
        let version = ToolVersion::parse("sha256:00ff").unwrap();
        let arguments = json!({ "z": [1, 2.5, null], "a": "quote \" and \u{1f600}", "\r": { "b": true } });
        let whole = json!({ "arguments": arguments, "tool": tool, "v": 1, "version": version });
        let bytes = serde_json_canonicalizer::to_vec(&whole).unwrap();
        let expected: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(CallDigest::compute(&tool, &version, &arguments).unwrap().as_bytes(), &expected);
    }

    /// Digests of bundles, slices and policies that stand in a log were made by another implementation of RFC 8785.
    /// `text` ends in what a writer may treat of its own: keys that UTF-16 and UTF-8 order differently, and controls.
    fn any_exact() -> impl Strategy<Value = Value> {
        let text = "[ -~]{0,8}[\u{0}-\u{1f}\\\\\"/\u{7f}\u{80}\u{e9}\u{20ac}\u{d7ff}\u{e000}\u{fb33}\u{ffff}\u{10000}\u{1f600}]{0,4}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-INTEGER_MAX..=INTEGER_MAX).prop_map(Value::from),
            prop_oneof![Just(INTEGER_MAX), Just(-INTEGER_MAX), Just(0)].prop_map(Value::from),
            any::<f64>()
                .prop_filter("doubles that are exact", |x| x.abs() <= 9_007_199_254_740_991.0)
                .prop_map(Value::from),
            (-1e6..1e6_f64).prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 48, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(text, inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn digests_are_those_of_another_implementation(value in any_exact(), deeper in 0_usize..200) {
            let value = (0..deeper).fold(value, |inner, _| json!({ "a": [inner] }));
            let bytes = serde_json_canonicalizer::to_vec(&value).unwrap();
            let expected: [u8; 32] = Sha256::digest(&bytes).into();
            prop_assert_eq!(sha256_of(&value).unwrap(), CallDigest(expected).to_string());
        }
    }

    #[test]
    fn numbers_that_a_digest_would_not_tell_apart_have_none() {
        for (one, other) in [
            (json!(9_007_199_254_740_992_i64), json!(9_007_199_254_740_993_i64)),
            (json!(i64::MAX), json!(i64::MAX - 1)),
            (json!(i64::MIN), json!(i64::MIN + 1)),
            (json!(u64::MAX), json!(1.844_674_407_370_955_2e19)),
        ] {
            let lax = |value: &Value| serde_json_canonicalizer::to_string(value).unwrap();
            assert_eq!(lax(&one), lax(&other));
            assert!(sha256_of(&json!({ "n": one })).is_err());
            assert!(sha256_of(&json!({ "n": other })).is_err());
        }
    }
}
