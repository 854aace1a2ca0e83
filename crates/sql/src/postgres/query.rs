//! Queries: what stands in `FROM`, common table expressions, `SELECT` with its locks and `INTO`.

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::walk::{Walk, relation};
use crate::statement::{Category, Effect};

impl Walk<'_> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller refuses what no part of the walk knows")]
    pub(super) fn source(&mut self, node: &NodeEnum) -> bool {
        match node {
            NodeEnum::JoinExpr(x) => {
                let pb::JoinExpr {
                    jointype: _,
                    is_natural,
                    larg,
                    rarg,
                    using_clause,
                    join_using_alias: _,
                    quals,
                    alias: _,
                    rtindex: _,
                } = x.as_ref();
                self.opt(larg.as_deref());
                self.opt(rarg.as_deref());
                self.list(using_clause);
                if *is_natural || !using_clause.is_empty() {
                    self.implied_operators(&["="]);
                }
                self.opt(quals.as_deref());
            }
            NodeEnum::RangeSubselect(x) => {
                let pb::RangeSubselect { lateral: _, subquery, alias: _ } = x.as_ref();
                self.opt(subquery.as_deref());
            }
            NodeEnum::RangeFunction(x) => {
                let pb::RangeFunction {
                    lateral: _,
                    ordinality: _,
                    is_rowsfrom: _,
                    functions,
                    alias: _,
                    coldeflist,
                } = x;
                self.list(functions);
                self.list(coldeflist);
            }
            NodeEnum::RangeTableFunc(x) => {
                let pb::RangeTableFunc {
                    lateral: _,
                    docexpr,
                    rowexpr,
                    namespaces,
                    columns,
                    alias: _,
                    location: _,
                } = x.as_ref();
                self.opt(docexpr.as_deref());
                self.opt(rowexpr.as_deref());
                self.list(namespaces);
                self.list(columns);
            }
            NodeEnum::RangeTableFuncCol(x) => {
                let pb::RangeTableFuncCol {
                    colname: _,
                    type_name,
                    for_ordinality: _,
                    is_not_null: _,
                    colexpr,
                    coldefexpr,
                    location: _,
                } = x.as_ref();
                if let Some(name) = type_name {
                    self.type_name(name);
                }
                self.opt(colexpr.as_deref());
                self.opt(coldefexpr.as_deref());
            }
            NodeEnum::RangeTableSample(x) => {
                let pb::RangeTableSample { relation, method, args, repeatable, location: _ } = x.as_ref();
                self.opt(relation.as_deref());
                self.called(method, false);
                self.list(args);
                self.opt(repeatable.as_deref());
            }
            // Only in the column list of a function in FROM; elsewhere the statement is not a query.
            NodeEnum::ColumnDef(x) => {
                if let Some(name) = &x.type_name {
                    self.type_name(name);
                }
                self.opt(x.raw_default.as_deref());
                self.list(&x.constraints);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn with(&mut self, with: Option<&pb::WithClause>) {
        let Some(pb::WithClause { ctes, recursive, location: _ }) = with else { return };
        let expressions: Vec<&pb::CommonTableExpr> = ctes
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::CommonTableExpr(cte)) => Some(cte.as_ref()),
                _ => None,
            })
            .collect();
        if expressions.len() != ctes.len() {
            self.raise(
                Effect::Write,
                &[Category::Opaque],
                "unknown_node",
                "holds a `WITH` that is not understood",
            );
        }
        if *recursive {
            self.scope.extend(expressions.iter().map(|cte| cte.ctename.clone()));
        }
        for cte in expressions {
            let pb::CommonTableExpr {
                ctename,
                aliascolnames: _,
                ctematerialized: _,
                ctequery,
                search_clause,
                cycle_clause,
                location: _,
                cterecursive: _,
                cterefcount: _,
                ctecolnames: _,
                ctecoltypes: _,
                ctecoltypmods: _,
                ctecolcollations: _,
            } = cte;
            self.opt(ctequery.as_deref());
            if let Some(pb::CteSearchClause {
                search_col_list,
                search_breadth_first: _,
                search_seq_column: _,
                location: _,
            }) = search_clause
            {
                self.list(search_col_list);
            }
            if let Some(cycle) = cycle_clause {
                self.list(&cycle.cycle_col_list);
                self.opt(cycle.cycle_mark_value.as_deref());
                self.opt(cycle.cycle_mark_default.as_deref());
            }
            // Without RECURSIVE a CTE sees only those before it: its own name still means the table.
            if !recursive {
                self.scope.push(ctename.clone());
            }
        }
    }

    pub(super) fn select(&mut self, select: &pb::SelectStmt) {
        let pb::SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        let outer = self.scope.len();
        self.with(with_clause.as_ref());
        if let Some(into) = into_clause {
            self.creates_table(into);
        }
        for nodes in [
            distinct_clause,
            target_list,
            from_clause,
            group_clause,
            window_clause,
            values_lists,
            sort_clause,
            locking_clause,
        ] {
            self.list(nodes);
        }
        for node in [where_clause, having_clause, limit_offset, limit_count] {
            self.opt(node.as_deref());
        }
        for side in [larg, rarg].into_iter().flatten() {
            self.select(side);
        }
        self.scope.truncate(outer);
    }

    /// `SELECT INTO` and `CREATE TABLE AS`.
    pub(super) fn creates_table(&mut self, into: &pb::IntoClause) {
        let name = into.rel.as_ref().map(relation);
        let shown = name.as_ref().map(ToString::to_string).unwrap_or_default();
        if self.planned_only {
            self.found.reads.extend(name);
        } else {
            self.found.writes.extend(name);
            self.raise(
                Effect::Write,
                &[Category::Schema],
                "creates_table",
                format!("creates the table `{shown}`"),
            );
        }
    }

    pub(super) fn locking(&mut self, locking: &pb::LockingClause) {
        // The relations it names are aliases of the query, which the FROM clause has told already.
        let pb::LockingClause { locked_rels: _, strength: _, wait_policy: _ } = locking;
        self.raise_executed(
            Effect::Write,
            &[Category::Lock],
            "row_locks",
            "locks the rows it reads (`FOR UPDATE` or `FOR SHARE`)",
        );
    }

    pub(super) fn returning(&mut self, returning: Option<&pb::ReturningClause>) {
        if let Some(pb::ReturningClause { options, exprs }) = returning {
            self.list(options);
            self.list(exprs);
        }
    }
}
