//! Statements that change rows: `INSERT`, `UPDATE`, `DELETE`, `MERGE`.

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::boundary::{self, Sight};
use super::walk::{Event, Walk};
use crate::statement::{Category, Effect};

impl Walk<'_> {
    pub(super) fn insert(&mut self, insert: &pb::InsertStmt) {
        let pb::InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        let outer = self.scope.len();
        self.with(with_clause.as_ref());
        self.writes(relation.as_ref(), Event::Insert);
        self.raise_executed(Effect::Write, &[Category::Data], "inserts", "inserts rows");
        self.list(cols);
        self.opt(select_stmt.as_deref());
        if let Some(conflict) = on_conflict_clause {
            let pb::OnConflictClause { action, infer, target_list, where_clause, location: _ } =
                conflict.as_ref();
            if let Some(infer) = infer {
                let pb::InferClause { index_elems, where_clause, conname: _, location: _ } = infer.as_ref();
                self.list(index_elems);
                self.opt(where_clause.as_deref());
            }
            if *action == pb::OnConflictAction::OnconflictUpdate as i32 {
                self.writes(relation.as_ref(), Event::Update);
                self.raise_executed(
                    Effect::Write,
                    &[Category::Data],
                    "upserts",
                    "updates the rows it conflicts with",
                );
            }
            self.list(target_list);
            self.opt(where_clause.as_deref());
        }
        self.returning(returning_clause.as_ref());
        self.scope.truncate(outer);
    }

    pub(super) fn update(&mut self, update: &pb::UpdateStmt) {
        let pb::UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        let outer = self.scope.len();
        self.with(with_clause.as_ref());
        self.writes(relation.as_ref(), Event::Update);
        let sight = Sight::new(relation.as_ref(), from_clause, with_clause.as_ref());
        let bound = boundary::bound(where_clause.as_deref(), &sight);
        self.found.bound(bound);
        match boundary::unbounded(bound) {
            None => self.raise_executed(Effect::Write, &[Category::Data], "updates", "updates rows"),
            Some(why) => {
                self.raise_executed(
                    Effect::Destructive,
                    &[Category::Data],
                    "unbounded",
                    format!("updates every row: {why}"),
                );
            }
        }
        self.list(target_list);
        self.list(from_clause);
        self.opt(where_clause.as_deref());
        self.returning(returning_clause.as_ref());
        self.scope.truncate(outer);
    }

    pub(super) fn delete(&mut self, delete: &pb::DeleteStmt) {
        let pb::DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } = delete;
        let outer = self.scope.len();
        self.with(with_clause.as_ref());
        self.writes(relation.as_ref(), Event::Delete);
        let sight = Sight::new(relation.as_ref(), using_clause, with_clause.as_ref());
        let bound = boundary::bound(where_clause.as_deref(), &sight);
        self.found.bound(bound);
        self.raise_executed(Effect::Destructive, &[Category::Data], "deletes", "deletes rows");
        if let Some(why) = boundary::unbounded(bound) {
            self.raise_executed(
                Effect::Destructive,
                &[Category::Data],
                "unbounded",
                format!("deletes every row: {why}"),
            );
        }
        self.list(using_clause);
        self.opt(where_clause.as_deref());
        self.returning(returning_clause.as_ref());
        self.scope.truncate(outer);
    }

    pub(super) fn merge(&mut self, merge: &pb::MergeStmt) {
        let pb::MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        let outer = self.scope.len();
        self.with(with_clause.as_ref());
        self.opt(source_relation.as_deref());
        self.opt(join_condition.as_deref());
        self.raise_executed(Effect::Write, &[Category::Data], "merges", "inserts, updates or deletes rows");
        self.writes(relation.as_ref(), Event::Insert);
        let sight = Sight::new(relation.as_ref(), source_relation.as_deref(), with_clause.as_ref());
        for clause in merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(clause)) = &clause.node else {
                self.node(clause);
                continue;
            };
            let pb::MergeWhenClause {
                match_kind,
                command_type,
                r#override: _,
                condition,
                target_list,
                values,
            } = clause.as_ref();
            let joined = *match_kind == pb::MergeMatchKind::MergeWhenMatched as i32;
            let bound =
                boundary::merge(join_condition.as_deref().filter(|_| joined), condition.as_deref(), &sight);
            if *command_type == pb::CmdType::CmdDelete as i32 {
                self.writes(relation.as_ref(), Event::Delete);
                self.found.bound(bound);
                self.raise_executed(Effect::Destructive, &[Category::Data], "deletes", "deletes rows");
            } else if *command_type == pb::CmdType::CmdUpdate as i32 {
                self.writes(relation.as_ref(), Event::Update);
                self.found.bound(bound);
                if let Some(why) = boundary::unbounded(bound) {
                    self.raise_executed(
                        Effect::Destructive,
                        &[Category::Data],
                        "unbounded",
                        format!("updates every row: {why}"),
                    );
                }
            }
            self.opt(condition.as_deref());
            self.list(target_list);
            self.list(values);
        }
        self.returning(returning_clause.as_ref());
        self.scope.truncate(outer);
    }
}
