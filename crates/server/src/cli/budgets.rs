//! `countersign budgets`

use countersign_api::BudgetsBody;

use super::{
    Outcome, Output,
    client::{Connect, cell},
};

/// `countersign budgets`
#[derive(Debug, clap::Args)]
pub(super) struct Budgets {
    #[command(flatten)]
    connect: Connect,
}

impl Budgets {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let body: BudgetsBody = self.connect.client()?.get("/v1/budgets").await?;
        out.value(&body);
        out.table(
            &["budget", "of", "unit", "limit", "spent", "held", "left"],
            body.accounts.into_iter().map(|account| {
                vec![
                    account.budget,
                    account.subject,
                    cell(account.unit),
                    cell(account.limit),
                    account.spent.to_string(),
                    account.held.to_string(),
                    cell(account.left),
                ]
            }),
        );
        Ok(())
    }
}
