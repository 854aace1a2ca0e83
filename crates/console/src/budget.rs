//! Budgets: what is spent, held and left.

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::text::{grouped, one_line};
use countersign_audit::time::format_ms;
use countersign_gate::Ledger as _;

use crate::{Console, failure::Failure, filters, frame::Frame, signed::Signed};

const DAY_MS: i64 = 86_400_000;
const ACCOUNTS_MAX: u32 = 500;

struct Row {
    budget: String,
    subject: String,
    day: String,
    unit: String,
    spent: String,
    held: String,
    limit: Option<String>,
    /// How much of the limit is spent, and held, in hundredths of it.
    spent_share: u64,
    held_share: u64,
}

#[derive(Template)]
#[template(path = "budgets.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
}

/// Every account, newest day first.
pub(crate) async fn list(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "budgets").await?;
    let budgets = &console.app.settings().budgets;
    let rows = console.app.store().balances(ACCOUNTS_MAX).await?.into_iter().map(|(account, balance)| {
        let budget = budgets.iter().find(|budget| budget.name == account.budget);
        let share = |used: u64| {
            let limit = budget.map_or(0, |budget| budget.limit);
            used.saturating_mul(100).checked_div(limit).unwrap_or_default().min(100)
        };
        let day = format_ms(account.day.saturating_mul(DAY_MS)).unwrap_or_default();
        Row {
            budget: one_line(&account.budget),
            subject: one_line(&account.subject),
            day: if account.day == 0 { "forever".into() } else { day.chars().take(10).collect() },
            unit: budget.map(|budget| budget.unit.to_string()).unwrap_or_default(),
            spent: grouped(balance.spent),
            held: grouped(balance.held),
            limit: budget.map(|budget| grouped(budget.limit)),
            spent_share: share(balance.spent),
            held_share: share(balance.held),
        }
    });
    let rows = rows.collect();
    Ok(Html(Page { frame, rows }.render()?))
}
