//! `countersign calls`

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Outcome, Output,
    approvals::{more, segment},
    client::{Connect, text},
};
use countersign_app::text::visible;

#[derive(Debug, Subcommand)]
pub(super) enum Calls {
    /// List issued calls, newest first
    List {
        /// `open`, `done`, `failed` or `in_doubt`
        #[arg(long)]
        state: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Go on after this call, the last of a list
        #[arg(long, value_name = "CALL")]
        after: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Show a call
    Show {
        /// The call
        id: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Settle a call in doubt, after finding out whether it happened (operators)
    #[command(group = clap::ArgGroup::new("finding").required(true).args(["happened", "did_not_happen"]))]
    Resolve {
        /// The call
        id: String,
        /// It had its effect
        #[arg(long)]
        happened: bool,
        /// It had no effect
        #[arg(long)]
        did_not_happen: bool,
        /// How that was found out
        #[arg(long, alias = "comment")]
        reason: String,
        #[command(flatten)]
        connect: Connect,
    },
}

impl Calls {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::List { state, limit, after, connect } => {
                let after = after.map(|id| format!("&after={}", segment(&id))).unwrap_or_default();
                let state = state.map(|state| format!("&state={}", segment(&state))).unwrap_or_default();
                let body = connect.client()?.get(&format!("/v1/calls?limit={limit}{state}{after}")).await?;
                out.value(&body);
                let calls = body.get("calls").and_then(Value::as_array).into_iter().flatten();
                out.table(
                    &["call", "state", "agent", "tool", "effect", "rows", "issued"],
                    calls.map(|call| {
                        let cells = ["/call", "/state", "/agent", "/tool", "/effect", "/rows"];
                        let mut row = cells.map(|pointer| text(call, pointer)).to_vec();
                        row.push(out.moment(&text(call, "/issued_at")));
                        row
                    }),
                );
                more(&body, out);
            }
            Self::Show { id, connect } => {
                let body = connect.client()?.get(&format!("/v1/calls/{}", segment(&id))).await?;
                out.value(&body);
                out.line(visible(&serde_json::to_string_pretty(&body)?));
            }
            Self::Resolve { id, happened, did_not_happen: _, reason, connect } => {
                let path = format!("/v1/calls/{}/resolve", segment(&id));
                let finding = json!({ "happened": happened, "comment": reason });
                let body = connect.client()?.ask(Method::POST, &path, Some(&finding)).await?;
                out.value(&body);
                out.line(format!("call `{}` is {}", text(&body, "/call"), text(&body, "/state")));
            }
        }
        Ok(())
    }
}
