//! A person's answer to an `ask`, bound to one call and its reach.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use crate::{
    call::{CallDigest, StoredCall},
    decision::{AskOf, grantable, step_up},
    grant::GrantTerms,
    id::{ApprovalId, BundleDigest, DecisionId, GroupName, PasskeyId, PersonId, PolicyId, SliceDigest},
    policy::Policies,
    reach::Reach,
};

/// A request for people's approval: the call, what it was measured to do, and who must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// People, agents and the log name the request by this id.
    pub id: ApprovalId,
    /// The call, to be parsed and decided again when it is granted.
    pub call: StoredCall,
    /// The decision that asked.
    pub decision: DecisionId,
    /// The policies under which it was asked.
    pub bundle: BundleDigest,
    /// This digest covers what of the policies and tools can decide about the call ([`Policies::slice`]). Requests of
    /// older releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<SliceDigest>,
    /// The call was measured to touch this much. It is `None` where nothing was measured.
    pub reach: Option<Reach>,
    /// These groups must approve, every one of them.
    pub of: Vec<AskOf>,
    /// People were asked at this time, in Unix milliseconds UTC.
    pub asked_ms: i64,
    /// The request expires at this time, in Unix milliseconds UTC: the earliest deadline of those asked.
    pub expires_ms: i64,
    /// Other calls of the agent with these digests look the same to people. Requests of older releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alike: Option<Alike>,
    /// People had answered this to such calls of the agent before, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<EarlierAnswer>,
}

/// Calls of one tool that people would take for the same share these digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alike {
    /// Calls that do the same, however they are spelled, have this digest in common.
    pub normal: CallDigest,
    /// Calls that do the same with other values have this digest in common.
    pub shape: CallDigest,
}

/// People gave this answer to an earlier call that is like the one they are asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierAnswer {
    /// The earlier request has this id.
    pub approval: ApprovalId,
    /// This is true if the earlier call does the same, however it is spelled. Otherwise it has other values, or only
    /// the tool in common.
    pub same: bool,
    /// The earlier request stands so now.
    pub state: ApprovalState,
    /// This says why the earlier call was not performed although it was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The last person to answer said this.
    pub answer: Signature,
}

/// A request is in one of these states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// People have not answered yet, or not all of them.
    Waiting,
    /// Everybody asked has approved, and the call is not performed yet.
    Approved,
    /// A person refused.
    Refused,
    /// Nobody answered in time.
    Expired,
    /// It no longer fits: tool, policy or reach changed since. A new request may be opened.
    Superseded,
    /// The one warrant of the request was issued, and its call is being performed.
    Executing,
    /// The call was performed, and its result can be fetched.
    Done,
    /// The call was performed, and failed without effect.
    Failed,
    /// Nobody knows whether the effect happened.
    InDoubt,
    /// The request was granted, and the decision that followed denied the call (a limit, a halt, a policy).
    Blocked,
}

impl ApprovalState {
    /// Every state, in the order in which a request may pass through them.
    pub const ALL: [Self; 10] = [
        Self::Waiting,
        Self::Approved,
        Self::Refused,
        Self::Expired,
        Self::Superseded,
        Self::Executing,
        Self::Done,
        Self::Failed,
        Self::InDoubt,
        Self::Blocked,
    ];

    /// Returns true if the request waits for people, or for its call to be performed: it may still be ended.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Approved)
    }

    /// Returns true if people have granted the request, and its call is about to be performed or is under way.
    #[must_use]
    pub const fn is_granted(self) -> bool {
        matches!(self, Self::Approved | Self::Executing)
    }

    /// Returns true if the state never changes any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Waiting | Self::Approved | Self::Executing => false,
            Self::Refused
            | Self::Expired
            | Self::Superseded
            | Self::Done
            | Self::Failed
            | Self::InDoubt
            | Self::Blocked => true,
        }
    }

    /// Returns the word used in the store, log and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Executing => "executing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::InDoubt => "in_doubt",
            Self::Blocked => "blocked",
        }
    }
}

/// This is one person's answer. The identity comes from authentication, never from a request body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// This person answered.
    pub person: PersonId,
    /// The groups the person was in when answering.
    pub groups: BTreeSet<GroupName>,
    /// This is true if the person approved, and false if the person refused.
    pub approved: bool,
    /// The person said this. It reaches the agent when it is a refusal.
    pub comment: Option<String>,
    /// The answer was given at this time, in Unix milliseconds UTC.
    pub at_ms: i64,
    /// The answer came this way: `cli`, `rest`, …
    pub channel: String,
    /// The person granted this beside the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantTerms>,
    /// The person confirmed this very answer with this passkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<PasskeyId>,
}

