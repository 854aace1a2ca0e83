//! A statement as a tool.

use std::{collections::BTreeSet, sync::Arc};

use countersign_gate::{
    Authority, Doubt, Likeness, Limits, MeasureError, Measured, Parsed, Performed, Probe, Recalled, Tool,
    ToolError, Upkeep, Vault, Warrant,
};
use countersign_rules::{
    Code, DeclaredEffect, Effect, Reach, Refusal, SystemSpec, ToolSpec, arguments::properties,
};
use countersign_sql::{Dialect, Known, Snapshot, fingerprint, normal};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::{
    database::{Database, Login},
    journal::{Mark, NO_JOURNAL, Undoing, Undone},
    postgres::{JOURNAL_SCHEMA, PostgresDatabase},
    sqlite::SqliteDatabase,
    statement::{Outside, Scope, Sizing, Statement, Writer},
    value::shown,
};
use crate::{
    declared::{Declared, check_kind},
    definition::{DefinitionError, Rehearse, SqlDefinition, SqlText, SystemDefinition, Target},
    secret::Scrubber,
};

/// The argument in which an agent writes a statement.
const STATEMENT_ARGUMENT: &str = "sql";

/// A database with its connections, shared by the tools on it.
pub struct SqlSystem {
    spec: SystemSpec,
    vault: Arc<dyn Vault>,
    database: Box<dyn Database>,
    journal: bool,
    rewritten: BTreeSet<String>,
    rehearse: Rehearse,
    catalog: Option<Arc<Snapshot>>,
    /// The catalog, ready to be asked.
    known: Option<Arc<Known>>,
}

