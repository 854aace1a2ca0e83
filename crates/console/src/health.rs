//! How the server is: what is halted, in doubt, switched off, and how large the log is.

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::text::one_line;
use countersign_gate::ledger::CallState;
use countersign_store::CallFilter;

use crate::{
    Console,
    failure::Failure,
    frame::{Frame, at},
    signed::Signed,
};

const DOUBTS_MAX: u32 = 100;

struct Doubt {
    call: String,
    agent: String,
    session: String,
    tool: String,
    system: String,
    issued_at: String,
}

struct Off {
    tool: String,
    why: String,
}

#[derive(Template)]
#[template(path = "health.html")]
struct Page {
    frame: Frame,
    doubts: Vec<Doubt>,
    off: Vec<Off>,
    tools: usize,
    log_size: u64,
    origin: String,
    failing: bool,
    /// Why the files of the server's certificate cannot be used; empty where they are.
    certificate: String,
    under_way: usize,
}

/// The state of the server.
pub(crate) async fn show(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "health").await?;
    let app = &console.app;
    let filter = CallFilter { state: Some(CallState::InDoubt), ..CallFilter::default() };
    let doubts = app.store().list_calls(&filter, DOUBTS_MAX).await?.into_iter().map(|record| Doubt {
        call: record.call.id.to_string(),
        agent: record.call.requester.agent.to_string(),
        session: record.call.requester.session.to_string(),
        tool: record.call.tool.to_string(),
        system: record.system.to_string(),
        issued_at: at(record.issued_ms),
    });
    let off = app.tools().iter().filter_map(|(name, offer)| {
        offer.off().map(|refusal| Off { tool: name.to_string(), why: one_line(&refusal.message) })
    });
    let page = Page {
        frame,
        doubts: doubts.collect(),
        off: off.collect(),
        tools: app.tools().len(),
        log_size: app.store().log_head().await?.size,
        origin: app.store().verifier().name().to_string(),
        failing: app.store().is_failing(),
        certificate: app
            .settings()
            .certificate
            .as_ref()
            .and_then(|state| state.fault())
            .map_or_else(String::new, |why| one_line(&why)),
        under_way: app.gate().under_way(),
    };
    Ok(Html(page.render()?))
}
