//! What the configuration adds up to: tools that fit their systems, and policies that fit the tools.
//!
//! Making one touches no system and no network, so `countersign check` does exactly what a starting server
//! does.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::Path,
    sync::Arc,
};

use countersign_gate::{Remembered, Vault};
use countersign_rules::{
    AgentSpec, GroupName, Policies, PolicyError, ToolName, ToolSpec, Vocabulary,
    budget::{Budget, BudgetScope, Unit},
    rate::RateScope,
};
use countersign_sql::{Catalog, Dialect, Snapshot};
use countersign_tools::{
    AnyTool, Systems,
    definition::{AnyDefinition, DefinitionError, Subject, SystemDefinition, Target},
};

use crate::config::{Config, Found, Mistake, Mistakes, Source, SystemConfig, groups_of};
use countersign_app::{offer::Offer, principal::undo_agent, role::Right};

/// The largest catalog snapshot that is read, in bytes.
const CATALOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Tools and policies, checked against each other.
#[derive(Debug)]
pub struct Bundle {
    /// The tools by name.
    pub tools: BTreeMap<ToolName, Offer>,
    /// The policies in force.
    pub policies: Arc<Policies>,
    /// The systems behind the tools.
    pub systems: Systems,
    /// What is allowed and probably not meant.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Checks tools against systems, and policies against tools and agents.
    ///
    /// # Errors
    /// [`Mistakes`]: every definition that does not fit; when all do, every policy that does not.
    pub fn new(config: &Config, vault: &Arc<dyn Vault>) -> Result<Self, Mistakes> {
        let found = Found::default();
        let fail = |found: Found| Mistakes {
            folder: config.folder.display().to_string(),
            mistakes: found.into_inner(),
        };
        let definitions: Vec<SystemDefinition> =
            config.systems.values().map(|system| with_catalog(system, &found)).collect();
        if !found.is_empty() {
            return Err(fail(found));
        }
        let systems = match Systems::new(&definitions, vault) {
            Ok(systems) => systems,
            Err(errors) => {
                errors.iter().for_each(|error| report(config, error, &found));
                return Err(fail(found));
            }
        };
        let mut tools = BTreeMap::new();
        for (name, written) in &config.tools {
            match AnyTool::new(&written.definition, &systems) {
                Ok(tool) => {
                    tools.insert(name.clone(), Offer::new(tool));
                }
                Err(error) => report(config, &error, &found),
            }
        }
        let written: Vec<AnyDefinition> = config.tools.values().map(|tool| tool.definition.clone()).collect();
        match systems.undo_tools(&written) {
            Ok(undo) => undo.into_iter().for_each(|tool| built_in(config, tool, &mut tools, &found)),
            Err(error) => report(config, &error, &found),
        }
        for (budget, tool) in config
            .budgets
            .iter()
            .flat_map(|budget| budget.tools.iter().flatten().map(move |tool| (budget, tool)))
            .filter(|(_, tool)| !tools.contains_key(*tool) && !config.tools.contains_key(*tool))
        {
            let message = format!("budget `{}` names tool `{tool}`, and there is none", budget.name);
            found.push(Source::new(crate::config::MAIN, "").mistake(None, message, None));
        }
        if !found.is_empty() {
            return Err(fail(found));
        }
        let specs: Vec<Arc<ToolSpec>> = tools.values().map(|offer| Arc::clone(offer.spec())).collect();
        let policies = match Policies::load(&config.policies, &specs, &agents(config)) {
            Ok(policies) => policies.with_memory(Remembered::default()),
            Err(errors) => {
                errors.0.iter().for_each(|error| found.push(of_policy(config, error)));
                return Err(fail(found));
            }
        };
        let mut warnings: Vec<String> =
            policies.warnings().iter().map(|e| placed(&of_policy(config, e))).collect();
        for misnamed in policies.misnamed(&config.policies, &vocabulary(config, &definitions, &tools)) {
            let mistake = of_policy(config, &misnamed.error);
            if misnamed.certain { found.push(mistake) } else { warnings.push(placed(&mistake)) }
        }
        if !found.is_empty() {
            return Err(fail(found));
        }
        for held in policies.held_by_session() {
            let mut unbound = held.tools.iter().filter(|tool| !is_bounded(config, &tools, tool));
            if unbound.next().is_some() {
                warnings.push(placed(&of_policy(config, &held.error)));
            }
        }
        warnings.extend(by_session(config));
        let unanswerable = policies.unanswerable(&members(config));
        warnings.extend(unanswerable.iter().map(|error| placed(&of_policy(config, error))));
        warnings.extend(moneyless(config, &specs));
        if config.policies.is_empty() {
            warnings.push("there are no policies, so nothing is permitted".into());
        }
        Ok(Self { tools, policies: Arc::new(policies), systems, warnings })
    }
}

/// What is wrong with a policy, where it stands.
fn of_policy(config: &Config, error: &PolicyError) -> Mistake {
    let text = config.policies.iter().find(|p| p.name == error.file).map(|p| p.text.as_str());
    let file = if text.is_some() { format!("policies/{}.cedar", error.file) } else { error.file.clone() };
    let source = Source::new(file, text.unwrap_or_default());
    source.mistake(error.span.clone(), error.message.clone(), error.help.clone())
}

