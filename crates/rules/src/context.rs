//! The facts as Cedar's context: only what some policy looks at, of the types that policies were checked
//! against.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use cedar_policy::{Context, RestrictedExpression};
use serde_json::Value;

use crate::{
    call::Requester,
    facts::{ApprovalFact, Counters, Facts, StatementFacts},
    mentions::Mentions,
    reach::Reach,
    schema::Attribute,
    tool::ToolSpec,
};

type Field = (String, RestrictedExpression);

/// What a context is made of.
pub(crate) struct Subject<'a> {
    pub(crate) tool: &'a ToolSpec,
    pub(crate) types: &'a BTreeMap<String, Attribute>,
    pub(crate) requester: &'a Requester,
    pub(crate) arguments: &'a Value,
    pub(crate) facts: &'a Facts,
}

impl Subject<'_> {
    /// The context as far as `mentions` can see it. `valid` is the approval as far as it counts.
    ///
    /// # Errors
    /// What does not fit the schema, without values: the argument's name and why.
    pub(crate) fn context(
        &self,
        mentions: &Mentions,
        valid: Option<&ApprovalFact>,
    ) -> Result<Context, String> {
        let facts = self.facts;
        let mut fields: Vec<Field> = Vec::new();
        let mut add = |name: &str, value: &dyn Fn() -> Result<Option<RestrictedExpression>, String>| {
            if mentions.sees(name)
                && let Some(value) = value()?
            {
                fields.push((name.into(), value));
            }
            Ok::<(), String>(())
        };
        add("effect", &|| Ok(Some(text(facts.effect.as_str()))))?;
        add("categories", &|| Ok(Some(texts(facts.categories.union(&self.tool.categories)))))?;
        add("reversible", &|| Ok(Some(RestrictedExpression::new_bool(facts.reversible))))?;
        add("on_behalf_of", &|| Ok(self.requester.on_behalf_of.as_ref().map(|p| text(p.as_str()))))?;
        add("reach", &|| facts.reach.as_ref().map(reach).transpose())?;
        add("statement", &|| facts.statement.as_ref().map(statement).transpose())?;
        add("session", &|| counters(&facts.session, mentions).map(Some))?;
        add("agent_today", &|| counters(&facts.agent_today, mentions).map(Some))?;
        add("provenance", &|| Ok(Some(texts(&facts.provenance))))?;
        add("time", &|| time(facts.now_ms).map(Some))?;
        add("approval", &|| valid.map(approval).transpose())?;
        add("args", &|| self.arguments(mentions).map(Some))?;
        Context::from_pairs(fields).map_err(|_cause| String::from("the facts do not fit the schema"))
    }

    fn arguments(&self, mentions: &Mentions) -> Result<RestrictedExpression, String> {
        let mut fields = Vec::new();
        for (name, attribute) in self.types.iter().filter(|(name, _)| mentions.sees_argument(name)) {
            match self.arguments.get(name) {
                None | Some(Value::Null) if attribute.required => {
                    return Err(format!("argument `{name}` is missing"));
                }
                None | Some(Value::Null) => {}
                Some(value) => {
                    let value =
                        attribute.kind.express(value).map_err(|why| format!("argument `{name}` {why}"))?;
                    fields.push((name.clone(), value));
                }
            }
        }
        record(fields)
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.into())
}

fn texts<'a>(values: impl IntoIterator<Item = &'a String>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(|v| text(v)))
}

/// Counts beyond what Cedar has count as the most it has, so that a limit on them still holds.
fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

fn record(fields: impl IntoIterator<Item = Field>) -> Result<RestrictedExpression, String> {
    RestrictedExpression::new_record(fields)
        .map_err(|_cause| String::from("a record has the same name twice"))
}

fn named<const N: usize>(
    fields: [(&str, RestrictedExpression); N],
) -> impl Iterator<Item = Field> + use<'_, N> {
    fields.into_iter().map(|(name, value)| (name.to_string(), value))
}

fn reach(reach: &Reach) -> Result<RestrictedExpression, String> {
    let amount = match &reach.amount {
        None => None,
        Some(money) => Some(record(named([
            ("currency", text(&money.currency.to_string())),
            ("minor", long(money.minor)),
        ]))?),
    };
    record(
        named([
            ("rows", long(reach.rows)),
            ("exact", RestrictedExpression::new_bool(reach.exact)),
            ("unbounded", RestrictedExpression::new_bool(reach.unbounded)),
            ("cascades", long(reach.cascades)),
            ("tables", texts(reach.tables.keys())),
            ("triggers", texts(&reach.triggers)),
        ])
        .chain(amount.map(|value| (String::from("amount"), value))),
    )
}

fn statement(statement: &StatementFacts) -> Result<RestrictedExpression, String> {
    record(named([
        ("verb", text(&statement.verb)),
        ("reads", texts(&statement.reads)),
        ("writes", texts(&statement.writes)),
        ("functions", texts(&statement.functions)),
        ("bounded", RestrictedExpression::new_bool(statement.bounded)),
    ]))
}

fn counters(counters: &Counters, mentions: &Mentions) -> Result<RestrictedExpression, String> {
    let money = counters
        .money
        .iter()
        .map(|(currency, minor)| (currency.to_string(), long(*minor)))
        .filter(|(currency, _)| mentions.currencies().contains(currency));
    let tools = RestrictedExpression::new_set(counters.tools.iter().map(|t| text(t.as_str())));
    record(named([
        ("calls", long(counters.calls)),
        ("writes", long(counters.writes)),
        ("destructive", long(counters.destructive)),
        ("rows", long(counters.rows)),
        ("money", record(money)?),
        ("tools", tools),
        ("tool_count", long(u64::try_from(counters.tools.len()).unwrap_or(u64::MAX))),
    ]))
}

/// UTC, from the proleptic Gregorian calendar: the day's hour and minute, Monday as 1 to Sunday as 7.
fn time(unix_ms: i64) -> Result<RestrictedExpression, String> {
    const MINUTE_MS: i64 = 60_000;
    let minutes = unix_ms.div_euclid(MINUTE_MS);
    let day = minutes.div_euclid(24 * 60);
    let minute_of_day = minutes.rem_euclid(24 * 60);
    // 1970-01-01 was a Thursday.
    let weekday = day.saturating_add(3).rem_euclid(7).saturating_add(1);
    record(named([
        ("unix_ms", RestrictedExpression::new_long(unix_ms)),
        ("hour", RestrictedExpression::new_long(minute_of_day.div_euclid(60))),
        ("minute", RestrictedExpression::new_long(minute_of_day.rem_euclid(60))),
        ("weekday", RestrictedExpression::new_long(weekday)),
    ]))
}

fn approval(approval: &ApprovalFact) -> Result<RestrictedExpression, String> {
    let people = RestrictedExpression::new_set(approval.signers.iter().map(|(p, _)| text(p.as_str())));
    let groups: BTreeSet<&str> =
        approval.signers.iter().flat_map(|(_, groups)| groups.iter().map(|g| g.as_str())).collect();
    let groups = RestrictedExpression::new_set(groups.into_iter().map(text));
    record(named([("people", people), ("groups", groups)]))
}
