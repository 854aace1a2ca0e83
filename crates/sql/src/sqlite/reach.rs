//! Sizing for SQLite: the parts of the statement, put together as a `SELECT` over the same rows.

use sqlite3_parser::ast::fmt::ToTokens;
use sqlite3_parser::ast::{Cmd, InsertBody, OneSelect, QualifiedName, Stmt, With};

use super::{parsed, tokens, walk};
use crate::reach::{NotCountable, ReachQuery, RowSource};
use crate::statement::{TableRef, Verb};

pub(crate) fn reach_query(sql: &str) -> Result<ReachQuery, NotCountable> {
    let Some(sql) = tokens::numbered(sql)? else { return Err(NotCountable::Kind) };
    parsed(&sql, |commands| match commands {
        [Cmd::Stmt(statement)] => sized(statement),
        _ => Err(NotCountable::Kind),
    })?
}

/// Text of a part of the tree.
struct Shown<'a, T>(&'a T);

impl<T: ToTokens> std::fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.to_fmt(f)
    }
}

fn sized(statement: &Stmt<'_>) -> Result<ReachQuery, NotCountable> {
    match statement {
        Stmt::Delete { with, tbl_name, where_clause, order_by: None, limit: None, .. } => {
            let clause =
                where_clause.as_ref().map(|expr| format!(" WHERE {}", Shown(expr))).unwrap_or_default();
            rows_of(Verb::Delete, tbl_name, with.as_ref(), &clause)
        }
        Stmt::Update {
            with, or_conflict, tbl_name, from, where_clause, order_by: None, limit: None, ..
        } => {
            let clause =
                where_clause.as_ref().map(|expr| format!(" WHERE {}", Shown(expr))).unwrap_or_default();
            // A row that several rows of FROM match is updated once.
            let clause = match from {
                Some(from) if from.select.is_some() => format!(" FROM {}{clause}", Shown(from)),
                Some(_) | None => clause,
            };
            // `OR IGNORE` leaves rows out, `OR REPLACE` deletes others.
            rows_of(Verb::Update, tbl_name, with.as_ref(), &clause)
                .map(|query| ReachQuery { exact: query.exact && or_conflict.is_none(), ..query })
        }
        Stmt::Insert { with, or_conflict, tbl_name, body, .. } => inserted(with.as_ref(), tbl_name, body)
            .map(|query| ReachQuery { exact: query.exact && or_conflict.is_none(), ..query }),
        Stmt::AlterTable(..)
        | Stmt::Analyze(_)
        | Stmt::Attach { .. }
        | Stmt::Begin(..)
        | Stmt::Commit(_)
        | Stmt::CreateIndex { .. }
        | Stmt::CreateTable { .. }
        | Stmt::CreateTrigger { .. }
        | Stmt::CreateView { .. }
        | Stmt::CreateVirtualTable { .. }
        | Stmt::Delete { .. }
        | Stmt::Detach(_)
        | Stmt::DropIndex { .. }
        | Stmt::DropTable { .. }
        | Stmt::DropTrigger { .. }
        | Stmt::DropView { .. }
        | Stmt::Pragma(..)
        | Stmt::Reindex { .. }
        | Stmt::Release(_)
        | Stmt::Rollback { .. }
        | Stmt::Savepoint(_)
        | Stmt::Select(_)
        | Stmt::Update { .. }
        | Stmt::Vacuum(..) => Err(NotCountable::Kind),
    }
}

fn rows_of(
    verb: Verb,
    name: &QualifiedName<'_>,
    with: Option<&With<'_>>,
    clause: &str,
) -> Result<ReachQuery, NotCountable> {
    // What `WITH` names stands inside, where the conditions are: outside, it would take the place of the table whose rows
    // change, which no `WITH` does for the statement itself.
    let with = with.map(|with| format!("{} ", Shown(with))).unwrap_or_default();
    let clause = if with.is_empty() && !clause.starts_with(" FROM ") {
        clause.to_owned()
    } else {
        format!(" WHERE EXISTS ({with}SELECT 1{clause})")
    };
    let shown = alias(name);
    let query = |what: &str| format!("SELECT {what} FROM {}{clause}", Shown(name));
    finish(verb, walk::table_ref(name), &query("1"), &query(&format!("{shown}.*")))
}

/// The name under which the rest of the statement speaks of the table.
fn alias(name: &QualifiedName<'_>) -> String {
    name.alias.as_ref().unwrap_or(&name.name).to_string()
}

fn inserted(
    with: Option<&With<'_>>,
    name: &QualifiedName<'_>,
    body: &InsertBody<'_>,
) -> Result<ReachQuery, NotCountable> {
    let target = walk::table_ref(name);
    let known = |rows: usize, exact| {
        Ok(ReachQuery {
            target: target.clone(),
            verb: Verb::Insert,
            columns: None,
            source: RowSource::Known(u64::try_from(rows).unwrap_or(u64::MAX)),
            exact,
        })
    };
    let (select, upsert) = match body {
        InsertBody::DefaultValues => return known(1, true),
        InsertBody::Select(select, upsert) => (select, upsert),
    };
    if let OneSelect::Values(rows) = &select.body.select
        && select.body.compounds.is_none()
        && select.limit.is_none()
    {
        return known(rows.len(), upsert.is_none());
    }
    let with = with.map(|with| format!("{} ", Shown(with))).unwrap_or_default();
    let rows = format!("{with}SELECT * FROM ({})", Shown(*select));
    finish(Verb::Insert, target.clone(), &rows, &rows)
        .map(|query| ReachQuery { exact: upsert.is_none(), ..query })
}

fn finish(verb: Verb, target: TableRef, rows: &str, sample: &str) -> Result<ReachQuery, NotCountable> {
    let source = RowSource::Query { rows: tokens::renumbered(rows)?, sample: tokens::renumbered(sample)? };
    Ok(ReachQuery { target, verb, columns: None, source, exact: true })
}
