//! `countersign approvals narrow`: a person who is asked makes another call out of the one that waits.

use countersign_api::Narrow;
use countersign_app::{
    request::{RequestBody, RequestDetail},
    text::one_line,
};
use countersign_audit::from_slice_strict;
use serde_json::Value;

use super::{Outcome, Output, client::Connect, propose::written_arguments};

/// `countersign approvals narrow`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The changed call is the agent's, and measured and decided as any other. You cannot approve it yourself, unless it \
                  only takes away, by what the tool declares (`narrows`) and by what is measured, or the rules ask nobody about it; then the \
                  groups that were asked before are asked. The agent hears what becomes of it.\n\n\
                  countersign approvals narrow apr-1 --set before=2026-01-01 --reason 'last year only'"
)]
pub(super) struct Narrowed {
    /// The request
    id: String,
    /// All arguments of the call as JSON, or `-` for standard input; those that it has, if not said
    arguments: Option<String>,
    /// Set one argument: `NAME=VALUE`, where the value is JSON, or else a text
    #[arg(long, value_name = "NAME=VALUE", value_parser = set)]
    set: Vec<(String, Value)>,
    /// Why; the agent is told
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

impl Narrowed {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let client = self.connect.client()?;
        let path = format!("/v1/approvals/{}", super::approvals::segment(&self.id));
        let mut arguments = match &self.arguments {
            Some(text) => written_arguments(text)?,
            None => {
                let request: RequestDetail = client.get(&path).await?;
                from_slice_strict(request.arguments.as_bytes())?
            }
        };
        for (name, value) in self.set {
            let object = arguments.as_object_mut();
            object.ok_or_else(|| anyhow::anyhow!("the arguments are no JSON object"))?.insert(name, value);
        }
        let body = Narrow { arguments, reason: self.reason };
        let asked: RequestBody = client.post(&format!("{path}/narrow"), &body).await?;
        out.value(&asked);
        let new = one_line(&asked.approval);
        let narrowed = asked.narrowed.as_ref();
        let who = if narrowed.is_some_and(|narrowed| narrowed.free) {
            "the rules ask nobody about it: whoever was asked before may approve it, and so may you"
        } else if narrowed.is_some_and(|narrowed| narrowed.less) {
            "it does less than the agent's, and nothing else: whoever is asked may approve it, and so may you"
        } else {
            "others have to approve it"
        };
        out.line(format!("request `{new}` asks about the changed call now; {who}"));
        Ok(())
    }
}

fn set(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("this is not of the form NAME=VALUE")?;
    if name.is_empty() {
        return Err("the argument has no name".into());
    }
    let value = from_slice_strict(value.as_bytes()).unwrap_or_else(|_no_json| Value::from(value));
    Ok((name.to_owned(), value))
}