/// A person does this about a request. Policies see it as `context.answer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerVerb {
    /// The person approves the call.
    Approve,
    /// The person refuses the call.
    Refuse,
    /// The person makes another call of it.
    Narrow,
    /// The person has the call run and rolled back.
    LookCloser,
    /// The person approves, and grants calls like it beside that: whoever does must be free to approve, too.
    Grant,
}

impl AnswerVerb {
    /// Everything that a person can do about a request.
    pub const ALL: [Self; 5] = [Self::Approve, Self::Refuse, Self::Narrow, Self::LookCloser, Self::Grant];

    /// Returns the word used in policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Refuse => "refuse",
            Self::Narrow => "narrow",
            Self::LookCloser => "look_closer",
            Self::Grant => "grant",
        }
    }
}

/// An answer that does not count is refused for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRefusal {
    /// Nobody approves what they or their agent asked for.
    #[error("`{0}` requested this call and cannot answer for it")]
    OwnRequest(PersonId),
    /// Nobody approves what they made of a call themselves.
    #[error("`{0}` changed this call, and others have to approve it")]
    OwnChange(PersonId),
    /// The person is in none of the groups asked.
    #[error("`{person}` is in none of the groups asked ({asked})")]
    NotAsked {
        /// This person tried to answer.
        person: PersonId,
        /// The groups asked, comma separated.
        asked: String,
    },
    /// The person has answered already.
    #[error("`{0}` has answered this request already")]
    AnsweredAlready(PersonId),
    /// Somebody has approved what was shown, which stays as it is from then on.
    #[error("`{0}` has approved what the request shows, and it stays so")]
    Approved(PersonId),
    /// The request is no longer open.
    #[error("the request is {}", .0.as_str())]
    NotOpen(ApprovalState),
    /// The deadline has passed.
    #[error("the request expired")]
    Expired,
    /// The person grants what no policy that asks lets anybody grant.
    #[error("calls like this one cannot be granted beside it: {}", .0)]
    NotGrantable(String),
    /// A policy forbids it.
    #[error("policy `{policy}` forbids `{person}` {}{}", doing(*.verb), reason(.because.as_deref()))]
    Forbidden {
        /// This person tried to answer.
        person: PersonId,
        /// The person wanted to do this.
        verb: AnswerVerb,
        /// This policy is the first of those that forbid it.
        policy: PolicyId,
        /// They forbid it for this reason, where one of them says so.
        because: Option<String>,
    },
    /// Nobody knows what the policies about answers say.
    #[error("whether it may be answered cannot be told: {0}")]
    NotJudged(String),
    /// The person approves without a passkey where a policy that asks wants one.
    #[error(
        "policy `{0}` wants each approval confirmed with a passkey, which can be done in the console alone"
    )]
    NotSteppedUp(PolicyId),
}

const fn doing(verb: AnswerVerb) -> &'static str {
    match verb {
        AnswerVerb::Approve => "to approve this request",
        AnswerVerb::Refuse => "to refuse this request",
        AnswerVerb::Narrow => "to change the call of this request",
        AnswerVerb::LookCloser => "to look closer at the call of this request",
        AnswerVerb::Grant => "to grant calls like this one",
    }
}

fn reason(because: Option<&str>) -> String {
    because.map(|because| format!(": {because}")).unwrap_or_default()
}

/// Returns true if enough of the right people have approved what is asked of these groups.
#[must_use]
pub fn is_enough(of: &[AskOf], signatures: &[Signature]) -> bool {
    let approving = signatures.iter().filter(|signature| signature.approved);
    are_met(of, approving.map(|signature| (&signature.person, &signature.groups)))
}

