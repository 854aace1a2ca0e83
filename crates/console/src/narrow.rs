//! A person who looks at a request changes its call, or has it run and rolled back to see what it touches.

use axum::{
    extract::{Path, State},
    response::Redirect,
};
use countersign_audit::from_slice_strict;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::{Console, failure::Failure, request::find_to_answer, signed::Sent};

#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    /// The arguments as JSON, all of them.
    arguments: String,
    reason: String,
}

impl Change {
    fn arguments(&self) -> Result<Value, Failure> {
        from_slice_strict(self.arguments.as_bytes()).map_err(|why| {
            let message = format!("the arguments are not JSON: {why}; nothing was changed");
            Failure::new(StatusCode::BAD_REQUEST, "These are no arguments", &message)
                .help("go back: what you wrote is still there")
        })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Look {}

/// Asks people about what the person makes of a call, and shows that request.
pub(crate) async fn narrow(
    State(console): State<Console>,
    Path(id): Path<String>,
    Sent { by, form }: Sent<Change>,
) -> Result<Redirect, Failure> {
    let record = find_to_answer(&console, &id, &by).await?;
    let arguments = form.arguments()?;
    let asked = console.app.narrow(by.person(), &record.request.id, arguments, &form.reason).await?;
    Ok(Redirect::to(&format!("/console/requests/{}", asked.request.id)))
}

/// Has the call run and rolled back, and shows the request again.
pub(crate) async fn look_closer(
    State(console): State<Console>,
    Path(id): Path<String>,
    Sent { by, form: Look {} }: Sent<Look>,
) -> Result<Redirect, Failure> {
    let record = find_to_answer(&console, &id, &by).await?;
    let seen = console.app.look_closer(by.person(), &record.request.id).await?;
    Ok(Redirect::to(&format!("/console/requests/{}", seen.request.id)))
}
