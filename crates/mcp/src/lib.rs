//! The MCP front door: stdio and streamable HTTP, three protocol revisions from one endpoint.
//!
//! An agent is authenticated before anything else is looked at. What it lists is what it may ever call, and
//! what it calls goes to [`App::call`], which is the gate. Nothing here decides, and nothing here is needed to
//! finish a call: a client that hangs up, cancels or loses its connection loses only the answer, which
//! stays in the ledger and can be fetched.
//!
//! # Revisions
//! 2025-06-18 and 2025-11-25 begin with `initialize`; 2026-07-28 has no handshake, and every request names its
//! revision and the client's capabilities. Over HTTP each request is served by itself, whatever its revision
//! (rmcp's stateless mode): answers are plain JSON, and a stream only when there is progress to report. A call of
//! [plain form](plain) is answered without the SDK, and says, decides and does the same.
//!
//! # Sessions
//! Limits and history attach to *our* session, which is a key under the authenticated agent. The key is, first
//! that applies:
//! 1. the name that the client sends, as `Countersign-Session` or as `countersign/session` in `_meta`;
//! 2. the id that `initialize` gave out as `Mcp-Session-Id` (revisions with a handshake);
//! 3. nothing: the default session of the credential.
//!
//! An `Mcp-Session-Id` is sealed for its agent with a key that all replicas share, and holds all that there is
//! to know about the session. So nothing is kept in one replica's memory: any replica serves it, also after a
//! restart, and presented by another agent, or forged, it is answered with 404, upon which clients initialise
//! again. There is nothing to terminate, so `DELETE` is answered with 405. A process on stdio is one session,
//! unless it is given a name.
//!
//! # Waiting for people
//! See [`waiting`].
//!
//! # Deliberately absent
//! Resources, prompts, completions, sampling, roots, elicitation and logging: what agents get here is tools.
//! Batches, which only the revision 2025-03-26 had. A stream from server to client outside a request, and so
//! `tools/list_changed` over HTTP for the revisions with a handshake; 2026-07-28 has `subscriptions/listen`.

mod bridge;
mod client;
mod door;
mod frame;
mod http;
mod outcome;
mod plain;
mod seal;
mod session;
mod stdio;
mod task;
mod tools;
mod waiting;

use std::time::Duration;

#[cfg(doc)]
use countersign_app::App;
use rmcp::model::ProtocolVersion;
use tokio_util::sync::CancellationToken;

pub use self::bridge::{BridgeFault, bridge};
pub use self::{
    http::router,
    seal::Seal,
    stdio::{StdioFault, serve_io, serve_stdio},
    tools::AWAIT,
};

/// These revisions are served, oldest first.
pub const REVISIONS: &[ProtocolVersion] =
    &[ProtocolVersion::V_2025_06_18, ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28];

/// A client may name its session in this header.
pub const SESSION_HEADER: &str = "countersign-session";

/// A client may name its session under this key of `_meta`, under which nothing else is read.
pub const SESSION_META: &str = "countersign/session";

/// A client of 2026-07-28 says by this key of `_meta`, with `true`, that it goes through rounds of a call that
/// waits for people; see [`waiting`].
pub const ROUNDS_META: &str = "countersign/rounds";

/// This key of `_meta` names a call which its client may repeat; see [`countersign_rules::IdempotencyKey`].
pub const IDEMPOTENCY_META: &str = "countersign/idempotency-key";

/// Clients tell their trace under this key of `_meta` (SEP-414); it has no prefix there.
pub const TRACE_META: &str = "traceparent";

/// The front door behaves as these settings say.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `Host` may be one of these: names, or names with a port. If there is none, every request is refused.
    pub hosts: Vec<String>,
    /// Browsers may call from these origins beside the server's own, with scheme and port (`:*` for any). A
    /// request without `Origin` is no browser's.
    pub origins: Vec<String>,
    /// A call that waits for people is held for so long before the client is told that it waits.
    pub hold: Duration,
    /// A client that asked for progress, and so hears meanwhile that its call waits, has it held for so long;
    /// `hold` is at most this.
    pub wait: Duration,
    /// An answer that no call was performed for is marked so.
    pub refusals: Refusals,
    /// A client that asked for progress hears after each such time that the wait goes on.
    pub beat: Duration,
    /// A message may have at most so many bytes.
    pub message_bytes_max: usize,
    /// A client may take so long to send a message over HTTP.
    pub message_timeout: Duration,
    /// This seals what clients carry for us.
    pub seal: Seal,
    /// The metadata of the protected resource stands at this address (RFC 9728), when OAuth tokens are
    /// accepted.
    pub resource_metadata: Option<String>,
    /// This is cancelled when the server stops: whoever waits is told at once that the call still waits.
    pub stopping: CancellationToken,
}

impl Settings {
    /// Returns the defaults for a server on loopback.
    #[must_use]
    pub fn new(seal: Seal) -> Self {
        Self {
            hosts: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            origins: Vec::new(),
            hold: Duration::from_secs(3),
            wait: Duration::from_secs(20),
            refusals: Refusals::Error,
            beat: Duration::from_secs(1),
            message_bytes_max: 256 * 1024,
            message_timeout: Duration::from_secs(30),
            seal,
            resource_metadata: None,
            stopping: CancellationToken::new(),
        }
    }
}

/// A call that was not performed is marked in one of these ways. What the answer says, and what was decided, is
/// the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refusals {
    /// It is marked as an error, as the protocol has it for what a tool did not do.
    #[default]
    Error,
    /// It is a result like any other, for clients that give up after a tool's second error.
    Text,
}
