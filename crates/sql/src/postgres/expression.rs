//! Expressions: calls, operators, conversions, and whatever they stand in.

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::implicit::Reading;
use super::walk::{Folds, Walk};
use super::{functions, names};
use crate::statement::{Category, FunctionRef};

impl Walk<'_> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller refuses what no part of the walk knows")]
    pub(super) fn expression(&mut self, node: &NodeEnum) -> bool {
        match node {
            NodeEnum::BoolExpr(x) => {
                let pb::BoolExpr { xpr, boolop: _, args, location: _ } = x.as_ref();
                self.opt(xpr.as_deref());
                self.list(args);
            }
            NodeEnum::SubLink(x) => {
                let pb::SubLink {
                    xpr,
                    sub_link_type,
                    sub_link_id: _,
                    testexpr,
                    oper_name,
                    subselect,
                    location: _,
                } = x.as_ref();
                if *sub_link_type == pb::SubLinkType::ArraySublink as i32 {
                    self.met.reads(Reading::Elements);
                }
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
                    // `'invoice'::regclass` says what the statement knows already; `16384::regclass` asks.
                    if arg.as_deref().is_some_and(names_object) {
                        self.typed(name);
                    } else {
                        self.type_name(name);
                    }
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
                self.met.reads(Reading::Texts);
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
                self.met.reads(Reading::Elements);
                let pb::AArrayExpr { elements, list_start: _, list_end: _, location: _ } = x;
                self.list(elements);
            }
            NodeEnum::ResTarget(x) => {
                let pb::ResTarget { name: _, indirection, val, location: _ } = x.as_ref();
                self.list(indirection);
                // `t.*` alone shows the columns, and no row.
                if !val.as_deref().is_some_and(all_columns) {
                    self.opt(val.as_deref());
                }
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

    pub(super) fn window(&mut self, window: &pb::WindowDef) {
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
    pub(super) fn indirection(&mut self, parts: &[pb::Node]) {
        for part in parts {
            if let Some(NodeEnum::String(field)) = &part.node {
                self.attribute(&field.sval);
            }
            self.node(part);
        }
    }

    pub(super) fn column(&mut self, column: &pb::ColumnRef) {
        let pb::ColumnRef { fields, location: _ } = column;
        let parts = names(fields);
        self.columns = self.columns.saturating_add(1);
        self.met.named.extend(parts.last().map(|name| (*name).to_owned()));
        if parts.len() > 1
            && let Some(last) = parts.last()
        {
            self.attribute(last);
        }
    }

    pub(super) fn parameter(&mut self, number: i32) {
        self.found.parameters.insert(if number == 0 { "?".to_owned() } else { format!("${number}") });
    }

    pub(super) fn operator_expression(&mut self, expression: &pb::AExpr) {
        let pb::AExpr { kind: _, name, lexpr, rexpr, rexpr_list_start: _, rexpr_list_end: _, location: _ } =
            expression;
        self.folding(
            |walk| {
                walk.opt(lexpr.as_deref());
                walk.opt(rexpr.as_deref());
            },
            |walk| walk.operator(name),
        );
    }

    /// Operands, and what is run with them: whether they are constant decides where it is only worked out in advance.
    fn folding(&mut self, operands: impl FnOnce(&mut Self), run: impl FnOnce(&mut Self)) {
        let Some(outer) = self.folds else {
            run(self);
            operands(self);
            return;
        };
        let before = self.columns;
        operands(self);
        self.folds = Some(if self.columns == before { Folds::Constant } else { Folds::Varying });
        run(self);
        self.folds = Some(outer);
    }

    pub(super) fn operator(&mut self, name: &[pb::Node]) {
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

    /// A type that values are given.
    pub(super) fn type_name(&mut self, name: &pb::TypeName) {
        if names(&name.names).last().is_some_and(|name| functions::object_number(name)) {
            self.found.categories.insert(Category::Catalog);
        }
        self.typed(name);
    }

    fn typed(&mut self, name: &pb::TypeName) {
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

    pub(super) fn call(&mut self, call: &pb::FuncCall) {
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
        self.folding(|walk| walk.list(args), |walk| walk.called(funcname, args.len() == 1));
        if let Some(name) = names(funcname).last() {
            self.any_setting(name, args);
            // `regclass(16384)` asks like `16384::regclass`.
            if functions::object_number(name) && !args.iter().all(names_object) {
                self.found.categories.insert(Category::Catalog);
            }
            if *name == "set_config"
                && matches!(names(funcname).as_slice(), ["set_config"] | ["pg_catalog", _])
            {
                self.configures(args);
            }
        }
        self.list(agg_order);
        self.opt(agg_filter.as_deref());
        if let Some(over) = over {
            self.window(over);
        }
    }

    /// `one`: with one argument, as a conversion that is written like a call.
    pub(super) fn called(&mut self, name: &[pb::Node], one: bool) {
        let parts = names(name);
        let (schema, name) = match parts.as_slice() {
            [name] => (None, *name),
            [schema, name] => (Some(*schema), *name),
            [.., schema, name] => (Some(*schema), *name),
            [] => return,
        };
        self.calls(schema, name, one);
        if self.hidden == 0 {
            self.found
                .functions
                .insert(FunctionRef { schema: schema.map(str::to_owned), name: name.to_owned() });
        }
    }
}

/// Whether it stands for all columns of something (`*`, `t.*`).
fn all_columns(node: &pb::Node) -> bool {
    let Some(NodeEnum::ColumnRef(column)) = &node.node else { return false };
    column.fields.last().is_some_and(|field| matches!(field.node, Some(NodeEnum::AStar(_))))
}

/// Whether a constant is the name of an object, and not its number.
fn names_object(node: &pb::Node) -> bool {
    let Some(NodeEnum::AConst(pb::AConst { val: Some(pb::a_const::Val::Sval(text)), .. })) = &node.node
    else {
        return false;
    };
    text.sval.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"')
}