/// Returns true if these people, each with their groups, are enough for everything that is asked. Each of them counts
/// for one group, and for all that are shared ([`AskOf::shared`]). Where nothing is asked nobody is enough.
pub(crate) fn are_met<'a>(
    of: &'a [AskOf],
    signers: impl IntoIterator<Item = (&'a PersonId, &'a BTreeSet<GroupName>)>,
) -> bool {
    let mut members: BTreeMap<&GroupName, BTreeSet<&PersonId>> = BTreeMap::new();
    for (person, groups) in signers {
        for group in groups {
            members.entry(group).or_default().insert(person);
        }
    }
    let mut taken = BTreeMap::new();
    let met = |ask: &'a AskOf| {
        let needed = usize::try_from(ask.quorum.max(1)).unwrap_or(usize::MAX);
        members.get(&ask.group).is_some_and(|members| members.len() >= needed)
            && (ask.shared
                || (0..needed).all(|_| place(&members, &mut taken, &ask.group, &mut BTreeSet::new())))
    };
    !of.is_empty() && of.iter().all(met)
}

/// Finds one more person for a group among its `members`, moving others to another group where they were `taken` for this
/// one or that. Returns whether there is one: a matching in a bipartite graph is made larger along an augmenting path
/// (H. W. Kuhn, The Hungarian method for the assignment problem, 1955).
fn place<'a>(
    members: &BTreeMap<&'a GroupName, BTreeSet<&'a PersonId>>,
    taken: &mut BTreeMap<&'a PersonId, &'a GroupName>,
    group: &'a GroupName,
    tried: &mut BTreeSet<&'a PersonId>,
) -> bool {
    for &person in members.get(group).into_iter().flatten() {
        if !tried.insert(person) {
            continue;
        }
        let free = match taken.get(person).copied() {
            None => true,
            // No place is won where somebody else of the same group has to leave.
            Some(other) => other != group && place(members, taken, other, tried),
        };
        if free {
            taken.insert(person, group);
            return true;
        }
    }
    false
}

impl ApprovalRequest {
    /// Returns true if enough of the right people have approved.
    #[must_use]
    pub fn is_met(&self, signatures: &[Signature]) -> bool {
        is_enough(&self.of, signatures)
    }

    /// Returns true if nothing that can decide about its call has changed since it was asked. Where the request does
    /// not say what that is, any change of any policy or tool counts.
    #[must_use]
    pub fn stands_under(&self, policies: &Policies) -> bool {
        let StoredCall { requester, tool, version, .. } = &self.call;
        self.bundle == *policies.bundle()
            || (self.slice.is_some() && self.slice == policies.slice(requester, tool, version))
    }

    /// Tells what state the request is in once `call` has spent the grant. It must be granted, and for that very call: the
    /// gate asks no less, and a grant must not reach further by a defect there.
    ///
    /// # Errors
    /// Returns the state that stands against it; one that was granted for another call is superseded for this one.
    pub fn spend(&self, state: ApprovalState, call: &StoredCall) -> Result<ApprovalState, ApprovalState> {
        if state != ApprovalState::Approved {
            return Err(state);
        }
        let own = self.call.retry_key().is_of(call);
        if own { Ok(ApprovalState::Executing) } else { Err(ApprovalState::Superseded) }
    }

    fn may_grant(&self, terms: GrantTerms, answer: &Signature) -> Result<(), AnswerRefusal> {
        let why = match grantable(&self.of) {
            _ if !answer.approved => "this is a refusal".into(),
            None => "not every policy that asks allows it (`@grant`)".into(),
            Some(_) if self.alike.is_none() => "the request is of an older release".into(),
            Some(bound) if !terms.within(bound, answer.at_ms) => {
                let seconds = bound.ms / 1_000;
                format!("the policies that ask allow 1 to {} calls within {seconds} seconds", bound.calls)
            }
            Some(_) => return Ok(()),
        };
        Err(AnswerRefusal::NotGrantable(why))
    }

    /// Returns what these people grant together beside their approval: nothing unless each of them who approved does, and
    /// then no more than any of them.
    #[must_use]
    pub fn granted(&self, signatures: &[Signature]) -> Option<GrantTerms> {
        let mut terms =
            signatures.iter().filter(|signature| signature.approved).map(|signature| signature.grant);
        let first = terms.next()??;
        terms.try_fold(first, |so_far, terms| Some(so_far.both(terms?)))
    }

    /// Returns true if a grant that was given with this request is about calls like `call`: of the same agent and session, on
    /// the same person's behalf, by the same version of the tool, and of the same shape. Their reach and effect are left to
    /// the decision.
    #[must_use]
    pub fn grants(&self, call: &StoredCall, shape: CallDigest) -> bool {
        self.call.requester == call.requester
            && self.call.tool == call.tool
            && self.call.version == call.version
            && self.alike.is_some_and(|alike| alike.shape == shape)
    }

