//! Budgets: limits, what is spent and what is held.

use axum::{Json, extract::State};
use countersign_gate::Ledger as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, Problem, request::AsPerson};

/// What one account of a budget holds.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountBody {
    /// The budget's name.
    pub budget: String,
    /// Whose account: `all`, `agent:…` or `session:…`.
    pub subject: String,
    /// The UTC day, counted from 1970-01-01; 0 for a budget that never starts again.
    pub day: i64,
    /// What is counted; `null` for a budget that is no longer configured.
    pub unit: Option<String>,
    /// The most that may be spent and held together.
    pub limit: Option<u64>,
    /// Settled.
    pub spent: u64,
    /// Reserved by calls under way.
    pub held: u64,
    /// What is left.
    pub left: Option<u64>,
}

/// A list of accounts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BudgetsBody {
    /// Newest day first.
    pub accounts: Vec<AccountBody>,
}

/// Every account that was ever used. For people.
#[utoipa::path(
    get, path = "/v1/budgets", tag = "budgets", operation_id = "list_budgets",
    responses((status = 200, body = BudgetsBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    AsPerson(_person): AsPerson,
) -> Result<Json<BudgetsBody>, Problem> {
    let budgets = &api.app.settings().budgets;
    let balances = api.app.store().balances(1_000).await?;
    let accounts = balances
        .into_iter()
        .map(|(account, balance)| {
            let budget = budgets.iter().find(|budget| budget.name == account.budget);
            AccountBody {
                unit: budget.map(|budget| budget.unit.to_string()),
                limit: budget.map(|budget| budget.limit),
                left: budget.map(|budget| budget.limit.saturating_sub(balance.used())),
                spent: balance.spent,
                held: balance.held,
                budget: account.budget,
                subject: account.subject,
                day: account.day,
            }
        })
        .collect();
    Ok(Json(BudgetsBody { accounts }))
}
