//! `WHERE` of SQLite, translated for [`crate::predicate`].

use sqlite3_parser::ast::{
    Expr, Id, LikeOperator, Literal, Name, OneSelect, Operator, ResultColumn, Select, SelectTable,
    UnaryOperator,
};

use super::walk::{folded, table_ref};
use crate::predicate::{Comparison, Predicate, Term, compare};
use crate::statement::{Bound, TableRef};

/// How far a `WHERE` limits the rows of `target`.
pub(super) fn bound(clause: Option<&Expr<'_>>, target: &TableRef) -> Bound {
    clause.map_or(Bound::None, |expr| predicate(expr, Some(target), 0).bound())
}

/// The words for a bound that bounds nothing.
pub(super) fn unbounded(bound: Bound) -> Option<&'static str> {
    match bound {
        Bound::NotApplicable | Bound::Predicate => None,
        Bound::Tautology => Some("its `WHERE` does not choose among rows"),
        Bound::None => Some("it has no `WHERE`"),
    }
}

/// Beyond this depth a condition counts as an ordinary predicate.
const DEPTH_MAX: usize = 64;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn predicate(expr: &Expr<'_>, target: Option<&TableRef>, depth: usize) -> Predicate {
    let depth = depth.saturating_add(1);
    if depth > DEPTH_MAX {
        return Predicate::Rows(String::new());
    }
    match expr {
        Expr::Binary(left, operator, right) => {
            let comparison = match operator {
                Operator::And => {
                    return Predicate::And(vec![
                        predicate(left, target, depth),
                        predicate(right, target, depth),
                    ]);
                }
                Operator::Or => {
                    // Flattened, so that the first and the last of three alternatives are compared too.
                    let mut parts = Vec::new();
                    for side in [left, right] {
                        match predicate(side, target, depth) {
                            Predicate::Or(inner) => parts.extend(inner),
                            other => parts.push(other),
                        }
                    }
                    return Predicate::Or(parts);
                }
                Operator::Equals => Comparison::Equal,
                Operator::NotEquals => Comparison::NotEqual,
                Operator::Less => Comparison::Less,
                Operator::LessEquals => Comparison::LessEqual,
                Operator::Greater => Comparison::Greater,
                Operator::GreaterEquals => Comparison::GreaterEqual,
                Operator::Is => Comparison::Same,
                Operator::IsNot => Comparison::NotSame,
                Operator::Add
                | Operator::ArrowRight
                | Operator::ArrowRightShift
                | Operator::BitwiseAnd
                | Operator::BitwiseOr
                | Operator::Concat
                | Operator::Divide
                | Operator::LeftShift
                | Operator::Modulus
                | Operator::Multiply
                | Operator::RightShift
                | Operator::Subtract => return truth(term(expr)),
            };
            compare(comparison, &term(left), &term(right))
        }
        Expr::Unary(UnaryOperator::Not, inner) => Predicate::Not(Box::new(predicate(inner, target, depth))),
        Expr::Parenthesized(parts) => match parts.as_slice() {
            [only] => predicate(only, target, depth),
            _ => truth(term(expr)),
        },
        Expr::IsNull(inner) => compare(Comparison::Same, &term(inner), &Term::Null),
        Expr::NotNull(inner) => compare(Comparison::NotSame, &term(inner), &Term::Null),
        Expr::Between { lhs, not: false, start, end } => Predicate::And(vec![
            compare(Comparison::GreaterEqual, &term(lhs), &term(start)),
            compare(Comparison::LessEqual, &term(lhs), &term(end)),
        ]),
        Expr::InList { lhs, not, rhs } => {
            let left = term(lhs);
            let comparison = if *not { Comparison::NotEqual } else { Comparison::Equal };
            let parts =
                rhs.unwrap_or_default().iter().map(|item| compare(comparison, &left, &term(item))).collect();
            if *not { Predicate::And(parts) } else { Predicate::Or(parts) }
        }
        Expr::Like { lhs: _, not, op: LikeOperator::Like | LikeOperator::Glob, rhs, escape: None } => {
            match term(rhs) {
                Term::Text(pattern)
                    if !pattern.is_empty() && pattern.chars().all(|c| c == '%' || c == '*') =>
                {
                    Predicate::Known(!*not)
                }
                _ => truth(term(expr)),
            }
        }
        Expr::Exists(select) => exists(select, depth).unwrap_or_else(|| truth(term(expr))),
        Expr::InSelect { lhs, not: false, rhs } if from_itself(lhs, rhs, target) => Predicate::Known(true),
        _ => truth(term(expr)),
    }
}

fn truth(term: Term) -> Predicate {
    match term {
        Term::Null => Predicate::Known(false),
        Term::Bool(value) => Predicate::Known(value),
        Term::Number(value) => Predicate::Known(value != 0.0),
        // Text counts as the number it begins with.
        Term::Text(text) => {
            Predicate::Known(text.trim_start().starts_with(|c: char| c.is_ascii_digit() && c != '0'))
        }
        Term::Constant(_) => Predicate::Constant,
        Term::Rows(text) => Predicate::Rows(text),
    }
}

