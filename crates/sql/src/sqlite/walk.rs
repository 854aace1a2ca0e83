//! The walk over SQLite's syntax tree: effect, names, and a sketch of the schema the statement needs.
//!
//! Every variant and field is named, so that a new release of the grammar does not compile until it has been looked at.

use sqlite3_parser::ast::{
    AlterTableBody, As, Cmd, ColumnConstraint, CreateTableBody, Expr, FrameBound, FromClause,
    FunctionCallOrder, FunctionTail, Indexed, InsertBody, JoinConstraint, JoinedSelectTable, Limit, Literal,
    OneSelect, Over, QualifiedName, ResolveType, ResultColumn, Select, SelectTable, Set, SortedColumn, Stmt,
    TableConstraint, TriggerCmd, Upsert, UpsertDo, Window, With,
};

use super::sketch::Sketch;
use super::{boundary, functions, pragma};
use crate::findings::Findings;
use crate::statement::{
    Bound,
    Category::{self, Admin, Data, Files, Opaque, Schema, Session, Transaction},
    Effect::{self, Destructive, Write},
    FunctionRef, TableRef, Verb,
};

/// Deeper than SQLite itself accepts in practice; keeps this recursion off the end of the stack.
const DEPTH_MAX: usize = 200;

#[derive(Default)]
pub(super) struct Walk {
    pub(super) found: Findings,
    pub(super) sketch: Sketch,
    /// Names of the CTEs in scope; the innermost stands last.
    scope: Vec<String>,
    depth: usize,
    pub(super) too_deep: bool,
    /// Compiled but not run: `EXPLAIN`.
    planned_only: bool,
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
        _ => raw.to_owned(),
    };
    name.to_ascii_lowercase()
}

pub(super) fn table_ref(name: &QualifiedName<'_>) -> TableRef {
    TableRef { schema: name.db_name.as_ref().map(|schema| folded(schema.0)), name: folded(name.name.0) }
}