impl std::fmt::Debug for SqlSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlSystem").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl SqlSystem {
    /// Prepares a database. Nothing is opened yet.
    ///
    /// # Errors
    /// [`DefinitionError`] when the definition is not of a database or contradicts itself.
    pub fn new(definition: &SystemDefinition, vault: Arc<dyn Vault>) -> Result<Arc<Self>, DefinitionError> {
        check_kind(definition)?;
        let spec = definition.spec.clone();
        let (journal, rehearse) = match &definition.target {
            Target::Sqlite(target) => (target.journal.as_ref(), target.limits.rehearse),
            Target::Postgres(target) => (target.journal.as_ref(), target.limits.rehearse),
            Target::Http(_) | Target::Mcp(_) => (None, Rehearse::Never),
        };
        let rewritten = journal.map(|journal| journal.rewritten.clone()).unwrap_or_default();
        let journal = journal.is_some();
        let database: Box<dyn Database> = match &definition.target {
            Target::Sqlite(target) => {
                Box::new(SqliteDatabase::new(target.path.clone(), target.limits, target.journal.clone()))
            }
            Target::Postgres(target) => {
                if target.search_path.is_empty() || target.search_path.iter().any(String::is_empty) {
                    let error = DefinitionError::system(&spec.name, "search_path", "names no schema");
                    return Err(error.help("list at least one schema, such as `public`"));
                }
                if target.search_path.iter().any(|schema| schema == JOURNAL_SCHEMA) {
                    let message = format!("names `{JOURNAL_SCHEMA}`, where calls are kept");
                    return Err(DefinitionError::system(&spec.name, "search_path", message));
                }
                Box::new(PostgresDatabase::new(target.clone()))
            }
            Target::Http(_) | Target::Mcp(_) => {
                return Err(DefinitionError::system(&spec.name, "kind", "is no database"));
            }
        };
        let catalog = definition.catalog.clone();
        let known = catalog.as_deref().map(|snapshot| Arc::new(Known::new(snapshot.catalog.clone())));
        let system = Self { spec, vault, database, journal, rewritten, rehearse, catalog, known };
        system.check_catalog()?;
        Ok(Arc::new(system))
    }

    /// A snapshot of another database would say wrong things of this one.
    fn check_catalog(&self) -> Result<(), DefinitionError> {
        let Some(snapshot) = self.catalog.as_deref() else { return Ok(()) };
        let bad = |message: String| {
            let error = DefinitionError::system(&self.spec.name, "catalog", message);
            Err(error
                .help(format!("write it again: `countersign system inspect {} --out FILE`", self.spec.name)))
        };
        if snapshot.dialect != self.dialect() {
            return bad(format!("is of a database of kind `{}`", snapshot.dialect));
        }
        if snapshot.catalog.search_path != self.search_path() {
            return bad(format!("was taken with the search path {:?}", snapshot.catalog.search_path));
        }
        Ok(())
    }

    /// What it is declared to be.
    #[must_use]
    pub const fn spec(&self) -> &SystemSpec {
        &self.spec
    }

    /// Whether calls are kept in the database, so that their outcome is known there and they can be undone.
    #[must_use]
    pub const fn keeps_journal(&self) -> bool {
        self.journal
    }

    /// Columns in which rows that are put back may differ, because triggers write them.
    pub(crate) const fn rewritten(&self) -> &BTreeSet<String> {
        &self.rewritten
    }

    fn login<'l>(&'l self, authority: &'l dyn Authority) -> Login<'l> {
        Login::new(&*self.vault, authority)
    }

    /// Which journal the database keeps now. None when it keeps none, or cannot say.
    pub(crate) async fn journal(&self, authority: &dyn Authority) -> Option<String> {
        if !self.journal {
            return None;
        }
        self.database.identity(self.login(authority)).await.map(|journal| journal.to_string())
    }

    /// What the journal says of a call; one that has left no trace there is fenced off.
    pub(crate) async fn recall(&self, upkeep: &Upkeep, doubt: &Doubt) -> Result<Recalled, MeasureError> {
        if !self.journal {
            return Ok(Recalled::Unknown);
        }
        self.database.recall(self.login(upkeep), doubt).await
    }

    /// What undoing a call would touch.
    pub(crate) async fn undo_measure(
        &self,
        authority: &dyn Authority,
        mark: &Mark,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        self.database.undo_measure(self.login(authority), mark, undoing, mask).await
    }

    /// Undoes a call within the warrant, or not at all. Returns the rows touched as well.
    pub(crate) async fn undo(
        &self,
        authority: &dyn Authority,
        mark: Mark,
        undoing: &Undoing,
        limits: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError> {
        self.database.undo(self.login(authority), mark, undoing, limits, mask).await
    }

    /// The statements that prepare the database to keep the rows of these tables, for its administrator to
    /// read and to run.
    ///
    /// # Errors
    /// A message when the system keeps no journal, or its credential cannot be opened.
    pub fn prepare_sql(&self, upkeep: &Upkeep, tables: &[String]) -> Result<String, String> {
        if !self.journal {
            return Err(NO_JOURNAL.into());
        }
        self.database.prepare_sql(self.login(upkeep), tables)
    }

    /// Prepares the database to keep the rows of these tables. PostgreSQL needs `admin`, an administrator's
    /// connection string: the account of the tools must not own what it is held to. Says what is kept.
    ///
    /// # Errors
    /// A message when the system keeps no journal, or the database refuses.
    pub async fn prepare(
        &self,
        upkeep: &Upkeep,
        admin: Option<&SecretString>,
        tables: &[String],
    ) -> Result<Vec<String>, String> {
        if !self.journal {
            return Err(NO_JOURNAL.into());
        }
        self.database.prepare(self.login(upkeep), admin, tables).await
    }

    /// Forgets rows that were kept longer than the retention; returns how many.
    ///
    /// # Errors
    /// A message when the system keeps no journal, or the database refuses.
    pub async fn prune(&self, upkeep: &Upkeep) -> Result<u64, String> {
        if !self.journal {
            return Err(NO_JOURNAL.into());
        }
        self.database.prune(self.login(upkeep)).await
    }

    /// Reads what the database holds: the catalog that sharpens what is said of statements on it.
    ///
    /// # Errors
    /// A text without secrets, when the database cannot be reached or read.
    pub async fn inspect(&self, upkeep: &Upkeep) -> Result<Snapshot, String> {
        let catalog = self.database.inspect(self.login(upkeep)).await?;
        Ok(Snapshot::new(self.dialect(), catalog))
    }

    /// Looks whether the database can be used as it is right now: reached with its credential, read, and, where it is to keep
    /// a journal, prepared. Changes nothing.
    ///
    /// # Errors
    /// Why not, without secrets.
    pub async fn try_out(&self, upkeep: &Upkeep) -> Result<(), String> {
        self.inspect(upkeep).await?;
        if self.journal && self.journal(upkeep).await.is_none() {
            let name = &self.spec.name;
            return Err(format!("its journal is not there: run `countersign system prepare {name}`"));
        }
        Ok(())
    }

    /// See [`crate::Systems::is_locked`].
    pub(crate) async fn is_locked(&self, upkeep: &Upkeep, lock: i64) -> Result<bool, String> {
        self.database.is_locked(self.login(upkeep), lock).await
    }

    /// Has the database compile a statement. Nothing is run.
    async fn compile(&self, upkeep: &Upkeep, sql: &str) -> Result<(), String> {
        self.database.compile(self.login(upkeep), sql).await
    }

    fn dialect(&self) -> Dialect {
        self.database.dialect()
    }

    fn search_path(&self) -> &[String] {
        self.database.search_path()
    }
}