/// `EXISTS (SELECT 1)`, and one that looks at nothing outside itself.
fn exists(select: &Select<'_>, depth: usize) -> Option<Predicate> {
    let (from, clause) = plain(select)?;
    match (from, clause) {
        (None, clause) => Some(clause.map_or(Predicate::Known(true), |expr| predicate(expr, None, depth))),
        (Some(_), None) => Some(Predicate::Constant),
        (Some(_), Some(_)) => None,
    }
}

/// `id IN (SELECT id FROM the_same_table)`
fn from_itself(left: &Expr<'_>, select: &Select<'_>, target: Option<&TableRef>) -> bool {
    let (Some(target), Some((Some(source), None))) = (target, plain(select)) else { return false };
    let OneSelect::Select { columns: [ResultColumn::Expr(column, _)], .. } = &select.body.select else {
        return false;
    };
    source == *target && last_name(left).is_some() && last_name(left) == last_name(column)
}

/// A select without anything that takes rows away but its `WHERE`: its only table, and that clause.
fn plain<'a, 'b>(select: &'a Select<'b>) -> Option<(Option<TableRef>, Option<&'a Expr<'b>>)> {
    if select.with.is_some() || select.limit.is_some() || select.body.compounds.is_some() {
        return None;
    }
    let OneSelect::Select { from, where_clause, group_by: None, having: None, .. } = &select.body.select
    else {
        return None;
    };
    let table = match from.as_ref() {
        None => None,
        Some(from) if from.joins.is_none() => match from.select? {
            SelectTable::Table(name, _, _) => Some(table_ref(name)),
            SelectTable::TableCall(..) | SelectTable::Select(..) | SelectTable::Sub(..) => return None,
        },
        Some(_) => return None,
    };
    Some((table, *where_clause))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these are names")]
fn last_name(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Id(Id(raw)) | Expr::Name(Name(raw)) | Expr::Qualified(_, Name(raw)) => Some(folded(raw)),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not a literal is judged by what it mentions")]
fn term(expr: &Expr<'_>) -> Term {
    match expr {
        Expr::Literal(Literal::Null) => Term::Null,
        Expr::Literal(Literal::Numeric(text)) => {
            text.parse().map_or_else(|_| Term::Constant((*text).to_owned()), Term::Number)
        }
        Expr::Literal(Literal::String(text)) => Term::Text(unquoted(text)),
        Expr::Parenthesized(parts) => match parts.as_slice() {
            [only] => term(only),
            _ => described(expr),
        },
        Expr::Unary(UnaryOperator::Negative, inner) => match term(inner) {
            Term::Number(value) => Term::Number(-value),
            _ => described(expr),
        },
        Expr::Unary(UnaryOperator::Positive, inner) | Expr::Collate(inner, _) => term(inner),
        Expr::Id(Id(raw)) | Expr::Name(Name(raw)) => match folded(raw).as_str() {
            "true" => Term::Bool(true),
            "false" => Term::Bool(false),
            name => Term::Rows(name.to_owned()),
        },
        _ => described(expr),
    }
}

fn described(expr: &Expr<'_>) -> Term {
    let text = same_case(&expr.to_string());
    if constant(expr, 0) { Term::Constant(text) } else { Term::Rows(text) }
}

/// Names in one case, for SQLite compares them so; strings stay as they are.
fn same_case(text: &str) -> String {
    let mut quoted = false;
    text.chars()
        .map(|letter| {
            quoted ^= letter == '\'';
            if quoted { letter } else { letter.to_ascii_lowercase() }
        })
        .collect()
}

/// Whether an expression looks at no row: it is built of literals, parameters and functions of them.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed may look at a row")]
fn constant(expr: &Expr<'_>, depth: usize) -> bool {
    let depth = depth.saturating_add(1);
    if depth > DEPTH_MAX {
        return false;
    }
    match expr {
        Expr::Literal(_) | Expr::Variable(_) => true,
        Expr::Binary(left, _, right) => constant(left, depth) && constant(right, depth),
        Expr::Unary(_, inner)
        | Expr::Cast { expr: inner, .. }
        | Expr::Collate(inner, _)
        | Expr::IsNull(inner)
        | Expr::NotNull(inner) => constant(inner, depth),
        Expr::Parenthesized(parts) => parts.iter().all(|part| constant(part, depth)),
        Expr::FunctionCall { args, filter_over: None, .. } => {
            args.unwrap_or_default().iter().all(|arg| constant(arg, depth))
        }
        Expr::Between { lhs, start, end, .. } => {
            [lhs, start, end].into_iter().all(|part| constant(part, depth))
        }
        Expr::Like { lhs, rhs, .. } => constant(lhs, depth) && constant(rhs, depth),
        Expr::InList { lhs, rhs, .. } => {
            constant(lhs, depth) && rhs.unwrap_or_default().iter().all(|item| constant(item, depth))
        }
        Expr::Id(Id(raw)) | Expr::Name(Name(raw)) => matches!(folded(raw).as_str(), "true" | "false"),
        _ => false,
    }
}

fn unquoted(text: &str) -> String {
    text.get(1..text.len().saturating_sub(1)).unwrap_or_default().replace("''", "'")
}