    /// Checks that a person of these groups is asked by a request in this state, at `now_ms` (Unix milliseconds UTC): then the
    /// person may answer it, look closer at its call, or change that.
    ///
    /// # Errors
    /// Returns [`AnswerRefusal`] if not.
    pub fn may_answer(
        &self,
        state: ApprovalState,
        (person, groups): (&PersonId, &BTreeSet<GroupName>),
        now_ms: i64,
    ) -> Result<(), AnswerRefusal> {
        if state != ApprovalState::Waiting {
            return Err(AnswerRefusal::NotOpen(state));
        }
        if now_ms >= self.expires_ms {
            return Err(AnswerRefusal::Expired);
        }
        if self.call.requester.is_own(person) {
            return Err(AnswerRefusal::OwnRequest(person.clone()));
        }
        if !self.of.iter().any(|ask| groups.contains(&ask.group)) {
            let mut asked = String::new();
            for ask in &self.of {
                if !asked.is_empty() {
                    asked.push_str(", ");
                }
                asked.push_str(ask.group.as_str());
            }
            return Err(AnswerRefusal::NotAsked { person: person.clone(), asked });
        }
        Ok(())
    }

    /// Returns true if this person made the call out of another one, and those whom the rules ask have not looked at it.
    fn is_changed_by(&self, person: &PersonId) -> bool {
        self.call.narrowed.as_ref().is_some_and(|narrowed| narrowed.bars(person))
    }

