//! A statement, classified and held to what its tool may do. Pure.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the verbs and categories of SQL: a verb not named cannot be sized"
)]

use std::{collections::BTreeSet, sync::Arc};

use countersign_rules::{Code, Effect, Refusal, StatementFacts};
use countersign_sql::{
    Bound, Catalog, Category, Dialect, Explained, Known, NotCountable, ReachQuery, Routine, TableRef, Verb,
    Volatility, explain, reach_query,
};

use super::{
    journal::{RESERVED, SCHEMA, reserved},
    placeholder::numbered,
};

/// A statement that was classified, and lies within what its tool may do.
#[derive(Debug, Clone)]
pub(crate) struct AdmittedStatement {
    /// The text as it is sent: PostgreSQL's with `$1`, SQLite's with `:name`.
    pub(crate) text: String,
    /// The arguments its placeholders stand for. PostgreSQL: in the order of the numbers.
    pub(crate) parameters: Vec<String>,
    /// It is seen to do this.
    pub(crate) effect: Effect,
    /// This is its leading word.
    pub(crate) verb: Verb,
    /// It is about these.
    pub(crate) categories: BTreeSet<Category>,
    /// It touches this, as the rules see it.
    pub(crate) facts: StatementFacts,
    /// Tables it reads by name.
    pub(crate) reads: BTreeSet<TableRef>,
    /// Tables it writes by name.
    pub(crate) writes: BTreeSet<TableRef>,
    /// Tables that it touches only through what it names: views, cascades, policies.
    pub(crate) through: BTreeSet<TableRef>,
    /// How far it reaches can be found out so.
    pub(crate) sizing: Sizing,
    /// It may delete rows that its own are in conflict with (`REPLACE`).
    pub(crate) replaces: bool,
    /// It runs something that is not known, triggers and rules apart: those are the tables' own.
    pub(crate) opaque: bool,
}

/// The reach of a statement is found out in one of these ways.
#[derive(Debug, Clone)]
pub(crate) enum Sizing {
    /// It changes no rows: a read, or a change of the schema that keeps them.
    None,
    /// By a query over the same rows.
    Query(Box<ReachQuery>),
    /// All rows of these tables go; `along`: and those of every table that refers to them (`TRUNCATE … CASCADE`).
    Whole { tables: BTreeSet<TableRef>, along: bool },
    /// It cannot be.
    Unknown(String),
}

/// What the statements of a tool may touch.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    dialect: Dialect,
    /// PostgreSQL: the pinned search path.
    search_path: Vec<String>,
    /// None: what the author's own statement names.
    tables: Option<BTreeSet<TableRef>>,
    catalog: Option<Arc<Known>>,
}

/// Who wrote a statement. An author's is part of the reviewed configuration; an agent's is hostile input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrittenBy {
    Author,
    Agent,
}

/// Why a statement does not lie within its tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outside {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) offset: Option<usize>,
}

impl Outside {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, offset: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<Outside> for Refusal {
    fn from(outside: Outside) -> Self {
        let refusal = Self::new(Code::StatementRefused, outside.message);
        match outside.help {
            Some(help) => refusal.help(help),
            None => refusal,
        }
    }
}

impl Scope {
    pub(crate) fn new(
        dialect: Dialect,
        search_path: &[String],
        tables: &BTreeSet<String>,
        functions: &BTreeSet<String>,
    ) -> Self {
        let named = |text: &String| match text.split_once('.') {
            Some((schema, name)) => (Some(schema.to_owned()), name.to_owned()),
            None => (None, text.clone()),
        };
        let mut scope = Self { dialect, search_path: search_path.to_vec(), tables: None, catalog: None };
        if !tables.is_empty() {
            let tables = tables.iter().map(|text| {
                let (schema, name) = named(text);
                let table = match dialect {
                    Dialect::Postgres => TableRef { schema, name },
                    Dialect::Sqlite => TableRef {
                        schema: schema.map(|s| s.to_ascii_lowercase()),
                        name: name.to_ascii_lowercase(),
                    },
                };
                scope.settled(&table)
            });
            let tables = tables.collect();
            scope.tables = Some(tables);
        }
        if !functions.is_empty() {
            let default = search_path.first().cloned().unwrap_or_else(|| "public".into());
            let routines = functions.iter().map(|text| {
                let (schema, name) = named(text);
                Routine {
                    schema: schema.unwrap_or_else(|| default.clone()),
                    name,
                    // Vouched for by the author, and held to it by the read-only transaction it runs in.
                    volatility: Volatility::Stable,
                    vouched: true,
                    ..Routine::default()
                }
            });
            let routines = routines.collect();
            let catalog = Catalog { search_path: search_path.to_vec(), routines, ..Catalog::default() };
            scope.catalog = Some(Arc::new(Known::new(catalog)));
        }
        scope
    }

