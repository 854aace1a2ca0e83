//! Sessions: ours, named by the client or by a sealed id that any replica can open.

use http::HeaderMap;
use rmcp::model::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    SESSION_HEADER, SESSION_META,
    frame::{BadFrame, Frame},
    seal::Seal,
};
use countersign_app::auth::Identity;

/// The protocol has this header for sessions of the revisions with a handshake.
pub(super) const MCP_SESSION_HEADER: &str = "mcp-session-id";

/// The name that a client may choose for its session has at most so many bytes.
const NAME_BYTES_MAX: usize = 256;

/// A text about the client, which a session id carries, has at most so many characters.
const CLIENT_CHARS_MAX: usize = 96;

/// This JSON-RPC code stands for a session that is not the agent's: the official SDKs use it.
const SESSION_NOT_FOUND: ErrorCode = ErrorCode(-32001);

/// A request belongs to the session that this names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SessionKey {
    /// The session has this key under the agent; `None` is the credential's default session.
    pub(super) key: Option<String>,
    /// The client said that it is this, when it introduced itself in a handshake.
    pub(super) client: Option<String>,
}

/// A session id says this.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    #[serde(rename = "s")]
    key: String,
    #[serde(rename = "c")]
    client: Option<String>,
}

impl SessionKey {
    /// Finds the session of an HTTP request of an authenticated agent.
    pub(super) fn find(
        seal: &Seal,
        who: &Identity,
        headers: &HeaderMap,
        frame: &Frame,
    ) -> Result<Self, NoSession> {
        let given = match headers.get(MCP_SESSION_HEADER) {
            // 2026-07-28 has no protocol session; a client that still sends the header means nothing by it.
            Some(_) if frame.is_modern() || frame.method() == Some("initialize") => Self::default(),
            Some(id) => {
                let sealed: Sealed = id
                    .to_str()
                    .ok()
                    .and_then(|id| seal.open(id, &["session", who.agent.as_str()]))
                    .ok_or_else(|| {
                        let message = "no such session of this agent: initialise again";
                        NoSession::NotFound(BadFrame::new(frame.id(), SESSION_NOT_FOUND, message))
                    })?;
                Self { key: Some(sealed.key), client: sealed.client }
            }
            None => Self::default(),
        };
        match Self::named(headers, frame)? {
            Some(name) => Ok(Self { key: Some(name), client: given.client }),
            None => Ok(given),
        }
    }

    /// Reads the name that the client gives the session.
    fn named(headers: &HeaderMap, frame: &Frame) -> Result<Option<String>, NoSession> {
        let bad = |message: &str| {
            NoSession::Malformed(BadFrame::new(frame.id(), ErrorCode::INVALID_PARAMS, message.to_owned()))
        };
        let header = headers.get(SESSION_HEADER).map(|value| {
            value.to_str().map_err(|_not_ascii| bad("the header `Countersign-Session` must be ASCII"))
        });
        let header = header.transpose()?;
        let meta = match frame.meta(SESSION_META) {
            None => None,
            Some(Value::String(name)) => Some(name.as_str()),
            Some(_) => return Err(bad("`countersign/session` in `_meta` must be a string")),
        };
        let name = match (header, meta) {
            (Some(header), Some(meta)) if header != meta => {
                return Err(bad("`Countersign-Session` and `countersign/session` name different sessions"));
            }
            (header, meta) => header.or(meta),
        };
        match name {
            Some(name) if name.is_empty() || name.len() > NAME_BYTES_MAX => {
                Err(bad("a session's name has 1 to 256 bytes"))
            }
            name => Ok(name.map(str::to_owned)),
        }
    }

    /// Makes a fresh id for a client that initialises, to be sent as `Mcp-Session-Id`.
    pub(super) fn issue(seal: &Seal, who: &Identity, frame: &Frame) -> Option<String> {
        let said = |name: &str| {
            frame.parameter("clientInfo").and_then(|info| info.get(name)).and_then(Value::as_str)
        };
        let client = said("name").map(|name| client_text(name, said("version")));
        let sealed = Sealed { key: unnamed(), client };
        seal.close(&sealed, &["session", who.agent.as_str()])
    }
}

/// Makes the key of a new session that its client has not named.
#[expect(clippy::disallowed_methods, reason = "a session of nobody's naming is named by chance")]
pub(super) fn unnamed() -> String {
    format!("unnamed-{}", Uuid::new_v4().simple())
}

