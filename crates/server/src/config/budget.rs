//! Budgets: limits that calls are charged to.

use std::collections::BTreeSet;

use countersign_rules::{
    Effect, ToolName,
    budget::{Budget, BudgetScope, BudgetWindow, Unit},
    money::Currency,
};
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::{
    Place, Reading,
    section::{Complaint, Form as _, Shaped, integer, list, parsed, text, word, written},
};

/// Amounts up to what canonical JSON keeps exact.
pub(super) const AMOUNT_MAX: u64 = countersign_audit::canonical::INTEGER_MAX.unsigned_abs();

/// What a budget can count.
const UNITS: &[&str] = &["calls", "rows", "money"];

pub(super) fn budgets(reading: &mut Reading<'_>) -> Vec<(Budget, Place)> {
    let source = reading.source.clone();
    let mut names = BTreeSet::new();
    reading.listed("budget", |section| {
        let place = Place { source: source.clone(), keys: section.places() };
        let name = section.required("name", "give it a name that refusals can state", text);
        let scope = section.required(
            "per",
            "say who shares it: `session`, `agent` or `all`",
            word(&[
                ("session", BudgetScope::Session),
                ("agent", BudgetScope::Agent),
                ("all", BudgetScope::All),
            ]),
        );
        let window = section
            .defaulted("window", word(&[("forever", BudgetWindow::Forever), ("day", BudgetWindow::Day)]));
        let unit = section.required(
            "unit",
            "say what is counted: `calls`, `rows` or `money`",
            written(json!({ "type": "string", "enum": UNITS }), text),
        );
        let currency = section.optional("currency", parsed(str::parse::<Currency>));
        let limit = section.required(
            "limit",
            "say the most that may be spent and held together; money in minor units such as cents",
            integer(0..=AMOUNT_MAX),
        );
        let tools = section.optional("tools", list(|tool| Ok(ToolName::parse(tool)?)));
        let effect_min = section.defaulted(
            "effect_min",
            word(&[("read", Effect::Read), ("write", Effect::Write), ("destructive", Effect::Destructive)]),
        );
        let halt_at = section.optional("halt_at", threshold);
        let unit = match (unit?.as_str(), currency) {
            ("calls", None) => Unit::Calls,
            ("rows", None) => Unit::Rows,
            ("money", Some(currency)) if !currency.is_listed() => {
                let complaint = Complaint::new(format!("`{currency}` is no currency of ISO 4217"));
                section.report(None, complaint.help("write its code, such as `EUR`"));
                return None;
            }
            ("money", Some(currency)) => Unit::Money(currency),
            ("money", None) => {
                let complaint = Complaint::new("a budget of money has no `currency`");
                section.report(None, complaint.help("say which, such as `currency = \"EUR\"`"));
                return None;
            }
            ("calls" | "rows", Some(_)) => {
                section.report(None, Complaint::new("`currency` belongs to budgets of money"));
                return None;
            }
            (other, _) => {
                let complaint = Complaint::new(format!("`{other}` is no unit of a budget"));
                section.report(None, complaint.help(format!("write one of `{}`", UNITS.join("`, `"))));
                return None;
            }
        };
        let (name, limit) = (name?, limit?);
        if name.is_empty() || name.chars().count() > 128 {
            section.report(None, Complaint::new("the name of a budget has 1 to 128 characters"));
        }
        if !names.insert(name.clone()) {
            section.report(None, Complaint::new(format!("two budgets are named `{name}`")));
        }
        let halt_at = halt_at.map(|threshold| match threshold {
            Threshold::Amount(amount) => amount,
            Threshold::Percent(percent) => {
                let part = u128::from(limit).saturating_mul(u128::from(percent)).div_ceil(100);
                u64::try_from(part).unwrap_or(limit)
            }
        });
        if halt_at.is_some_and(|at| at > limit) {
            section.report(None, Complaint::new("`halt_at` lies above `limit`, so it would never halt"));
        }
        let budget = Budget {
            name,
            scope: scope?,
            window: window?,
            unit,
            limit,
            tools: tools.map(|tools| tools.into_iter().collect()),
            effect_min: effect_min?,
            halt_at,
        };
        Some((budget, place))
    })
}

/// Where a budget halts.
enum Threshold {
    Amount(u64),
    Percent(u8),
}

impl Shaped for Threshold {
    fn shape() -> Json {
        let amount = integer(0..=AMOUNT_MAX).shape();
        json!({ "anyOf": [amount, { "type": "string", "pattern": "^[0-9]+ *%$" }] })
    }
}

fn threshold(value: &DeValue<'_>) -> Result<Threshold, Complaint> {
    let Some(written) = value.as_str() else {
        return integer(0..=AMOUNT_MAX).read(value).map(Threshold::Amount);
    };
    written
        .strip_suffix('%')
        .and_then(|percent| percent.trim().parse().ok())
        .filter(|percent| (1..=100).contains(percent))
        .map(Threshold::Percent)
        .ok_or_else(|| {
            Complaint::new(format!("`{written}` is no threshold"))
                .help("write an amount such as `80`, or a part of the limit such as `\"80%\"`")
        })
}
