//! The tools, and which agent may ever call which.

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::text::one_line;

use crate::{Console, failure::Failure, filters, frame::Frame, signed::Signed};

struct Row {
    name: String,
    description: String,
    system: String,
    effect: &'static str,
    categories: String,
    rows_max: u64,
    reversible: bool,
    /// Why it is switched off, if it is.
    off: Option<String>,
    /// For each agent, whether a call may be answered by anything but a denial.
    may: Vec<bool>,
}

#[derive(Template)]
#[template(path = "tools.html")]
struct Page {
    frame: Frame,
    tools: Vec<Row>,
    agents: Vec<String>,
    bundle: String,
}

/// Every tool, with the matrix of agents.
pub(crate) async fn list(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "tools").await?;
    let app = &console.app;
    let policies = app.gate().policies();
    let agents: Vec<_> = app.auth().agents().collect();
    let tools = app.tools().iter().map(|(name, offer)| {
        let spec = offer.spec();
        Row {
            name: name.to_string(),
            description: one_line(&spec.description),
            system: format!("{} ({})", spec.system.name, one_line(&spec.system.environment)),
            effect: spec.effect.as_str(),
            categories: spec
                .categories
                .iter()
                .map(|category| one_line(category))
                .collect::<Vec<_>>()
                .join(", "),
            rows_max: spec.rows_max,
            reversible: spec.reversible,
            off: offer.off().map(|refusal| one_line(&refusal.message)),
            may: agents.iter().map(|agent| policies.may_ever(agent, name)).collect(),
        }
    });
    let tools = tools.collect();
    let bundle = policies.bundle().to_string();
    let agents = agents.iter().map(ToString::to_string).collect();
    Ok(Html(Page { frame, tools, agents, bundle }.render()?))
}
