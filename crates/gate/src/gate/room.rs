//! Whether rates and budgets have room for a call, and what it would take of them.

use countersign_rules::{
    Allow, Call, Code, Effect, Facts, Refusal, ToolSpec,
    budget::{Budget, BudgetWindow, Exhausted, HoldRequest, Unit},
    rate::{Rate, RateScope},
};

use super::Gate;
use crate::{
    ledger::{Ledger, NotIssued},
    warrant::Limits,
};

impl<L: Ledger> Gate<L> {
    /// Returns true if a budget that covers such calls counts something that only measuring can tell.
    pub(super) fn charges_measured(&self, spec: &ToolSpec, effect: Effect) -> bool {
        self.settings.budgets.iter().any(|b| b.covers(&spec.name, effect) && matches!(b.unit, Unit::Money(_)))
    }

    /// Returns true if a budget counts the rows of such calls: each reserves what it reaches, where that can be told,
    /// and otherwise all that one call of its tool may touch.
    pub(super) fn charges_rows(&self, spec: &ToolSpec, effect: Effect) -> bool {
        self.settings.budgets.iter().any(|b| b.covers(&spec.name, effect) && b.unit == Unit::Rows)
    }

    /// Words what to do where a budget has no room: a smaller call is spoken of only where one could fit.
    pub(super) fn more_room<A>(&self, call: &Call<A>, exhausted: &Exhausted) -> String {
        let daily = self
            .settings
            .budgets
            .iter()
            .any(|budget| budget.name == exhausted.budget && budget.window == BudgetWindow::Day);
        let again = if daily { ", or the day (UTC) be over" } else { "" };
        let raise = format!("a person must raise the budget{again}");
        let spec = &call.tool;
        if exhausted.left == 0 || exhausted.unit == Unit::Calls {
            return format!("nothing was charged; {raise}");
        }
        if exhausted.unit == Unit::Rows && exhausted.amount == spec.rows_max {
            // It may have been measured at just so many.
            return format!(
                "nothing was charged; a smaller call may fit if its rows can be told before, as otherwise `{}` reserves its \
                 `rows_max`: {raise}, or the tool's author lower that",
                spec.name
            );
        }
        format!("nothing was charged; a smaller call may fit, or {raise}")
    }

    /// Returns what a call reserves.
    pub(super) fn holds<A>(
        &self,
        call: &Call<A>,
        effect: Effect,
        limits: &Limits,
        now_ms: i64,
    ) -> Result<Vec<HoldRequest>, Refusal> {
        let mut holds = Vec::new();
        for budget in self.covering(call, effect) {
            let need = match budget.unit {
                Unit::Calls => 1,
                Unit::Rows => limits.rows_max,
                Unit::Money(currency) => match limits.amount_max {
                    Some(money) if money.currency == currency => money.minor,
                    Some(_) => continue,
                    // Money under a budget, and nobody knows how much: no.
                    None => {
                        let message = format!(
                            "budget `{}` counts money, and tool `{}` does not say how much a call moves",
                            budget.name, call.tool.name
                        );
                        return Err(Refusal::new(Code::ReachUnmeasurable, message)
                            .help("the tool's author must declare `amount` or a preview"));
                    }
                },
            };
            holds.push(hold(budget, call, need, now_ms));
        }
        Ok(holds)
    }

    pub(super) fn covering<A>(&self, call: &Call<A>, effect: Effect) -> impl Iterator<Item = &Budget> {
        self.settings.budgets.iter().filter(move |budget| budget.covers(&call.tool.name, effect))
    }

    /// Returns what a call reserves whatever it reaches.
    pub(super) fn counted<A>(&self, call: &Call<A>, effect: Effect, now_ms: i64) -> Vec<HoldRequest> {
        self.covering(call, effect)
            .filter(|budget| budget.unit == Unit::Calls)
            .map(|budget| hold(budget, call, 1, now_ms))
            .collect()
    }

    /// Looks whether rates and holds have room now. Issuing looks again, and takes it.
    pub(super) async fn room<A>(
        &self,
        call: &Call<A>,
        holds: &[HoldRequest],
        now_ms: i64,
    ) -> Result<(), NotIssued> {
        let rates = rate_keys(call);
        if rates.is_empty() && holds.is_empty() {
            return Ok(());
        }
        self.ledger.room(&rates, holds, now_ms).await
    }

    /// Checks that the call would find room if people approved it now: they are not asked about what will be refused
    /// anyway. What waits reserves nothing.
    pub(super) async fn room_to_ask<A>(&self, call: &Call<A>, facts: &Facts) -> Result<(), NoRoom> {
        self.room_among_requests(call).await?;
        self.room_once_approved(call, facts).await
    }

    /// As [`Gate::room_to_ask`], where another request makes way for this one.
    pub(super) async fn room_once_approved<A>(&self, call: &Call<A>, facts: &Facts) -> Result<(), NoRoom> {
        // An approval will bind it to what was measured.
        let allow = Allow::within(Vec::new(), facts.reach.as_ref());
        let limits = Limits::new(&allow, &call.tool, facts.effect);
        let holds = self.holds(call, facts.effect, &limits, facts.now_ms).map_err(NoRoom::Unmeasured)?;
        self.room(call, &holds, facts.now_ms).await.map_err(NoRoom::Limit)
    }
}

impl<L: Ledger> Gate<L> {
    /// Checks that the agent may have one more request open. Nobody is kept from seeing the requests of others by
    /// what one asks. Requests that are made at the same moment may together be some more.
    async fn room_among_requests<A>(&self, call: &Call<A>) -> Result<(), NoRoom> {
        let open = self.ledger.waiting(&call.requester.agent).await;
        let open = open.map_err(|fault| NoRoom::Limit(NotIssued::Fault(fault)))?;
        let most = self.settings.open_requests_max;
        if open < u64::from(most) {
            return Ok(());
        }
        let message = format!("{open} requests of this agent wait for people already, and {most} may");
        let refusal = Refusal::new(Code::RateLimited, message)
            .help("nothing was done; wait until people have answered, or narrow what you ask for");
        Err(NoRoom::Unmeasured(refusal))
    }
}

/// People are not asked for one of these reasons.
pub(super) enum NoRoom {
    /// A limit refuses.
    Limit(NotIssued),
    /// Something else does: a budget counts what nobody knows, the reach cannot be measured, or too many requests wait.
    Unmeasured(Refusal),
}

pub(super) fn hold<A>(budget: &Budget, call: &Call<A>, amount: u64, now_ms: i64) -> HoldRequest {
    HoldRequest {
        account: budget.account(&call.requester.agent, &call.requester.session, now_ms),
        unit: budget.unit,
        amount,
        limit: budget.limit,
        halt_at: budget.halt_at,
    }
}

/// The rates of a call, each with the key its instant is stored under.
pub(super) fn rate_keys<A>(call: &Call<A>) -> Vec<(String, Rate)> {
    let tool = &call.tool.name;
    let requester = &call.requester;
    call.tool
        .rates
        .iter()
        .map(|rate| {
            let subject = match rate.scope {
                RateScope::Tool => String::from("all"),
                RateScope::Agent => format!("agent:{}", requester.agent),
                RateScope::Session => format!("session:{}/{}", requester.agent, requester.session),
            };
            (format!("{tool}|{rate}|{subject}"), *rate)
        })
        .collect()
}
