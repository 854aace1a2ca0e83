//! The walk over queries and data-modifying statements.
//!
//! Every field of every node is named, so that a new release of the grammar does not compile until it has been
//! looked at. A node kind that is not listed is not a read.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::credentials::Spoken;
use super::functions;
use super::implicit::{Met, Reading};
use crate::findings::Findings;
use crate::known::Known;
use crate::statement::{Category, Effect, TableRef};

pub(super) struct Walk<'c> {
    pub(super) found: Findings,
    pub(super) known: Option<&'c Known>,
    /// Names of the CTEs in scope; the innermost stands last.
    pub(super) scope: Vec<String>,
    /// Planned but not executed: `EXPLAIN` without `ANALYZE`.
    pub(super) planned_only: bool,
    /// How many views are being looked through, one in the other.
    pub(super) views: usize,
    /// Above zero while it walks what the text does not name.
    pub(super) hidden: usize,
    /// Unqualified names may mean anything of that name: the search path is not ours.
    pub(super) anywhere: bool,
    /// Routines that are or were looked into, against those that call each other, and how deep.
    pub(super) routines: BTreeSet<(Circumstances, String)>,
    pub(super) routine_depth: usize,
    /// Relations that are or were looked behind.
    pub(super) followed: BTreeSet<(Circumstances, TableRef)>,
    /// Names of types that were looked at, PostgreSQL's own or not, and whether they are known to be harmless.
    pub(super) types: BTreeMap<(Circumstances, bool, Option<String>, String), bool>,
    /// Routines whose defaults were looked at.
    pub(super) defaults: BTreeSet<(Circumstances, String)>,
    /// The types whose values may be there.
    pub(super) met: Met<'c>,
    /// It is in an expression that planning works out as far as no column stands in it; and how many did so far.
    pub(super) folds: Option<Folds>,
    pub(super) columns: usize,
    pub(super) spoken: Spoken,
}

/// Whether a call in an expression that is only worked out in advance has constant arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folds {
    Constant,
    Varying,
}

/// What decides, beside the text itself, what a text of the catalog means. Walked once in the same circumstances, it has
/// told all it will; in others it may mean something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Circumstances {
    anywhere: bool,
    planned_only: bool,
    /// What is touched there counts as named by the statement, or not.
    hidden: bool,
}

impl<'c> Walk<'c> {
    pub(super) fn new(known: Option<&'c Known>) -> Self {
        Self {
            found: Findings::default(),
            known,
            scope: Vec::new(),
            planned_only: false,
            views: 0,
            hidden: 0,
            anywhere: false,
            routines: BTreeSet::new(),
            routine_depth: 0,
            followed: BTreeSet::new(),
            types: BTreeMap::new(),
            defaults: BTreeSet::new(),
            met: Met::default(),
            folds: None,
            columns: 0,
            spoken: Spoken::default(),
        }
    }

    pub(super) fn circumstances(&self) -> Circumstances {
        Circumstances { anywhere: self.anywhere, planned_only: self.planned_only, hidden: self.hidden > 0 }
    }

    pub(super) fn raise(
        &mut self,
        effect: Effect,
        categories: &[Category],
        code: &'static str,
        text: impl Into<String>,
    ) {
        self.found.raise(effect, categories, code, text);
    }

    /// What only happens when the statement is executed.
    pub(super) fn raise_executed(
        &mut self,
        effect: Effect,
        categories: &[Category],
        code: &'static str,
        text: impl Into<String>,
    ) {
        if !self.planned_only {
            self.raise(effect, categories, code, text);
        }
    }

    pub(super) fn list(&mut self, nodes: &[pb::Node]) {
        for node in nodes {
            self.node(node);
        }
    }

    pub(super) fn opt(&mut self, node: Option<&pb::Node>) {
        if let Some(node) = node {
            self.node(node);
        }
    }

