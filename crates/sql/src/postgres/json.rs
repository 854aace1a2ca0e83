//! The SQL/JSON syntax.

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::walk::Walk;

impl Walk<'_> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller refuses what no part of the walk knows")]
    pub(super) fn json(&mut self, node: &NodeEnum) -> bool {
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

    pub(super) fn json_value(&mut self, value: Option<&pb::JsonValueExpr>) {
        if let Some(pb::JsonValueExpr { raw_expr, formatted_expr, format: _ }) = value {
            self.opt(raw_expr.as_deref());
            self.opt(formatted_expr.as_deref());
        }
    }

    pub(super) fn json_behavior(&mut self, behavior: Option<&pb::JsonBehavior>) {
        if let Some(pb::JsonBehavior { btype: _, expr, coerce: _, location: _ }) = behavior {
            self.opt(expr.as_deref());
        }
    }

    pub(super) fn json_output(&mut self, output: Option<&pb::JsonOutput>) {
        if let Some(pb::JsonOutput { type_name: Some(name), returning: _ }) = output {
            self.type_name(name);
        }
    }

    pub(super) fn json_path(&mut self, path: Option<&pb::JsonTablePathSpec>) {
        if let Some(pb::JsonTablePathSpec { string, name: _, name_location: _, location: _ }) = path {
            self.opt(string.as_deref());
        }
    }

    pub(super) fn json_pair(&mut self, pair: Option<&pb::JsonKeyValue>) {
        if let Some(pb::JsonKeyValue { key, value }) = pair {
            self.opt(key.as_deref());
            self.json_value(value.as_deref());
        }
    }

    pub(super) fn json_aggregate(&mut self, aggregate: Option<&pb::JsonAggConstructor>) {
        if let Some(pb::JsonAggConstructor { output, agg_filter, agg_order, over, location: _ }) = aggregate {
            self.json_output(output.as_ref());
            self.opt(agg_filter.as_deref());
            self.list(agg_order);
            if let Some(over) = over {
                self.window(over);
            }
        }
    }
}
