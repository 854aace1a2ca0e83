//! Private databases, in memory: SQLite compiles in them, its authorizer hears of every table, column and function, and
//! **nothing is ever run**.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Batch, Connection};

use super::observe::{Event, Observed, Trouble};
use super::sketch::{Drawing, Sketch, quoted};
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

/// Databases whose schemas were drawn, for the next statements that are drawn alike.
///
/// One answers only for a drawing that equals its own, name by name, so that it has the schema a new one would have. As in
/// [`Databases`], what is compiled leaves nothing behind; what is not compiled every day is not trusted with that: a
/// database in which anything but a query or a change of rows was heard of is given up, and so is one whose
/// compilation ended in a panic. Drawings that are large, or of tables beyond `main`, are not kept.
pub(super) struct Drawn {
    /// How many are kept.
    max: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    places: Vec<Place>,
    /// How often one was asked for: the time of this list.
    asked: u64,
}

struct Place {
    hash: u64,
    drawing: Drawing,
    last_asked: u64,
    private: Arc<Mutex<Option<Private>>>,
}

impl Drawn {
    /// None yet, and never more than `max`: the one not asked for the longest goes.
    pub(super) const fn new(max: usize) -> Self {
        Self { max, kept: Mutex::new(Kept { places: Vec::new(), asked: 0 }) }
    }

    /// Compiles the statements of a text under the schema of a sketch.
    pub(super) fn compile(&self, sql: &str, sketch: &Sketch) -> Result<Vec<Observed>, Trouble> {
        let new = || Private::new(&sketch.drawing().ddl(), &sketch.databases());
        if self.max == 0 || !sketch.drawing().ordinary() {
            return new()?.compile(sql);
        }
        let place = self.place(sketch.drawing());
        let mut place = match place.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // At work for another text: nobody waits for that.
            Err(TryLockError::WouldBlock) => return new()?.compile(sql),
        };
        // Taken out, so that it is gone if this does not come to its end.
        let mut private = match place.take() {
            Some(private) => private,
            None => new()?,
        };
        let answer = private.compile(sql);
        if private.ordinary() {
            *place = Some(private);
        }
        answer
    }

    /// The tables of all that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> BTreeSet<TableRef> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |place: &&Place| place.private.try_lock().is_ok_and(|private| private.is_some());
        kept.places.iter().filter(open).flat_map(|place| place.drawing.tables()).cloned().collect()
    }

    /// The place of a drawing, which may be a new one.
    fn place(&self, drawing: &Drawing) -> Arc<Mutex<Option<Private>>> {
        let mut hasher = DefaultHasher::new();
        drawing.hash(&mut hasher);
        let hash = hasher.finish();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.asked = kept.asked.saturating_add(1);
        let asked = kept.asked;
        // INVARIANT: equal hashes say nothing; a place is found by the whole drawing.
        let found = kept.places.iter_mut().find(|place| place.hash == hash && place.drawing == *drawing);
        if let Some(place) = found {
            place.last_asked = asked;
            return Arc::clone(&place.private);
        }
        if kept.places.len() >= self.max {
            let oldest = kept.places.iter().enumerate().min_by_key(|(_, place)| place.last_asked);
            if let Some((oldest, _)) = oldest {
                kept.places.swap_remove(oldest);
            }
        }
        let private = Arc::default();
        kept.places.push(Place {
            hash,
            drawing: drawing.clone(),
            last_asked: asked,
            private: Arc::clone(&private),
        });
        private
    }
}

/// A database in memory that only compiles.
pub(super) struct Private {
    connection: Connection,
    heard: Arc<Mutex<Heard>>,
}

/// What the authorizer has heard.
#[derive(Default)]
struct Heard {
    /// Of the present statement.
    events: Vec<Event>,
    /// Whether the last of them was of the text itself, not of a view or trigger.
    direct: bool,
    /// Whether there ever was one beyond queries and changes of rows.
    other: bool,
}

impl Heard {
    /// Adds an event, with the trigger or view that acts in it.
    fn add(&mut self, through: Option<&str>, event: Event) {
        self.direct = through.is_none();
        self.other |= matches!(event, Event::Other(_));
        self.events.extend(through.map(|name| Event::Through(name.to_ascii_lowercase())));
        self.events.push(event);
    }

    /// Whether the last event was one such as this of the text itself, as it is for each column of a table.
    fn repeats(&self, context: &AuthContext<'_>) -> bool {
        let schema = context.database_name.filter(|schema| *schema != "main");
        let same = |table: &TableRef, name: &str| {
            table.name.eq_ignore_ascii_case(name)
                && match (&table.schema, schema) {
                    (Some(one), Some(two)) => one.eq_ignore_ascii_case(two),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                }
        };
        let AuthAction::Read { table_name, column_name } = context.action else { return false };
        self.direct
            && context.accessor.is_none()
            && match self.events.last() {
                Some(Event::Read(table)) => !column_name.is_empty() && same(table, table_name),
                Some(Event::Rows(table)) => column_name.is_empty() && same(table, table_name),
                _ => false,
            }
    }
}

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
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ears = Arc::clone(&heard);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            hear(&context, &mut ears.lock().unwrap_or_else(PoisonError::into_inner))
        }))?;
        Ok(Self { connection, heard })
    }

    /// Compiles each statement of a text.
    pub(super) fn compile(&mut self, sql: &str) -> Result<Vec<Observed>, Trouble> {
        let mut batch = Batch::new(&self.connection, sql);
        let mut observed = Vec::new();
        loop {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).events.clear();
            let Some(statement) = batch.next().map_err(|error| trouble(&error))? else { break };
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let events = std::mem::take(&mut heard.events);
            observed.push(Observed { readonly: statement.readonly(), events });
        }
        Ok(observed)
    }

    /// Whether it has compiled nothing but queries and changes of rows.
    fn ordinary(&self) -> bool {
        // INVARIANT: nothing was run, so no transaction is open.
        self.connection.is_autocommit() && !self.heard.lock().unwrap_or_else(PoisonError::into_inner).other
    }
}

fn kept_by_itself(message: &str) -> bool {
    message.contains("already exists") || message.contains("reserved for internal use")
}

fn hear(context: &AuthContext<'_>, heard: &mut Heard) -> Authorization {
    if heard.repeats(context) {
        return Authorization::Allow;
    }
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
    heard.add(context.accessor, event);
    answer
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
