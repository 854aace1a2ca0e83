//! The incident of the README, played with the ordinary server, tools and policies: an agent that was told
//! to clean up test records proposes to delete 14,200 production rows.
//!
//! Nothing is staged. The folder is the one in `examples/billing`, the server is this program started as
//! `serve`, the agent is an MCP client that holds an API key and nothing else, and people answer over REST.

mod agent;
mod database;
mod people;
mod server;
mod story;

use std::{
    io::IsTerminal as _,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use countersign_app::answer::AnswerBody;
use countersign_rules::{ApprovalId, CallId};
use serde_json::json;

use agent::Agent;
use people::Person;
use story::Story;

use crate::log_key;

/// What the agent's statement would have deleted.
const INCIDENT: &str = "DELETE FROM billing WHERE created_at < '2026-02-01'";
/// A narrower one, still wrong.
const NARROWER: &str =
    "DELETE FROM billing WHERE created_at < '2025-09-01' AND amount_minor < 30000 AND customer = 'Alder Ltd'";
/// What was meant.
const MEANT: &str = "DELETE FROM billing WHERE created_at < '2026-02-01' AND kind = 'test'";

/// How often it is asked what became of the undoing; each time waits half a second.
const UNDO_LOOKS_MAX: u32 = 60;

/// Why the delete is taken back.
const UNDO_REASON: &str = "the auditors still need the test records";

/// The log's name, as the example's configuration gives it.
const ORIGIN: &str = "demo.countersign.example/billing";

const FILES: [(&str, &str); 4] = [
    ("countersign.toml", include_str!("../../../../examples/billing/countersign.toml")),
    ("README.md", include_str!("../../../../examples/billing/README.md")),
    ("tools/billing.toml", include_str!("../../../../examples/billing/tools/billing.toml")),
    ("policies/billing.cedar", include_str!("../../../../examples/billing/policies/billing.cedar")),
];

/// Where the example listens.
const LISTEN: &str = "127.0.0.1:7780";

/// Where the demo puts its folder when nothing else is said.
pub(crate) const FOLDER: &str = "countersign-demo";

/// Plays the incident in `folder`. At a terminal a newcomer answers the two requests; without one, the
/// demo does.
pub(crate) async fn run(folder: &Path) -> anyhow::Result<()> {
    let folder = prepare(folder)?;
    let database = folder.join("billing.db");
    let program = std::env::current_exe().context("the place of this program")?;
    let mut story = Story::new(std::io::stdin().is_terminal(), program);
    story.opening(&folder, database::records(&database)?);

    let server = server::start(&folder).await?;
    let agent = Agent::connect(&format!("{}/mcp", server.url), &server.agent_key).await?;
    let ana = Person::new(&server.url, &server.person_key)?;
    story.connected(&agent.tools().await?);

    let summary = agent
        .call(
            "get_customer_billing_summary",
            &json!({ "customer": "Alder Ltd", "countersign_reason": "get to know the data" }),
        )
        .await?;
    story.read(summary.done()?);

    let blocked = agent.sql(INCIDENT, "Clean up the test billing records from last month.").await?;
    let blocked = blocked.refused("blocked")?;
    let call = blocked.call.as_ref().context("the answer names no call")?;
    story.blocked(INCIDENT, blocked, &server.measured(&folder, call).await?, unchanged(&database)?);

    let held = agent.sql(NARROWER, "Then at least the oldest ones of one customer.").await?;
    let held = &held.pending()?.approval;
    let request = ana.request(held).await?;
    story.held(3, NARROWER, &request, unchanged(&database)?);
    let first = answer(&mut story, &ana, held, &folder, (false, "these are real invoices")).await?;
    let told = agent.call("countersign_await", &json!({ "approval": held })).await?;
    story.told(&told, first)?;
    let before = database::records(&database)?;
    if !first {
        unchanged(&database)?;
    }

    let held = agent.sql(MEANT, "Only the records of kind 'test', which is what was asked for.").await?;
    let held = &held.pending()?.approval;
    let request = ana.request(held).await?;
    story.held(4, MEANT, &request, database::records(&database)?);
    let second = answer(&mut story, &ana, held, &folder, (true, "yes, these are the test records")).await?;
    let told = agent.call("countersign_await", &json!({ "approval": held, "wait_seconds": 20 })).await?;
    let after = database::records(&database)?;
    ensure!(second == (after < before), "the database does not show what was answered");
    story.told(&told, second)?;
    story.counted(before, after);

    agent.leave().await?;
    if second {
        let call = CallId::parse(&request.request.call)?;
        let casey = Person::new(&server.url, &server.other_key)?;
        let mut undone = casey.undo(&call, UNDO_REASON).await?;
        let AnswerBody::Pending(pending) = &undone else { bail!("expected people to be asked: {undone:?}") };
        story.undoing(&call, &pending.approval);
        ana.answer(&pending.approval, true, "then put them back").await?;
        // The same again answers what became of it, once it is performed.
        for _ in 0..UNDO_LOOKS_MAX {
            undone = casey.undo(&call, UNDO_REASON).await?;
            if !matches!(undone, AnswerBody::Pending(_)) {
                break;
            }
        }
        let AnswerBody::Done(undone) = undone else { bail!("expected the call to be undone: {undone:?}") };
        let back = database::records(&database)?;
        ensure!(back == before, "{back} records after undoing, and {before} before");
        story.undone(&undone, after, back);
    }
    let log = server.verify(&folder).await?;
    story.closing(&folder, held, &log);
    Ok(())
}

/// Lays the example folder out, with a filled database. An existing demo is not overwritten.
fn prepare(folder: &Path) -> anyhow::Result<PathBuf> {
    if folder.join("countersign.toml").exists() {
        bail!(
            "`{}` exists: continue with it by `countersign serve {0}`, or remove it to play the demo again",
            folder.display()
        );
    }
    let listen = free_address()?;
    for (name, text) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        std::fs::write(&path, text.replace(LISTEN, &listen))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    log_key::create(&folder.join("log.key"), ORIGIN)?;
    database::create(&folder.join("billing.db"))?;
    Ok(folder.canonicalize()?)
}

/// The example's address, or another port where that one is taken.
fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind(LISTEN).or_else(|_taken| TcpListener::bind("127.0.0.1:0"))?;
    Ok(listener.local_addr()?.to_string())
}

/// A person's answer: the newcomer's at a terminal, else the one of the story. Returns whether it was a yes.
async fn answer(
    story: &mut Story,
    ana: &Person,
    approval: &ApprovalId,
    folder: &Path,
    (planned, comment): (bool, &str),
) -> anyhow::Result<bool> {
    let (approve, said) = match story.ask(ana, approval, folder).await? {
        story::Asked::Answered(approve) => return Ok(approve),
        story::Asked::Expired => {
            anyhow::bail!("a request has expired; the folder stays: go on with `countersign serve`")
        }
        story::Asked::Said(approve, remark) => (approve, remark),
        story::Asked::Nobody => (planned, Some(comment.to_owned())),
    };
    let said = said.unwrap_or_else(|| "said in the demo".to_owned());
    ana.answer(approval, approve, &said).await?;
    story.answered(approve, &said);
    Ok(approve)
}

/// The records, which must all be there.
fn unchanged(database: &Path) -> anyhow::Result<u64> {
    let records = database::records(database)?;
    let all = u64::from(database::BEFORE.saturating_add(database::AFTER));
    ensure!(records == all, "{} of {all} billing records are left", records);
    Ok(records)
}
