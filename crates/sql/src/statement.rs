//! What is said about a statement.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What a statement does to the world. The order is the strictness: the strictest finding wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Proved to change nothing: no row, no object, no session, no file, no other process.
    #[default]
    Read,
    /// Changes something, or could not be proved not to.
    Write,
    /// Removes something, changes rows without a bounding predicate, or runs code that cannot be seen.
    Destructive,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        })
    }
}

/// What a statement is about, beside its effect. A statement has any number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Category {
    /// Changes rows.
    Data,
    /// Creates, alters or drops an object.
    Schema,
    /// Roles, privileges, row security, ownership.
    Iam,
    /// Settings, cursors and prepared statements of the session.
    Session,
    /// Begins or ends a transaction, or changes how it runs.
    Transaction,
    /// Maintains, configures or observes the server itself, or keeps it busy on purpose.
    Admin,
    /// Reads or writes files of the server.
    Files,
    /// Starts a process or loads code into the server.
    Process,
    /// Reaches another server.
    Network,
    /// Takes locks other than those of a plain read.
    Lock,
    /// Moves a sequence.
    Sequence,
    /// Large objects, which no table privilege covers.
    LargeObject,
    /// Sends something to other sessions or to replication.
    Notify,
    /// Reads the catalog of the database.
    Catalog,
    /// Touches what the database keeps of passwords, keys and connection strings.
    Credentials,
    /// Runs code or text that cannot be seen from here.
    Opaque,
}

impl Category {
    /// The name used in configuration, policies and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Schema => "schema",
            Self::Iam => "iam",
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Admin => "admin",
            Self::Files => "files",
            Self::Process => "process",
            Self::Network => "network",
            Self::Lock => "lock",
            Self::Sequence => "sequence",
            Self::LargeObject => "large_object",
            Self::Notify => "notify",
            Self::Catalog => "catalog",
            Self::Credentials => "credentials",
            Self::Opaque => "opaque",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The leading word of a statement, as far as rules and messages need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the SQL word it is named after")]
pub enum Verb {
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    Truncate,
    Copy,
    Create,
    Alter,
    Drop,
    Rename,
    Grant,
    Revoke,
    Comment,
    Explain,
    Show,
    Set,
    Call,
    Do,
    Prepare,
    Execute,
    Deallocate,
    Declare,
    Fetch,
    Close,
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Lock,
    Listen,
    Notify,
    Vacuum,
    Analyze,
    Reindex,
    Cluster,
    Refresh,
    Checkpoint,
    Load,
    Discard,
    Pragma,
    Attach,
    Detach,
    /// Any other statement.
    Other,
}

/// Whether a predicate limits which rows an `UPDATE` or `DELETE` touches.
///
/// A heuristic over the text: `predicate` means only that no reason was found why it would match every row.
/// The measured reach is the real guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The statement does not choose rows by a predicate.
    #[default]
    NotApplicable,
    /// A predicate that depends on the row.
    Predicate,
    /// A predicate that is true for every row, or the same for every row.
    Tautology,
    /// No predicate.
    None,
}

/// A table, view or other relation, folded as the database folds it: PostgreSQL keeps quoted names and
/// lowers unquoted ones, SQLite compares without case, so all of its names are lowered.
///
/// Serialized and displayed as SQL would write it, quoted only where needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableRef {
    /// The schema (SQLite: the database) the statement names, if it names one.
    pub schema: Option<String>,
    /// The relation.
    pub name: String,
}

impl TableRef {
    /// A relation without a schema.
    #[must_use]
    pub fn bare(name: impl Into<String>) -> Self {
        Self { schema: None, name: name.into() }
    }

    /// A relation in a schema; an empty schema is none.
    #[must_use]
    pub fn new(schema: &str, name: impl Into<String>) -> Self {
        Self { schema: (!schema.is_empty()).then(|| schema.to_owned()), name: name.into() }
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        qualified(f, self.schema.as_deref(), &self.name)
    }
}

