//! A call that waits for people is answered truthfully in each revision, so:
//!
//! - **Tasks** (2026-07-28, a client that declares `io.modelcontextprotocol/tasks` with the request): a task at
//!   once; see [`task`](super::task). The experimental tasks of 2025-11-25 have another form, which the SDK
//!   does not speak; they are not declared.
//! - **2026-07-28 without tasks, and [`ROUNDS_META`](super::ROUNDS_META)**: the call is held, and then
//!   answered with `input_required` that has no input requests but a sealed `requestState`: the client repeats
//!   the call with it, any replica goes on waiting for the same request, and the result is fetched rather than
//!   the call proposed again. After [`ROUNDS_MAX`] rounds the answer is `pending` as below, because clients
//!   give up after a number of rounds of their own, and the agent would learn nothing. The revision names no
//!   capability for it, and clients that do not know it take the answer for an error, so a client says so.
//! - **Otherwise**: the call is held likewise, and answered with a result that says `pending` and names the
//!   tool to await it. A repeated call finds the same request.
//!
//! A call is held for [`Settings::hold`](super::Settings::hold), which is shorter than common clients wait for
//! an answer: one that gives up tells its agent of an error, and the call is performed all the same. A client
//! that asked for progress hears while it waits that it does, and is held for
//! [`Settings::wait`](super::Settings::wait).
//!
//! The state is sealed for agent, tool and arguments, and its lifetime is bounded; whose request it is the
//! gate checks again.

use std::time::Duration;

use countersign_app::{App, auth::Identity};
use countersign_gate::{Answer, Pending};
use countersign_rules::ApprovalId;
use rmcp::model::{ErrorData, InputRequests, InputRequiredResult, JsonObject, ProgressNotificationParam};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{Settings, client::Client, outcome, seal::Seal};

/// A client is sent through so many rounds before it is told to come back by itself.
pub(super) const ROUNDS_MAX: u8 = 3;

/// Our own tool waits at most so long for a client that asked for no progress, unless calls are held longer
/// than that: just below the five seconds after which common clients give up.
pub(super) const AWAIT_LIMIT: Duration = Duration::from_secs(4);

/// Reports of progress that tell nothing new are at least this far apart.
const BEAT_MIN: Duration = Duration::from_millis(10);

/// A client carries this from round to round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Round {
    /// The call waits for this request.
    #[serde(rename = "a")]
    pub(super) approval: ApprovalId,
    /// The client was sent through so many rounds, this one included.
    #[serde(rename = "n")]
    pub(super) rounds: u8,
}

impl Round {
    /// Opens the state of a repeated call.
    ///
    /// # Errors
    /// Returns one error for every state that was not sealed for this very call of this agent.
    pub(super) fn open(
        seal: &Seal,
        agent: &str,
        tool: &str,
        arguments: &Option<JsonObject>,
        state: &str,
    ) -> Result<Self, ErrorData> {
        canonical(arguments)
            .and_then(|arguments| seal.open(state, &["round", agent, tool, &arguments]))
            .ok_or_else(|| {
                let message = "`requestState` was not given out for this call: repeat the call without it";
                ErrorData::invalid_params(message, None)
            })
    }

    /// Returns the answer that sends the client through this round; `None` when it has been through enough of
    /// them.
    pub(super) fn ask(
        &self,
        seal: &Seal,
        agent: &str,
        tool: &str,
        arguments: &Option<JsonObject>,
    ) -> Option<InputRequiredResult> {
        if self.rounds > ROUNDS_MAX {
            return None;
        }
        let arguments = canonical(arguments)?;
        seal.close_for(self, &["round", agent, tool, &arguments], STATE_TTL)
            // Empty rather than absent: clients look into it without asking whether it is there.
            .map(|state| InputRequiredResult::new(Some(InputRequests::new()), Some(state)))
    }
}

/// A state can be repeated for so long, which is far longer than a client goes from round to round.
const STATE_TTL: Duration = Duration::from_secs(60 * 60);

