//! SQLite, by a port of its grammar and by its own compiler. Where they disagree the stricter wins; where they count
//! different statements there is no answer.

mod boundary;
mod change;
mod expression;
mod functions;
mod normal;
mod observe;
mod pragma;
mod private;
mod query;
mod reach;
mod schema;
mod sketch;
mod statement;
#[cfg(test)]
mod tests;
mod tokens;
mod walk;

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlite3_parser::ast::{Cmd, CreateTableBody, Stmt, TriggerEvent, TriggerTime};
use sqlite3_parser::lexer::sql::Parser;
use sqlite3_parser::{Bump, FallibleIterator, Vec as ArenaVec};

use crate::catalog::Trigger;
use crate::error::SqlError;
use crate::findings::Findings;
use crate::known::Known;
use crate::statement::{Category, Effect, FunctionRef, Statement, TableRef, Verb};
use observe::{Event, Observed, Trouble};
use private::Drawn;
use sketch::Sketch;
use walk::Walk;

pub(crate) use private::Databases;
pub(crate) use reach::reach_query;

pub(crate) fn fingerprint(sql: &str) -> Result<String, SqlError> {
    tokens::fingerprint(sql)
}

pub(crate) fn normal(sql: &str) -> Result<String, SqlError> {
    normal::normal(sql)
}

pub(crate) fn normalize(sql: &str) -> Result<String, SqlError> {
    tokens::normalize(sql)
}

/// Databases with drawn schemas that are kept for the whole process: statements without a catalog have nothing else in
/// common. Each takes about 90 KB, and 170 KB with the most tables that one may have: 6 to 11 MB where all are there.
const DRAWN_MAX: usize = 64;

static DRAWN: Drawn = Drawn::new(DRAWN_MAX);

pub(crate) fn explain(sql: &str, known: Option<&Known>) -> Result<Vec<Statement>, SqlError> {
    explained(sql, known, &DRAWN)
}

fn explained(sql: &str, known: Option<&Known>, drawn: &Drawn) -> Result<Vec<Statement>, SqlError> {
    let schema_known = known.is_some_and(|known| !known.catalog().schema.is_empty());
    let (mut walks, sketch) = parsed(sql, |commands| {
        let mut walks = Vec::with_capacity(commands.len());
        let mut sketch = if schema_known { Sketch::names_only() } else { Sketch::default() };
        for command in commands {
            let mut walk = Walk { sketch, ..Walk::default() };
            let verb = walk.command(command);
            if walk.too_deep {
                return Err(SqlError::TooDeep);
            }
            sketch = walk.sketch;
            walks.push((walk.found, verb));
        }
        sketch.settle();
        Ok((walks, sketch))
    })??;
    match observe::observe(sql, sketch, known, drawn) {
        Ok(observed) if observed.len() == walks.len() => {
            for ((found, verb), seen) in walks.iter_mut().zip(&observed) {
                join(found, *verb, seen, schema_known);
            }
        }
        Ok(_) => {
            return Err(SqlError::Unclassifiable {
                message: "the grammar and the compiler of SQLite count different statements in it".to_owned(),
            });
        }
        // A text of which nothing is a read anyway needs no proof that it is one.
        Err(Trouble::Meaning(_))
            if !walks.is_empty() && walks.iter().all(|(found, _)| found.effect > Effect::Read) => {}
        // A function SQLite does not have: an extension may bring it, and nobody knows what it does.
        Err(Trouble::Meaning(message)) if message.starts_with("no such function: ") => {
            let name = message.trim_start_matches("no such function: ").to_ascii_lowercase();
            for (found, _) in walks.iter_mut().filter(|(found, _)| found.effect == Effect::Read) {
                let text = format!("function `{name}` is not part of SQLite");
                found.raise(Effect::Write, &[Category::Opaque], "unknown_function", text);
            }
        }
        // Nor does a pragma on the list, which SQLite is never let to compile.
        Err(Trouble::Meaning(_))
            if !walks.is_empty() && walks.iter().all(|(_, verb)| *verb == Verb::Pragma) => {}
        Err(trouble) => return Err(trouble.into()),
    }
    Ok(walks.into_iter().map(|(found, verb)| found.into_statement(verb)).collect())
}

/// Whether a text is one definition of a table, index, view or trigger, as `sqlite_schema` keeps them.
pub(crate) fn is_definition(sql: &str) -> bool {
    let definition = |commands: &[Cmd<'_>]| {
        matches!(
            commands,
            [Cmd::Stmt(
                Stmt::CreateTable { body: CreateTableBody::ColumnsAndConstraints { .. }, .. }
                    | Stmt::CreateIndex { .. }
                    | Stmt::CreateView { .. }
                    | Stmt::CreateTrigger { .. }
                    | Stmt::CreateVirtualTable { .. }
            )]
        )
    };
    crate::examined(sql).is_ok() && crate::with_stack(|| parsed(sql, definition)).unwrap_or(false)
}