impl Walk {
    fn raise(
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

    fn statement(&mut self, statement: &Stmt<'_>) -> Verb {
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
                match self.bound(where_clause.as_ref(), tbl_name) {
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
                if let Some(why) = self.bound(where_clause.as_ref(), tbl_name) {
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
                if let Some((categories, text)) = pragma::judge(&name, body.as_ref()) {
                    self.found.raise(Write, categories, "pragma", format!("pragma `{name}` {text}"));
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
    fn bound(&mut self, clause: Option<&Expr<'_>>, target: &QualifiedName<'_>) -> Option<&'static str> {
        if self.too_deep {
            return None;
        }
        let bound = boundary::bound(clause, &table_ref(target));
        self.found.bound(bound);
        boundary::unbounded(bound)
    }

    fn transaction(&mut self, verb: Verb) -> Verb {
        self.found.raise(Write, &[Transaction], "transaction", "controls the transaction it runs in");
        verb
    }

    fn drop_object(&mut self, categories: &[Category], name: &QualifiedName<'_>, what: &str) -> Verb {
        self.found.raise(Destructive, categories, "drops", format!("drops {what}"));
        self.found.writes.insert(table_ref(name));
        Verb::Drop
    }

    fn drop_other(&mut self, what: &str) -> Verb {
        self.found.raise(Destructive, &[Schema], "drops", format!("drops {what}"));
        Verb::Drop
    }

    fn alter(&mut self, name: &QualifiedName<'_>, body: &AlterTableBody<'_>) -> Verb {
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

    fn create(&mut self, statement: &Stmt<'_>) -> Verb {
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

    fn column_constraint(&mut self, constraint: &ColumnConstraint<'_>) {
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
    fn trigger_command(&mut self, command: &TriggerCmd<'_>) {
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

    fn insert(
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
        for column in columns.unwrap_or_default() {
            self.sketch.column(&table_ref(tbl_name), &folded(column.0));
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
                            self.sketch.column(&table_ref(tbl_name), name);
                        }
                        self.sketch.unique(&table_ref(tbl_name), names);
                    }
                    next = clause.next;
                }
                self.upsert(*upsert);
            }
        }
    }

    fn upsert(&mut self, upsert: Option<&Upsert<'_>>) {
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

    fn replaces(&mut self, conflict: Option<ResolveType>) {
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

    fn target(&mut self, name: &QualifiedName<'_>) {
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

    fn sets(&mut self, sets: &[Set<'_>]) {
        for set in sets {
            for name in set.col_names.iter() {
                self.sketch.bare(&folded(name.0));
            }
            self.expr(&set.expr);
        }
    }

    fn indexed(&mut self, indexed: Option<&Indexed<'_>>, table: &QualifiedName<'_>) {
        if let Some(Indexed::IndexedBy(index)) = indexed {
            self.sketch.index(&table_ref(table), &folded(index.0));
        }
    }

    fn with(&mut self, with: Option<&With<'_>>) {
        let Some(With { recursive: _, ctes }) = with else { return };
        // SQLite lets every CTE of a WITH see every other, and itself, with or without RECURSIVE.
        self.scope.extend(ctes.iter().map(|cte| folded(cte.tbl_name.0)));
        for cte in *ctes {
            self.select(cte.select);
        }
    }

    fn select(&mut self, select: &Select<'_>) {
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

    fn one_select(&mut self, select: &OneSelect<'_>) {
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

    fn from(&mut self, from: Option<&FromClause<'_>>) {
        let Some(from) = from else { return };
        if let Some(table) = from.select {
            self.source(table);
        }
        for JoinedSelectTable { operator: _, table, constraint } in from.joins.iter().flatten() {
            self.source(table);
            match constraint {
                Some(JoinConstraint::On(expr)) => self.expr(expr),
                Some(JoinConstraint::Using(names)) => {
                    names.iter().for_each(|name| self.sketch.bare(&folded(name.0)))
                }
                None => {}
            }
        }
    }

    fn source(&mut self, table: &SelectTable<'_>) {
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

    fn reads(&mut self, name: &QualifiedName<'_>, alias: Option<&As<'_>>) {
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

    fn returning(&mut self, columns: Option<&[ResultColumn<'_>]>) {
        for column in columns.unwrap_or_default() {
            match column {
                ResultColumn::Expr(expr, _) => self.expr(expr),
                ResultColumn::Star | ResultColumn::TableStar(_) => {}
            }
        }
    }

    fn sorted(&mut self, columns: Option<&[SortedColumn<'_>]>) {
        for column in columns.unwrap_or_default() {
            self.expr(&column.expr);
        }
    }

    fn limit(&mut self, limit: Option<&Limit<'_>>) {
        if let Some(Limit { expr, offset }) = limit {
            self.expr(expr);
            self.opt(offset.as_ref());
        }
    }

    fn list(&mut self, expressions: Option<&[Expr<'_>]>) {
        for expression in expressions.unwrap_or_default() {
            self.expr(expression);
        }
    }

    fn opt(&mut self, expression: Option<&Expr<'_>>) {
        if let Some(expression) = expression {
            self.expr(expression);
        }
    }

    fn expr(&mut self, expression: &Expr<'_>) {
        if !self.enter() {
            return;
        }
        match expression {
            Expr::Between { lhs, not: _, start, end } => {
                [lhs, start, end].into_iter().for_each(|expr| self.expr(expr))
            }
            Expr::Binary(left, _, right) => {
                self.expr(left);
                self.expr(right);
            }
            Expr::Case { base, when_then_pairs, else_expr } => {
                self.opt(*base);
                for (when, then) in *when_then_pairs {
                    self.expr(when);
                    self.expr(then);
                }
                self.opt(*else_expr);
            }
            Expr::Cast { expr, type_name: _ } | Expr::Collate(expr, _) => self.expr(expr),
            Expr::IsNull(expr) | Expr::NotNull(expr) | Expr::Unary(_, expr) => self.expr(expr),
            Expr::DoublyQualified(schema, table, column) => {
                let table = TableRef { schema: Some(folded(schema.0)), name: folded(table.0) };
                self.sketch.column(&table, &folded(column.0));
            }
            Expr::Qualified(qualifier, column) => {
                self.sketch.qualified(&folded(qualifier.0), &folded(column.0))
            }
            Expr::Id(sqlite3_parser::ast::Id(raw)) | Expr::Name(sqlite3_parser::ast::Name(raw)) => {
                self.sketch.bare(&folded(raw))
            }
            Expr::Exists(select) | Expr::Subquery(select) => self.select(select),
            Expr::FunctionCall { name, distinctness: _, args, order_by, filter_over } => {
                self.called(&folded(name.0));
                self.list(*args);
                if let Some(FunctionCallOrder::SortList(columns)) = order_by {
                    self.sorted(Some(columns));
                }
                self.tail(filter_over.as_ref());
            }
            Expr::FunctionCallStar { name, filter_over } => {
                self.called(&folded(name.0));
                self.tail(filter_over.as_ref());
            }
            Expr::InList { lhs, not: _, rhs } => {
                self.expr(lhs);
                self.list(*rhs);
            }
            Expr::InSelect { lhs, not: _, rhs } => {
                self.expr(lhs);
                self.select(rhs);
            }
            Expr::InTable { lhs, not: _, rhs, args } => {
                self.expr(lhs);
                match args {
                    Some(args) => {
                        self.table_function(folded(rhs.name.0));
                        self.list(Some(args));
                    }
                    None => self.reads(rhs, None),
                }
            }
            Expr::Like { lhs, not: _, op: _, rhs, escape } => {
                self.expr(lhs);
                self.expr(rhs);
                self.opt(*escape);
            }
            Expr::Literal(literal) => match literal {
                Literal::Numeric(_)
                | Literal::String(_)
                | Literal::Blob(_)
                | Literal::Keyword(_)
                | Literal::Null
                | Literal::CurrentDate
                | Literal::CurrentTime
                | Literal::CurrentTimestamp => {}
            },
            Expr::Parenthesized(parts) => parts.iter().for_each(|expr| self.expr(expr)),
            Expr::Raise(_, message) => self.opt(*message),
            Expr::Variable(name) => {
                // The tree leaves out the question mark.
                let named = name.starts_with([':', '@', '$', '#']);
                self.found.parameters.insert(if named { (*name).to_owned() } else { format!("?{name}") });
            }
        }
        self.leave();
    }

    fn tail(&mut self, tail: Option<&FunctionTail<'_>>) {
        let Some(FunctionTail { filter_clause, over_clause }) = tail else { return };
        self.opt(*filter_clause);
        match over_clause {
            Some(Over::Window(window)) => self.window(window),
            Some(Over::Name(_)) | None => {}
        }
    }

    fn window(&mut self, window: &Window<'_>) {
        let Window { base: _, partition_by, order_by, frame_clause } = window;
        self.list(*partition_by);
        self.sorted(*order_by);
        let Some(frame) = frame_clause else { return };
        for bound in [Some(&frame.start), frame.end.as_ref()].into_iter().flatten() {
            match bound {
                FrameBound::Following(expr) | FrameBound::Preceding(expr) => self.expr(expr),
                FrameBound::CurrentRow | FrameBound::UnboundedFollowing | FrameBound::UnboundedPreceding => {}
            }
        }
    }

    fn table_function(&mut self, name: String) {
        if name.starts_with("pragma_") {
            self.found.categories.insert(Category::Catalog);
        }
        if let Some((effect, categories, text)) = functions::harmful(&name) {
            self.found.raise(
                effect,
                categories,
                "function",
                format!("table-valued function `{name}` {text}"),
            );
        } else if !functions::table_valued(&name) {
            let text = format!("table-valued function `{name}` is not known to change nothing");
            self.found.raise(Write, &[Opaque], "unknown_function", text);
        }
        self.found.functions.insert(FunctionRef { schema: None, name });
    }

    fn called(&mut self, name: &str) {
        // What is known to be harmful is so even while it is only compiled.
        if let Some((effect, categories, text)) = functions::harmful(name) {
            self.found.raise(effect, categories, "function", format!("function `{name}` {text}"));
        } else if !functions::harmless(name) {
            self.found.raise(
                Write,
                &[Opaque],
                "unknown_function",
                format!("function `{name}` is not known to change nothing"),
            );
        }
        self.found.functions.insert(FunctionRef { schema: None, name: name.to_owned() });
    }

    fn enter(&mut self) -> bool {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            self.too_deep = true;
            self.leave();
            return false;
        }
        true
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these are names")]
fn name_of(expression: &Expr<'_>) -> Option<String> {
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
