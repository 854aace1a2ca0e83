//! The facts as Cedar's context: only what some policy looks at, of the types that policies were checked
//! against.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString as _},
    vec::Vec,
};

use cedar_policy::{Context, RestrictedExpression};
use serde_json::Value;

use crate::{
    call::Requester,
    facts::{ApprovalFact, Counters, Facts, StatementFacts},
    memory::DecisionKey,
    mentions::Mentions,
    reach::Reach,
    schema::Attribute,
    slice::Part,
    tool::ToolSpec,
    unfit::Unfit,
};

type Field = (String, RestrictedExpression);

/// A context is made of the call and its facts.
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
    /// Returns what does not fit the schema, without values: the argument's name and why.
    pub(crate) fn context(
        &self,
        mentions: &Mentions,
        valid: Option<&ApprovalFact>,
    ) -> Result<Context, Unfit> {
        let facts = self.facts;
        let mut fields: Vec<Field> = Vec::new();
        let mut add = |name: &str, value: &dyn Fn() -> Result<Option<RestrictedExpression>, Unfit>| {
            if mentions.sees(name)
                && let Some(value) = value()?
            {
                fields.push((name.into(), value));
            }
            Ok::<(), Unfit>(())
        };
        add("effect", &|| Ok(Some(text(facts.effect.as_str()))))?;
        add("categories", &|| Ok(Some(texts(self.categories()))))?;
        add("reversible", &|| Ok(Some(RestrictedExpression::new_bool(facts.reversible))))?;
        add("on_behalf_of", &|| Ok(self.requester.on_behalf_of.as_ref().map(|p| text(p.as_str()))))?;
        let within = |attribute| Within { mentions, attribute, fields: Vec::new() };
        add("reach", &|| facts.reach.as_ref().map(|r| reach(r, within("reach"))).transpose())?;
        add("statement", &|| {
            facts.statement.as_ref().map(|s| statement(s, within("statement"))).transpose()
        })?;
        add("session", &|| counters(&facts.session, within("session")).map(Some))?;
        add("agent_today", &|| counters(&facts.agent_today, within("agent_today")).map(Some))?;
        add("given", &|| Ok(Some(given(self.arguments))))?;
        add("time", &|| time(facts.now_ms, within("time")).map(Some))?;
        add("approval", &|| valid.map(|a| approval(a, within("approval"))).transpose())?;
        add("args", &|| self.arguments(mentions).map(Some))?;
        Context::from_pairs(fields).map_err(|_cause| Unfit::Facts)
    }

    /// Returns the key that holds everything that `mentions` can see, where there is one.
    ///
    /// INVARIANT: of one tool and agent, equal keys have equal contexts. What a call may have or not is held where it is
    /// absent, for then there is nothing to see.
    pub(crate) fn key(
        &self,
        part: Part,
        mentions: &Mentions,
        valid: Option<&ApprovalFact>,
    ) -> Option<DecisionKey> {
        let facts = self.facts;
        let held = mentions.all_are(|attribute| match attribute {
            "effect" | "categories" | "reversible" => true,
            "on_behalf_of" => self.requester.on_behalf_of.is_none(),
            "reach" => facts.reach.is_none(),
            "statement" => facts.statement.is_none(),
            "approval" => valid.is_none(),
            _ => false,
        });
        held.then(|| DecisionKey {
            tool: self.tool.name.clone(),
            agent: self.requester.agent.clone(),
            part,
            effect: mentions.sees("effect").then_some(facts.effect),
            reversible: mentions.sees("reversible").then_some(facts.reversible),
            categories: mentions.sees("categories").then(|| self.categories().cloned().collect()),
        })
    }

    /// Declared and observed ones, in order.
    fn categories(&self) -> impl Iterator<Item = &String> {
        self.facts.categories.union(&self.tool.categories)
    }

    fn arguments(&self, mentions: &Mentions) -> Result<RestrictedExpression, Unfit> {
        let mut fields = Vec::new();
        for (name, attribute) in self.types.iter().filter(|(name, _)| mentions.sees_field("args", name)) {
            match self.arguments.get(name) {
                None | Some(Value::Null) if attribute.required => {
                    return Err(Unfit::Missing(name.clone()));
                }
                None | Some(Value::Null) => {}
                Some(value) => {
                    let unfit = |why| Unfit::Argument { name: name.clone(), why };
                    let value = attribute.kind.express(value).map_err(unfit)?;
                    fields.push((name.clone(), value));
                }
            }
        }
        record(fields)
    }
}

/// The names of the arguments that were given at the top level, whether policies can look into them or not.
fn given(arguments: &Value) -> RestrictedExpression {
    let names = arguments.as_object().into_iter().flat_map(serde_json::Map::keys);
    RestrictedExpression::new_set(names.map(|name| text(name)))
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

fn record(fields: impl IntoIterator<Item = Field>) -> Result<RestrictedExpression, Unfit> {
    RestrictedExpression::new_record(fields).map_err(|_cause| Unfit::Twice)
}

/// The fields of one attribute, as far as some policy looks at them.
struct Within<'a> {
    mentions: &'a Mentions,
    attribute: &'a str,
    fields: Vec<Field>,
}