/// What the text of a trigger says of it.
pub(crate) fn trigger(sql: &str) -> Option<Trigger> {
    parsed(sql, |commands| {
        let [Cmd::Stmt(Stmt::CreateTrigger { trigger_name, time, event, .. })] = commands else {
            return None;
        };
        let event = match event {
            TriggerEvent::Delete => "delete",
            TriggerEvent::Insert => "insert",
            TriggerEvent::Update | TriggerEvent::UpdateOf(_) => "update",
        };
        Some(Trigger {
            name: walk::folded(trigger_name.name.0),
            events: [event.to_owned()].into(),
            instead: matches!(time, Some(TriggerTime::InsteadOf)),
            function: None,
        })
    })
    .ok()?
}

/// Parses the text and hands its commands on. The port of the grammar is young: a panic in it refuses the text.
fn parsed<T>(sql: &str, then: impl FnOnce(&[Cmd<'_>]) -> T) -> Result<T, SqlError> {
    let sql = &*tokens::unmarked(sql);
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let arena = Bump::new();
        let mut parser = Parser::new(&arena, sql.as_bytes());
        // The tree lives in the arena and goes with it; dropping it node by node would recurse as deep as it is.
        let mut commands = ManuallyDrop::new(ArenaVec::new_in(&arena));
        loop {
            match parser.next() {
                Ok(Some(command)) => commands.push(command),
                Ok(None) => return Ok(then(&commands)),
                Err(error) => return Err(tokens::refused(sql, &error)),
            }
        }
    }));
    attempt.unwrap_or_else(|_| {
        Err(SqlError::Unclassifiable { message: "the grammar of SQLite gave up on it".to_owned() })
    })
}

/// Adds what the compiler saw to what the grammar says.
fn join(found: &mut Findings, verb: Verb, seen: &Observed, schema_known: bool) {
    let explained = verb == Verb::Explain;
    let schema_change = found.categories.contains(&Category::Schema);
    // What a view or trigger touches is not named by the text. Whether one acts is heard before each event.
    let through_any = seen.events.iter().any(|event| matches!(event, Event::Through(_)));
    let mut through = false;
    for event in &seen.events {
        let hidden = std::mem::take(&mut through);
        match event {
            Event::Plain => {}
            Event::Function(name) => {
                if functions::harmful(name).is_none()
                    && !functions::harmless(name)
                    && !schema_change
                    && !functions::table_valued(name)
                {
                    found.raise(
                        Effect::Write,
                        &[Category::Opaque],
                        "unknown_function",
                        format!("function `{name}` is not known to change nothing"),
                    );
                }
                found.functions.insert(FunctionRef { schema: None, name: name.clone() });
            }
            Event::Read(table) | Event::Rows(table) => {
                let system = walk::system_relation(&table.name);
                if told(found.reads.iter().chain(&found.writes), table)
                    || functions::table_valued(&table.name)
                    || system && schema_change
                {
                    continue;
                }
                if system {
                    found.categories.insert(Category::Catalog);
                }
                // A change looks into the tables its foreign keys link to; a read names what it reads.
                // Where it reads no column of a table behind a view, SQLite does not say that the view does.
                let hidden = hidden || (through_any && matches!(event, Event::Rows(_)));
                if schema_known && (hidden || found.effect > Effect::Read) {
                    found.reads_through.insert(table.clone());
                } else {
                    found.reads.insert(table.clone());
                }
            }
            Event::Write(table) | Event::Delete(table) if explained => {
                if !told(found.reads.iter(), table) {
                    found.reads.insert(table.clone());
                }
            }
            Event::Write(table) | Event::Delete(table) => {
                if schema_change && walk::system_relation(&table.name) {
                    continue;
                }
                if found.effect == Effect::Read {
                    found.raise(
                        Effect::Write,
                        &[Category::Data],
                        "compiled_write",
                        format!("SQLite says it writes `{table}`"),
                    );
                }
                if !told(found.writes.iter(), table) {
                    if schema_known {
                        let (effect, word) = if matches!(event, Event::Delete(_)) {
                            (Effect::Destructive, "deletes")
                        } else {
                            (Effect::Write, "changes")
                        };
                        found.raise(
                            effect,
                            &[Category::Data],
                            "cascades",
                            format!("a foreign key, view or trigger {word} rows of `{table}` too"),
                        );
                    }
                    if schema_known {
                        found.writes_through.insert(table.clone());
                    } else {
                        found.writes.insert(table.clone());
                    }
                }
            }
            Event::Through(name) => {
                through = true;
                if found.effect > Effect::Read && schema_known {
                    found.categories.insert(Category::Opaque);
                    found.note("trigger", format!("acts through the trigger or view `{name}`"));
                }
            }
            Event::Other(what) => {
                if found.effect == Effect::Read && !explained {
                    found.raise(
                        Effect::Write,
                        &[Category::Opaque],
                        "compiled_write",
                        format!("SQLite says it holds {what}"),
                    );
                }
            }
        }
    }
    if !seen.readonly && found.effect == Effect::Read && !explained {
        found.raise(Effect::Write, &[Category::Opaque], "compiled_write", "SQLite says it is not a read");
    }
}

/// Whether a table SQLite names is one the text names: unqualified there, it means the schema SQLite found.
fn told<'a>(mut named: impl Iterator<Item = &'a TableRef>, table: &TableRef) -> bool {
    named.any(|one| {
        one.name == table.name
            && match (one.schema.as_deref(), table.schema.as_deref()) {
                (None | Some("main"), None) | (None, Some("temp")) => true,
                (one, two) => one == two,
            }
    })
}