/// A statement as a tool.
#[derive(Debug)]
pub struct SqlTool {
    declared: Arc<Declared>,
    system: Arc<SqlSystem>,
    scope: Scope,
    /// The author's statement; None where the agent writes it.
    fixed: Option<Statement>,
    mask: Mask,
    rehearse: Rehearse,
}

/// What one call of a statement tool is about to do.
#[derive(Debug)]
pub struct Work {
    pub(crate) statement: Statement,
    pub(crate) arguments: Map<String, Value>,
    declared: Arc<Declared>,
    fixed: bool,
    /// Whether the rows it changes are kept for undo: it can be undone, and is declared so.
    pub(crate) images: bool,
}

impl Work {
    /// The names of the tables that the statement names, and of those that stand behind them, in lower case.
    pub(crate) fn tables(&self) -> BTreeSet<String> {
        let named = self.statement.reads.iter().chain(&self.statement.writes).chain(&self.statement.through);
        named.map(|table| table.name.to_ascii_lowercase()).collect()
    }

    /// Whether the author wrote the statement, so that it comes again.
    pub(crate) const fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Checks a reply against the declared result.
    pub(crate) fn fits(&self, reply: impl FnOnce() -> Value) -> Result<(), String> {
        if self.declared.spec.result.is_none() {
            return Ok(());
        }
        self.declared.fits(&reply())
    }
}

/// Columns of tables, each named as `column` or `table.column`, in whatever case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Columns(BTreeSet<String>);

impl Columns {
    pub(crate) fn new<'c>(columns: impl IntoIterator<Item = &'c String>) -> Self {
        Self(columns.into_iter().map(|column| column.to_ascii_lowercase()).collect())
    }

    /// Names more, of whatever table.
    pub(crate) fn add<'c>(&mut self, columns: impl IntoIterator<Item = &'c String>) {
        self.0.extend(columns.into_iter().map(|column| column.to_ascii_lowercase()));
    }

    pub(crate) fn name(&self, table: &str, column: &str) -> bool {
        let (table, column) = (table.to_ascii_lowercase(), column.to_ascii_lowercase());
        self.0.contains(&format!("{table}.{column}")) || self.0.contains(&column)
    }
}

/// Where the rows of a table come from, for who must not see all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The table, those that it is a part of, and those that are a part of it.
    pub(crate) tables: Vec<String>,
    /// Its columns.
    pub(crate) columns: Vec<String>,
    /// Those of them that the database computes from others.
    pub(crate) computed: Vec<String>,
    /// Whether its columns are those of something else, under any name: a view, a virtual table.
    pub(crate) unknown: bool,
}

/// What people must not see of rows: columns, and secrets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mask {
    columns: Columns,
    /// Whether every column is hidden.
    all: bool,
    /// Keeps secrets out of what is not hidden.
    scrubber: Scrubber,
}

