//! `countersign approvals`: people's side.

use std::collections::BTreeSet;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Outcome, Output,
    client::{Client, Connect, text},
    request::{detail, shown},
};
use crate::text::one_line;

/// How often a watch looks.
const LOOK: std::time::Duration = std::time::Duration::from_millis(700);

#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// List requests that ask your groups
    List {
        /// A state, or `all`
        #[arg(long, default_value = "waiting")]
        state: String,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Go on after this request, the last of a list
        #[arg(long, value_name = "REQUEST")]
        after: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Show a request: exact arguments, measured reach, sample rows, who asks and why
    Show {
        /// The request
        id: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Approve a request; the server decides again and then performs the call
    Approve {
        /// The request
        id: String,
        /// A remark for the record
        #[arg(long)]
        comment: Option<String>,
        /// Approve only if the call still has this digest, as `show` prints it
        #[arg(long)]
        digest: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Refuse a request; the reason reaches the agent
    Refuse {
        /// The request
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Print requests as they come, until interrupted
    Watch {
        #[command(flatten)]
        connect: Connect,
    },
}

impl Approvals {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::List { state, limit, after, connect } => {
                let after = after.map(|id| format!("&after={}", segment(&id))).unwrap_or_default();
                let query = format!("state={}&limit={limit}{after}", segment(&state));
                let body = connect.client()?.get(&format!("/v1/approvals?{query}")).await?;
                out.value(&body);
                out.table(
                    &["request", "state", "agent", "tool", "effect", "rows", "asked of", "expires"],
                    requests(&body).map(row),
                );
                more(&body, out);
                Ok(())
            }
            Self::Show { id, connect } => {
                let body = connect.client()?.get(&format!("/v1/approvals/{}", segment(&id))).await?;
                out.value(&body);
                out.line(detail(&body));
                Ok(())
            }
            Self::Approve { id, comment, digest, connect } => {
                let body = json!({ "comment": comment, "digest": digest });
                answer(&connect.client()?, &id, "approve", &body, out).await
            }
            Self::Refuse { id, reason, connect } => {
                answer(&connect.client()?, &id, "refuse", &json!({ "reason": reason }), out).await
            }
            Self::Watch { connect } => watch(&connect.client()?, out).await,
        }
    }
}

/// Says how to go on where a list does.
pub(super) fn more(body: &Value, out: &Output) {
    if let Some(next) = body.get("next").and_then(Value::as_str)
        && !out.json()
    {
        out.note(one_line(&format!("there is more: go on with --after {next}")));
    }
}

async fn answer(client: &Client, id: &str, what: &str, body: &Value, out: &Output) -> Outcome {
    let path = format!("/v1/approvals/{}/{what}", segment(id));
    let body = client.ask(Method::POST, &path, Some(body)).await?;
    out.value(&body);
    out.line(format!("request `{}` is {}", shown(&body, "/approval"), shown(&body, "/state")));
    Ok(())
}

async fn watch(client: &Client, out: &Output) -> Outcome {
    let mut seen = BTreeSet::new();
    loop {
        let body = client.get("/v1/approvals").await?;
        for request in requests(&body) {
            let id = text(request, "/approval");
            if seen.insert(id.clone()) {
                let detail_body = client.get(&format!("/v1/approvals/{}", segment(&id))).await?;
                out.value(&detail_body);
                out.line(format!("{}\n", detail(&detail_body)));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
        }
    }
}

fn requests(body: &Value) -> impl Iterator<Item = &Value> {
    body.get("approvals").and_then(Value::as_array).into_iter().flatten()
}

fn row(request: &Value) -> Vec<String> {
    let groups = asks(request).map(|ask| text(ask, "/group")).collect::<Vec<_>>().join(", ");
    let mut cells: Vec<String> = ["/approval", "/state", "/agent", "/tool", "/effect", "/rows"]
        .into_iter()
        .map(|pointer| text(request, pointer))
        .collect();
    cells.push(groups);
    cells.push(text(request, "/expires_at"));
    cells
}

fn asks(request: &Value) -> impl Iterator<Item = &Value> {
    request.get("of").and_then(Value::as_array).into_iter().flatten()
}

/// One segment of a path.
pub(super) fn segment(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect()
}
