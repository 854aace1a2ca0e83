//! Statements that create and alter.

use sqlite3_parser::ast::{
    AlterTableBody, ColumnConstraint, CreateTableBody, QualifiedName, Stmt, TableConstraint, TriggerCmd,
};

use super::walk::{Walk, folded, table_ref};
use crate::statement::{
    Category::{Data, Opaque, Schema},
    Effect::{Destructive, Write},
    TableRef, Verb,
};

impl Walk {
    pub(super) fn alter(&mut self, name: &QualifiedName<'_>, body: &AlterTableBody<'_>) -> Verb {
        self.found.writes.insert(table_ref(name));
        match body {
            AlterTableBody::DropColumn(_) => {
                self.found.raise(Destructive, &[Schema, Data], "drops", "drops a column with its values");
            }
            AlterTableBody::DropColumnNotNull(_) | AlterTableBody::DropConstraint(_) => {
                self.found.raise(Destructive, &[Schema], "drops", "drops a part of the table's definition");
            }
            AlterTableBody::RenameTo(_) | AlterTableBody::RenameColumn { old: _, new: _ } => {
                self.found.raise(Write, &[Schema], "alters", "renames a table or column");
            }
            AlterTableBody::AddColumn(column) => {
                self.found.raise(Write, &[Schema], "alters", "adds a column");
                for constraint in column.constraints {
                    self.column_constraint(&constraint.constraint);
                }
            }
            AlterTableBody::SetColumnNotNull(_, _) | AlterTableBody::AddConstraint(_) => {
                self.found.raise(Write, &[Schema], "alters", "adds a constraint");
            }
        }
        Verb::Alter
    }

    pub(super) fn create(&mut self, statement: &Stmt<'_>) -> Verb {
        match statement {
            Stmt::CreateTable { temporary: _, if_not_exists: _, tbl_name, body } => {
                self.found.raise(Write, &[Schema], "creates", "creates a table");
                self.found.writes.insert(table_ref(tbl_name));
                match body {
                    CreateTableBody::AsSelect(select) => self.select(select),
                    CreateTableBody::ColumnsAndConstraints { columns, constraints, flags: _ } => {
                        for column in columns {
                            for constraint in column.constraints {
                                self.column_constraint(&constraint.constraint);
                            }
                        }
                        for constraint in constraints.iter().flat_map(|list| list.iter()) {
                            if let TableConstraint::Check(expr, _) = &constraint.constraint {
                                self.expr(expr);
                            }
                        }
                    }
                }
            }
            Stmt::CreateIndex {
                unique: _,
                if_not_exists: _,
                idx_name: _,
                tbl_name,
                columns,
                where_clause,
            } => {
                self.found.raise(Write, &[Schema], "creates", "creates an index");
                self.found.writes.insert(TableRef::bare(folded(tbl_name.0)));
                self.sorted(Some(columns));
                self.opt(where_clause.as_ref());
            }
            Stmt::CreateView { temporary: _, if_not_exists: _, view_name, columns: _, select } => {
                self.found.raise(Write, &[Schema], "creates_view", "creates a view");
                self.found.writes.insert(table_ref(view_name));
                self.select(select);
            }
            Stmt::CreateTrigger {
                temporary: _,
                if_not_exists: _,
                trigger_name: _,
                time: _,
                event: _,
                tbl_name,
                for_each_row: _,
                when_clause,
                commands,
            } => {
                self.found.raise(
                    Write,
                    &[Schema, Opaque],
                    "creates_code",
                    "makes later statements do more than they say",
                );
                self.found.writes.insert(table_ref(tbl_name));
                self.opt(when_clause.as_ref());
                for command in *commands {
                    self.trigger_command(command);
                }
            }
            Stmt::CreateVirtualTable { if_not_exists: _, tbl_name, module_name, args: _ } => {
                let module = folded(module_name.0);
                self.found.raise(
                    Write,
                    &[Schema, Opaque],
                    "virtual_table",
                    format!("creates a table that module `{module}` answers for"),
                );
                self.found.writes.insert(table_ref(tbl_name));
            }
            Stmt::AlterTable(..)
            | Stmt::Analyze(_)
            | Stmt::Attach { .. }
            | Stmt::Begin(..)
            | Stmt::Commit(_)
            | Stmt::Delete { .. }
            | Stmt::Detach(_)
            | Stmt::DropIndex { .. }
            | Stmt::DropTable { .. }
            | Stmt::DropTrigger { .. }
            | Stmt::DropView { .. }
            | Stmt::Insert { .. }
            | Stmt::Pragma(..)
            | Stmt::Reindex { .. }
            | Stmt::Release(_)
            | Stmt::Rollback { .. }
            | Stmt::Savepoint(_)
            | Stmt::Select(_)
            | Stmt::Update { .. }
            | Stmt::Vacuum(..) => self.found.raise(
                Write,
                &[Opaque],
                "unknown_statement",
                "a kind of statement that is not known",
            ),
        }
        Verb::Create
    }

    pub(super) fn column_constraint(&mut self, constraint: &ColumnConstraint<'_>) {
        match constraint {
            ColumnConstraint::Check(expr)
            | ColumnConstraint::Default(expr)
            | ColumnConstraint::Generated { expr, typ: _ } => {
                self.expr(expr);
            }
            ColumnConstraint::PrimaryKey { .. }
            | ColumnConstraint::NotNull { .. }
            | ColumnConstraint::Unique(_)
            | ColumnConstraint::Defer(_)
            | ColumnConstraint::Collate { .. }
            | ColumnConstraint::ForeignKey { .. } => {}
        }
    }

    /// The body of a trigger runs later; what it names is told, with the effect of creating it.
    pub(super) fn trigger_command(&mut self, command: &TriggerCmd<'_>) {
        match command {
            TriggerCmd::Update { or_conflict: _, tbl_name, sets, from, where_clause } => {
                self.found.writes.insert(table_ref(tbl_name));
                self.sets(sets);
                self.from(from.as_ref());
                self.opt(where_clause.as_ref());
            }
            TriggerCmd::Insert { or_conflict: _, tbl_name, col_names: _, select, upsert } => {
                self.found.writes.insert(table_ref(tbl_name));
                self.select(select);
                self.upsert(*upsert);
            }
            TriggerCmd::Delete { tbl_name, where_clause } => {
                self.found.writes.insert(table_ref(tbl_name));
                self.opt(where_clause.as_ref());
            }
            TriggerCmd::Select(select) => self.select(select),
        }
    }
}
