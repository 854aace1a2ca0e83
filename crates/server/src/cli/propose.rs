//! `countersign call`: proposing a call as an agent, for scripts and for trying things out.

use std::io::Read as _;

use countersign_audit::from_slice_strict;
use countersign_rules::{IdempotencyKey, call::REASON_FIELD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Failure, Outcome, Output,
    approvals::segment,
    client::{Connect, refusal, text, unsuccessful},
};
use countersign_app::text::{one_line, visible};

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
                client.reply(Method::GET, &path, None).await?
            }
            None => {
                let (body, key) = (self.body()?, self.idempotency_key.as_ref());
                client.reply_under(Method::POST, "/v1/calls", Some(&body), key).await?
            }
        };
        out.value(&reply.body);
        match reply.status {
            StatusCode::OK => {
                out.line(visible(&text(&reply.body, "/result")));
                Ok(())
            }
            StatusCode::ACCEPTED => {
                let next = one_line(&text(&reply.body, "/next"));
                let request = one_line(&text(&reply.body, "/approval"));
                out.text(&format!("pending: request `{request}`\n   {next}"));
                Err(Failure::Pending)
            }
            _ if out.json() => Err(unsuccessful(&reply)),
            _ => Err(Failure::Refused(Box::new(refusal(&reply)))),
        }
    }

    fn body(&self) -> Result<Value, Failure> {
        let mut arguments = if self.arguments == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(ARGUMENTS_BYTES_MAX).read_to_end(&mut bytes)?;
            from_slice_strict(&bytes)?
        } else {
            from_slice_strict(self.arguments.as_bytes())?
        };
        if let Some(reason) = &self.reason {
            let object = arguments.as_object_mut();
            let object = object.ok_or_else(|| anyhow::anyhow!("the arguments are no JSON object"))?;
            object.insert(REASON_FIELD.into(), Value::from(reason.as_str()));
        }
        let mut body = json!({ "tool": self.tool, "arguments": arguments, "wait_ms": self.wait_ms });
        if let (Some(session), Some(body)) = (&self.session, body.as_object_mut()) {
            body.insert("session".into(), Value::from(session.as_str()));
        }
        Ok(body)
    }
}
