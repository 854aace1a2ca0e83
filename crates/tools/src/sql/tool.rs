//! A statement as a tool.

use std::{collections::BTreeSet, sync::Arc};

use countersign_gate::{
    Authority, Doubt, Likeness, Limits, MeasureError, Measured, Parsed, Performed, Probe, Recalled, Tool,
    ToolError, Upkeep, Warrant,
};
use countersign_rules::{Code, DeclaredEffect, Effect, Reach, Refusal, ToolSpec, arguments::properties};
use countersign_sql::{Dialect, fingerprint, normal};
use serde_json::{Value, json};

use super::{
    journal::Mark,
    mask::Mask,
    statement::{AdmittedStatement, Outside, Scope, Sizing, WrittenBy},
    system::SqlSystem,
    work::Work,
};
use crate::{
    declared::Declared,
    definition::{DefinitionError, Rehearse, SqlDefinition, SqlText, ToolDefinition},
};

/// The argument in which an agent writes a statement.
const STATEMENT_ARGUMENT: &str = "sql";

/// A statement as a tool.
#[derive(Debug)]
pub struct SqlTool {
    declared: Arc<Declared>,
    system: Arc<SqlSystem>,
    scope: Scope,
    /// The author's statement; None where the agent writes it.
    fixed: Option<AdmittedStatement>,
    mask: Mask,
    rehearse: Rehearse,
}

impl SqlTool {
    /// Has the database compile the author's statement, as its tables are right now. Nothing is run; what agents write is
    /// compiled when they do.
    ///
    /// # Errors
    /// Repeats what the database says, without secrets.
    pub async fn try_out(&self, upkeep: &Upkeep) -> Result<(), String> {
        match &self.fixed {
            Some(statement) => self.system.compile(upkeep, &statement.text).await,
            None => Ok(()),
        }
    }

    /// Checks a definition against its system.
    ///
    /// # Errors
    /// [`DefinitionError`] when the schema does not compile, the statement does not parse, leaves its
    /// tables, does more than is declared, or does not use exactly the arguments.
    pub fn new(definition: &SqlDefinition, system: Arc<SqlSystem>) -> Result<Arc<Self>, DefinitionError> {
        let tool = &definition.tool;
        check_system(tool, &system)?;
        let scope =
            Scope::new(system.dialect(), system.search_path(), &definition.tables, &definition.functions)
                .knowing(system.known.as_ref());
        let rehearse = rehearsals(definition, &system)?;
        let mut written = tool.clone();
        let fixed = match &definition.statement {
            SqlText::Fixed(text) => Some(admitted(tool, &scope, text)?),
            SqlText::FromAgent { length_max } => {
                written.arguments = statement_argument(definition, system.dialect(), *length_max)?;
                None
            }
        };
        let measurable = match &fixed {
            Some(statement) => {
                let counted = !matches!(statement.sizing, Sizing::Unknown(_));
                let run = rehearse != Rehearse::Never && statement.can_be_rehearsed();
                statement.effect >= Effect::Write && (counted || run)
            }
            None => true,
        };
        let declared = Declared::new(&written, system.spec(), &template(definition, &system), measurable)?;
        if let Some(statement) = &fixed {
            check_names(tool, &declared.spec.arguments, statement)?;
        }
        let mask = Mask::new(&definition.mask);
        Ok(Arc::new(Self { declared: Arc::new(declared), system, scope, fixed, mask, rehearse }))
    }

    /// Gives the schema of the arguments as agents see it.
    #[must_use]
    pub fn advertised(&self) -> Value {
        self.declared.advertised()
    }

    /// Tells whether its system lets calls be run and rolled back.
    pub(crate) fn rehearses(&self) -> bool {
        self.rehearse != Rehearse::Never
    }

    /// The tables that its author lets it touch.
    pub(crate) fn tables(&self) -> BTreeSet<String> {
        let facts = self.fixed.iter().map(|statement| &statement.facts);
        let named = facts.flat_map(|facts| facts.reads.iter().chain(&facts.writes).cloned());
        named.chain(self.scope.tables()).collect()
    }

    /// Lists the tables that its calls may write, as far as their statements name them.
    #[must_use]
    pub fn tables_written(&self) -> BTreeSet<String> {
        match &self.fixed {
            Some(statement) => statement.facts.writes.clone(),
            None => self.scope.tables(),
        }
    }

