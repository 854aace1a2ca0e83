//! A statement as a tool.

use std::{collections::BTreeSet, sync::Arc};

use countersign_gate::{
    Authority, MeasureError, Measured, Parsed, Performed, Probe, Tool, ToolError, Vault, Warrant,
};
use countersign_rules::{Code, DeclaredEffect, Effect, Refusal, SystemSpec, ToolSpec};
use countersign_sql::Dialect;
use serde_json::{Map, Value, json};

use super::{
    postgres::PostgresDatabase,
    sqlite::SqliteDatabase,
    statement::{Outside, Scope, Sizing, Statement, Writer},
    value::Rows,
};
use crate::{
    declared::{Declared, check_kind, properties},
    definition::{DefinitionError, SqlDefinition, SqlText, SystemDefinition, Target},
};

/// The argument in which an agent writes a statement.
const STATEMENT_ARGUMENT: &str = "sql";

/// A database with its connections, shared by the tools on it.
pub struct SqlSystem {
    spec: SystemSpec,
    vault: Arc<dyn Vault>,
    database: Database,
}

#[derive(Debug)]
enum Database {
    Sqlite(SqliteDatabase),
    Postgres(PostgresDatabase),
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
        let database = match &definition.target {
            Target::Sqlite(target) => {
                Database::Sqlite(SqliteDatabase::new(target.path.clone(), target.limits))
            }
            Target::Postgres(target) => {
                if target.search_path.is_empty() || target.search_path.iter().any(String::is_empty) {
                    let error = DefinitionError::system(&spec.name, "search_path", "names no schema");
                    return Err(error.help("list at least one schema, such as `public`"));
                }
                Database::Postgres(PostgresDatabase::new(target.clone()))
            }
            Target::Http(_) | Target::Mcp(_) => {
                return Err(DefinitionError::system(&spec.name, "kind", "is no database"));
            }
        };
        Ok(Arc::new(Self { spec, vault, database }))
    }

    /// What it is declared to be.
    #[must_use]
    pub const fn spec(&self) -> &SystemSpec {
        &self.spec
    }

    const fn dialect(&self) -> Dialect {
        match self.database {
            Database::Sqlite(_) => Dialect::Sqlite,
            Database::Postgres(_) => Dialect::Postgres,
        }
    }

    fn search_path(&self) -> &[String] {
        match &self.database {
            Database::Sqlite(_) => &[],
            Database::Postgres(database) => database.search_path(),
        }
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
}

/// What one call of a statement tool is about to do.
#[derive(Debug)]
pub struct Work {
    pub(crate) statement: Statement,
    pub(crate) arguments: Map<String, Value>,
    declared: Arc<Declared>,
    fixed: bool,
}

impl Work {
    /// The names of the tables that the statement names, in lower case.
    pub(crate) fn tables(&self) -> BTreeSet<String> {
        let named = self.statement.reads.iter().chain(&self.statement.writes);
        named.map(|table| table.name.to_ascii_lowercase()).collect()
    }

    /// Whether the author wrote the statement, so that it comes again.
    pub(crate) const fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Checks rows against the declared result.
    pub(crate) fn fits(&self, rows: &Rows) -> Result<(), String> {
        if self.declared.spec.result.is_none() {
            return Ok(());
        }
        self.declared.fits(&rows.preview())
    }
}

/// Columns that approvers must not see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mask(BTreeSet<String>);

impl Mask {
    pub(crate) fn hides(&self, table: &str, column: &str) -> bool {
        let (table, column) = (table.to_ascii_lowercase(), column.to_ascii_lowercase());
        self.0.contains(&format!("{table}.{column}")) || self.0.contains(&column)
    }
}

impl SqlTool {
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
        let scope =
            Scope::new(system.dialect(), system.search_path(), &definition.tables, &definition.functions);
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
                statement.effect >= Effect::Write && !matches!(statement.sizing, Sizing::Unknown(_))
            }
            None => true,
        };
        let template = json!({
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
        let declared = Declared::new(&written, &system.spec, &template, measurable)?;
        if let Some(statement) = &fixed {
            let used: BTreeSet<&str> = statement.parameters.iter().map(String::as_str).collect();
            let declared: BTreeSet<&str> = properties(&declared.spec.arguments).collect();
            if let Some(unknown) = used.difference(&declared).next() {
                return Err(bad("sql", format!("names `:{unknown}`, which is no argument"))
                    .help("declare it under `arguments`, or correct its name"));
            }
            if let Some(unused) = declared.difference(&used).next() {
                return Err(bad("arguments", format!("`{unused}` is not used by the statement"))
                    .help(format!("write `:{unused}` where it belongs, or leave it out")));
            }
        }
        let mask = Mask(definition.mask.iter().map(|column| column.to_ascii_lowercase()).collect());
        Ok(Arc::new(Self { declared: Arc::new(declared), system, scope, fixed, mask }))
    }

    /// The schema of the arguments as agents see it.
    #[must_use]
    pub fn advertised(&self) -> Value {
        self.declared.advertised()
    }

    async fn run(
        &self,
        authority: &dyn Authority,
        work: Arc<Work>,
        rows_max: u64,
    ) -> Result<Performed, ToolError> {
        let read = work.statement.effect == Effect::Read;
        match (&self.system.database, read) {
            (Database::Sqlite(database), true) => database.read(work, rows_max).await,
            (Database::Sqlite(database), false) => database.write(work, rows_max).await,
            (Database::Postgres(database), read) => {
                let credential = self
                    .system
                    .vault
                    .open(authority)
                    .map_err(|fault| ToolError::Unavailable { message: fault.to_string() })?;
                if read {
                    database.read(&credential, &self.scope, work, rows_max).await
                } else {
                    database.write(&credential, &self.scope, work, rows_max).await
                }
            }
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
        Ok(Parsed {
            effect: statement.effect,
            categories,
            statement: facts,
            // What an author calls reversible was written to be; nothing is known so of an agent's statement.
            reversible: self.fixed.is_some(),
            args: Arc::new(Work {
                statement,
                arguments,
                declared: Arc::clone(&self.declared),
                fixed: self.fixed.is_some(),
            }),
        })
    }

    fn measurable(&self, args: &Self::Args) -> bool {
        !matches!(args.statement.sizing, Sizing::Unknown(_))
    }

    async fn measure(&self, probe: Probe<'_, Self::Args>) -> Result<Measured, MeasureError> {
        let work = Arc::clone(probe.args());
        match &self.system.database {
            Database::Sqlite(database) => database.measure(work, self.mask.clone()).await,
            Database::Postgres(database) => {
                let credential = self
                    .system
                    .vault
                    .open(&probe)
                    .map_err(|fault| MeasureError::System(fault.to_string()))?;
                database.measure(&credential, &self.scope, work, &self.mask).await
            }
        }
    }

    async fn perform(&self, warrant: Warrant<Self::Args>) -> Result<Performed, ToolError> {
        let work = Arc::clone(warrant.args());
        self.run(&warrant, work, warrant.rows_max()).await
    }
}
