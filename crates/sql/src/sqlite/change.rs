//! Statements that change rows: what they write, and what conflicts do.

use sqlite3_parser::ast::{InsertBody, QualifiedName, ResolveType, Set, Upsert, UpsertDo, With};

use super::walk::{Walk, folded, name_of, system_relation, table_ref};
use crate::statement::{
    Category::{self, Admin, Data, Transaction},
    Effect::{Destructive, Write},
};

impl Walk {
    pub(super) fn insert(
        &mut self,
        with: Option<&With<'_>>,
        or_conflict: Option<ResolveType>,
        tbl_name: &QualifiedName<'_>,
        columns: Option<&[sqlite3_parser::ast::Name<'_>]>,
        body: &InsertBody<'_>,
    ) {
        self.with(with);
        self.target(tbl_name);
        self.raise(Write, &[Data], "inserts", "inserts rows");
        self.replaces(or_conflict);
        let target = table_ref(tbl_name);
        if self.sketch.wants(&target) {
            for column in columns.unwrap_or_default() {
                self.sketch.column(&target, &folded(column.0));
            }
        }
        match body {
            InsertBody::DefaultValues => {}
            InsertBody::Select(select, upsert) => {
                self.select(select);
                let mut next = *upsert;
                while let Some(clause) = next {
                    if let Some(index) = &clause.index {
                        let names: Vec<String> =
                            index.targets.iter().filter_map(|column| name_of(&column.expr)).collect();
                        for name in &names {
                            self.sketch.column(&target, name);
                        }
                        self.sketch.unique(&target, names);
                    }
                    next = clause.next;
                }
                self.upsert(*upsert);
            }
        }
    }

    pub(super) fn upsert(&mut self, upsert: Option<&Upsert<'_>>) {
        let mut next = upsert;
        while let Some(clause) = next {
            if let Some(index) = &clause.index {
                self.sorted(Some(index.targets));
                self.opt(index.where_clause.as_ref());
            }
            match &clause.do_clause {
                UpsertDo::Nothing => {}
                UpsertDo::Set { sets, where_clause } => {
                    self.raise(Write, &[Data], "upserts", "updates the rows it conflicts with");
                    self.sets(sets);
                    self.opt(where_clause.as_ref());
                }
            }
            next = clause.next;
        }
    }

    pub(super) fn replaces(&mut self, conflict: Option<ResolveType>) {
        match conflict {
            Some(ResolveType::Replace) => {
                self.raise(
                    Destructive,
                    &[Data],
                    "replaces",
                    "deletes the rows it conflicts with (`REPLACE`)",
                );
            }
            Some(ResolveType::Rollback) => {
                self.raise(Write, &[Transaction], "transaction", "rolls the transaction back on a conflict");
            }
            Some(ResolveType::Abort | ResolveType::Fail | ResolveType::Ignore) | None => {}
        }
    }

    pub(super) fn target(&mut self, name: &QualifiedName<'_>) {
        let table = table_ref(name);
        self.sketch.table(&table, name.alias.as_ref().map(|alias| folded(alias.0)));
        if system_relation(&table.name) {
            self.raise(
                Destructive,
                &[Category::Catalog, Admin],
                "writes_catalog",
                format!("changes the system table `{table}`"),
            );
        }
        self.found.writes.insert(table);
    }

    pub(super) fn sets(&mut self, sets: &[Set<'_>]) {
        for set in sets {
            for name in set.col_names.iter() {
                self.sketch.bare(name.0);
            }
            self.expr(&set.expr);
        }
    }
}
