//! The walk over queries and data-modifying statements.
//!
//! Every field of every node is named, so that a new release of the grammar does not compile until it has been
//! looked at. A node kind that is not listed is not a read.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::{boundary, functions, names};
use crate::findings::Findings;
use crate::known::Known;
use crate::statement::{Category, Effect, FunctionRef, TableRef};

pub(super) struct Walk<'c> {
    pub(super) found: Findings,
    pub(super) known: Option<&'c Known>,
    /// Names of the CTEs in scope; the innermost stands last.
    scope: Vec<String>,
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
    fn kind(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::SelectStmt(x) => self.select(x),
            NodeEnum::InsertStmt(x) => self.insert(x),
            NodeEnum::UpdateStmt(x) => self.update(x),
            NodeEnum::DeleteStmt(x) => self.delete(x),
            NodeEnum::MergeStmt(x) => self.merge(x),
            NodeEnum::RangeVar(x) => self.reads(x),
            NodeEnum::FuncCall(x) => self.call(x),
            NodeEnum::ParamRef(pb::ParamRef { number, location: _ }) => self.parameter(*number),
            NodeEnum::TypeName(x) => self.type_name(x),
            NodeEnum::ColumnRef(x) => self.column(x),
            NodeEnum::LockingClause(x) => self.locking(x),
            NodeEnum::AExpr(x) => self.operator_expression(x),
            NodeEnum::List(pb::List { items }) => self.list(items),
            NodeEnum::AConst(_)
            | NodeEnum::Integer(_)
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

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller refuses what no part of the walk knows")]
    fn expression(&mut self, node: &NodeEnum) -> bool {
        match node {
            NodeEnum::BoolExpr(x) => {
                let pb::BoolExpr { xpr, boolop: _, args, location: _ } = x.as_ref();
                self.opt(xpr.as_deref());
                self.list(args);
            }
            NodeEnum::SubLink(x) => {
                let pb::SubLink {
                    xpr,
                    sub_link_type: _,
                    sub_link_id: _,
                    testexpr,
                    oper_name,
                    subselect,
                    location: _,
                } = x.as_ref();
                self.opt(xpr.as_deref());
                self.opt(testexpr.as_deref());
                self.operator(oper_name);
                if testexpr.is_some() && oper_name.is_empty() {
                    self.implied_operators(&["="]);
                }
                self.opt(subselect.as_deref());
            }
            NodeEnum::TypeCast(x) => {
                let pb::TypeCast { arg, type_name, location: _ } = x.as_ref();
                self.opt(arg.as_deref());
                if let Some(name) = type_name {
                    self.type_name(name);
                }
            }
            NodeEnum::CollateClause(x) => {
                let pb::CollateClause { arg, collname: _, location: _ } = x.as_ref();
                self.opt(arg.as_deref());
            }
            NodeEnum::NamedArgExpr(x) => {
                let pb::NamedArgExpr { xpr, arg, name: _, argnumber: _, location: _ } = x.as_ref();
                self.opt(xpr.as_deref());
                self.opt(arg.as_deref());
            }
            NodeEnum::GroupingFunc(x) => {
                let pb::GroupingFunc { xpr, args, refs, agglevelsup: _, location: _ } = x.as_ref();
                self.opt(xpr.as_deref());
                self.list(args);
                self.list(refs);
            }
            NodeEnum::CaseExpr(x) => {
                let pb::CaseExpr { xpr, casetype: _, casecollid: _, arg, args, defresult, location: _ } =
                    x.as_ref();
                self.opt(xpr.as_deref());
                self.opt(arg.as_deref());
                if arg.is_some() {
                    self.implied_operators(&["="]);
                }
                self.list(args);
                self.opt(defresult.as_deref());
            }
            NodeEnum::CaseWhen(x) => {
                let pb::CaseWhen { xpr, expr, result, location: _ } = x.as_ref();
                self.opt(xpr.as_deref());
                self.opt(expr.as_deref());
                self.opt(result.as_deref());
            }
            NodeEnum::RowExpr(x) => {
                let pb::RowExpr { xpr, args, row_typeid: _, row_format: _, colnames, location: _ } =
                    x.as_ref();
                self.opt(xpr.as_deref());
                self.list(args);
                self.list(colnames);
            }
            NodeEnum::CoalesceExpr(x) => {
                let pb::CoalesceExpr { xpr, coalescetype: _, coalescecollid: _, args, location: _ } =
                    x.as_ref();
                self.opt(xpr.as_deref());
                self.list(args);
            }
            NodeEnum::MinMaxExpr(x) => {
                let pb::MinMaxExpr {
                    xpr,
                    minmaxtype: _,
                    minmaxcollid: _,
                    inputcollid: _,
                    op: _,
                    args,
                    location: _,
                } = x.as_ref();
                self.opt(xpr.as_deref());
                self.list(args);
            }
            NodeEnum::NullTest(x) => {
                let pb::NullTest { xpr, arg, nulltesttype: _, argisrow: _, location: _ } = x.as_ref();
                self.opt(xpr.as_deref());
                self.opt(arg.as_deref());
            }
            NodeEnum::BooleanTest(x) => {
                let pb::BooleanTest { xpr, arg, booltesttype: _, location: _ } = x.as_ref();
                self.opt(xpr.as_deref());
                self.opt(arg.as_deref());
            }
            NodeEnum::XmlExpr(x) => {
                let pb::XmlExpr {
                    xpr,
                    op: _,
                    name: _,
                    named_args,
                    arg_names,
                    args,
                    xmloption: _,
                    indent: _,
                    r#type: _,
                    typmod: _,
                    location: _,
                } = x.as_ref();
                self.opt(xpr.as_deref());
                self.list(named_args);
                self.list(arg_names);
                self.list(args);
            }
            NodeEnum::XmlSerialize(x) => {
                let pb::XmlSerialize { xmloption: _, expr, type_name, indent: _, location: _ } = x.as_ref();
                self.opt(expr.as_deref());
                if let Some(name) = type_name {
                    self.type_name(name);
                }
            }
            NodeEnum::AIndices(x) => {
                let pb::AIndices { is_slice: _, lidx, uidx } = x.as_ref();
                self.opt(lidx.as_deref());
                self.opt(uidx.as_deref());
            }
            NodeEnum::AIndirection(x) => {
                let pb::AIndirection { arg, indirection } = x.as_ref();
                self.opt(arg.as_deref());
                self.indirection(indirection);
            }
            NodeEnum::AArrayExpr(x) => {
                let pb::AArrayExpr { elements, list_start: _, list_end: _, location: _ } = x;
                self.list(elements);
            }
            NodeEnum::ResTarget(x) => {
                let pb::ResTarget { name: _, indirection, val, location: _ } = x.as_ref();
                self.list(indirection);
                self.opt(val.as_deref());
            }
            NodeEnum::MultiAssignRef(x) => {
                let pb::MultiAssignRef { source, colno: _, ncolumns: _ } = x.as_ref();
                self.opt(source.as_deref());
            }
            NodeEnum::SortBy(x) => {
                let pb::SortBy { node, sortby_dir: _, sortby_nulls: _, use_op, location: _ } = x.as_ref();
                self.opt(node.as_deref());
                self.operator(use_op);
            }
            NodeEnum::WindowDef(x) => self.window(x),
            NodeEnum::GroupingSet(x) => {
                let pb::GroupingSet { kind: _, content, location: _ } = x;
                self.list(content);
            }
            NodeEnum::IndexElem(x) => {
                let pb::IndexElem {
                    name: _,
                    expr,
                    indexcolname: _,
                    collation: _,
                    opclass,
                    opclassopts,
                    ordering: _,
                    nulls_ordering: _,
                } = x.as_ref();
                self.opt(expr.as_deref());
                self.list(opclass);
                self.list(opclassopts);
            }
            _ => return false,
        }
        true
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller refuses what no part of the walk knows")]
    fn source(&mut self, node: &NodeEnum) -> bool {
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
                self.called(method);
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

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller refuses what no part of the walk knows")]
    fn json(&mut self, node: &NodeEnum) -> bool {
        match node {
            NodeEnum::JsonValueExpr(x) => self.json_value(Some(x)),
            NodeEnum::JsonBehavior(x) => self.json_behavior(Some(x)),
            NodeEnum::JsonOutput(x) => self.json_output(Some(x)),
            NodeEnum::JsonArgument(x) => {
                let pb::JsonArgument { val, name: _ } = x.as_ref();
                self.json_value(val.as_deref());
            }
            NodeEnum::JsonFuncExpr(x) => {
                let pb::JsonFuncExpr {
                    op: _,
                    column_name: _,
                    context_item,
                    pathspec,
                    passing,
                    output,
                    on_empty,
                    on_error,
                    wrapper: _,
                    quotes: _,
                    location: _,
                } = x.as_ref();
                self.json_value(context_item.as_deref());
                self.opt(pathspec.as_deref());
                self.list(passing);
                self.json_output(output.as_ref());
                self.json_behavior(on_empty.as_deref());
                self.json_behavior(on_error.as_deref());
            }
            NodeEnum::JsonTable(x) => {
                let pb::JsonTable {
                    context_item,
                    pathspec,
                    passing,
                    columns,
                    on_error,
                    alias: _,
                    lateral: _,
                    location: _,
                } = x.as_ref();
                self.json_value(context_item.as_deref());
                self.json_path(pathspec.as_deref());
                self.list(passing);
                self.list(columns);
                self.json_behavior(on_error.as_deref());
            }
            NodeEnum::JsonTableColumn(x) => {
                let pb::JsonTableColumn {
                    coltype: _,
                    name: _,
                    type_name,
                    pathspec,
                    format: _,
                    wrapper: _,
                    quotes: _,
                    columns,
                    on_empty,
                    on_error,
                    location: _,
                } = x.as_ref();
                if let Some(name) = type_name {
                    self.type_name(name);
                }
                self.json_path(pathspec.as_deref());
                self.list(columns);
                self.json_behavior(on_empty.as_deref());
                self.json_behavior(on_error.as_deref());
            }
            NodeEnum::JsonTablePathSpec(x) => self.json_path(Some(x)),
            NodeEnum::JsonKeyValue(x) => self.json_pair(Some(x)),
            NodeEnum::JsonParseExpr(x) => {
                let pb::JsonParseExpr { expr, output, unique_keys: _, location: _ } = x.as_ref();
                self.json_value(expr.as_deref());
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonScalarExpr(x) => {
                let pb::JsonScalarExpr { expr, output, location: _ } = x.as_ref();
                self.opt(expr.as_deref());
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonSerializeExpr(x) => {
                let pb::JsonSerializeExpr { expr, output, location: _ } = x.as_ref();
                self.json_value(expr.as_deref());
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonObjectConstructor(x) => {
                let pb::JsonObjectConstructor { exprs, output, absent_on_null: _, unique: _, location: _ } =
                    x;
                self.list(exprs);
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonArrayConstructor(x) => {
                let pb::JsonArrayConstructor { exprs, output, absent_on_null: _, location: _ } = x;
                self.list(exprs);
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonArrayQueryConstructor(x) => {
                let pb::JsonArrayQueryConstructor {
                    query,
                    output,
                    format: _,
                    absent_on_null: _,
                    location: _,
                } = x.as_ref();
                self.opt(query.as_deref());
                self.json_output(output.as_ref());
            }
            NodeEnum::JsonAggConstructor(x) => self.json_aggregate(Some(x)),
            NodeEnum::JsonObjectAgg(x) => {
                let pb::JsonObjectAgg { constructor, arg, absent_on_null: _, unique: _ } = x.as_ref();
                self.json_aggregate(constructor.as_deref());
                self.json_pair(arg.as_deref());
            }
            NodeEnum::JsonArrayAgg(x) => {
                let pb::JsonArrayAgg { constructor, arg, absent_on_null: _ } = x.as_ref();
                self.json_aggregate(constructor.as_deref());
                self.json_value(arg.as_deref());
            }
            NodeEnum::JsonIsPredicate(x) => {
                let pb::JsonIsPredicate { expr, format: _, item_type: _, unique_keys: _, location: _ } =
                    x.as_ref();
                self.opt(expr.as_deref());
            }
            _ => return false,
        }
        true
    }

    fn json_value(&mut self, value: Option<&pb::JsonValueExpr>) {
        if let Some(pb::JsonValueExpr { raw_expr, formatted_expr, format: _ }) = value {
            self.opt(raw_expr.as_deref());
            self.opt(formatted_expr.as_deref());
        }
    }

    fn json_behavior(&mut self, behavior: Option<&pb::JsonBehavior>) {
        if let Some(pb::JsonBehavior { btype: _, expr, coerce: _, location: _ }) = behavior {
            self.opt(expr.as_deref());
        }
    }

    fn json_output(&mut self, output: Option<&pb::JsonOutput>) {
        if let Some(pb::JsonOutput { type_name: Some(name), returning: _ }) = output {
            self.type_name(name);
        }
    }

    fn json_path(&mut self, path: Option<&pb::JsonTablePathSpec>) {
        if let Some(pb::JsonTablePathSpec { string, name: _, name_location: _, location: _ }) = path {
            self.opt(string.as_deref());
        }
    }

    fn json_pair(&mut self, pair: Option<&pb::JsonKeyValue>) {
        if let Some(pb::JsonKeyValue { key, value }) = pair {
            self.opt(key.as_deref());
            self.json_value(value.as_deref());
        }
    }

    fn json_aggregate(&mut self, aggregate: Option<&pb::JsonAggConstructor>) {
        if let Some(pb::JsonAggConstructor { output, agg_filter, agg_order, over, location: _ }) = aggregate {
            self.json_output(output.as_ref());
            self.opt(agg_filter.as_deref());
            self.list(agg_order);
            if let Some(over) = over {
                self.window(over);
            }
        }
    }

    fn window(&mut self, window: &pb::WindowDef) {
        let pb::WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location: _,
        } = window;
        self.list(partition_clause);
        self.list(order_clause);
        self.opt(start_offset.as_deref());
        self.opt(end_offset.as_deref());
    }

    /// `(expression).field`: with a composite value the field may be a function of it.
    fn indirection(&mut self, parts: &[pb::Node]) {
        for part in parts {
            if let Some(NodeEnum::String(field)) = &part.node {
                self.attribute(&field.sval);
            }
            self.node(part);
        }
    }

    fn column(&mut self, column: &pb::ColumnRef) {
        let pb::ColumnRef { fields, location: _ } = column;
        let parts = names(fields);
        if parts.len() > 1
            && let Some(last) = parts.last()
        {
            self.attribute(last);
        }
    }

    fn parameter(&mut self, number: i32) {
        self.found.parameters.insert(if number == 0 { "?".to_owned() } else { format!("${number}") });
    }

    fn operator_expression(&mut self, expression: &pb::AExpr) {
        let pb::AExpr { kind: _, name, lexpr, rexpr, rexpr_list_start: _, rexpr_list_end: _, location: _ } =
            expression;
        self.operator(name);
        self.opt(lexpr.as_deref());
        self.opt(rexpr.as_deref());
    }

    fn operator(&mut self, name: &[pb::Node]) {
        match names(name).as_slice() {
            [] => {}
            // `BETWEEN`, `DISTINCT` and their like carry a word in place of the operators they stand for.
            [word] if word.chars().all(|c| c.is_ascii_alphabetic() || c == ' ') => {
                let stands_for: &[&str] = match *word {
                    "BETWEEN" | "BETWEEN SYMMETRIC" => &["<=", ">="],
                    "NOT BETWEEN" | "NOT BETWEEN SYMMETRIC" => &["<", ">"],
                    _ => &["="],
                };
                self.implied_operators(stands_for);
            }
            [operator] => self.operates(None, operator),
            [.., schema, operator] => self.operates(Some(schema), operator),
        }
    }

    pub(super) fn type_name(&mut self, name: &pb::TypeName) {
        let pb::TypeName {
            names: parts,
            type_oid: _,
            setof: _,
            pct_type,
            typmods,
            typemod: _,
            array_bounds,
            location: _,
        } = name;
        self.list(typmods);
        self.list(array_bounds);
        match names(parts).as_slice() {
            [] => {}
            [.., schema, name] => self.converts(Some(schema), name, *pct_type),
            [name] => self.converts(None, name, *pct_type),
        }
    }

    fn call(&mut self, call: &pb::FuncCall) {
        let pb::FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location: _,
        } = call;
        self.called(funcname);
        self.list(args);
        self.list(agg_order);
        self.opt(agg_filter.as_deref());
        if let Some(over) = over {
            self.window(over);
        }
    }

    pub(super) fn called(&mut self, name: &[pb::Node]) {
        let parts = names(name);
        let (schema, name) = match parts.as_slice() {
            [name] => (None, *name),
            [schema, name] => (Some(*schema), *name),
            [.., schema, name] => (Some(*schema), *name),
            [] => return,
        };
        self.calls(schema, name);
        if self.hidden == 0 {
            self.found
                .functions
                .insert(FunctionRef { schema: schema.map(str::to_owned), name: name.to_owned() });
        }
    }

    fn with(&mut self, with: Option<&pb::WithClause>) {
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

    fn select(&mut self, select: &pb::SelectStmt) {
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

    fn locking(&mut self, locking: &pb::LockingClause) {
        // The relations it names are aliases of the query, which the FROM clause has told already.
        let pb::LockingClause { locked_rels: _, strength: _, wait_policy: _ } = locking;
        self.raise_executed(
            Effect::Write,
            &[Category::Lock],
            "row_locks",
            "locks the rows it reads (`FOR UPDATE` or `FOR SHARE`)",
        );
    }

    fn returning(&mut self, returning: Option<&pb::ReturningClause>) {
        if let Some(pb::ReturningClause { options, exprs }) = returning {
            self.list(options);
            self.list(exprs);
        }
    }

    fn insert(&mut self, insert: &pb::InsertStmt) {
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

    fn update(&mut self, update: &pb::UpdateStmt) {
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
        let bound = boundary::bound(where_clause.as_deref(), relation.as_ref());
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

    fn delete(&mut self, delete: &pb::DeleteStmt) {
        let pb::DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } = delete;
        let outer = self.scope.len();
        self.with(with_clause.as_ref());
        self.writes(relation.as_ref(), Event::Delete);
        let bound = boundary::bound(where_clause.as_deref(), relation.as_ref());
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

    fn merge(&mut self, merge: &pb::MergeStmt) {
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
            let bound = boundary::merge(
                join_condition.as_deref().filter(|_| joined),
                condition.as_deref(),
                relation.as_ref(),
            );
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

    /// A relation in a place where a CTE may stand.
    fn reads(&mut self, range: &pb::RangeVar) {
        let local = range.schemaname.is_empty() && range.catalogname.is_empty();
        if local && self.scope.contains(&range.relname) {
            return;
        }
        self.read(relation(range));
    }

    fn read(&mut self, table: TableRef) {
        if functions::system_relation(&table) {
            self.found.categories.insert(Category::Catalog);
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
            self.read(table);
        } else {
            self.consequences(&table, event);
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

pub(super) fn relation(range: &pb::RangeVar) -> TableRef {
    TableRef::new(&range.schemaname, range.relname.clone())
}
