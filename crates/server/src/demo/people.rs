//! A person of the story, who answers over REST with a key of their own.

use anyhow::Context as _;
use countersign_api::{OnChange, Undoing};
use countersign_app::{answer::AnswerBody, request::RequestDetail};
use countersign_rules::{ApprovalId, CallId};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

/// A person waits so long for others before they look again.
const UNDO_WAIT_MS: u64 = 20_000;

/// A person with a key.
pub(crate) struct Person {
    client: reqwest::Client,
    url: String,
    key: SecretString,
}

impl Person {
    pub(crate) fn new(url: &str, key: &str) -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "a person's client talks to one loopback server")]
        let builder = reqwest::Client::builder();
        let client = builder.no_proxy().build()?;
        Ok(Self { client, url: url.to_owned(), key: SecretString::from(key.to_owned()) })
    }

    /// What an approver sees of a request.
    pub(crate) async fn request(&self, approval: &ApprovalId) -> anyhow::Result<RequestDetail> {
        let answer = self
            .client
            .get(format!("{}/v1/approvals/{approval}", self.url))
            .bearer_auth(self.key.expose_secret())
            .send()
            .await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Asks to undo a call, waiting for other people as long as the server does.
    pub(crate) async fn undo(&self, call: &CallId, reason: &str) -> anyhow::Result<AnswerBody> {
        let undoing = Undoing {
            on_change: OnChange::Refuse,
            rewritten: Vec::new(),
            reason: Some(reason.to_owned()),
            session: None,
            wait_ms: Some(UNDO_WAIT_MS),
        };
        let answer = self
            .client
            .post(format!("{}/v1/calls/{call}/undo", self.url))
            .bearer_auth(self.key.expose_secret())
            .json(&undoing)
            .send()
            .await?;
        Ok(answer.json().await?)
    }

    /// Approves or refuses.
    pub(crate) async fn answer(
        &self,
        approval: &ApprovalId,
        approve: bool,
        comment: &str,
    ) -> anyhow::Result<()> {
        let (word, field) = if approve { ("approve", "comment") } else { ("refuse", "reason") };
        let answer = self
            .client
            .post(format!("{}/v1/approvals/{approval}/{word}", self.url))
            .bearer_auth(self.key.expose_secret())
            .json(&json!({ field: comment }))
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await.context("the answer to the approver")?;
        anyhow::ensure!(status.is_success(), "the answer was not accepted: {text}");
        Ok(())
    }
}
