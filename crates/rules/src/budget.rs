//! How much: reserved before, settled after, released on refusal.
//!
//! The arithmetic is here; the ledger applies it inside the transaction that issues a warrant, so that
//! concurrent calls and crashes never overspend and a refused call consumes nothing.

use alloc::{collections::BTreeSet, string::String};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    effect::Effect,
    id::{AgentId, SessionId, ToolName},
    money::Currency,
};

/// A budget is kept for each session, for each agent, or once for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// Each session has its own.
    Session,
    /// Each agent has its own.
    Agent,
    /// All agents share one.
    All,
}

/// A budget starts again each day, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetWindow {
    /// The budget never starts again.
    Forever,
    /// The budget starts again at each UTC midnight.
    Day,
}

/// A budget counts in one of these units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Each issued call counts as one.
    Calls,
    /// Each row that is touched or returned counts as one.
    Rows,
    /// Money counts in minor units of the currency, such as cents.
    Money(Currency),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls => f.write_str("calls"),
            Self::Rows => f.write_str("rows"),
            Self::Money(currency) => write!(f, "{currency} (minor units)"),
        }
    }
}

/// A budget is a limit that people configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Refusals and the log call the budget by this name, as configured.
    pub name: String,
    /// Calls share the budget if they are of the same session or agent, or all of them do.
    pub scope: BudgetScope,
    /// The budget starts again at the end of this window.
    pub window: BudgetWindow,
    /// The amounts are counted in this unit.
    pub unit: Unit,
    /// The most that may be spent and held together.
    pub limit: u64,
    /// Only these tools count, when said.
    pub tools: Option<BTreeSet<ToolName>>,
    /// Only calls of at least this effect count.
    pub effect_min: Effect,
    /// The agent is halted automatically when what is spent and held together reaches this.
    pub halt_at: Option<u64>,
}

impl Budget {
    /// Returns true if a call of this tool and effect counts against the budget.
    #[must_use]
    pub fn covers(&self, tool: &ToolName, effect: Effect) -> bool {
        effect >= self.effect_min && self.tools.as_ref().is_none_or(|tools| tools.contains(tool))
    }

    /// The account that a call by this agent in this session at this time is charged to.
    #[must_use]
    pub fn account(&self, agent: &AgentId, session: &SessionId, now_ms: i64) -> BudgetAccount {
        BudgetAccount {
            budget: self.name.clone(),
            subject: match self.scope {
                BudgetScope::Session => alloc::format!("session:{agent}/{session}"),
                BudgetScope::Agent => alloc::format!("agent:{agent}"),
                BudgetScope::All => String::from("all"),
            },
            day: match self.window {
                BudgetWindow::Forever => 0,
                BudgetWindow::Day => day(now_ms),
            },
        }
    }
}

/// Returns the number of the UTC day, counted from 1970-01-01.
#[must_use]
pub const fn day(now_ms: i64) -> i64 {
    now_ms.div_euclid(86_400_000)
}

/// An account keeps the amounts of one budget for one subject in one window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BudgetAccount {
    /// The budget's name.
    pub budget: String,
    /// The account is that of this session or agent, by its id; it is empty where all share the budget.
    pub subject: String,
    /// The UTC day, or 0 for a budget that never starts again.
    pub day: i64,
}

/// An account holds these two amounts. INVARIANT: after every [`Balance::reserve`], `spent + held <= limit`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// So much is spent: what calls have been settled with.
    pub spent: u64,
    /// Reserved by calls under way.
    pub held: u64,
}

/// A call asks for this hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    /// The amount is held on this account.
    pub account: BudgetAccount,
    /// The amounts are counted in this unit.
    pub unit: Unit,
    /// This amount is to be reserved, in the unit.
    pub amount: u64,
    /// The budget has this limit.
    pub limit: u64,
    /// The agent is halted once this amount, in the unit, is spent or held; `None` never halts.
    pub halt_at: Option<u64>,
}

/// There is no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("budget `{budget}` has {left} of {limit} {unit} left, and the call needs {amount}")]
pub struct Exhausted {
    /// The budget has this name.
    pub budget: String,
    /// The amounts are counted in this unit.
    pub unit: Unit,
    /// The call needs this amount, in the unit.
    pub amount: u64,
    /// This amount is left, in the unit.
    pub left: u64,
    /// The budget has this limit.
    pub limit: u64,
}

impl HoldRequest {
    /// Returns true if reserving this takes its account over the threshold. An account that is beyond it already
    /// crosses nothing: a person who resumed the agent has decided that it goes on.
    pub(crate) fn crosses(&self, before: Balance, after: Balance) -> bool {
        self.halt_at.is_some_and(|at| before.used() < at && at <= after.used())
    }
}

impl Balance {
    /// Returns the sum of what is spent and what is held.
    #[must_use]
    pub const fn used(self) -> u64 {
        self.spent.saturating_add(self.held)
    }

    /// Reserves what a call needs.
    ///
    /// # Errors
    /// Returns [`Exhausted`], and then nothing is reserved.
    pub fn reserve(self, request: &HoldRequest) -> Result<Self, Exhausted> {
        let left = request.limit.saturating_sub(self.used());
        if request.amount > left {
            return Err(Exhausted {
                budget: request.account.budget.clone(),
                unit: request.unit,
                amount: request.amount,
                left,
                limit: request.limit,
            });
        }
        Ok(Self { spent: self.spent, held: self.held.saturating_add(request.amount) })
    }

    /// Turns a hold into what was really used: 0 releases it.
    #[must_use]
    pub const fn settle(self, held: u64, used: u64) -> Self {
        Self { spent: self.spent.saturating_add(used), held: self.held.saturating_sub(held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(amount: u64) -> HoldRequest {
        HoldRequest {
            account: BudgetAccount { budget: "b".into(), subject: "all".into(), day: 0 },
            unit: Unit::Rows,
            amount,
            limit: 10,
            halt_at: None,
        }
    }

    #[test]
    fn never_holds_more_than_the_limit() {
        let balance = Balance { spent: 4, held: 3 };
        assert_eq!(balance.reserve(&request(3)).unwrap(), Balance { spent: 4, held: 6 });
        let refused = balance.reserve(&request(4)).unwrap_err();
        assert_eq!((refused.left, refused.limit), (3, 10));
        assert!(Balance::default().reserve(&request(u64::MAX)).is_err());
    }

    #[test]
    fn a_threshold_is_crossed_once() {
        let request = HoldRequest { halt_at: Some(5), ..request(3) };
        let of = |held| Balance { spent: 0, held };
        assert!(request.crosses(of(2), of(5)));
        assert!(!request.crosses(of(1), of(4)));
        assert!(!request.crosses(of(5), of(8)));
    }

    #[test]
    fn settling_releases_what_was_not_used() {
        assert_eq!(Balance { spent: 0, held: 5 }.settle(5, 2), Balance { spent: 2, held: 0 });
        assert_eq!(Balance { spent: 0, held: 5 }.settle(5, 0), Balance::default());
    }

    #[test]
    fn days_begin_at_midnight_before_and_after_the_epoch() {
        assert_eq!(day(-1), -1);
        assert_eq!(day(86_399_999), 0);
        assert_eq!(day(86_400_000), 1);
    }
}
