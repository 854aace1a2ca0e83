//! `countersign calls`

use clap::Subcommand;
use countersign_api::{CallBody, CallsBody, DoubtFinding};
use countersign_app::text::visible;

use super::{
    Outcome, Output,
    approvals::{more, segment},
    client::{Connect, cell},
};
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
                let path = format!("/v1/calls?limit={limit}{state}{after}");
                let body: CallsBody = connect.client()?.get(&path).await?;
                out.value(&body);
                let next = body.next;
                out.table(
                    &["call", "state", "agent", "tool", "effect", "rows", "issued"],
                    body.calls.into_iter().map(|call| {
                        let issued = out.moment(&cell(call.issued_at));
                        vec![
                            call.call,
                            call.state,
                            call.agent,
                            call.tool,
                            call.effect,
                            call.rows.to_string(),
                            issued,
                        ]
                    }),
                );
                more(next.as_deref(), out);
            }
            Self::Show { id, connect } => {
                let body: CallBody = connect.client()?.get(&format!("/v1/calls/{}", segment(&id))).await?;
                out.value(&body);
                out.line(visible(&serde_json::to_string_pretty(&body)?));
            }
            Self::Resolve { id, happened, did_not_happen: _, reason, connect } => {
                let path = format!("/v1/calls/{}/resolve", segment(&id));
                let finding = DoubtFinding { happened, comment: reason };
                let body: CallBody = connect.client()?.post(&path, &finding).await?;
                out.value(&body);
                out.line(format!("call `{}` is {}", body.call, body.state));
            }
        }
        Ok(())
    }
}