    async fn run(
        &self,
        authority: &dyn Authority,
        work: Arc<Work>,
        mark: Mark,
        limits: &Limits,
    ) -> Result<Performed, ToolError> {
        let mark = self.system.keeps_journal().then_some(mark);
        let (database, login) = (&self.system.database, self.system.login(authority));
        if work.statement.effect == Effect::Read {
            database.read(login, work, limits.rows_max).await
        } else {
            database.write(login, &self.scope, work, limits, mark).await
        }
    }
}

/// Checks that a tool is on this system, and asks of it no more than a database can do.
fn check_system(tool: &ToolDefinition, system: &SqlSystem) -> Result<(), DefinitionError> {
    let bad = |key: &str, message: String| DefinitionError::tool(&tool.name, key, message);
    if tool.system != system.spec().name {
        return Err(bad("system", format!("is `{}`, and `{}` was given", tool.system, system.spec().name)));
    }
    if tool.idempotent {
        let message = "is `true`, and no database recognises a repeated call by a key".to_owned();
        return Err(bad("idempotent", message)
            .help("leave it out; a journal (`[system.NAME.journal]`) settles what became of a call whose answer was lost"));
    }
    if tool.reversible && !system.keeps_journal() {
        let message = format!("is `true`, and system `{}` keeps no journal to undo it with", tool.system);
        return Err(bad("reversible", message).help(format!(
            "give it one with `[system.{}.journal]`, or leave `reversible` out",
            tool.system
        )));
    }
    Ok(())
}

/// Says when the calls of a tool are rehearsed: as it says itself, within what its system allows.
fn rehearsals(definition: &SqlDefinition, system: &SqlSystem) -> Result<Rehearse, DefinitionError> {
    let tool = &definition.tool;
    let rehearse = definition.rehearse.unwrap_or(system.rehearse);
    if rehearse != Rehearse::Never && system.rehearse == Rehearse::Never {
        let message = format!("is set, and system `{}` is never to be used for rehearsals", tool.system);
        return Err(DefinitionError::tool(&tool.name, "rehearse", message).help(format!(
            "allow them with `rehearse = \"on_request\"` in `[system.{}]`, or leave it out",
            tool.system
        )));
    }
    Ok(rehearse)
}

/// Classifies the author's statement, and holds it to what the tool is declared to do.
fn admitted(tool: &ToolDefinition, scope: &Scope, text: &str) -> Result<AdmittedStatement, DefinitionError> {
    let bad = |key: &str, message: String| DefinitionError::tool(&tool.name, key, message);
    if tool.effect == DeclaredEffect::FromStatement {
        return Err(bad("effect", "is `from_statement`, and the tool has a statement of its own".into())
            .help("declare `read`, `write` or `destructive`, or leave `sql` out"));
    }
    let statement = scope.admit(text, WrittenBy::Author).map_err(|Outside { message, help, offset }| {
        let mut error = bad("sql", message).at(offset);
        error.help = help;
        error
    })?;
    if statement.effect > tool.effect.ceiling() {
        let message =
            format!("is `{}`, and the statement is seen to be `{}`", tool.effect.ceiling(), statement.effect);
        return Err(bad("effect", message).help(format!("declare `{}`", statement.effect)));
    }
    Ok(statement)
}

/// Makes the schema of the arguments of a tool whose statements agents write: the statement is the only one.
fn statement_argument(
    definition: &SqlDefinition,
    dialect: Dialect,
    length_max: u32,
) -> Result<Value, DefinitionError> {
    let tool = &definition.tool;
    let bad = |key: &str, message: String| DefinitionError::tool(&tool.name, key, message);
    if tool.effect != DeclaredEffect::FromStatement {
        return Err(bad("effect", "must be `from_statement` where the agent writes the statement".into()));
    }
    if definition.tables.is_empty() {
        return Err(bad("tables", "is missing".into())
            .help("list the tables that the agent's statements may read and write"));
    }
    if !tool.arguments.is_null() {
        return Err(bad("arguments", "are given by `from_statement`".into())
            .help("leave them out; the one argument is `sql`"));
    }
    Ok(json!({
        "type": "object",
        "properties": {
            STATEMENT_ARGUMENT: {
                "type": "string",
                "minLength": 1,
                "maxLength": length_max,
                "description": format!(
                    "one {} statement on the tables {}",
                    match dialect { Dialect::Sqlite => "SQLite", Dialect::Postgres => "PostgreSQL" },
                    definition.tables.iter().cloned().collect::<Vec<_>>().join(", ")
                ),
            },
        },
        "required": [STATEMENT_ARGUMENT],
        "additionalProperties": false,
    }))
}

