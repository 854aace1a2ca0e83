//! `WHERE` of PostgreSQL, translated for [`crate::predicate`].

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::{names, walk};
use crate::predicate::{Comparison, Predicate, Term, compare};
use crate::statement::Bound;

/// How far a `WHERE` limits the rows of `target`.
pub(super) fn bound(clause: Option<&pb::Node>, target: Option<&pb::RangeVar>) -> Bound {
    clause.map_or(Bound::None, |node| predicate(node, target).bound())
}

/// The same for one `WHEN` of a `MERGE`: the join condition and the condition of the action together.
pub(super) fn merge(
    join: Option<&pb::Node>,
    condition: Option<&pb::Node>,
    target: Option<&pb::RangeVar>,
) -> Bound {
    let parts: Vec<_> = [join, condition].into_iter().flatten().map(|node| predicate(node, target)).collect();
    if parts.is_empty() { Bound::None } else { Predicate::And(parts).bound() }
}

/// The words for a bound that bounds nothing.
pub(super) fn unbounded(bound: Bound) -> Option<&'static str> {
    match bound {
        Bound::NotApplicable | Bound::Predicate => None,
        Bound::Tautology => Some("its `WHERE` does not choose among rows"),
        Bound::None => Some("it has no `WHERE`"),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn predicate(node: &pb::Node, target: Option<&pb::RangeVar>) -> Predicate {
    let Some(kind) = &node.node else { return other(node, target) };
    match kind {
        NodeEnum::BoolExpr(x) => {
            let parts = x.args.iter().map(|arg| predicate(arg, target)).collect::<Vec<_>>();
            match x.boolop() {
                pb::BoolExprType::AndExpr => Predicate::And(parts),
                pb::BoolExprType::OrExpr => Predicate::Or(parts),
                pb::BoolExprType::NotExpr => parts
                    .into_iter()
                    .next()
                    .map_or(Predicate::Constant, |part| Predicate::Not(Box::new(part))),
                pb::BoolExprType::Undefined => other(node, target),
            }
        }
        NodeEnum::AExpr(x) => operator(x, target).unwrap_or_else(|| other(node, target)),
        NodeEnum::NullTest(x) => match x.arg.as_deref().map(|arg| term(arg, target)) {
            Some(Term::Rows(text)) if x.nulltesttype() == pb::NullTestType::IsNull => Predicate::Null(text),
            Some(Term::Rows(text)) => Predicate::NotNull(text),
            Some(Term::Null) => Predicate::Known(x.nulltesttype() == pb::NullTestType::IsNull),
            Some(Term::Bool(_) | Term::Number(_) | Term::Text(_)) => {
                Predicate::Known(x.nulltesttype() == pb::NullTestType::IsNotNull)
            }
            Some(Term::Constant(_)) | None => Predicate::Constant,
        },
        NodeEnum::BooleanTest(x) => {
            let inner = x.arg.as_deref().map_or(Predicate::Constant, |arg| predicate(arg, target));
            match x.booltesttype() {
                pb::BoolTestType::IsTrue | pb::BoolTestType::IsNotFalse => inner,
                pb::BoolTestType::IsFalse | pb::BoolTestType::IsNotTrue => Predicate::Not(Box::new(inner)),
                pb::BoolTestType::Undefined
                | pb::BoolTestType::IsUnknown
                | pb::BoolTestType::IsNotUnknown => other(node, target),
            }
        }
        NodeEnum::SubLink(x) => sublink(x, target).unwrap_or_else(|| other(node, target)),
        _ => match term(node, target) {
            Term::Bool(value) => Predicate::Known(value),
            Term::Null => Predicate::Known(false),
            Term::Text(text) => match text.to_ascii_lowercase().as_str() {
                "t" | "true" | "yes" | "on" | "1" => Predicate::Known(true),
                "f" | "false" | "no" | "off" | "0" => Predicate::Known(false),
                _ => Predicate::Constant,
            },
            // `1::bool`
            Term::Number(value) => Predicate::Known(value != 0.0),
            Term::Constant(_) => Predicate::Constant,
            Term::Rows(text) => Predicate::Rows(text),
        },
    }
}

fn other(node: &pb::Node, target: Option<&pb::RangeVar>) -> Predicate {
    match term(node, target) {
        Term::Rows(text) => Predicate::Rows(text),
        Term::Null | Term::Bool(_) | Term::Number(_) | Term::Text(_) | Term::Constant(_) => {
            Predicate::Constant
        }
    }
}

fn operator(expression: &pb::AExpr, target: Option<&pb::RangeVar>) -> Option<Predicate> {
    let left = expression.lexpr.as_deref()?;
    let right = expression.rexpr.as_deref()?;
    let name = names(&expression.name).last().copied().unwrap_or_default();
    match expression.kind() {
        pb::AExprKind::AexprOp => {
            let comparison = match name {
                "=" => Comparison::Equal,
                "<>" | "!=" => Comparison::NotEqual,
                "<" => Comparison::Less,
                "<=" => Comparison::LessEqual,
                ">" => Comparison::Greater,
                ">=" => Comparison::GreaterEqual,
                _ => return None,
            };
            Some(compare(comparison, &term(left, target), &term(right, target)))
        }
        pb::AExprKind::AexprDistinct => {
            Some(compare(Comparison::NotSame, &term(left, target), &term(right, target)))
        }
        pb::AExprKind::AexprNotDistinct => {
            Some(compare(Comparison::Same, &term(left, target), &term(right, target)))
        }
        pb::AExprKind::AexprIn => {
            let Some(NodeEnum::List(list)) = &right.node else { return None };
            let left = term(left, target);
            let negated = name == "<>";
            let parts = list
                .items
                .iter()
                .map(|item| {
                    compare(
                        if negated { Comparison::NotEqual } else { Comparison::Equal },
                        &left,
                        &term(item, target),
                    )
                })
                .collect();
            Some(if negated { Predicate::And(parts) } else { Predicate::Or(parts) })
        }
        pb::AExprKind::AexprLike | pb::AExprKind::AexprIlike => {
            let Term::Text(pattern) = term(right, target) else { return None };
            let any = !pattern.is_empty() && pattern.chars().all(|c| c == '%');
            if !any {
                return None;
            }
            Some(Predicate::Known(term(left, target) != Term::Null && !name.starts_with('!')))
        }
        pb::AExprKind::AexprBetween | pb::AExprKind::AexprBetweenSym => {
            let Some(NodeEnum::List(list)) = &right.node else { return None };
            let [low, high] = list.items.as_slice() else { return None };
            Some(Predicate::And(vec![
                compare(Comparison::GreaterEqual, &term(left, target), &term(low, target)),
                compare(Comparison::LessEqual, &term(left, target), &term(high, target)),
            ]))
        }
        pb::AExprKind::Undefined
        | pb::AExprKind::AexprOpAny
        | pb::AExprKind::AexprOpAll
        | pb::AExprKind::AexprNullif
        | pb::AExprKind::AexprSimilar
        | pb::AExprKind::AexprNotBetween
        | pb::AExprKind::AexprNotBetweenSym => None,
    }
}

/// `EXISTS (SELECT 1)` and `id IN (SELECT id FROM the_same_table)`.
fn sublink(link: &pb::SubLink, target: Option<&pb::RangeVar>) -> Option<Predicate> {
    let Some(NodeEnum::SelectStmt(select)) = link.subselect.as_deref().and_then(|node| node.node.as_ref())
    else {
        return None;
    };
    let tables = select.from_clause.iter().all(|item| matches!(item.node, Some(NodeEnum::RangeVar(_))));
    let unfiltered = select
        .where_clause
        .as_deref()
        .is_none_or(|clause| predicate(clause, None).bound() == Bound::Tautology);
    let plain = tables
        && unfiltered
        && select.having_clause.is_none()
        && select.group_clause.is_empty()
        && select.limit_count.is_none()
        && select.limit_offset.is_none()
        && select.larg.is_none()
        && select.values_lists.is_empty();
    match link.sub_link_type() {
        pb::SubLinkType::ExistsSublink if select.larg.is_none() => {
            let filter =
                select.where_clause.as_deref().map_or(Predicate::Known(true), |node| predicate(node, None));
            if select.from_clause.is_empty() && select.limit_count.is_none() && select.limit_offset.is_none()
            {
                return Some(filter);
            }
            // Not correlated with anything outside: the same answer for every row.
            plain.then_some(Predicate::Constant)
        }
        pb::SubLinkType::AnySublink if plain && link.oper_name.is_empty() => {
            let [source] = select.from_clause.as_slice() else { return None };
            let Some(NodeEnum::RangeVar(source)) = &source.node else { return None };
            let [column] = select.target_list.as_slice() else { return None };
            let Some(NodeEnum::ResTarget(column)) = &column.node else { return None };
            let inner = last_name(column.val.as_deref()?)?;
            let outer = last_name(link.testexpr.as_deref()?)?;
            (inner == outer && target.map(walk::relation) == Some(walk::relation(source)))
                .then_some(Predicate::Known(true))
        }
        pb::SubLinkType::Undefined
        | pb::SubLinkType::ExistsSublink
        | pb::SubLinkType::AllSublink
        | pb::SubLinkType::AnySublink
        | pb::SubLinkType::RowcompareSublink
        | pb::SubLinkType::ExprSublink
        | pb::SubLinkType::MultiexprSublink
        | pb::SubLinkType::ArraySublink
        | pb::SubLinkType::CteSublink => None,
    }
}

/// The name under which a statement speaks of its target.
fn shown(target: &pb::RangeVar) -> &str {
    target.alias.as_ref().map_or(&target.relname, |alias| &alias.aliasname)
}

fn last_name(node: &pb::Node) -> Option<String> {
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => names(&column.fields).last().map(|name| (*name).to_owned()),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not a literal is judged by what it mentions")]
fn term(node: &pb::Node, target: Option<&pb::RangeVar>) -> Term {
    let Some(kind) = &node.node else { return Term::Constant(String::new()) };
    match kind {
        NodeEnum::AConst(x) if x.isnull => Term::Null,
        NodeEnum::AConst(x) => match &x.val {
            Some(pb::a_const::Val::Ival(value)) => Term::Number(f64::from(value.ival)),
            Some(pb::a_const::Val::Fval(value)) => {
                value.fval.parse().map_or_else(|_| Term::Constant(value.fval.clone()), Term::Number)
            }
            Some(pb::a_const::Val::Boolval(value)) => Term::Bool(value.boolval),
            Some(pb::a_const::Val::Sval(value)) => Term::Text(value.sval.clone()),
            Some(pb::a_const::Val::Bsval(value)) => Term::Text(value.bsval.clone()),
            // The wire form omits a zero.
            None => Term::Number(0.0),
        },
        NodeEnum::TypeCast(x) => match x.arg.as_deref().map(|arg| term(arg, target)) {
            Some(inner @ (Term::Bool(_) | Term::Text(_) | Term::Number(_) | Term::Null)) => inner,
            Some(Term::Constant(text)) => Term::Constant(text),
            Some(Term::Rows(_)) => described(node),
            None => Term::Constant(String::new()),
        },
        // The usual operands, without the cost of writing them down.
        NodeEnum::ColumnRef(x)
            if x.fields.iter().all(|field| matches!(field.node, Some(NodeEnum::String(_)))) =>
        {
            let parts = names(&x.fields);
            // `t.id` and `id` are one column when `t` is the target.
            match (parts.as_slice(), target) {
                ([qualifier, column], Some(target)) if *qualifier == shown(target) => {
                    Term::Rows((*column).to_owned())
                }
                _ => Term::Rows(parts.join(".")),
            }
        }
        NodeEnum::ParamRef(x) => Term::Constant(format!("${}", x.number)),
        _ => described(node),
    }
}

/// Judges an expression by the column references and subqueries in it.
fn described(node: &pb::Node) -> Term {
    let text =
        serde_json::to_value(node).map(without_locations).map(|value| value.to_string()).unwrap_or_default();
    if text.contains("\"ColumnRef\"") || text.contains("\"SubLink\"") || text.contains("\"CurrentOfExpr\"") {
        Term::Rows(text)
    } else {
        Term::Constant(text)
    }
}

/// Two spellings of one expression at different places compare equal.
fn without_locations(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(map) => {
            map.retain(|key, _| !key.ends_with("location"));
            for (_, inner) in map.iter_mut() {
                *inner = without_locations(inner.take());
            }
        }
        serde_json::Value::Array(list) => {
            for inner in list {
                *inner = without_locations(inner.take());
            }
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
    value
}