    /// With what is known of the database. What the author vouches for stands beside it: where both speak of a function,
    /// the stricter counts.
    pub(crate) fn knowing(mut self, known: Option<&Arc<Known>>) -> Self {
        let Some(known) = known else { return self };
        let Some(vouched) = &self.catalog else {
            // The same for all tools on it: what is parsed and built for one serves the others.
            self.catalog = Some(Arc::clone(known));
            return self;
        };
        let mut catalog = known.catalog().clone();
        for routine in &vouched.catalog().routines {
            let namesake =
                |other: &&mut Routine| (&other.schema, &other.name) == (&routine.schema, &routine.name);
            let mut unknown = true;
            for other in catalog.routines.iter_mut().filter(namesake) {
                // A volatile one stays what the database says it is.
                other.vouched = true;
                unknown = false;
            }
            if unknown {
                catalog.routines.push(routine.clone());
            }
        }
        self.catalog = Some(Arc::new(Known::new(catalog)));
        self
    }

    /// The tables it is about, where they are listed.
    pub(crate) fn tables(&self) -> BTreeSet<String> {
        self.tables.iter().flatten().map(ToString::to_string).collect()
    }

    /// One spelling for one table: without the schema where it is the only one that is searched.
    pub(crate) fn settled(&self, table: &TableRef) -> TableRef {
        let implied = match self.dialect {
            Dialect::Postgres => self.search_path.as_slice(),
            Dialect::Sqlite => return strip_main(table),
        };
        match (&table.schema, implied) {
            (Some(schema), [only]) if schema == only => TableRef::bare(table.name.clone()),
            _ => table.clone(),
        }
    }

    /// Classifies a statement and holds it to the tool.
    pub(crate) fn admit(&self, sql: &str, writer: WrittenBy) -> Result<AdmittedStatement, Outside> {
        let (text, names) = match (self.dialect, writer) {
            (Dialect::Postgres, WrittenBy::Author) => {
                let numbered = numbered(sql).map_err(|e| {
                    Outside::new(e.to_string()).help("write `:name` for each argument, outside of any quotes")
                })?;
                (numbered.text, numbered.names)
            }
            (Dialect::Postgres, WrittenBy::Agent) | (Dialect::Sqlite, _) => (sql.to_owned(), Vec::new()),
        };
        let explained = explain(self.dialect, &text, self.catalog.as_deref()).map_err(|e| Outside {
            message: e.to_string(),
            help: None,
            offset: e.position().filter(|_| text == sql),
        })?;
        let [statement] = explained.statements.as_slice() else {
            let message = format!(
                "the text holds {} statements, and one is performed at a time",
                explained.statements.len()
            );
            return Err(Outside::new(message).help("send one statement"));
        };
        self.allowed(&explained, writer)?;
        let parameters = match (self.dialect, writer) {
            (_, WrittenBy::Agent) => {
                if let Some(parameter) = statement.parameters.first() {
                    let message = format!("the placeholder `{parameter}` has no value");
                    return Err(Outside::new(message).help("write the value into the statement"));
                }
                Vec::new()
            }
            (Dialect::Postgres, WrittenBy::Author) => {
                let numbers: BTreeSet<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
                if numbers != statement.parameters {
                    return Err(Outside::new("its placeholders cannot be told apart from its text")
                        .help("write `:name` for each argument, outside of any quotes"));
                }
                names
            }
            (Dialect::Sqlite, WrittenBy::Author) => statement
                .parameters
                .iter()
                .map(|parameter| {
                    parameter.strip_prefix(':').map(ToOwned::to_owned).ok_or_else(|| {
                        Outside::new(format!("`{parameter}` is no named placeholder"))
                            .help("write `:name` for each argument")
                    })
                })
                .collect::<Result<_, _>>()?,
        };
        let effect = effect(explained.effect);
        let sizing = if effect == Effect::Read { Sizing::None } else { self.sizing(&text, &explained) };
        let shown =
            |tables: &BTreeSet<TableRef>| tables.iter().map(|t| self.settled(t).to_string()).collect();
        // What it touches through views and cascades is for the rules to see; the rest deals with what it names.
        let named = |tables: &BTreeSet<TableRef>| {
            tables.intersection(&statement.named).map(|table| self.settled(table)).collect()
        };
        Ok(AdmittedStatement {
            facts: StatementFacts {
                verb: word(statement.verb),
                reads: shown(&statement.reads),
                writes: shown(&statement.writes),
                functions: statement.functions.iter().map(ToString::to_string).collect(),
                bounded: matches!(statement.bounded, Bound::NotApplicable | Bound::Predicate),
            },
            reads: named(&statement.reads),
            writes: named(&statement.writes),
            through: statement.tables().difference(&statement.named).map(|t| self.settled(t)).collect(),
            verb: statement.verb,
            categories: explained.categories.clone(),
            text,
            parameters,
            effect,
            sizing,
            opaque: explained.categories.contains(&Category::Opaque)
                && explained.reasons.iter().any(|reason| !transparent(reason.code)),
            replaces: explained.reasons.iter().any(|reason| reason.code == "replaces"),
        })
    }

