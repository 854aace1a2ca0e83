//! `countersign check`: everything about a folder that can be known without touching a system, and on request what its systems
//! say of it.

use std::sync::Arc;

use countersign_gate::Gate;
use countersign_rules::schema::Untyped;
use countersign_store::{Found, Store};
use serde::Serialize;
use serde_json::json;

use super::{Failure, Folder, Outcome, Output, bundle, counted, load, policy};
use crate::{
    bundle::Bundle,
    channels,
    clock::SystemClock,
    config::{Config, Place},
    log_key, providers, server, tls,
};
use countersign_app::{auth, text::visible};

/// `countersign check`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads the folder, checks tools against systems and policies against tools, and judges the scenarios.\n\
                        Opens no secret, no database and no connection.\n\n\
                        --live looks at the systems as well: secrets are read, databases logged in to and their tables read,\n\
                        statements compiled, upstream tools compared with what was reviewed, the headers of each API's base\n\
                        address asked for, and the log's key, the ledger, the server's certificate and the issuer's keys read as at a start. Nothing is\n\
                        changed, and no tool is called.\n\n\
                        Exit codes: 0 all fits · 1 the folder, a scenario or, with --live, a system, the ledger or the issuer does not."
)]
pub(super) struct Check {
    /// Look at the systems, the ledger and the issuer as well, and change nothing there
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    folder: Folder,
}

impl Check {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let config = load(self.folder.dir())?;
        let bundle = bundle(&config)?;
        let mut warnings = bundle.warnings.clone();
        if !self.live
            && config.log.key.exists()
            && let Err(why) = log_key::read(&config.log.key, &config.log.origin)
        {
            warnings.push(format!("the server would not start: {why}"));
        }
        if !self.live
            && let Some(Err(why)) = config.server.tls.as_ref().map(tls::look)
        {
            warnings.push(format!("the server would not start: {why}"));
        }
        let judged = policy::judge(&config, &bundle)?;
        let live = if self.live { Some(live(&config, &bundle, out).await) } else { None };
        let unfit = live.iter().flatten().filter(|looked| looked.why.is_some()).count();
        let ok = judged.mismatches() == 0 && unfit == 0;
        out.value(&json!({
            "agents": config.agents.len(),
            "bundle": bundle.policies.bundle(),
            "live": live,
            "ok": ok,
            "people": config.people.len(),
            "policies": config.policies.len(),
            "scenarios": judged,
            "systems": config.systems.len(),
            "tools": config.tools.len(),
            "untyped": bundle.policies.untyped().iter().map(untyped).collect::<Vec<_>>(),
            "warnings": warnings,
        }));
        out.line(format!(
            "{}, {}, {}, {} and {} fit together",
            counted(config.systems.len(), "system", "systems"),
            counted(config.tools.len(), "tool", "tools"),
            counted(config.agents.len(), "agent", "agents"),
            counted(config.people.len(), "person", "people"),
            counted(config.policies.len(), "policy file", "policy files"),
        ));
        for (name, _) in bundle.systems.journals().filter(|_| !self.live) {
            out.line(format!(
                "system `{name}` keeps a journal: `countersign system prepare {name}` must have been run"
            ));
        }
        policy::print(&judged, out);
        for left_out in bundle.policies.untyped() {
            out.text(&format!("policies cannot look at {}", untyped(left_out)));
        }
        for warning in &warnings {
            out.line(format!("warning: {warning}"));
        }
        if let Some(live) = &live {
            tell(live, out);
        }
        if ok { Ok(()) } else { Err(Failure::No) }
    }
}

/// What was found of a system, of a tool on it, or of what a start needs beside them.
#[derive(Debug, Serialize)]
struct Looked<'a> {
    /// `system`, `tool`, `ledger`, `certificate`, `channel`, `provider` or `issuer`.
    kind: &'static str,
    /// As it is called in the configuration; of the ledger, what kind it is.
    name: &'a str,
    /// What it is like, where that is worth a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    /// Why it cannot be used now.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Where it is configured; what is built in is not.
    #[serde(skip)]
    place: Option<&'a Place>,
}

