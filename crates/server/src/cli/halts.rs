//! `countersign halt` and `countersign resume`

use std::sync::Arc;

use countersign_api::{HaltBody, ResumedBody};
use countersign_gate::{
    Clock as _, Ledger as _, NewEntry,
    ledger::{HaltRecord, HaltScope},
};
use countersign_rules::AgentId;
use countersign_store::Store;

use super::{Outcome, Output, approvals::segment, client::Connect, keys, load};
use crate::clock::SystemClock;

/// `countersign halt`
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("whom").required(true).args(["agent", "all"]),
    after_help = "Works through the running server with your key. Without a server, --direct writes to the ledger itself."
)]
pub(super) struct Halt {
    /// The agent
    agent: Option<String>,
    /// Every agent
    #[arg(long)]
    all: bool,
    /// Why; agents are told
    #[arg(long, alias = "why", default_value = "halted by an operator")]
    reason: String,
    /// Write to the ledger itself, when no server runs
    #[arg(long)]
    direct: bool,
    #[command(flatten)]
    connect: Connect,
}

/// `countersign resume`
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["agent", "all"]))]
pub(super) struct Resume {
    /// The agent
    agent: Option<String>,
    /// Every agent; agents halted one by one stay halted
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Halt {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        if self.direct {
            return self.direct(out).await;
        }
        let whom = whom(self.agent.as_deref());
        let body = countersign_api::Halt { agent: self.agent, all: self.all, why: self.reason };
        let halt: HaltBody = self.connect.client()?.post("/v1/halts", &body).await?;
        out.value(&halt);
        out.line(format!("{whom} is halted from the next decision on"));
        Ok(())
    }

    async fn direct(self, out: &Output) -> Outcome {
        let config = load(self.connect.folder())?;
        let store = Arc::new(keys::open(&config).await?);
        let scope = match &self.agent {
            Some(agent) => HaltScope::Agent(AgentId::parse(agent)?),
            None => HaltScope::All,
        };
        let halt = HaltRecord { scope, why: self.reason, by: "cli".into(), since_ms: SystemClock.now_ms() };
        let entry = NewEntry::halted(&halt);
        let halt = store.halt(halt, entry).await?;
        Store::close(&store).await;
        out.value(&halt);
        out.line(halt.to_string());
        Ok(())
    }
}

impl Resume {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let query = match &self.agent {
            Some(agent) => format!("agent={}", segment(agent)),
            None => "all=true".to_owned(),
        };
        let body: ResumedBody = self.connect.client()?.delete(&format!("/v1/halts?{query}")).await?;
        out.value(&body);
        out.line(format!("{} goes on", whom(self.agent.as_deref())));
        Ok(())
    }
}

fn whom(agent: Option<&str>) -> String {
    agent.map_or_else(|| "every agent".to_owned(), |agent| format!("agent `{agent}`"))
}