/// Names all that distinguishes this definition from another, for its version.
fn template(definition: &SqlDefinition, system: &SqlSystem) -> Value {
    let mut template = json!({
        "kind": "sql",
        "statement": match &definition.statement {
            SqlText::Fixed(text) => json!(text),
            SqlText::FromAgent { .. } => Value::Null,
        },
        "tables": definition.tables,
        "functions": definition.functions,
        "mask": definition.mask,
        "search_path": system.search_path(),
    });
    // Another version: a call of the one without a journal has left no trace, and asking the journal
    // about it would tell that it never happened.
    if system.keeps_journal()
        && let Some(template) = template.as_object_mut()
    {
        // Of the second form: intents name it.
        template.insert("journal".into(), json!(2));
    }
    // Another catalog may say other things of the same statement: that is another tool to an approval.
    if let (Some(template), Some(snapshot)) = (template.as_object_mut(), system.catalog.as_deref()) {
        template.insert("catalog".into(), json!(snapshot));
    }
    template
}

/// Checks that the author's statement and the schema name the same arguments.
fn check_names(
    tool: &ToolDefinition,
    schema: &Value,
    statement: &AdmittedStatement,
) -> Result<(), DefinitionError> {
    let bad = |key: &str, message: String| DefinitionError::tool(&tool.name, key, message);
    let used: BTreeSet<&str> = statement.parameters.iter().map(String::as_str).collect();
    let declared: BTreeSet<&str> = properties(schema).map(|(name, _property)| name).collect();
    if let Some(unknown) = used.difference(&declared).next() {
        return Err(bad("sql", format!("names `:{unknown}`, which is no argument"))
            .help("declare it under `arguments`, or correct its name"));
    }
    if let Some(unused) = declared.difference(&used).next() {
        return Err(bad("arguments", format!("`{unused}` is not used by the statement"))
            .help(format!("write `:{unused}` where it belongs, or leave it out")));
    }
    Ok(())
}

impl SqlTool {
    /// What the tool's author declares.
    pub(crate) fn declared(&self) -> &Declared {
        &self.declared
    }
}

impl Tool for SqlTool {
    type Args = Arc<Work>;

    fn spec(&self) -> &Arc<ToolSpec> {
        &self.declared.spec
    }

    fn takes_away(&self, from: &Value, to: &Value) -> bool {
        self.declared.takes_away(from, to)
    }

    fn parse(&self, arguments: &Value) -> Result<Parsed<Self::Args>, Refusal> {
        self.declared.check(arguments)?;
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let (statement, facts, categories) = match &self.fixed {
            Some(statement) => (statement.clone(), None, BTreeSet::new()),
            None => {
                let Some(sql) = arguments.get(STATEMENT_ARGUMENT).and_then(Value::as_str) else {
                    return Err(Refusal::new(Code::InvalidArguments, "`/sql` is missing"));
                };
                let statement = self.scope.admit(sql, WrittenBy::Agent)?;
                let (facts, categories) = (statement.facts.clone(), statement.category_names());
                (statement, Some(facts), categories)
            }
        };
        let reversible = self.system.keeps_journal() && statement.changes_rows_only();
        Ok(Parsed {
            effect: statement.effect,
            categories,
            statement: facts,
            // The rows are kept with the call, or the call is rolled back: so it holds for an agent's
            // statement as well.
            reversible,
            args: Arc::new(Work {
                statement,
                arguments,
                declared: Arc::clone(&self.declared),
                fixed: self.fixed.is_some(),
                images: reversible && self.declared.spec.reversible,
            }),
        })
    }

    fn likeness(&self, args: &Self::Args, arguments: &Value) -> Likeness {
        if self.fixed.is_some() {
            return Likeness::of(arguments);
        }
        // What was admitted can be parsed; a text that cannot be written again stands for itself.
        let (dialect, text) = (self.system.dialect(), &args.statement.text);
        let as_written = |_unwritable| text.trim().to_owned();
        Likeness {
            normal: normal(dialect, text).unwrap_or_else(as_written),
            shape: fingerprint(dialect, text).unwrap_or_else(as_written),
        }
    }