    pub(super) fn node(&mut self, node: &pb::Node) {
        // An empty node is an omitted element, such as the bound of a slice.
        if let Some(inner) = &node.node {
            self.kind(inner);
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "fail closed: a kind that is not listed is not a read"
    )]
    pub(super) fn kind(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::SelectStmt(x) => self.select(x),
            NodeEnum::InsertStmt(x) => self.insert(x),
            NodeEnum::UpdateStmt(x) => self.update(x),
            NodeEnum::DeleteStmt(x) => self.delete(x),
            NodeEnum::MergeStmt(x) => self.merge(x),
            NodeEnum::RangeVar(x) => self.reads(x),
            NodeEnum::FuncCall(x) => self.call(x),
            NodeEnum::ParamRef(pb::ParamRef { number, location: _ }) => {
                self.met.reads(Reading::Texts);
                self.parameter(*number);
            }
            NodeEnum::TypeName(x) => self.type_name(x),
            NodeEnum::ColumnRef(x) => self.column(x),
            NodeEnum::LockingClause(x) => self.locking(x),
            NodeEnum::AExpr(x) => self.operator_expression(x),
            NodeEnum::List(pb::List { items }) => self.list(items),
            NodeEnum::AConst(x) => self.constant(x),
            NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::String(_)
            | NodeEnum::BitString(_)
            | NodeEnum::AStar(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::MergeSupportFunc(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::ReturningOption(_)
            | NodeEnum::JsonFormat(_) => {}
            other => {
                if !self.expression(other) && !self.source(other) && !self.json(other) {
                    self.raise(
                        Effect::Write,
                        &[Category::Opaque],
                        "unknown_node",
                        "holds syntax that is not known to be harmless",
                    );
                }
            }
        }
    }

    /// A relation in a place where a CTE may stand.
    pub(super) fn reads(&mut self, range: &pb::RangeVar) {
        let local = range.schemaname.is_empty() && range.catalogname.is_empty();
        if local && self.scope.contains(&range.relname) {
            return;
        }
        let table = relation(range);
        self.called_as(&table, &[called(range)]);
        self.read(table);
    }

    pub(super) fn read(&mut self, table: TableRef) {
        if functions::system_relation(&table) {
            self.found.categories.insert(Category::Catalog);
        }
        match table.name.as_str() {
            // A condition on the name may choose one that is a secret.
            "pg_settings" => self.reads_by_text(),
            "pg_largeobject" => {
                self.found.categories.insert(Category::LargeObject);
            }
            _ => {}
        }
        self.view(&table);
        let reads = if self.hidden == 0 { &mut self.found.reads } else { &mut self.found.reads_through };
        reads.insert(table);
    }

    /// The target of a data-modifying statement; never a CTE.
    pub(super) fn writes(&mut self, range: Option<&pb::RangeVar>, event: Event) {
        let Some(range) = range else { return };
        let table = relation(range);
        if functions::system_relation(&table) {
            self.raise_executed(
                Effect::Destructive,
                &[Category::Catalog, Category::Admin],
                "writes_catalog",
                format!("changes the system catalog `{table}`"),
            );
        }
        if self.planned_only {
            self.called_as(&table, &[called(range), "excluded", "old", "new"]);
            self.plans(&table, event);
            self.read(table);
        } else {
            self.consequences(&table, event);
            self.met.anything();
            let writes =
                if self.hidden == 0 { &mut self.found.writes } else { &mut self.found.writes_through };
            writes.insert(table);
        }
    }

    /// Continues in the text of another object with a scope of its own.
    pub(super) fn within<T>(&mut self, inner: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::take(&mut self.scope);
        let answer = inner(self);
        self.scope = outer;
        answer
    }
}

/// What a data-modifying statement does to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
    /// Only policies and rules ask.
    Select,
}

/// What a relation is called where it stands.
fn called(range: &pb::RangeVar) -> &str {
    range.alias.as_ref().map_or(range.relname.as_str(), |alias| alias.aliasname.as_str())
}

pub(super) fn relation(range: &pb::RangeVar) -> TableRef {
    TableRef::new(&range.schemaname, range.relname.clone())
}