    fn allowed(&self, explained: &Explained, writer: WrittenBy) -> Result<(), Outside> {
        if let Some(category) = explained.categories.iter().find(|c| never(**c, writer)) {
            let why =
                explained.reasons.first().map(|reason| format!(": {}", reason.text)).unwrap_or_default();
            let message = format!("the statement is of category `{category}`, which no tool may run{why}");
            return Err(
                Outside::new(message).help("propose a statement that reads or changes rows of tables")
            );
        }
        if explained.statements.iter().any(|statement| statement.verb == Verb::Copy) {
            return Err(Outside::new("`COPY` moves rows in a way of its own, which tools do not speak")
                .help("read with `SELECT`, write with `INSERT`"));
        }
        let of_journal = |table: &&TableRef| self.dialect == Dialect::Sqlite && reserved(&table.name);
        if let Some(table) = explained.tables.iter().find(of_journal) {
            return Err(Outside::new(format!("table `{table}` belongs to the journal of calls"))
                .help(format!("no tool reaches names that begin with `{RESERVED}`")));
        }
        if writer == WrittenBy::Agent
            && explained.categories.contains(&Category::Opaque)
            && let Some(reason) = explained.reasons.iter().find(|r| !transparent(r.code))
        {
            return Err(Outside::new(format!("what the statement does cannot be seen: {}", reason.text))
                .help("use tables, and functions that are the database's own or declared by the tool"));
        }
        if self.dialect == Dialect::Postgres {
            let ours = |schema: Option<&str>| schema == Some(SCHEMA);
            let table = explained.tables.iter().find(|table| ours(table.schema.as_deref()));
            let function = explained.functions.iter().find(|function| ours(function.schema.as_deref()));
            let name = table.map(ToString::to_string).or_else(|| function.map(ToString::to_string));
            if let Some(name) = name {
                let message = format!("`{name}` belongs to the journal of calls, which no tool may touch");
                return Err(Outside::new(message));
            }
        }
        let Some(tables) = &self.tables else {
            return match writer {
                WrittenBy::Author => Ok(()),
                // INVARIANT: a tool whose statements agents write has tables; `SqlTool::new` sees to it.
                WrittenBy::Agent => Err(Outside::new("the tool declares no tables")),
            };
        };
        // A view that the tool lists may show what it stands on: that is what it is for.
        let named = explained.statements.iter().flat_map(|statement| &statement.named);
        for table in named.map(|table| self.settled(table)) {
            if !tables.contains(&table) {
                let listed: Vec<String> = tables.iter().map(|t| format!("`{t}`")).collect();
                return Err(Outside::new(format!("table `{table}` is not one of the tool's tables"))
                    .help(format!("the tool reaches {}", listed.join(", "))));
            }
        }
        let catalog_listed = tables.iter().any(system_table);
        if explained.categories.contains(&Category::Catalog) && !catalog_listed {
            return Err(Outside::new("the statement reads the catalog of the database")
                .help("the tool's author may list the system tables it needs"));
        }
        Ok(())
    }

