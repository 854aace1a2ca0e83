//! What SQLite's own compiler says: the statement is compiled in a private empty database, and the authorizer hears of
//! every table, column and function. Nothing is ever run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Batch, Connection};

use super::sketch::{Sketch, quoted};
use crate::catalog::Catalog;
use crate::error::SqlError;
use crate::statement::TableRef;

/// Rounds of adding what a compilation misses.
const ROUNDS_MAX: usize = 256;

/// One statement, compiled.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) readonly: bool,
    pub(super) events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Read(TableRef),
    /// Rows of a table, and none of its columns: to count them, or by their number.
    Rows(TableRef),
    Write(TableRef),
    Delete(TableRef),
    Function(String),
    /// A trigger or view acts.
    Through(String),
    /// Harmless and without a name.
    Plain,
    /// Anything else; the text says what.
    Other(&'static str),
}

/// Why SQLite did not compile it.
#[derive(Debug)]
pub(super) enum Trouble {
    Syntax {
        message: String,
        position: Option<usize>,
    },
    /// Well-formed, but something in it does not fit or is forbidden here.
    Meaning(String),
}

/// Compiles every statement of the text, adding to the sketch what is missing.
pub(super) fn observe(
    sql: &str,
    mut sketch: Sketch,
    catalog: Option<&Catalog>,
) -> Result<Vec<Observed>, Trouble> {
    let schema = catalog.map(|catalog| catalog.schema.as_slice()).unwrap_or_default();
    let mut trials = Trials::new();
    let mut equalized = false;
    for _ in 0..ROUNDS_MAX {
        let message = match compile(sql, &sketch, schema) {
            Ok(observed) => return Ok(observed),
            Err(Trouble::Syntax { message, position }) => return Err(Trouble::Syntax { message, position }),
            Err(Trouble::Meaning(message)) => message,
        };
        if !schema.is_empty() || !sketch.amend(&message, &mut trials, &mut equalized) {
            return Err(Trouble::Meaning(message));
        }
    }
    Err(Trouble::Meaning("no schema was found under which it compiles".to_owned()))
}

/// Columns whose table is not known, and the tables that have them in the present attempt: a bit for each open table,
/// from all of them down to the first alone.
type Trials = BTreeMap<String, u32>;

/// More open tables than this are not tried in every combination.
const TRIED_TABLES_MAX: usize = 7;

impl Sketch {
    /// Adds what the message says is missing. Whether anything was changed.
    fn amend(&mut self, message: &str, trials: &mut Trials, equalized: &mut bool) -> bool {
        if let Some(column) = message.strip_prefix("no such column: ") {
            return self.try_column(column, trials);
        }
        if let Some(name) = message.strip_prefix("no such table: ") {
            let (schema, name) = name.split_once('.').unwrap_or(("", name));
            let table = TableRef::new(schema, name.to_ascii_lowercase());
            if self.named(&table.name).is_some() && self.named(&format!("{schema}.{name}")).is_some() {
                return false;
            }
            self.table(&table, None);
            return true;
        }
        if let Some((table, column)) =
            message.strip_prefix("table ").and_then(|rest| rest.split_once(" has no column named "))
        {
            let Some(table) = self.named(table) else { return false };
            let column = column.to_ascii_lowercase();
            let fresh = !self.has(&table, &column);
            self.column(&table, &column);
            return fresh;
        }
        if let Some(rest) = message.strip_prefix("cannot join using column ")
            && let Some((column, _)) = rest.split_once(" - ")
        {
            let column = column.to_ascii_lowercase();
            let missing: Vec<_> =
                self.open_tables().into_iter().filter(|table| !self.has(table, &column)).collect();
            for table in &missing {
                self.column(table, &column);
            }
            return !missing.is_empty();
        }
        if let Some(column) = message.strip_prefix("ambiguous column name: ") {
            let column = column.rsplit_once('.').map_or(column, |(_, column)| column).to_ascii_lowercase();
            return self.try_tables(&column, trials);
        }
        if let Some((table, wanted)) = supplied(message) {
            let Some(table) = self.named(&table) else { return false };
            return self.width(&table) != wanted && self.widen(&table, wanted);
        }
        if let Some(wanted) = message.split_once(" values for ").and_then(|(_, rest)| number(rest)) {
            let tables = self.open_tables();
            let narrow: Vec<_> = tables.iter().filter(|table| self.width(table) < wanted).cloned().collect();
            return !narrow.is_empty() && narrow.iter().all(|table| self.widen(table, wanted));
        }
        if message.contains("do not have the same number of result columns") && !*equalized {
            *equalized = true;
            let tables = self.open_tables();
            let widest = tables.iter().map(|table| self.width(table)).max().unwrap_or_default();
            return tables.iter().all(|table| self.widen(table, widest));
        }
        false
    }