/// Looks at each system, at the tools of those that can be used, and at what a start reads.
async fn live<'a>(config: &'a Config, bundle: &'a Bundle, out: &Output) -> Vec<Looked<'a>> {
    let mut all = Vec::new();
    for (name, system) in &config.systems {
        out.note(format!("looking at system `{name}` …"));
        let why = bundle.systems.try_out(name, Gate::<Store>::review(name)).await.err();
        let usable = why.is_none();
        all.push(Looked { kind: "system", name: name.as_str(), what: None, why, place: Some(&system.place) });
        let tools = bundle.tools.iter().filter(|(_, offer)| usable && offer.spec().system.name == *name);
        for (tool, offer) in tools {
            let why = offer.tool.try_out(&Gate::<Store>::review(name)).await.err();
            let place = config.tools.get(tool).map(|tool| &tool.place);
            all.push(Looked { kind: "tool", name: tool.as_str(), what: None, why, place });
        }
    }
    bundle.systems.stop().await;
    all.push(ledger(config).await);
    if let Some(files) = &config.server.tls {
        let why = tls::look(files).err();
        all.push(Looked { kind: "certificate", name: "server", what: None, why, place: None });
    }
    for (name, channel) in &config.channels {
        let why = channels::look_at(channel).err();
        all.push(Looked { kind: "channel", name: name.as_str(), what: None, why, place: None });
    }
    for (name, provider) in &config.providers {
        out.note(format!("looking at provider `{name}` …"));
        let why = providers::look_at(provider, Arc::new(SystemClock)).await.err();
        all.push(Looked { kind: "provider", name: name.as_str(), what: None, why, place: None });
    }
    if let Some(oauth) = &config.oauth {
        out.note("reading the issuer's keys …");
        let why = auth::look_at_issuer(oauth, Arc::new(SystemClock)).await.err();
        all.push(Looked { kind: "issuer", name: &oauth.issuer, what: None, why, place: None });
    }
    all
}

/// Looks at the log's key and the ledger.
async fn ledger(config: &Config) -> Looked<'_> {
    let looked =
        Looked { kind: "ledger", name: config.store.place.kind(), what: None, why: None, place: None };
    match server::look_at_ledger(config).await {
        Ok(found) => Looked { what: Some(told(found)), ..looked },
        Err(why) => Looked { why: Some(format!("{:#}", anyhow::Error::from(why))), ..looked },
    }
}

/// What a ledger is like, in words.
fn told(found: Found) -> String {
    match found {
        Found::Nothing => "it begins when the server starts".into(),
        Found::Older { schema } => format!("the next start brings it up to date from schema {schema}"),
        Found::Ledger { entries } => format!("its log has {entries} entries"),
    }
}

/// Says what cannot be used, with its place, and how much can.
fn tell(live: &[Looked<'_>], out: &Output) {
    for Looked { kind, name, what, why, place } in live {
        if let Some(what) = what {
            out.line(visible(&format!("{kind} on {name}: {what}")));
        }
        let Some(why) = why else { continue };
        let at = place.map(|place| {
            let line = place.source.mistake(place.of("", None), "", None).line();
            format!("{}{}: ", place.source.name, line.map(|line| format!(":{line}")).unwrap_or_default())
        });
        out.line(visible(&format!("{}{kind} `{name}` cannot be used now: {why}", at.unwrap_or_default())));
    }
    let fit = |kind: &str| live.iter().filter(|looked| looked.kind == kind && looked.why.is_none()).count();
    out.line(format!(
        "{} and {} can be used as they are now",
        counted(fit("system"), "system", "systems"),
        counted(fit("tool"), "tool", "tools"),
    ));
}

/// An argument that policies cannot look at.
fn untyped(left_out: &Untyped) -> String {
    format!("`{}` of tool `{}`: {}", left_out.argument, left_out.tool, left_out.reason)
}
