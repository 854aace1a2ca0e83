//! `countersign budgets`

use serde_json::Value;

use super::{
    Outcome, Output,
    client::{Connect, text},
};

/// `countersign budgets`
#[derive(Debug, clap::Args)]
pub(super) struct Budgets {
    #[command(flatten)]
    connect: Connect,
}

impl Budgets {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let body = self.connect.client()?.get("/v1/budgets").await?;
        out.value(&body);
        let accounts = body.get("accounts").and_then(Value::as_array).into_iter().flatten();
        out.table(
            &["budget", "of", "unit", "limit", "spent", "held", "left"],
            accounts.map(|account| {
                ["/budget", "/subject", "/unit", "/limit", "/spent", "/held", "/left"]
                    .map(|pointer| text(account, pointer))
                    .to_vec()
            }),
        );
        Ok(())
    }
}