/// A mistake on one line.
fn placed(mistake: &Mistake) -> String {
    let line = mistake.line().map(|line| format!(":{line}")).unwrap_or_default();
    let help = mistake.help.as_deref().map(|help| format!(": {help}")).unwrap_or_default();
    format!("{}{line}: {}{help}", mistake.file, mistake.message)
}

/// What policies may name as texts.
fn vocabulary(
    config: &Config,
    definitions: &[SystemDefinition],
    tools: &BTreeMap<ToolName, Offer>,
) -> Vocabulary {
    let mut words = Vocabulary::default();
    for (person, settings) in &config.people {
        words.people.insert(person.to_string());
        words.groups.extend(settings.groups.iter().map(ToString::to_string));
    }
    for definition in definitions {
        if matches!(definition.target, Target::Http(_) | Target::Mcp(_)) {
            continue;
        }
        let name = &definition.spec.name;
        let offers = tools.values().filter(|offer| offer.spec().system.name == *name);
        let mut tables: BTreeSet<String> = offers.filter_map(|offer| offer.tool.tables()).flatten().collect();
        let relations = definition.catalog.iter().flat_map(|snapshot| &snapshot.catalog.relations);
        let before = tables.len();
        tables.extend(relations.flat_map(|one| [one.name.clone(), format!("{}.{}", one.schema, one.name)]));
        if tables.len() > before {
            words.closed.insert(name.clone());
        }
        words.tables.insert(name.clone(), tables);
    }
    words
}

/// Whether a budget or a rate bounds all sessions of an agent together in what they do with a tool.
fn is_bounded(config: &Config, tools: &BTreeMap<ToolName, Offer>, tool: &ToolName) -> bool {
    // So many rows may be very many calls.
    let budget = config.budgets.iter().any(|budget| {
        budget.scope != BudgetScope::Session
            && budget.unit != Unit::Rows
            && tools.get(tool).is_some_and(|offer| budget.covers(tool, offer.spec().effect.ceiling()))
    });
    let rates = tools.get(tool).into_iter().flat_map(|offer| &offer.spec().rates);
    budget || rates.into_iter().any(|rate| rate.scope != RateScope::Session)
}

/// The definition of a system with the catalog and the extensions it names.
fn with_catalog(system: &SystemConfig, found: &Found) -> SystemDefinition {
    let mut definition = system.definition.clone();
    if let Some(path) = &system.catalog {
        let name = &definition.spec.name;
        match catalog(path) {
            Ok(snapshot) => definition.catalog = Some(Arc::new(snapshot)),
            Err(why) => {
                let place = system.place.of("catalog", None);
                let help = format!("`countersign system inspect {name} --out FILE` writes one");
                let message = format!("the catalog of system `{name}` cannot be used: {why}");
                found.push(system.place.source.mistake(place, message, Some(help)));
            }
        }
    }
    if let (Target::Postgres(target), false) = (&definition.target, system.extensions.is_empty()) {
        let search_path = target.search_path.clone();
        let mut snapshot = match definition.catalog.as_deref() {
            Some(snapshot) => snapshot.clone(),
            None => Snapshot::new(Dialect::Postgres, Catalog { search_path, ..Catalog::default() }),
        };
        snapshot.catalog.extensions.extend(system.extensions.iter().cloned());
        definition.catalog = Some(Arc::new(snapshot));
    }
    definition
}

/// Reads a snapshot.
pub(crate) fn catalog(path: &Path) -> Result<Snapshot, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|why| format!("`{}`: {why}", path.display()))?;
    let read = file.take(CATALOG_BYTES_MAX.saturating_add(1)).read_to_string(&mut text);
    let length = read.map_err(|why| format!("`{}`: {why}", path.display()))?;
    if u64::try_from(length).unwrap_or(u64::MAX) > CATALOG_BYTES_MAX {
        return Err(format!("`{}` is larger than {CATALOG_BYTES_MAX} bytes", path.display()));
    }
    Snapshot::parse(&text).map_err(|why| format!("`{}`: {why}", path.display()))
}

/// Adds a tool that nobody wrote.
fn built_in(config: &Config, tool: AnyTool, tools: &mut BTreeMap<ToolName, Offer>, found: &Found) {
    let name = tool.spec().name.clone();
    if let Some(written) = config.tools.get(&name) {
        let message = format!("tool `{name}` has the name of the tool that undoes calls on its system");
        let help = Some("give it another name".to_owned());
        found.push(written.place.source.mistake(written.place.of("", None), message, help));
        return;
    }
    tools.insert(name, Offer::new(tool));
}

