//! Queries: what stands in `FROM`, common table expressions, `SELECT`.

use sqlite3_parser::ast::{
    As, FromClause, Indexed, JoinConstraint, JoinedSelectTable, Limit, OneSelect, QualifiedName,
    ResultColumn, Select, SelectTable, SortedColumn, With,
};

use super::walk::{Walk, folded, system_relation, table_ref};
use crate::statement::Category::{self};

impl Walk {
    pub(super) fn indexed(&mut self, indexed: Option<&Indexed<'_>>, table: &QualifiedName<'_>) {
        if let Some(Indexed::IndexedBy(index)) = indexed {
            self.sketch.index(&table_ref(table), &folded(index.0));
        }
    }

    pub(super) fn with(&mut self, with: Option<&With<'_>>) {
        let Some(With { recursive: _, ctes }) = with else { return };
        // SQLite lets every CTE of a WITH see every other, and itself, with or without RECURSIVE.
        self.scope.extend(ctes.iter().map(|cte| folded(cte.tbl_name.0)));
        for cte in *ctes {
            self.select(cte.select);
        }
    }

    pub(super) fn select(&mut self, select: &Select<'_>) {
        if !self.enter() {
            return;
        }
        let Select { with, body, order_by, limit } = select;
        let outer = self.scope.len();
        self.with(with.as_ref());
        self.one_select(&body.select);
        for compound in body.compounds.iter().flatten() {
            self.one_select(&compound.select);
        }
        self.sorted(*order_by);
        self.limit(*limit);
        self.scope.truncate(outer);
        self.leave();
    }

    pub(super) fn one_select(&mut self, select: &OneSelect<'_>) {
        match select {
            OneSelect::Values(rows) => rows.iter().flatten().for_each(|expr| self.expr(expr)),
            OneSelect::Select {
                distinctness: _,
                columns,
                from,
                where_clause,
                group_by,
                having,
                window_clause,
            } => {
                self.from(from.as_ref());
                self.returning(Some(columns));
                self.opt(*where_clause);
                self.list(*group_by);
                self.opt(*having);
                for definition in window_clause.iter().flat_map(|list| list.iter()) {
                    self.window(&definition.window);
                }
            }
        }
    }

    pub(super) fn from(&mut self, from: Option<&FromClause<'_>>) {
        let Some(from) = from else { return };
        if let Some(table) = from.select {
            self.source(table);
        }
        for JoinedSelectTable { operator: _, table, constraint } in from.joins.iter().flatten() {
            self.source(table);
            match constraint {
                Some(JoinConstraint::On(expr)) => self.expr(expr),
                Some(JoinConstraint::Using(names)) => names.iter().for_each(|name| self.sketch.bare(name.0)),
                None => {}
            }
        }
    }

    pub(super) fn source(&mut self, table: &SelectTable<'_>) {
        if !self.enter() {
            return;
        }
        match table {
            SelectTable::Table(name, alias, indexed) => {
                self.reads(name, alias.as_ref());
                self.indexed(indexed.as_ref(), name);
            }
            SelectTable::TableCall(name, args, _) => {
                self.table_function(folded(name.name.0));
                self.list(*args);
            }
            SelectTable::Select(select, _) => self.select(select),
            SelectTable::Sub(from, _) => self.from(Some(from)),
        }
        self.leave();
    }

    pub(super) fn reads(&mut self, name: &QualifiedName<'_>, alias: Option<&As<'_>>) {
        let table = table_ref(name);
        if table.schema.is_none() && self.scope.contains(&table.name) {
            return;
        }
        // A table-valued function may stand without its parentheses.
        if table.name.starts_with("pragma_") {
            self.table_function(table.name);
            return;
        }
        if system_relation(&table.name) {
            self.found.categories.insert(Category::Catalog);
        }
        let alias = alias.map(|alias| match alias {
            As::As(name) | As::Elided(name) => folded(name.0),
        });
        self.sketch.table(&table, alias);
        self.found.reads.insert(table);
    }

    pub(super) fn returning(&mut self, columns: Option<&[ResultColumn<'_>]>) {
        for column in columns.unwrap_or_default() {
            match column {
                ResultColumn::Expr(expr, _) => self.expr(expr),
                ResultColumn::Star | ResultColumn::TableStar(_) => {}
            }
        }
    }

    pub(super) fn sorted(&mut self, columns: Option<&[SortedColumn<'_>]>) {
        for column in columns.unwrap_or_default() {
            self.expr(&column.expr);
        }
    }

    pub(super) fn limit(&mut self, limit: Option<&Limit<'_>>) {
        if let Some(Limit { expr, offset }) = limit {
            self.expr(expr);
            self.opt(offset.as_ref());
        }
    }
}