impl Within<'_> {
    fn with(mut self, name: &str, value: impl FnOnce() -> RestrictedExpression) -> Self {
        if self.mentions.sees_field(self.attribute, name) {
            self.fields.push((name.into(), value()));
        }
        self
    }

    fn end(self) -> Result<RestrictedExpression, Unfit> {
        record(self.fields)
    }
}

fn truth(value: bool) -> RestrictedExpression {
    RestrictedExpression::new_bool(value)
}

/// Returns all of a reach.
///
/// # Errors
/// Never: no field is named twice.
pub(crate) fn whole_reach(of: &Reach) -> Result<RestrictedExpression, Unfit> {
    reach(of, Within { mentions: &Mentions::everything(), attribute: "reach", fields: Vec::new() })
}

/// Returns all that can be said of a time.
///
/// # Errors
/// Never: no field is named twice.
pub(crate) fn whole_time(unix_ms: i64) -> Result<RestrictedExpression, Unfit> {
    time(unix_ms, Within { mentions: &Mentions::everything(), attribute: "time", fields: Vec::new() })
}

fn reach(reach: &Reach, within: Within<'_>) -> Result<RestrictedExpression, Unfit> {
    let mut within = within
        // A number that is known to be too low would pass a rule about large ones.
        .with("rows", || long(if reach.unbounded { u64::MAX } else { reach.rows }))
        .with("exact", || truth(reach.exact))
        .with("unbounded", || truth(reach.unbounded))
        .with("cascades", || long(reach.cascades))
        .with("tables", || texts(reach.tables.keys()))
        .with("triggers", || texts(&reach.triggers));
    if let Some(money) = &reach.amount {
        let amount = record([
            ("currency".into(), text(&money.currency.to_string())),
            ("minor".into(), long(money.minor)),
        ])?;
        within = within.with("amount", || amount);
    }
    within.end()
}

fn statement(statement: &StatementFacts, within: Within<'_>) -> Result<RestrictedExpression, Unfit> {
    within
        .with("verb", || text(&statement.verb))
        .with("reads", || texts(&statement.reads))
        .with("writes", || texts(&statement.writes))
        .with("functions", || texts(&statement.functions))
        .with("bounded", || truth(statement.bounded))
        .end()
}

fn counters(counters: &Counters, within: Within<'_>) -> Result<RestrictedExpression, Unfit> {
    let asked = within.mentions.currencies();
    let money = counters
        .money
        .iter()
        .map(|(currency, minor)| (currency.to_string(), long(*minor)))
        .filter(|(currency, _)| asked.contains(currency));
    let money = record(money)?;
    within
        .with("calls", || long(counters.calls))
        .with("writes", || long(counters.writes))
        .with("destructive", || long(counters.destructive))
        .with("rows", || long(counters.rows))
        .with("money", || money)
        .with("tools", || RestrictedExpression::new_set(counters.tools.iter().map(|t| text(t.as_str()))))
        .with("tool_count", || long(u64::try_from(counters.tools.len()).unwrap_or(u64::MAX)))
        .end()
}

/// UTC, from the proleptic Gregorian calendar: the day's hour and minute, Monday as 1 to Sunday as 7.
fn time(unix_ms: i64, within: Within<'_>) -> Result<RestrictedExpression, Unfit> {
    const MINUTE_MS: i64 = 60_000;
    let minutes = unix_ms.div_euclid(MINUTE_MS);
    let day = minutes.div_euclid(24 * 60);
    let minute_of_day = minutes.rem_euclid(24 * 60);
    // 1970-01-01 was a Thursday.
    let weekday = day.saturating_add(3).rem_euclid(7).saturating_add(1);
    within
        .with("unix_ms", || RestrictedExpression::new_long(unix_ms))
        .with("hour", || RestrictedExpression::new_long(minute_of_day.div_euclid(60)))
        .with("minute", || RestrictedExpression::new_long(minute_of_day.rem_euclid(60)))
        .with("weekday", || RestrictedExpression::new_long(weekday))
        .end()
}

fn approval(approval: &ApprovalFact, within: Within<'_>) -> Result<RestrictedExpression, Unfit> {
    let groups: BTreeSet<&str> =
        approval.signers.iter().flat_map(|(_, groups)| groups.iter().map(|g| g.as_str())).collect();
    within
        .with("people", || {
            RestrictedExpression::new_set(approval.signers.iter().map(|(p, _)| text(p.as_str())))
        })
        .with("groups", || RestrictedExpression::new_set(groups.into_iter().map(text)))
        .end()
}
