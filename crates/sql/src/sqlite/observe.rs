//! What SQLite's own compiler says of a statement: under the schema of the catalog, or under one that is drawn until the
//! statement compiles.

use std::collections::BTreeMap;

use super::private::Drawn;
use super::sketch::Sketch;
use crate::error::SqlError;
use crate::known::Known;
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

/// Compiles every statement of the text.
pub(super) fn observe(
    sql: &str,
    sketch: Sketch,
    known: Option<&Known>,
    kept: &Drawn,
) -> Result<Vec<Observed>, Trouble> {
    match known.filter(|known| !known.catalog().schema.is_empty()) {
        Some(known) => known.databases.compile(sql, &known.catalog().schema, &sketch.databases()),
        None => drawn(sql, sketch, kept),
    }
}

/// Compiles under a schema drawn from the text, adding to it what is missing.
fn drawn(sql: &str, mut sketch: Sketch, kept: &Drawn) -> Result<Vec<Observed>, Trouble> {
    let mut trials = Trials::new();
    let mut equalized = false;
    for _ in 0..ROUNDS_MAX {
        let message = match kept.compile(sql, &sketch) {
            Ok(observed) => return Ok(observed),
            Err(Trouble::Syntax { message, position }) => return Err(Trouble::Syntax { message, position }),
            Err(Trouble::Meaning(message)) => message,
        };
        if !sketch.amend(&message, &mut trials, &mut equalized) {
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
