//! Statements of every kind.

use sqlite3_parser::ast::{Expr, FromClause, QualifiedName, Stmt};

use super::walk::{Walk, folded, table_ref};
use super::{boundary, pragma};
use crate::statement::{
    Category::{self, Admin, Data, Files, Schema, Session, Transaction},
    Effect::{Destructive, Write},
    Verb,
};

impl Walk {
    pub(super) fn statement(&mut self, statement: &Stmt<'_>) -> Verb {
        match statement {
            Stmt::Select(select) => {
                self.select(select);
                Verb::Select
            }
            Stmt::Insert { with, or_conflict, tbl_name, columns, body, returning } => {
                self.insert(
                    with.as_ref(),
                    *or_conflict,
                    tbl_name,
                    columns.as_deref().map(|names| names.as_slice()),
                    body,
                );
                self.returning(*returning);
                self.scope.clear();
                Verb::Insert
            }
            Stmt::Update {
                with,
                or_conflict,
                tbl_name,
                indexed,
                sets,
                from,
                where_clause,
                returning,
                order_by,
                limit,
            } => {
                self.with(with.as_ref());
                self.target(tbl_name);
                self.indexed(indexed.as_ref(), tbl_name);
                self.replaces(*or_conflict);
                self.sets(sets);
                self.from(from.as_ref());
                self.opt(where_clause.as_ref());
                match self.bound(where_clause.as_ref(), tbl_name, from.as_ref()) {
                    None => self.raise(Write, &[Data], "updates", "updates rows"),
                    Some(why) => {
                        self.raise(Destructive, &[Data], "unbounded", format!("updates every row: {why}"))
                    }
                }
                self.returning(*returning);
                self.sorted(*order_by);
                self.limit(*limit);
                self.scope.clear();
                Verb::Update
            }
            Stmt::Delete { with, tbl_name, indexed, where_clause, returning, order_by, limit } => {
                self.with(with.as_ref());
                self.target(tbl_name);
                self.indexed(indexed.as_ref(), tbl_name);
                self.raise(Destructive, &[Data], "deletes", "deletes rows");
                self.opt(where_clause.as_ref());
                if let Some(why) = self.bound(where_clause.as_ref(), tbl_name, None) {
                    self.raise(Destructive, &[Data], "unbounded", format!("deletes every row: {why}"));
                }
                self.returning(*returning);
                self.sorted(*order_by);
                self.limit(*limit);
                self.scope.clear();
                Verb::Delete
            }
            Stmt::Pragma(name, body) => {
                let name = folded(name.name.0);
                if let Some((effect, categories, text)) = pragma::judge(&name, body.as_ref()) {
                    self.found.raise(effect, categories, "pragma", format!("pragma `{name}` {text}"));
                } else {
                    self.found.categories.insert(Category::Catalog);
                }
                Verb::Pragma
            }
            Stmt::Attach { expr, db_name, key } => {
                self.found.raise(
                    Write,
                    &[Files, Session],
                    "attaches",
                    "opens or creates another database file",
                );
                for expression in [Some(expr), Some(db_name), key.as_ref()].into_iter().flatten() {
                    self.expr(expression);
                }
                Verb::Attach
            }
            Stmt::Detach(expr) => {
                self.found.raise(Write, &[Session], "attaches", "detaches a database");
                self.expr(expr);
                Verb::Detach
            }
            Stmt::Vacuum(_, into) => {
                match into {
                    Some(into) => {
                        self.found.raise(
                            Write,
                            &[Admin, Files],
                            "vacuum_into",
                            "writes a copy of the database to a file",
                        );
                        self.expr(into);
                    }
                    None => self.found.raise(Write, &[Admin], "maintenance", "rewrites the database file"),
                }
                Verb::Vacuum
            }
            Stmt::Analyze(name) => {
                self.found.raise(Write, &[Admin], "maintenance", "gathers statistics");
                self.found.writes.extend(name.as_ref().map(table_ref));
                Verb::Analyze
            }
            Stmt::Reindex { obj_name } => {
                self.found.raise(Write, &[Admin], "maintenance", "rebuilds indexes");
                self.found.writes.extend(obj_name.as_ref().map(table_ref));
                Verb::Reindex
            }
            Stmt::Begin(_, _) => self.transaction(Verb::Begin),
            Stmt::Commit(_) => self.transaction(Verb::Commit),
            Stmt::Rollback { tx_name: _, savepoint_name: _ } => self.transaction(Verb::Rollback),
            Stmt::Savepoint(_) | Stmt::Release(_) => self.transaction(Verb::Savepoint),
            Stmt::CreateTable { .. }
            | Stmt::CreateIndex { .. }
            | Stmt::CreateTrigger { .. }
            | Stmt::CreateView { .. }
            | Stmt::CreateVirtualTable { .. } => self.create(statement),
            Stmt::DropTable { if_exists: _, tbl_name: name } => {
                self.drop_object(&[Schema, Data], name, "a table with its rows")
            }
            Stmt::DropView { if_exists: _, view_name: name } => self.drop_object(&[Schema], name, "a view"),
            Stmt::DropIndex { if_exists: _, idx_name: _ } => self.drop_other("an index"),
            Stmt::DropTrigger { if_exists: _, trigger_name: _ } => self.drop_other("a trigger"),
            Stmt::AlterTable(name, body) => self.alter(name, body),
        }
    }

    /// Judges a `WHERE` that has been walked, for only then its depth is known. Why it bounds nothing, if so.
    pub(super) fn bound(
        &mut self,
        clause: Option<&Expr<'_>>,
        target: &QualifiedName<'_>,
        from: Option<&FromClause<'_>>,
    ) -> Option<&'static str> {
        if self.too_deep {
            return None;
        }
        let bound = boundary::bound(clause, target, from);
        self.found.bound(bound);
        boundary::unbounded(bound)
    }

    pub(super) fn transaction(&mut self, verb: Verb) -> Verb {
        self.found.raise(Write, &[Transaction], "transaction", "controls the transaction it runs in");
        verb
    }

    pub(super) fn drop_object(
        &mut self,
        categories: &[Category],
        name: &QualifiedName<'_>,
        what: &str,
    ) -> Verb {
        self.found.raise(Destructive, categories, "drops", format!("drops {what}"));
        self.found.writes.insert(table_ref(name));
        Verb::Drop
    }

    pub(super) fn drop_other(&mut self, what: &str) -> Verb {
        self.found.raise(Destructive, &[Schema], "drops", format!("drops {what}"));
        Verb::Drop
    }
}