    fn sizing(&self, text: &str, explained: &Explained) -> Sizing {
        let writes = || -> BTreeSet<TableRef> {
            explained.statements.iter().flat_map(|s| &s.writes).map(|t| self.settled(t)).collect()
        };
        let Some(statement) = explained.statements.first() else { return Sizing::None };
        let said = |code: &str| explained.reasons.iter().any(|reason| reason.code == code);
        let unknown = || Sizing::Unknown(format!("the rows of `{}` cannot be counted", word(statement.verb)));
        // `DROP SCHEMA`, `DROP OWNED BY`: rows go, and of which tables the text does not say.
        let whole = |along| match writes() {
            tables if tables.is_empty() => unknown(),
            tables => Sizing::Whole { tables, along },
        };
        match statement.verb {
            Verb::Drop if drops_table(text) => whole(false),
            // A schema, a type: what depends on it may be tables with rows.
            Verb::Drop if said("cascades") => unknown(),
            Verb::Drop if statement.categories.contains(&Category::Data) => whole(false),
            // `CREATE TABLE … AS WITH gone AS (DELETE …)`: rows of other tables change along with it.
            _ if statement.categories.contains(&Category::Schema)
                && statement.categories.contains(&Category::Data)
                && statement.verb == Verb::Create =>
            {
                unknown()
            }
            Verb::Create | Verb::Drop | Verb::Comment | Verb::Rename | Verb::Grant | Verb::Revoke => {
                Sizing::None
            }
            // Dropping a column or changing its type rewrites every row.
            Verb::Alter if statement.categories.contains(&Category::Data) => whole(false),
            Verb::Alter => Sizing::None,
            Verb::Truncate => whole(said("truncates_cascade")),
            Verb::Insert | Verb::Update | Verb::Delete => {
                match reach_query(self.dialect, text, self.catalog.as_deref()) {
                    Ok(query) => Sizing::Query(Box::new(query)),
                    Err(NotCountable::Kind) => unknown(),
                    Err(why) => Sizing::Unknown(why.to_string()),
                }
            }
            _ => unknown(),
        }
    }
}

impl AdmittedStatement {
    /// Tells whether it changes rows of tables, and nothing else that would have to be undone.
    pub(crate) fn changes_rows_only(&self) -> bool {
        const BEYOND_ROWS: [Category; 5] =
            [Category::Schema, Category::Iam, Category::Admin, Category::LargeObject, Category::Notify];
        let verb = match self.verb {
            Verb::Insert | Verb::Update | Verb::Delete | Verb::Merge => true,
            // A query around a change of rows: `WITH gone AS (DELETE …) SELECT …`.
            Verb::Select => !self.writes.is_empty(),
            _ => false,
        };
        verb && !self.writes.is_empty() && !BEYOND_ROWS.iter().any(|c| self.categories.contains(c))
    }

    /// Tells whether running it and rolling it back leaves nothing behind, as far as can be seen: it changes rows and
    /// nothing else, and runs nothing that is not known but for triggers and rules. What those do is what a rehearsal
    /// is to tell; that nothing of it outlasts a rollback is up to who allows rehearsals of the system.
    pub(crate) fn can_be_rehearsed(&self) -> bool {
        self.changes_rows_only() && !self.opaque && !self.categories.contains(&Category::Lock)
    }

    /// Tells what the categories mean to the rules.
    pub(crate) fn category_names(&self) -> BTreeSet<String> {
        self.categories.iter().map(|category| category.as_str().to_owned()).collect()
    }
}

/// Tells whether the last words of a `DROP` name tables, whose rows go with them.
fn drops_table(text: &str) -> bool {
    text.split_ascii_whitespace().nth(1).is_some_and(|word| word.eq_ignore_ascii_case("table"))
}

fn strip_main(table: &TableRef) -> TableRef {
    match table.schema.as_deref() {
        Some("main") => TableRef::bare(table.name.clone()),
        _ => table.clone(),
    }
}

fn system_table(table: &TableRef) -> bool {
    matches!(table.schema.as_deref(), Some("pg_catalog" | "information_schema"))
        || table.name.starts_with("pg_")
        || table.name.starts_with("sqlite_")
}

/// Tells what no tool may do, whoever wrote the statement: it would leave the transaction in which the call is
/// held to its warrant, or the database altogether.
const fn never(category: Category, writer: WrittenBy) -> bool {
    match category {
        Category::Session
        | Category::Transaction
        | Category::Files
        | Category::Process
        | Category::Network => true,
        Category::Admin | Category::LargeObject | Category::Notify => matches!(writer, WrittenBy::Agent),
        _ => false,
    }
}

/// Reasons that tell what happens, so that a statement with no other is not opaque.
fn transparent(code: &str) -> bool {
    matches!(
        code,
        "declared_function"
            | "inserts"
            | "upserts"
            | "replaces"
            | "updates"
            | "deletes"
            | "merges"
            | "unbounded"
            | "truncates"
            | "row_locks"
            | "row_security"
            | "cascades"
            | "trigger"
            | "rule"
            | "writes_view"
            | "definer_function"
    )
}

const fn effect(effect: countersign_sql::Effect) -> Effect {
    match effect {
        countersign_sql::Effect::Read => Effect::Read,
        countersign_sql::Effect::Write => Effect::Write,
        countersign_sql::Effect::Destructive => Effect::Destructive,
    }
}

fn word(verb: Verb) -> String {
    serde_json::to_value(verb)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_else(|| "other".into())
}

#[cfg(test)]
mod tests;