/// The agents as the rules know them. People undo as one of their own, on every system that can.
pub(crate) fn agents(config: &Config) -> Vec<AgentSpec> {
    let written = config.agents.iter().map(|(id, agent)| AgentSpec {
        id: id.clone(),
        teams: agent.teams.clone(),
        accounts: agent.accounts.clone(),
    });
    let accounts: BTreeSet<String> = config
        .systems
        .values()
        .map(|system| &system.definition)
        .filter(|definition| match &definition.target {
            Target::Sqlite(target) => target.journal.is_some(),
            Target::Postgres(target) => target.journal.is_some(),
            Target::Http(_) | Target::Mcp(_) => false,
        })
        .map(|definition| definition.spec.account.clone())
        .collect();
    let undo = undo_agent().ok().filter(|_| !accounts.is_empty());
    written.chain(undo.map(|id| AgentSpec { id, teams: BTreeSet::new(), accounts })).collect()
}

/// Budgets and rates that bound each session and nothing more: agents begin a session when they like.
fn by_session(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for budget in config.budgets.iter().filter(|budget| budget.scope == BudgetScope::Session) {
        if config.budgets.iter().any(|other| bounds(other, budget)) {
            continue;
        }
        let message = format!(
            "budget `{}` bounds each session, and agents begin a session when they like",
            budget.name
        );
        let help =
            "write another of the same unit that counts `per = \"agent\"` or `\"all\"` for these tools";
        let place = config.budget_places.get(&budget.name);
        warnings.extend(
            place.map(|place| {
                placed(&place.source.mistake(place.of("per", None), message, Some(help.into())))
            }),
        );
    }
    for tool in config.tools.values() {
        let rates = &tool.definition.tool().rates;
        if rates.is_empty() || rates.iter().any(|rate| rate.scope != RateScope::Session) {
            continue;
        }
        let message = format!(
            "the rate of `{}` bounds each session, and agents begin a session when they like",
            tool.definition.tool().name
        );
        let help = "write a rate per `agent` or `tool` as well, such as `{ session = \"10/min\", agent = \"60/min\" }`";
        warnings.push(placed(&tool.place.source.mistake(
            tool.place.of("rate", None),
            message,
            Some(help.into()),
        )));
    }
    warnings
}

/// Whether a budget bounds all sessions together that another bounds each.
fn bounds(other: &Budget, budget: &Budget) -> bool {
    let tools = match (&other.tools, &budget.tools) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(counted), Some(tools)) => tools.is_subset(counted),
    };
    other.scope != BudgetScope::Session
        && other.unit == budget.unit
        && other.effect_min <= budget.effect_min
        && tools
}

/// Budgets of money that count every tool, where some tell no amount: such a call has no sum to reserve, and is refused.
fn moneyless(config: &Config, specs: &[Arc<ToolSpec>]) -> Vec<String> {
    let tells = |spec: &ToolSpec| match config.tools.get(&spec.name).map(|tool| &tool.definition) {
        Some(AnyDefinition::Http(http)) => http.amount.is_some(),
        Some(AnyDefinition::Mcp(mcp)) => mcp.amount.is_some(),
        Some(AnyDefinition::Sql(_)) | None => false,
    };
    let counted = config
        .budgets
        .iter()
        .filter(|budget| matches!(budget.unit, Unit::Money(_)) && budget.tools.is_none());
    counted
        .filter_map(|budget| {
            let silent: Vec<String> = specs
                .iter()
                .filter(|spec| spec.effect.ceiling() >= budget.effect_min && !tells(spec))
                .map(|spec| format!("`{}`", spec.name))
                .collect();
            let tell: Vec<String> =
                specs.iter().filter(|spec| tells(spec)).map(|spec| format!("\"{}\"", spec.name)).collect();
            (!silent.is_empty()).then(|| {
                let message = format!(
                    "budget `{}` counts the money of every tool, and calls of {} tell no amount, so they are refused",
                    budget.name,
                    silent.join(", ")
                );
                let help = format!("write `tools = [{}]`, or raise its `effect_min`", tell.join(", "));
                let place = config.budget_places.get(&budget.name);
                placed(&match place {
                    Some(place) => place.source.mistake(place.of("", None), message, Some(help)),
                    None => Source::new(crate::config::MAIN, "").mistake(None, message, Some(help)),
                })
            })
        })
        .collect()
}

/// How many people who answer are in each group, or may be by what a provider says.
fn members(config: &Config) -> BTreeMap<GroupName, u32> {
    let mut members = BTreeMap::new();
    let answering = config.people.values().filter(|person| person.roles.may(Right::Answer));
    for group in answering.flat_map(|person| groups_of(person, &config.providers)) {
        let people = members.entry(group).or_insert(0_u32);
        *people = people.saturating_add(1);
    }
    members
}

fn report(config: &Config, error: &DefinitionError, found: &Found) {
    let place = match &error.subject {
        Subject::System(name) => config.systems.get(name).map(|system| &system.place),
        Subject::Tool(name) => config.tools.get(name).map(|tool| &tool.place),
    };
    let message = error.to_string();
    let mistake = match place {
        Some(place) => place.source.mistake(place.of(&error.key, error.offset), message, error.help.clone()),
        None => Source::new(crate::config::MAIN, "").mistake(None, message, error.help.clone()),
    };
    found.push(mistake);
}
