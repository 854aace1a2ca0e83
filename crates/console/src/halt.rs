//! The halt switch, which stands on each page.

use axum::{extract::State, response::Redirect};
use countersign_gate::ledger::HaltScope;
use countersign_rules::AgentId;
use http::StatusCode;
use serde::Deserialize;

use crate::{Console, failure::Failure, signed::Sent};

#[derive(Debug, Deserialize)]
pub(crate) struct Halt {
    /// The agent; empty for all of them.
    agent: String,
    why: String,
}

/// Halts an agent, or all. Approvers may, operators and admins.
pub(crate) async fn halt(
    State(console): State<Console>,
    Sent { by, form }: Sent<Halt>,
) -> Result<Redirect, Failure> {
    console.app.halt(by.person(), scope(&form.agent)?, &form.why).await?;
    Ok(Redirect::to("/console/health"))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resume {
    agent: String,
}

/// Ends a halt. Operators may, except for what acts for themselves.
pub(crate) async fn resume(
    State(console): State<Console>,
    Sent { by, form }: Sent<Resume>,
) -> Result<Redirect, Failure> {
    console.app.resume(by.person(), &scope(&form.agent)?).await?;
    Ok(Redirect::to("/console/health"))
}

fn scope(agent: &str) -> Result<HaltScope, Failure> {
    if agent.is_empty() {
        return Ok(HaltScope::All);
    }
    let known = AgentId::parse(agent).map(HaltScope::Agent);
    known.map_err(|why| Failure::new(StatusCode::BAD_REQUEST, "No such agent", why.to_string()))
}