/// Says what a client is, for the log: name and version, shortened.
pub(super) fn client_text(name: &str, version: Option<&str>) -> String {
    let text = version.map_or_else(|| name.to_owned(), |version| format!("{name}/{version}"));
    text.chars().filter(|c| !c.is_control()).take(CLIENT_CHARS_MAX).collect()
}

/// A request has no session for one of these reasons.
#[derive(Debug)]
pub(super) enum NoSession {
    /// The id is not one that this agent was given. It is answered with 404, upon which clients initialise
    /// again.
    NotFound(BadFrame),
    /// The client's own name for it is no name.
    Malformed(BadFrame),
}

#[cfg(test)]
mod tests {
    use countersign_rules::{AgentId, SessionId};

    use super::*;
    use countersign_app::auth::Scopes;

    fn agent(name: &str) -> Identity {
        Identity {
            agent: AgentId::parse(name).unwrap(),
            teams: Vec::new(),
            on_behalf_of: None,
            scopes: Scopes::default(),
            credential: format!("key-{name}"),
            expires_ms: None,
        }
    }

    fn frame(text: &str) -> Frame {
        Frame::parse(text.as_bytes()).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
    }

    const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":
        "2025-11-25","capabilities":{},"clientInfo":{"name":"clerk\u0007","version":"1.2"}}}"#;

    #[test]
    fn an_id_is_good_on_any_replica_for_its_agent_only() {
        let (here, there) = (Seal::derive(&[1; 32]), Seal::derive(&[1; 32]));
        let id = SessionKey::issue(&here, &agent("ada"), &frame(INITIALIZE)).unwrap();
        let sent = headers(&[(MCP_SESSION_HEADER, &id)]);
        let found = SessionKey::find(&there, &agent("ada"), &sent, &frame(LIST)).unwrap();
        let key = SessionId::parse(found.key.as_ref().unwrap()).unwrap();
        assert!(key.as_str().starts_with("unnamed-"), "{key}");
        assert_eq!(found.client.as_deref(), Some("clerk/1.2"));
        for (who, sent) in [
            (agent("bob"), sent),
            (agent("ada"), headers(&[(MCP_SESSION_HEADER, "guessed")])),
            (agent("ada"), headers(&[(MCP_SESSION_HEADER, "")])),
        ] {
            let refused = SessionKey::find(&there, &who, &sent, &frame(LIST));
            assert!(matches!(refused, Err(NoSession::NotFound(_))), "{who:?}");
        }
        // Two clients never share an id.
        assert_ne!(id, SessionKey::issue(&here, &agent("ada"), &frame(INITIALIZE)).unwrap());
    }

    #[test]
    fn a_client_may_name_its_session() {
        let seal = Seal::derive(&[1; 32]);
        let ada = agent("ada");
        let named = |sent: HeaderMap, text: &str| SessionKey::find(&seal, &ada, &sent, &frame(text));
        let meta = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"countersign/session":"a"}}}"#;
        assert_eq!(named(HeaderMap::new(), LIST).unwrap().key, None);
        assert_eq!(named(HeaderMap::new(), meta).unwrap().key.as_deref(), Some("a"));
        assert_eq!(named(headers(&[(SESSION_HEADER, "a")]), meta).unwrap().key.as_deref(), Some("a"));
        assert_eq!(named(headers(&[(SESSION_HEADER, "b")]), LIST).unwrap().key.as_deref(), Some("b"));
        let id = SessionKey::issue(&seal, &ada, &frame(INITIALIZE)).unwrap();
        let both = headers(&[(SESSION_HEADER, "b"), (MCP_SESSION_HEADER, &id)]);
        assert_eq!(named(both, LIST).unwrap().key.as_deref(), Some("b"));
        for sent in [headers(&[(SESSION_HEADER, "b")]), headers(&[(SESSION_HEADER, "")])] {
            assert!(matches!(named(sent, meta), Err(NoSession::Malformed(_))));
        }
        let long = "x".repeat(257);
        assert!(matches!(named(headers(&[(SESSION_HEADER, &long)]), LIST), Err(NoSession::Malformed(_))));
    }

    #[test]
    fn a_revision_without_sessions_ignores_the_header() {
        let seal = Seal::derive(&[1; 32]);
        let modern = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{
            "io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let sent = headers(&[(MCP_SESSION_HEADER, "of another server")]);
        assert_eq!(SessionKey::find(&seal, &agent("ada"), &sent, &frame(modern)).unwrap().key, None);
    }
}