    /// Tells what state the request is in once `answer` is added to the signatures given so far.
    ///
    /// # Errors
    /// Returns [`AnswerRefusal`], and then nothing changes.
    pub fn answer(
        &self,
        state: ApprovalState,
        signatures: &[Signature],
        answer: &Signature,
    ) -> Result<ApprovalState, AnswerRefusal> {
        self.may_answer(state, (&answer.person, &answer.groups), answer.at_ms)?;
        if answer.approved && self.is_changed_by(&answer.person) {
            return Err(AnswerRefusal::OwnChange(answer.person.clone()));
        }
        if signatures.iter().any(|s| s.person == answer.person) {
            return Err(AnswerRefusal::AnsweredAlready(answer.person.clone()));
        }
        if let Some(terms) = answer.grant {
            self.may_grant(terms, answer)?;
        }
        if !answer.approved {
            return Ok(ApprovalState::Refused);
        }
        if let Some(policy) = step_up(&self.of).filter(|_policy| answer.passkey.is_none()) {
            return Err(AnswerRefusal::NotSteppedUp(policy.clone()));
        }
        let mut all = signatures.to_vec();
        all.push(answer.clone());
        Ok(if self.is_met(&all) { ApprovalState::Approved } else { ApprovalState::Waiting })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::sample;

    fn request(of: &[(&str, u32)]) -> ApprovalRequest {
        let call = sample::call("delete", serde_json::json!({ "before": "x" }));
        let of = of.iter().map(|(group, quorum)| AskOf {
            group: GroupName::parse(group).unwrap(),
            quorum: *quorum,
            deadline_ms: 1_000,
            because: None,
            policy: PolicyId::parse("p:1").unwrap(),
            rehearse: false,
            shared: false,
            grant: None,
            step_up: None,
        });
        ApprovalRequest {
            id: ApprovalId::parse("apr-1").unwrap(),
            call: call.stored(),
            decision: DecisionId::parse("dec-1").unwrap(),
            bundle: BundleDigest::parse("b").unwrap(),
            slice: None,
            reach: None,
            of: of.collect(),
            asked_ms: 0,
            expires_ms: 1_000,
            alike: None,
            before: Vec::new(),
        }
    }

    fn answer(person: &str, groups: &[&str], approved: bool) -> Signature {
        Signature {
            person: PersonId::parse(person).unwrap(),
            groups: groups.iter().map(|g| GroupName::parse(g).unwrap()).collect(),
            approved,
            comment: None,
            at_ms: 999,
            channel: "cli".into(),
            grant: None,
            passkey: None,
        }
    }

    /// Every state, by a match that knows of each.
    fn after(state: ApprovalState) -> Option<ApprovalState> {
        match state {
            ApprovalState::Waiting => Some(ApprovalState::Approved),
            ApprovalState::Approved => Some(ApprovalState::Refused),
            ApprovalState::Refused => Some(ApprovalState::Expired),
            ApprovalState::Expired => Some(ApprovalState::Superseded),
            ApprovalState::Superseded => Some(ApprovalState::Executing),
            ApprovalState::Executing => Some(ApprovalState::Done),
            ApprovalState::Done => Some(ApprovalState::Failed),
            ApprovalState::Failed => Some(ApprovalState::InDoubt),
            ApprovalState::InDoubt => Some(ApprovalState::Blocked),
            ApprovalState::Blocked => None,
        }
    }

    #[test]
    fn the_list_of_states_has_each_of_them_once() {
        let all: Vec<_> =
            core::iter::successors(Some(ApprovalState::Waiting), |state| after(*state)).collect();
        assert_eq!(all, ApprovalState::ALL);
        let open: Vec<_> = all.iter().filter(|state| state.is_open()).map(|state| state.as_str()).collect();
        assert_eq!(open, ["waiting", "approved"]);
        let granted: Vec<_> =
            all.iter().filter(|state| state.is_granted()).map(|state| state.as_str()).collect();
        assert_eq!(granted, ["approved", "executing"]);
    }

    #[test]
    fn a_grant_is_spent_by_its_own_call_alone() {
        let request = request(&[("leads", 1)]);
        let own = request.call.clone();
        assert_eq!(request.spend(ApprovalState::Approved, &own), Ok(ApprovalState::Executing));
        for state in ApprovalState::ALL.into_iter().filter(|state| *state != ApprovalState::Approved) {
            assert_eq!(request.spend(state, &own), Err(state));
        }
        // In another session it is the same call; by another agent or with other arguments it is not.
        let mut again = own.clone();
        again.requester.session = crate::SessionId::parse("another").unwrap();
        assert!(request.spend(ApprovalState::Approved, &again).is_ok());
        let mut others = [own.clone(), own];
        others[0].requester.agent = crate::AgentId::parse("another").unwrap();
        others[1].digest = CallDigest::from_bytes([7; 32]);
        for other in others {
            assert_eq!(request.spend(ApprovalState::Approved, &other), Err(ApprovalState::Superseded));
        }
    }

    #[test]
    fn a_request_stands_while_nothing_changes_that_concerns_its_call() {
        const ASKS: &str = "@ask(\"dba\") permit (principal, action == Action::\"delete\", resource);";
        let asked = sample::policies(ASKS);
        let elsewhere = sample::policies(
            "@id(\"x\") permit (principal, action == Action::\"read\", resource);
             @ask(\"dba\") permit (principal, action == Action::\"delete\", resource);",
        );
        let here =
            sample::policies("@ask(\"ops\") permit (principal, action == Action::\"delete\", resource);");
        let mut request = request(&[("dba", 1)]);
        let StoredCall { requester, tool, version, .. } = request.call.clone();
        request.bundle = asked.bundle().clone();
        request.slice = asked.slice(&requester, &tool, &version);
        assert!(request.stands_under(&asked) && request.stands_under(&elsewhere));
        assert!(!request.stands_under(&here));
        request.call.version = crate::ToolVersion::parse("v0").unwrap();
        assert!(!request.stands_under(&elsewhere));
        // One of a release that did not say what concerns it.
        request.call.version = version;
        request.slice = None;
        let written = serde_json::to_string(&request).unwrap();
        assert!(!written.contains("slice"));
        let older: ApprovalRequest = serde_json::from_str(&written).unwrap();
        assert!(older.stands_under(&asked) && !older.stands_under(&elsewhere));
    }

    #[test]
    fn a_quorum_of_different_people_of_every_group_approves() {
        let request = request(&[("dba", 2), ("security", 1)]);
        let mut given = Vec::new();
        for (person, groups, state) in [
            ("ann", vec!["dba"], ApprovalState::Waiting),
            ("eve", vec!["security"], ApprovalState::Waiting),
            ("bob", vec!["dba", "sales"], ApprovalState::Approved),
        ] {
            let answer = answer(person, &groups, true);
            assert_eq!(request.answer(ApprovalState::Waiting, &given, &answer), Ok(state), "{person}");
            given.push(answer);
        }
        assert!(request.is_met(&given));
    }

    #[test]
    fn a_person_counts_for_one_group_unless_a_policy_shares() {
        let mut request = request(&[("dba", 1), ("security", 1), ("finance", 1)]);
        let dave = answer("dave", &["dba", "security", "finance"], true);
        let ann = answer("ann", &["dba", "security"], true);
        let bob = answer("bob", &["dba"], true);
        let met = |request: &ApprovalRequest, who: &[&Signature]| {
            request.is_met(&who.iter().map(|one| (*one).clone()).collect::<Vec<_>>())
        };
        assert!(!met(&request, &[&dave]));
        assert!(!met(&request, &[&dave, &ann]));
        // Whoever comes first: each has a place of their own.
        for order in [[&dave, &ann, &bob], [&bob, &ann, &dave], [&ann, &dave, &bob], [&bob, &dave, &ann]] {
            assert!(met(&request, &order));
        }
        // `dave` alone is of finance: two of dba and security do not help.
        assert!(!met(&request, &[&ann, &bob, &answer("eve", &["security"], true)]));
        request.of[2].shared = true;
        assert!(met(&request, &[&dave, &ann]) && !met(&request, &[&dave]));
        for ask in &mut request.of {
            ask.shared = true;
        }
        assert!(met(&request, &[&dave]));
    }

    #[test]
    fn one_refusal_refuses() {
        let refused =
            request(&[("dba", 2)]).answer(ApprovalState::Waiting, &[], &answer("ann", &["dba"], false));
        assert_eq!(refused, Ok(ApprovalState::Refused));
    }

    #[test]
    fn answers_that_do_not_count_change_nothing() {
        let mut request = request(&[("dba", 2)]);
        request.call.requester.on_behalf_of = Some(PersonId::parse("boss").unwrap());
        let given = [answer("ann", &["dba"], true)];
        let reply = |answer: &Signature| request.answer(ApprovalState::Waiting, &given, answer);
        let person = |name| PersonId::parse(name).unwrap();
        assert_eq!(reply(&answer("ann", &["dba"], true)), Err(AnswerRefusal::AnsweredAlready(person("ann"))));
        assert_eq!(reply(&answer("bot", &["dba"], true)), Err(AnswerRefusal::OwnRequest(person("bot"))));
        assert_eq!(reply(&answer("boss", &["dba"], true)), Err(AnswerRefusal::OwnRequest(person("boss"))));
        assert!(matches!(reply(&answer("bob", &["sales"], true)), Err(AnswerRefusal::NotAsked { .. })));
        assert!(matches!(reply(&answer("bob", &[], true)), Err(AnswerRefusal::NotAsked { .. })));
        let late = Signature { at_ms: 1_000, ..answer("bob", &["dba"], true) };
        assert_eq!(reply(&late), Err(AnswerRefusal::Expired));
    }

    #[test]
    fn where_a_policy_wants_a_passkey_nobody_approves_without_one() {
        let mut request = request(&[("dba", 1), ("leads", 1)]);
        request.of[1].step_up = Some(PolicyId::parse("p:careful").unwrap());
        let reply = |answer: &Signature| request.answer(ApprovalState::Waiting, &[], answer);
        // What one policy wants holds for whoever approves, whichever group asks for them.
        for group in ["dba", "leads"] {
            let bare = answer("ann", &[group], true);
            let wanted = AnswerRefusal::NotSteppedUp(PolicyId::parse("p:careful").unwrap());
            assert_eq!(reply(&bare), Err(wanted));
            let passkey = Some(PasskeyId::parse("k1").unwrap());
            assert_eq!(reply(&Signature { passkey, ..bare }), Ok(ApprovalState::Waiting));
            assert_eq!(reply(&answer("ann", &[group], false)), Ok(ApprovalState::Refused), "a no needs none");
        }
    }

    #[test]
    fn only_an_open_request_takes_answers() {
        use ApprovalState as S;
        let request = request(&[("dba", 1)]);
        for state in [
            S::Approved,
            S::Refused,
            S::Expired,
            S::Superseded,
            S::Executing,
            S::Done,
            S::Failed,
            S::InDoubt,
            S::Blocked,
        ] {
            let answer = request.answer(state, &[], &answer("ann", &["dba"], true));
            assert_eq!(answer, Err(AnswerRefusal::NotOpen(state)));
        }
    }

    #[test]
    fn a_request_that_asks_nobody_is_never_met() {
        let request = request(&[]);
        assert!(!request.is_met(&[answer("ann", &["dba"], true)]));
        let zero = self::request(&[("dba", 0)]);
        assert!(!zero.is_met(&[]));
    }
}