impl Mask {
    pub(crate) fn new(columns: &BTreeSet<String>) -> Self {
        Self { columns: Columns::new(columns), ..Self::default() }
    }

    /// With these secrets kept out as well.
    pub(crate) fn keeping_out(&self, scrubber: Scrubber) -> Self {
        Self { scrubber, ..self.clone() }
    }

    /// For rows that a statement makes up: it may give a hidden column any name, so that where something is
    /// hidden everything is.
    pub(crate) fn of_made_up(&self) -> Self {
        Self { all: self.columns != Columns::default(), ..self.clone() }
    }

    /// Whether anything is hidden at all.
    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.columns == Columns::default()
    }

    /// As it applies to the rows of one table: a hidden column is hidden under the name of each table that these rows, or
    /// some of them, are rows of as well, and so is what is computed from one.
    pub(crate) fn of(&self, origin: &Origin) -> Self {
        if origin.unknown {
            return self.of_made_up();
        }
        let hidden = |column: &String| origin.tables.iter().any(|table| self.hides(table, column));
        let named = origin.columns.iter().filter(|column| hidden(column));
        let computed = origin.computed.iter().filter(|_| origin.columns.iter().any(hidden));
        let mut mask = self.clone();
        mask.columns.add(named.chain(computed));
        mask
    }

    pub(crate) fn hides(&self, table: &str, column: &str) -> bool {
        self.all || self.columns.name(table, column)
    }

    /// A value of a row as people may see it.
    pub(crate) fn shown(&self, table: &str, column: &str, value: Value) -> Option<String> {
        // Before it is cut, so that no half of a secret stays at the end.
        shown(&self.scrubber.redact_all(value), self.hides(table, column))
    }

    /// A text that the database has put together from a row.
    pub(crate) fn cleaned(&self, text: &str) -> String {
        self.scrubber.redact(text).into_owned()
    }
}