    fn try_column(&mut self, shown: &str, trials: &mut Trials) -> bool {
        let (qualifier, column) = match shown.rsplit_once('.') {
            Some((qualifier, column)) => (Some(qualifier), column),
            None => (None, shown),
        };
        let column = column.trim_matches('"').to_ascii_lowercase();
        if let Some(table) = qualifier.and_then(|qualifier| self.named(qualifier))
            && !self.has(&table, &column)
        {
            self.column(&table, &column);
            return true;
        }
        self.try_tables(&column, trials)
    }

    /// The next combination of tables that might have the column. Whether there is one.
    fn try_tables(&mut self, column: &str, trials: &mut Trials) -> bool {
        let tables = self.open_tables();
        if tables.is_empty() || tables.len() > TRIED_TABLES_MAX {
            return false;
        }
        let all =
            u32::try_from(tables.len()).ok().and_then(|count| 1_u32.checked_shl(count)).unwrap_or_default();
        let mask = trials.get(column).copied().unwrap_or(all).saturating_sub(1);
        trials.insert(column.to_owned(), mask);
        for (place, table) in tables.iter().enumerate() {
            if mask >> place & 1 == 1 {
                self.try_on(table, column);
            } else {
                self.take_off(table, column);
            }
        }
        mask > 0
    }
}

/// `table T has N columns but M values were supplied`
fn supplied(message: &str) -> Option<(String, usize)> {
    let (table, rest) = message.strip_prefix("table ")?.split_once(" has ")?;
    let (_, rest) = rest.split_once(" columns but ")?;
    Some((table.to_owned(), number(rest)?))
}

fn number(text: &str) -> Option<usize> {
    text.split(' ').next()?.parse().ok()
}

fn compile(sql: &str, sketch: &Sketch, schema: &[String]) -> Result<Vec<Observed>, Trouble> {
    let (connection, heard) = private(sketch, schema).map_err(|error| trouble(&error))?;
    let mut batch = Batch::new(&connection, sql);
    let mut observed = Vec::new();
    loop {
        heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let Some(statement) = batch.next().map_err(|error| trouble(&error))? else { break };
        let events = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
        observed.push(Observed { readonly: statement.readonly(), events });
    }
    Ok(observed)
}

type Heard = Arc<Mutex<Vec<Event>>>;

fn private(sketch: &Sketch, schema: &[String]) -> rusqlite::Result<(Connection, Heard)> {
    let mut connection = Connection::open_in_memory()?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 10)?;
    for text in schema {
        match connection.execute_batch(text) {
            Ok(()) => {}
            // SQLite keeps tables of its own and those behind virtual tables by itself.
            Err(error) if kept_by_itself(&error.to_string()) => {}
            Err(error) => return Err(error),
        }
    }
    for database in sketch.databases() {
        connection.execute_batch(&format!("ATTACH ':memory:' AS {}", quoted(database)))?;
    }
    if schema.is_empty() {
        for text in sketch.ddl() {
            connection.execute_batch(&text)?;
        }
    }
    let heard = Heard::default();
    let ears = Arc::clone(&heard);
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        let (events, answer) = hear(&context);
        ears.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
        answer
    }))?;
    Ok((connection, heard))
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

impl From<Trouble> for SqlError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Syntax { message, .. }
                if message.starts_with("parser stack overflow") || message.starts_with("Expression tree") =>
            {
                Self::TooDeep
            }
            Trouble::Syntax { message, position } => Self::Syntax { dialect: "SQLite", message, position },
            Trouble::Meaning(message) => Self::Unclassifiable { message },
        }
    }
}
