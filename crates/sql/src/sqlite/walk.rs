//! The walk over SQLite's syntax tree: effect, names, and a sketch of the schema the statement needs.
//!
//! Every variant and field is named, so that a new release of the grammar does not compile until it has been looked at.

use sqlite3_parser::ast::{Cmd, Expr, QualifiedName, Stmt};

use super::sketch::Sketch;
use crate::findings::Findings;
use crate::statement::{
    Bound,
    Category::{self},
    Effect::{self},
    TableRef, Verb,
};

/// Deeper than SQLite itself accepts in practice; keeps this recursion off the end of the stack.
const DEPTH_MAX: usize = 200;

#[derive(Default)]
pub(super) struct Walk {
    pub(super) found: Findings,
    pub(super) sketch: Sketch,
    /// Names of the CTEs in scope; the innermost stands last.
    pub(super) scope: Vec<String>,
    pub(super) depth: usize,
    pub(super) too_deep: bool,
    /// Compiled but not run: `EXPLAIN`.
    pub(super) planned_only: bool,
}

/// A name without its quotes, folded: SQLite compares names without regard to ASCII case.
pub(super) fn folded(raw: &str) -> String {
    let inner = |quote: char, raw: &str| {
        raw.get(1..raw.len().saturating_sub(1))
            .unwrap_or_default()
            .replace(&format!("{quote}{quote}"), &quote.to_string())
    };
    let name = match raw.chars().next() {
        Some(quote @ ('"' | '`' | '\'')) => inner(quote, raw),
        Some('[') => raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default().to_owned(),
        _ => return raw.to_ascii_lowercase(),
    };
    name.to_ascii_lowercase()
}

pub(super) fn table_ref(name: &QualifiedName<'_>) -> TableRef {
    TableRef { schema: name.db_name.as_ref().map(|schema| folded(schema.0)), name: folded(name.name.0) }
}

impl Walk {
    pub(super) fn raise(
        &mut self,
        effect: Effect,
        categories: &[Category],
        code: &'static str,
        text: impl Into<String>,
    ) {
        if !self.planned_only {
            self.found.raise(effect, categories, code, text);
        }
    }

    pub(super) fn command(&mut self, command: &Cmd<'_>) -> Verb {
        match command {
            Cmd::Stmt(statement) => self.statement(statement),
            Cmd::Explain(statement) | Cmd::ExplainQueryPlan(statement) => {
                let plain = matches!(
                    statement,
                    Stmt::Select(_) | Stmt::Insert { .. } | Stmt::Update { .. } | Stmt::Delete { .. }
                );
                // A pragma may act while it is compiled; the others have no plan worth reading.
                self.planned_only = plain;
                self.statement(statement);
                self.planned_only = false;
                if plain {
                    let written = std::mem::take(&mut self.found.writes);
                    self.found.reads.extend(written);
                    self.found.bounded = Bound::NotApplicable;
                }
                Verb::Explain
            }
        }
    }

    pub(super) fn enter(&mut self) -> bool {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            self.too_deep = true;
            self.leave();
            return false;
        }
        true
    }

    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these are names")]
pub(super) fn name_of(expression: &Expr<'_>) -> Option<String> {
    match expression {
        Expr::Id(sqlite3_parser::ast::Id(raw)) | Expr::Name(sqlite3_parser::ast::Name(raw)) => {
            Some(folded(raw))
        }
        Expr::Collate(inner, _) => name_of(inner),
        _ => None,
    }
}

pub(super) fn system_relation(name: &str) -> bool {
    name.starts_with("sqlite_") || name == "dbstat"
}