impl SqlTool {
    /// Has the database compile the author's statement, as its tables are right now. Nothing is run; what agents write is
    /// compiled when they do.
    ///
    /// # Errors
    /// What the database says, without secrets.
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
        let bad = |key: &str, message: String| DefinitionError::tool(&tool.name, key, message);
        if tool.system != system.spec.name {
            return Err(bad("system", format!("is `{}`, and `{}` was given", tool.system, system.spec.name)));
        }
        if tool.idempotent {
            let message = "is `true`, and no database recognises a repeated call by a key".to_owned();
            return Err(bad("idempotent", message)
                .help("leave it out; a journal (`[system.NAME.journal]`) settles what became of a call whose answer was lost"));
        }
        if tool.reversible && !system.journal {
            let message = format!("is `true`, and system `{}` keeps no journal to undo it with", tool.system);
            return Err(bad("reversible", message).help(format!(
                "give it one with `[system.{}.journal]`, or leave `reversible` out",
                tool.system
            )));
        }
        let scope =
            Scope::new(system.dialect(), system.search_path(), &definition.tables, &definition.functions)
                .knowing(system.known.as_ref());
        let rehearse = definition.rehearse.unwrap_or(system.rehearse);
        if rehearse != Rehearse::Never && system.rehearse == Rehearse::Never {
            let message = format!("is set, and system `{}` is never to be used for rehearsals", tool.system);
            return Err(bad("rehearse", message).help(format!(
                "allow them with `rehearse = \"on_request\"` in `[system.{}]`, or leave it out",
                tool.system
            )));
        }
        let mut written = tool.clone();
        let fixed = match &definition.statement {
            SqlText::Fixed(text) => {
                if tool.effect == DeclaredEffect::FromStatement {
                    return Err(bad(
                        "effect",
                        "is `from_statement`, and the tool has a statement of its own".into(),
                    )
                    .help("declare `read`, `write` or `destructive`, or leave `sql` out"));
                }
                let statement =
                    scope.admit(text, Writer::Author).map_err(|Outside { message, help, offset }| {
                        let mut error = bad("sql", message).at(offset);
                        error.help = help;
                        error
                    })?;
                if statement.effect > tool.effect.ceiling() {
                    let message = format!(
                        "is `{}`, and the statement is seen to be `{}`",
                        tool.effect.ceiling(),
                        statement.effect
                    );
                    return Err(bad("effect", message).help(format!("declare `{}`", statement.effect)));
                }
                Some(statement)
            }
            SqlText::FromAgent { length_max } => {
                if tool.effect != DeclaredEffect::FromStatement {
                    return Err(bad(
                        "effect",
                        "must be `from_statement` where the agent writes the statement".into(),
                    ));
                }
                if definition.tables.is_empty() {
                    return Err(bad("tables", "is missing".into())
                        .help("list the tables that the agent's statements may read and write"));
                }
                if !tool.arguments.is_null() {
                    return Err(bad("arguments", "are given by `from_statement`".into())
                        .help("leave them out; the one argument is `sql`"));
                }
                written.arguments = json!({
                    "type": "object",
                    "properties": {
                        STATEMENT_ARGUMENT: {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": length_max,
                            "description": format!(
                                "one {} statement on the tables {}",
                                match system.dialect() { Dialect::Sqlite => "SQLite", Dialect::Postgres => "PostgreSQL" },
                                definition.tables.iter().cloned().collect::<Vec<_>>().join(", ")
                            ),
                        },
                    },
                    "required": [STATEMENT_ARGUMENT],
                    "additionalProperties": false,
                });
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
        if system.journal
            && let Some(template) = template.as_object_mut()
        {
            // Of the second form: intents name it.
            template.insert("journal".into(), json!(2));
        }
        // Another catalog may say other things of the same statement: that is another tool to an approval.
        if let (Some(template), Some(snapshot)) = (template.as_object_mut(), system.catalog.as_deref()) {
            template.insert("catalog".into(), json!(snapshot));
        }
        let declared = Declared::new(&written, &system.spec, &template, measurable)?;
        if let Some(statement) = &fixed {
            let used: BTreeSet<&str> = statement.parameters.iter().map(String::as_str).collect();
            let declared: BTreeSet<&str> =
                properties(&declared.spec.arguments).map(|(name, _property)| name).collect();
            if let Some(unknown) = used.difference(&declared).next() {
                return Err(bad("sql", format!("names `:{unknown}`, which is no argument"))
                    .help("declare it under `arguments`, or correct its name"));
            }
            if let Some(unused) = declared.difference(&used).next() {
                return Err(bad("arguments", format!("`{unused}` is not used by the statement"))
                    .help(format!("write `:{unused}` where it belongs, or leave it out")));
            }
        }
        let mask = Mask::new(&definition.mask);
        Ok(Arc::new(Self { declared: Arc::new(declared), system, scope, fixed, mask, rehearse }))
    }

    /// The schema of the arguments as agents see it.
    #[must_use]
    pub fn advertised(&self) -> Value {
        self.declared.advertised()
    }

    /// The tables that its author lets it touch.
    pub(crate) fn tables(&self) -> BTreeSet<String> {
        let facts = self.fixed.iter().map(|statement| &statement.facts);
        let named = facts.flat_map(|facts| facts.reads.iter().chain(&facts.writes).cloned());
        named.chain(self.scope.tables()).collect()
    }

    /// The tables that its calls may write, as far as their statements name them.
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
        let mark = self.system.journal.then_some(mark);
        let (database, login) = (&self.system.database, self.system.login(authority));
        if work.statement.effect == Effect::Read {
            database.read(login, work, limits.rows_max).await
        } else {
            database.write(login, &self.scope, work, limits, mark).await
        }
    }
}

impl Tool for SqlTool {
    type Args = Arc<Work>;

    fn spec(&self) -> &Arc<ToolSpec> {
        &self.declared.spec
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
                let statement = self.scope.admit(sql, Writer::Agent)?;
                let (facts, categories) = (statement.facts.clone(), statement.category_names());
                (statement, Some(facts), categories)
            }
        };
        let reversible = self.system.journal && statement.changes_rows_only();
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
            let system = &self.system.spec.name;
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