/// A function as the statement names it. Serialized and displayed like [`TableRef`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionRef {
    /// The schema the statement names, if it names one. PostgreSQL's own syntax (`extract`, `at time zone`)
    /// names `pg_catalog`.
    pub schema: Option<String>,
    /// The function.
    pub name: String,
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        qualified(f, self.schema.as_deref(), &self.name)
    }
}

impl Serialize for TableRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for FunctionRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn qualified(f: &mut fmt::Formatter<'_>, schema: Option<&str>, name: &str) -> fmt::Result {
    if let Some(schema) = schema {
        identifier(f, schema)?;
        f.write_str(".")?;
    }
    identifier(f, name)
}

fn identifier(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { f.write_str(name) } else { write!(f, "\"{}\"", name.replace('"', "\"\"")) }
}

/// One reason for an answer: a stable code and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Reason {
    /// Stable; see the crate documentation for the list.
    pub code: &'static str,
    /// A lower-case fragment; what the statement named stands in backticks.
    pub text: String,
}

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The strictest finding.
    pub effect: Effect,
    /// What it is about.
    pub categories: BTreeSet<Category>,
    /// Its leading word. `WITH` counts as what follows it, `VALUES` and `TABLE` as `SELECT`.
    pub verb: Verb,
    /// Relations that its text names, and those of the functions it calls that could be looked into. What it touches only
    /// through views, cascades, partitions and policies is in `reads` and `writes` alone.
    #[serde(skip)]
    pub named: BTreeSet<TableRef>,
    /// Relations it reads, through CTEs, subqueries and joins; through views and functions where a catalog tells.
    pub reads: BTreeSet<TableRef>,
    /// Relations it writes, creates, alters or drops, and those it writes through views and by cascade where a
    /// catalog tells.
    pub writes: BTreeSet<TableRef>,
    /// Functions, aggregates and procedures it calls by name.
    pub functions: BTreeSet<FunctionRef>,
    /// Whether a predicate limits its rows; the weakest of all `UPDATE` and `DELETE` in it.
    pub bounded: Bound,
    /// Whether it takes locks other than those of a plain read.
    pub locks: bool,
    /// Placeholders as written: `$1`, `?`, `?2`, `:name`, `@name`.
    pub parameters: BTreeSet<String>,
    /// Why it is not a read, and what the database administrator should know.
    pub reasons: Vec<Reason>,
}

impl Statement {
    /// Everything it touches: reads and writes.
    #[must_use]
    pub fn tables(&self) -> BTreeSet<TableRef> {
        self.reads.union(&self.writes).cloned().collect()
    }
}

/// The whole text: the union of its statements and the strictest of their effects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The statements in order, at least one.
    pub statements: Vec<Statement>,
    /// The strictest effect.
    pub effect: Effect,
    /// All categories.
    pub categories: BTreeSet<Category>,
    /// All relations read or written.
    pub tables: BTreeSet<TableRef>,
    /// All functions.
    pub functions: BTreeSet<FunctionRef>,
    /// All reasons, each once, in order of appearance.
    pub reasons: Vec<Reason>,
}

impl Explained {
    pub(crate) fn of(statements: Vec<Statement>) -> Self {
        let mut whole = Self {
            effect: Effect::Read,
            categories: BTreeSet::new(),
            tables: BTreeSet::new(),
            functions: BTreeSet::new(),
            reasons: Vec::new(),
            statements: Vec::new(),
        };
        for statement in &statements {
            whole.effect = whole.effect.max(statement.effect);
            whole.categories.extend(&statement.categories);
            whole.tables.extend(statement.reads.iter().chain(&statement.writes).cloned());
            whole.functions.extend(statement.functions.iter().cloned());
            for reason in &statement.reasons {
                if !whole.reasons.contains(reason) {
                    whole.reasons.push(reason.clone());
                }
            }
        }
        whole.statements = statements;
        whole
    }
}