fn canonical(arguments: &Option<JsonObject>) -> Option<String> {
    let arguments = Value::Object(arguments.clone().unwrap_or_default());
    countersign_audit::to_canonical_vec(&arguments).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Tells how long a call of this client is held from now on. One that hears nothing counts from when it sent
/// the call, and not from when people were asked.
pub(super) fn hold_limit(settings: &Settings, client: Client<'_>, arrived: Instant) -> Duration {
    if client.progress().is_some() { settings.wait } else { settings.hold.saturating_sub(arrived.elapsed()) }
}

/// Tells how long our own tool waits for this client, which may have asked for a time.
pub(super) fn await_limit(
    settings: &Settings,
    client: Client<'_>,
    arrived: Instant,
    asked: Option<Duration>,
) -> Duration {
    if client.progress().is_some() {
        return asked.unwrap_or(settings.wait);
    }
    let most = AWAIT_LIMIT.max(settings.hold).saturating_sub(arrived.elapsed());
    asked.map_or(most, |asked| asked.min(most))
}

/// Ends when the client has gone. One without the SDK's end of the talk takes its whole request with it when it goes.
pub(super) async fn gone(client: Client<'_>) {
    match client.context() {
        Some(context) => context.ct.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Waits for a request until it is final, `limit` is over, the client has gone, or the server stops. Stopping
/// to wait stops nothing else.
pub(super) async fn wait(
    (app, who): (&App, &Identity),
    settings: &Settings,
    pending: Pending,
    limit: Duration,
    client: Client<'_>,
) -> Answer {
    if limit.is_zero() {
        return Answer::Pending(pending);
    }
    let (seen, mut changes) = watch::channel(pending.clone());
    let waiting = app.wait(who, pending, limit, move |pending: &Pending| {
        seen.send_replace(pending.clone());
    });
    tokio::pin!(waiting);
    let mut progress = Progress { token: client.progress(), sent: 0.0 };
    let mut beat = tokio::time::interval(settings.beat.max(BEAT_MIN));
    loop {
        tokio::select! {
            answer = &mut waiting => return answer,
            () = gone(client) => return Answer::Pending(changes.borrow().clone()),
            () = settings.stopping.cancelled() => return Answer::Pending(changes.borrow().clone()),
            _ = beat.tick(), if progress.token.is_some() => {}
            Ok(()) = changes.changed(), if progress.token.is_some() => {}
        }
        let message = outcome::standing(&changes.borrow_and_update());
        progress.send(client, message).await;
    }
}

struct Progress {
    token: Option<rmcp::model::ProgressToken>,
    sent: f64,
}

impl Progress {
    /// Reports progress. How long people take is unknown, so progress has no total; it only rises.
    async fn send(&mut self, client: Client<'_>, message: String) {
        let (Some(token), Some(context)) = (self.token.clone(), client.context()) else { return };
        self.sent += 1.0;
        let progress = ProgressNotificationParam::new(token, self.sent).with_message(message);
        if context.peer.notify_progress(progress).await.is_err() {
            // The client has gone. The wait goes on until the transport says so too.
            self.token = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(value: &Value) -> Option<JsonObject> {
        value.as_object().cloned()
    }

    #[test]
    fn a_state_is_good_for_the_very_call_it_was_given_for() {
        let seal = Seal::derive(&[3; 32]);
        let round = Round { approval: ApprovalId::parse("apr-1").unwrap(), rounds: 1 };
        let given = arguments(&json!({ "a": 1, "b": [true] }));
        let state = round.ask(&seal, "ada", "purge", &given).unwrap().request_state.unwrap();
        let same = arguments(&json!({ "b": [true], "a": 1 }));
        assert_eq!(Round::open(&seal, "ada", "purge", &same, &state).unwrap(), round);
        for (agent, tool, arguments) in [
            ("bob", "purge", given.clone()),
            ("ada", "list", given.clone()),
            ("ada", "purge", arguments(&json!({ "a": 2, "b": [true] }))),
            ("ada", "purge", None),
        ] {
            assert_eq!(Round::open(&seal, agent, tool, &arguments, &state).unwrap_err().code.0, -32602);
        }
        assert!(Round::open(&seal, "ada", "purge", &given, &format!("{state}A")).is_err());
    }

    #[test]
    fn rounds_end() {
        let seal = Seal::derive(&[3; 32]);
        let round = |rounds| Round { approval: ApprovalId::parse("apr-1").unwrap(), rounds };
        assert!(round(ROUNDS_MAX).ask(&seal, "ada", "purge", &None).is_some());
        assert!(round(ROUNDS_MAX + 1).ask(&seal, "ada", "purge", &None).is_none());
    }
}