    fn measurable(&self, args: &Self::Args) -> bool {
        let runs = matches!(self.rehearse, Rehearse::WhenInexact | Rehearse::Always);
        !matches!(args.statement.sizing, Sizing::Unknown(_)) || (runs && args.statement.can_be_rehearsed())
    }

    async fn measure(&self, probe: Probe<'_, Self::Args>) -> Result<Measured, MeasureError> {
        let statement = &probe.args().statement;
        let rehearse = self.rehearse;
        let unasked = matches!(rehearse, Rehearse::Never | Rehearse::OnRequest);
        let counted = match &statement.sizing {
            // There is nothing to count; what is left is to run it.
            Sizing::Unknown(why) if !statement.can_be_rehearsed() || unasked => {
                return Err(MeasureError::NotMeasurable(why.clone()));
            }
            Sizing::Unknown(_) => None,
            Sizing::None | Sizing::Query(_) | Sizing::Whole { .. } => Some(self.count(&probe).await?),
        };
        let wanted = match (&counted, rehearse) {
            (_, Rehearse::Never | Rehearse::OnRequest) => false,
            (None, Rehearse::WhenInexact | Rehearse::Always) => true,
            // So many rows are not locked for the sake of a number.
            (Some(counted), _) if counted.reach.unbounded => false,
            (Some(counted), Rehearse::WhenInexact) => {
                !counted.reach.exact || !counted.reach.triggers.is_empty()
            }
            (Some(_), Rehearse::Always) => true,
        };
        match counted {
            Some(counted) if !wanted || !statement.can_be_rehearsed() => Ok(counted),
            counted => match (self.run_and_roll_back(&probe).await, counted) {
                (Ok(reach), counted) => {
                    Ok(Measured { reach, sample: counted.and_then(|counted| counted.sample) })
                }
                // The count stands, and says of itself that it is not exact.
                (Err(MeasureError::Limit(_)), Some(counted)) if rehearse == Rehearse::WhenInexact => {
                    Ok(counted)
                }
                (Err(why), _) => Err(why),
            },
        }
    }

    async fn rehearse(&self, probe: Probe<'_, Self::Args>) -> Result<Measured, MeasureError> {
        if self.rehearse == Rehearse::Never {
            let system = &self.system.spec().name;
            return Err(MeasureError::NotMeasurable(format!("system `{system}` does not allow rehearsals")));
        }
        if !probe.args().statement.can_be_rehearsed() {
            let why = "the statement does more than change rows of tables, and could not be taken back";
            return Err(MeasureError::NotMeasurable(why.into()));
        }
        Ok(Measured { reach: self.run_and_roll_back(&probe).await?, sample: None })
    }

    async fn perform(&self, warrant: Warrant<Self::Args>) -> Result<Performed, ToolError> {
        let work = Arc::clone(warrant.args());
        let mark = Mark::new(warrant.call(), work.images, warrant.journal());
        let mut performed = self.run(&warrant, work, mark, warrant.limits()).await;
        // It was run and rolled back: so what it reaches is known as a rehearsal would know it.
        if let Err(ToolError::Exceeded { reach }) = &mut performed {
            reach.rehearsed = true;
        }
        performed
    }

    async fn journal(&self, upkeep: &Upkeep) -> Option<String> {
        self.system.journal(upkeep).await
    }

    async fn recall(&self, upkeep: &Upkeep, doubt: &Doubt) -> Result<Recalled, MeasureError> {
        self.system.recall(upkeep, doubt).await
    }
}

impl SqlTool {
    /// Counts what a statement would touch; nothing is run.
    async fn count(&self, probe: &Probe<'_, Arc<Work>>) -> Result<Measured, MeasureError> {
        let (work, login) = (Arc::clone(probe.args()), self.system.login(probe));
        self.system.database.measure(login, &self.scope, work, &self.mask).await
    }

    /// Runs a statement and rolls it back.
    async fn run_and_roll_back(&self, probe: &Probe<'_, Arc<Work>>) -> Result<Reach, MeasureError> {
        let (work, login) = (Arc::clone(probe.args()), self.system.login(probe));
        let mark = Mark::new(probe.call(), work.images, None);
        let reach = self.system.database.rehearse(login, &self.scope, work, mark).await?;
        Ok(Reach { rehearsed: true, ..reach })
    }
}
