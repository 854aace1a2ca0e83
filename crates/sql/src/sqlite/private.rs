//! Private databases, in memory: SQLite compiles in them, its authorizer hears of every table, column and function, and
//! **nothing is ever run**.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Batch, Connection};

use super::observe::{Event, Observed, Trouble};
use super::sketch::quoted;
use crate::statement::TableRef;

/// Databases with the schema of one catalog, for the next statements.
///
/// What is compiled leaves nothing behind that the next statement could see: only running changes a schema, the rows or a
/// setting, and what acts while it is compiled (pragmas, `ATTACH`) the authorizer refuses. A test compiles each statement
/// of the corpus after all others and compares.
#[derive(Default)]
pub(crate) struct Databases(Mutex<Vec<Private>>);

/// Databases that are kept for one catalog, of the size of its schema each. More statements at a time make their own.
const KEPT_MAX: usize = 4;

impl Databases {
    /// Compiles the statements of a text under `schema`, which must be the same each time, with empty databases of other
    /// names attached.
    pub(super) fn compile(
        &self,
        sql: &str,
        schema: &[String],
        others: &BTreeSet<&str>,
    ) -> Result<Vec<Observed>, Trouble> {
        if !others.is_empty() {
            return Private::new(schema, others)?.compile(sql);
        }
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut private = match kept {
            Some(private) => private,
            None => Private::new(schema, others)?,
        };
        let answer = private.compile(sql);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // INVARIANT: nothing was run, so no transaction is open.
        if private.connection.is_autocommit() && kept.len() < KEPT_MAX {
            kept.push(private);
        }
        answer
    }
}

/// A database in memory that only compiles.
pub(super) struct Private {
    connection: Connection,
    heard: Heard,
}

type Heard = Arc<Mutex<Vec<Event>>>;

impl Private {
    /// A database with this schema. The texts are executed: they are ours, or those of a snapshot, which holds none but
    /// definitions.
    pub(super) fn new(schema: &[String], others: &BTreeSet<&str>) -> Result<Self, Trouble> {
        Self::open(schema, others).map_err(|error| trouble(&error))
    }

    fn open(schema: &[String], others: &BTreeSet<&str>) -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 10)?;
        for database in others {
            connection.execute_batch(&format!("ATTACH ':memory:' AS {}", quoted(database)))?;
        }
        for text in schema {
            match connection.execute_batch(text) {
                Ok(()) => {}
                // SQLite keeps tables of its own and those behind virtual tables by itself.
                Err(error) if kept_by_itself(&error.to_string()) => {}
                Err(error) => return Err(error),
            }
        }
        let heard = Heard::default();
        let ears = Arc::clone(&heard);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let (events, answer) = hear(&context);
            ears.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
            answer
        }))?;
        Ok(Self { connection, heard })
    }

    /// Compiles each statement of a text.
    pub(super) fn compile(&mut self, sql: &str) -> Result<Vec<Observed>, Trouble> {
        let mut batch = Batch::new(&self.connection, sql);
        let mut observed = Vec::new();
        loop {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let Some(statement) = batch.next().map_err(|error| trouble(&error))? else { break };
            let events = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
            observed.push(Observed { readonly: statement.readonly(), events });
        }
        Ok(observed)
    }
}

fn kept_by_itself(message: &str) -> bool {
    message.contains("already exists") || message.contains("reserved for internal use")
}

fn hear(context: &AuthContext<'_>) -> (Vec<Event>, Authorization) {
    let named = |name: &str| {
        let schema = context.database_name.filter(|schema| *schema != "main").map(str::to_ascii_lowercase);
        TableRef { schema, name: name.to_ascii_lowercase() }
    };
    let mut answer = Authorization::Allow;
    let event = match context.action {
        AuthAction::Select | AuthAction::Recursive => Event::Plain,
        AuthAction::Read { table_name, column_name: "" } => Event::Rows(named(table_name)),
        AuthAction::Read { table_name, .. } => Event::Read(named(table_name)),
        AuthAction::Insert { table_name } | AuthAction::Update { table_name, .. } => {
            Event::Write(named(table_name))
        }
        AuthAction::Delete { table_name } => Event::Delete(named(table_name)),
        AuthAction::Function { function_name } => {
            let name = function_name.to_ascii_lowercase();
            // STAT4 lets the compiler evaluate functions of constants; this one must not be.
            if super::functions::harmful(&name).is_some() {
                answer = Authorization::Deny;
            }
            Event::Function(name)
        }
        // A pragma may act while it is compiled, on the whole process: it never gets that far.
        AuthAction::Pragma { .. } => {
            answer = Authorization::Deny;
            Event::Other("a pragma")
        }
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            answer = Authorization::Deny;
            Event::Other("attaching")
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Event::Other("transaction control"),
        AuthAction::CreateVtable { .. } | AuthAction::DropVtable { .. } => Event::Other("a virtual table"),
        AuthAction::Unknown { .. } => {
            answer = Authorization::Deny;
            Event::Other("an action that is not known")
        }
        AuthAction::CreateIndex { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropTable { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempTrigger { .. }
        | AuthAction::DropTempView { .. }
        | AuthAction::DropTrigger { .. }
        | AuthAction::DropView { .. }
        | AuthAction::AlterTable { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Analyze { .. } => Event::Other("a change of the schema"),
        _ => {
            answer = Authorization::Deny;
            Event::Other("an action that is not known")
        }
    };
    let through = context.accessor.map(|name| Event::Through(name.to_ascii_lowercase()));
    (through.into_iter().chain([event]).collect(), answer)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the type is open; every other error only lends its text")]
fn trouble(error: &rusqlite::Error) -> Trouble {
    let (message, position) = match error {
        rusqlite::Error::SqlInputError { msg, offset, .. } => (msg.clone(), usize::try_from(*offset).ok()),
        rusqlite::Error::SqliteFailure(_, Some(message)) => (message.clone(), None),
        other => (other.to_string(), None),
    };
    let syntax = message.ends_with("syntax error")
        || message == "incomplete input"
        || message.starts_with("unrecognized token")
        || message.starts_with("parser stack overflow")
        || message.starts_with("Expression tree is too large");
    if syntax { Trouble::Syntax { message, position } } else { Trouble::Meaning(message) }
}
