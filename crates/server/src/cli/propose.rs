//! `countersign call`: proposing a call as an agent, for scripts and for trying things out.

use std::io::Read as _;

use countersign_api::Proposal;
use countersign_app::{
    answer::AnswerBody,
    text::{one_line, visible},
};
use countersign_audit::from_slice_strict;
use countersign_rules::{IdempotencyKey, call::REASON_FIELD};
use reqwest::Method;
use serde_json::Value;

use super::{
    Failure, Outcome, Output,
    approvals::segment,
    client::{Connect, unsuccessful},
};

/// Largest arguments that are read from standard input, in bytes.
const ARGUMENTS_BYTES_MAX: u64 = 1024 * 1024;

/// `countersign call`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The key must be an agent's. When people are asked, the answer is `pending`: wait longer with \
                  --wait-ms, or ask what became of it with --result REQUEST. A script that may be run again after it was \
                  cut off gives each call an --idempotency-key and repeats it with the same one."
)]
pub(super) struct Propose {
    /// The tool
    #[arg(required_unless_present = "result")]
    tool: Option<String>,
    /// Its arguments as JSON, or `-` for standard input
    #[arg(default_value = "{}")]
    arguments: String,
    /// Why, for the record and the approver
    #[arg(long)]
    reason: Option<String>,
    /// A name for the session; limits and history attach to it
    #[arg(long)]
    session: Option<String>,
    /// A key of your own, such as a random UUID: the same call under the same key has the same answer, and is performed once
    #[arg(long, value_name = "KEY", value_parser = IdempotencyKey::parse)]
    idempotency_key: Option<IdempotencyKey>,
    /// How long to wait for people, in milliseconds
    #[arg(long, default_value_t = 0)]
    wait_ms: u64,
    /// Fetch the result of this request instead of proposing a call
    #[arg(long, value_name = "REQUEST", conflicts_with_all = ["tool", "reason", "session", "idempotency_key"])]
    result: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

impl Propose {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let client = self.connect.client()?;
        let reply = match &self.result {
            Some(approval) => {
                let path = format!("/v1/approvals/{}/result?wait_ms={}", segment(approval), self.wait_ms);
                client.reply(Method::GET, &path).await?
            }
            None => client.posted("/v1/calls", &self.body()?, self.idempotency_key.as_ref()).await?,
        };
        match reply.answer(out)? {
            AnswerBody::Done(done) => {
                if let Some(changed) = &done.changed {
                    let because = changed.because.as_deref().unwrap_or("-");
                    let said =
                        format!("people changed this call to {}, because: {because}", changed.arguments);
                    out.note(one_line(&said));
                }
                out.line(visible(&written(&done.result)));
                Ok(())
            }
            AnswerBody::Pending(pending) => Err(out.pending(&pending)),
            AnswerBody::Refused(refused) => Err(unsuccessful(&refused)),
        }
    }

    fn body(&self) -> Result<Proposal, Failure> {
        let mut arguments = written_arguments(&self.arguments)?;
        if let Some(reason) = &self.reason {
            let object = arguments.as_object_mut();
            let object = object.ok_or_else(|| anyhow::anyhow!("the arguments are no JSON object"))?;
            object.insert(REASON_FIELD.into(), Value::from(reason.as_str()));
        }
        Ok(Proposal {
            tool: self.tool.clone().unwrap_or_default(),
            arguments,
            session: self.session.clone(),
            wait_ms: Some(self.wait_ms),
        })
    }
}

/// Reads arguments that somebody gave as JSON, or `-` for standard input.
pub(super) fn written_arguments(text: &str) -> Result<Value, Failure> {
    if text != "-" {
        return Ok(from_slice_strict(text.as_bytes())?);
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(ARGUMENTS_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(from_slice_strict(&bytes)?)
}

/// A result as people read it: what is a text, as it stands.
fn written(result: &Value) -> String {
    match result {
        Value::Null => String::from("-"),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => result.to_string(),
    }
}
