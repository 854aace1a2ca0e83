//! `WHERE` of SQLite, translated for [`crate::predicate`].

use sqlite3_parser::ast::{
    As, Expr, FromClause, Id, LikeOperator, Literal, Name, OneSelect, Operator, QualifiedName, ResultColumn,
    Select, SelectTable, UnaryOperator,
};

use super::walk::{folded, table_ref};
use crate::predicate::{
    Comparison, Predicate, Term, chosen, compare, given, lets_all_through, matches_all, measures, same_value,
};
use crate::sight::Names;
use crate::statement::{Bound, TableRef};

/// How far a `WHERE` limits the rows of `target`, beside what it is joined with.
pub(super) fn bound(
    clause: Option<&Expr<'_>>,
    target: &QualifiedName<'_>,
    from: Option<&FromClause<'_>>,
) -> Bound {
    let own = target.alias.as_ref().map_or_else(|| folded(target.name.0), |alias| folded(alias.0));
    let mut sight = Sight { target: Some(table_ref(target)), names: Names::new(Some(own)) };
    if let Some(from) = from {
        sight.joins(from);
    }
    clause.map_or(Bound::None, |expr| predicate(expr, &sight, 0).bound())
}

/// The words for a bound that bounds nothing.
pub(super) fn unbounded(bound: Bound) -> Option<&'static str> {
    match bound {
        Bound::NotApplicable | Bound::Predicate => None,
        Bound::Tautology => Some("its `WHERE` does not choose among rows"),
        Bound::None => Some("it has no `WHERE`"),
    }
}

/// What a condition sees: the rows of the target, under each name that shows all of them, and those of other relations,
/// which say nothing of the target's.
#[derive(Clone, Debug, Default)]
struct Sight {
    target: Option<TableRef>,
    names: Names,
}

impl Sight {
    fn joins(&mut self, from: &FromClause<'_>) {
        let joined = from.joins.iter().flatten().map(|join| &join.table);
        for table in from.select.iter().copied().chain(joined) {
            let (name, same) = match table {
                SelectTable::Table(name, alias, _) => (
                    alias.as_ref().map_or_else(|| folded(name.name.0), alias_of),
                    self.is_target(&table_ref(name)),
                ),
                SelectTable::TableCall(name, _, alias) => {
                    (alias.as_ref().map_or_else(|| folded(name.name.0), alias_of), false)
                }
                SelectTable::Select(_, Some(alias)) => (alias_of(alias), false),
                SelectTable::Select(_, None) => continue,
                SelectTable::Sub(inner, _) => {
                    self.joins(inner);
                    continue;
                }
            };
            self.names.join(name, same);
        }
    }

    /// The same, seen from inside of a subquery.
    fn inside(&self, from: Option<&FromClause<'_>>) -> Self {
        let mut inner = self.clone();
        inner.names.inner = None;
        let Some(from) = from else { return inner };
        inner.joins(from);
        if from.joins.is_none()
            && let Some(SelectTable::Table(name, alias, _)) = from.select
            && self.is_target(&table_ref(name))
        {
            inner.names.inner = Some(alias.as_ref().map_or_else(|| folded(name.name.0), alias_of));
        }
        inner
    }

    fn is_target(&self, table: &TableRef) -> bool {
        let of = |table: &TableRef| table.schema.clone().filter(|schema| schema != "main");
        self.target.as_ref().is_some_and(|target| target.name == table.name && of(target) == of(table))
    }

    fn column(&self, qualifier: Option<&str>, column: &str) -> Term {
        let written = qualifier.map_or_else(|| column.to_owned(), |name| format!("{name}.{column}"));
        self.names.elsewhere(qualifier, written, column).unwrap_or_else(|| match column {
            "rowid" | "_rowid_" | "oid" => Term::Place(column.to_owned()),
            _ => Term::Rows(column.to_owned()),
        })
    }
}

fn alias_of(alias: &As<'_>) -> String {
    match alias {
        As::As(name) | As::Elided(name) => folded(name.0),
    }
}

/// Beyond this depth a condition counts as an ordinary predicate.
const DEPTH_MAX: usize = 64;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn predicate(expr: &Expr<'_>, sight: &Sight, depth: usize) -> Predicate {
    let depth = depth.saturating_add(1);
    if depth > DEPTH_MAX {
        return Predicate::Rows(String::new());
    }
    let not = |inner: Predicate, negated: bool| if negated { Predicate::Not(Box::new(inner)) } else { inner };
    match expr {
        Expr::Binary(left, operator, right) => match operator {
            Operator::And => {
                Predicate::And(vec![predicate(left, sight, depth), predicate(right, sight, depth)])
            }
            Operator::Or => {
                Predicate::Or(vec![predicate(left, sight, depth), predicate(right, sight, depth)])
            }
            _ => match comparison(*operator) {
                Some(op) => compared(op, left, right, sight, depth),
                None => truth(term(expr, sight)),
            },
        },
        Expr::Unary(UnaryOperator::Not, inner) => not(predicate(inner, sight, depth), true),
        Expr::Parenthesized(parts) => match parts.as_slice() {
            [only] => predicate(only, sight, depth),
            _ => truth(term(expr, sight)),
        },
        Expr::IsNull(inner) => null(inner, sight),
        Expr::NotNull(inner) => not(null(inner, sight), true),
        Expr::Between { lhs, not: negated, start, end } => {
            let within = Predicate::And(vec![
                compared(Comparison::GreaterEqual, lhs, start, sight, depth),
                compared(Comparison::LessEqual, lhs, end, sight, depth),
            ]);
            not(within, *negated)
        }
        Expr::InList { lhs, not: negated, rhs } => {
            let parts = rhs.unwrap_or_default();
            let parts =
                parts.iter().map(|item| compared(Comparison::Equal, lhs, item, sight, depth)).collect();
            not(Predicate::Or(parts), *negated)
        }
        Expr::Like { lhs, not: negated, op, rhs, escape: _ } => {
            not(like(lhs, *op, rhs, sight).unwrap_or_else(|| truth(described(expr, sight))), *negated)
        }
        Expr::Exists(select) => exists(select, sight, depth).unwrap_or_else(|| truth(described(expr, sight))),
        Expr::InSelect { lhs, not: negated, rhs } => {
            not(among(lhs, rhs, sight, depth).unwrap_or_else(|| truth(described(expr, sight))), *negated)
        }
        Expr::InTable { lhs, not: negated, rhs, args: None } => {
            // Only a table of one column may stand there.
            let own = sight.is_target(&table_ref(rhs)) && term(lhs, sight).of_row().is_some();
            not(if own { Predicate::Known(true) } else { truth(described(expr, sight)) }, *negated)
        }
        Expr::Subquery(select) => match alone(select) {
            Some(value) => predicate(value, sight, depth),
            None => truth(described(expr, sight)),
        },
        Expr::Case { base, when_then_pairs, else_expr } => {
            let outcome = |expr: &Expr<'_>| predicate(expr, sight, depth);
            let mut answer = else_expr.map_or(Predicate::Known(false), outcome);
            for (when, then) in when_then_pairs.iter().rev() {
                let condition = match base {
                    Some(base) => compared(Comparison::Equal, base, when, sight, depth),
                    None => predicate(when, sight, depth),
                };
                answer = chosen(condition, outcome(then), answer);
            }
            answer
        }
        Expr::Cast { expr: inner, .. } | Expr::Collate(inner, _) if is_condition(inner) => {
            predicate(inner, sight, depth)
        }
        Expr::FunctionCall { name, args: Some(args), filter_over: None, .. } => {
            function(&folded(name.0), args, sight, depth).unwrap_or_else(|| truth(term(expr, sight)))
        }
        _ => truth(term(expr, sight)),
    }
}

/// Functions that are conditions, or hand one on.
fn function(name: &str, args: &[Expr<'_>], sight: &Sight, depth: usize) -> Option<Predicate> {
    match (name, args) {
        ("likely" | "unlikely", [inner]) | ("likelihood", [inner, _]) => Some(predicate(inner, sight, depth)),
        ("coalesce" | "ifnull", args) => {
            let mut parts =
                args.iter().map(|arg| predicate(arg, sight, depth)).filter(|part| !part.refuses());
            Some(parts.next().unwrap_or(Predicate::Known(false)))
        }
        ("iif" | "if", [condition, one]) => Some(chosen(
            predicate(condition, sight, depth),
            predicate(one, sight, depth),
            Predicate::Known(false),
        )),
        ("iif" | "if", [condition, one, two]) => Some(chosen(
            predicate(condition, sight, depth),
            predicate(one, sight, depth),
            predicate(two, sight, depth),
        )),
        ("like", [pattern, value, ..]) => like(value, LikeOperator::Like, pattern, sight),
        ("glob", [pattern, value]) => like(value, LikeOperator::Glob, pattern, sight),
        _ => None,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn like(left: &Expr<'_>, op: LikeOperator, right: &Expr<'_>, sight: &Sight) -> Option<Predicate> {
    let (one, two) = (term(left, sight), term(right, sight));
    let text = one.of_row().map(str::to_owned);
    let all = match op {
        LikeOperator::Like if one == two && text.is_some() => true,
        LikeOperator::Like => match &two {
            // Nothing but the empty text.
            Term::Text(pattern) if pattern.is_empty() && text.is_some() => {
                return text.map(Predicate::Null);
            }
            Term::Text(pattern) => lets_all_through(pattern, '%', Some('_')),
            _ => false,
        },
        LikeOperator::Glob => {
            matches!(&two, Term::Text(pattern) if lets_all_through(pattern, '*', Some('?')))
        }
        LikeOperator::Regexp => matches!(&two, Term::Text(pattern) if matches_all(pattern)),
        LikeOperator::Match => false,
    };
    all.then(|| text.map_or_else(|| Predicate::Known(one != Term::Null), Predicate::NotNull))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these are conditions")]
fn is_condition(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Parenthesized(parts) => matches!(parts.as_slice(), [only] if is_condition(only)),
        Expr::Binary(_, operator, _) => {
            matches!(operator, Operator::And | Operator::Or) || comparison(*operator).is_some()
        }
        Expr::Unary(UnaryOperator::Not, _)
        | Expr::IsNull(_)
        | Expr::NotNull(_)
        | Expr::Between { .. }
        | Expr::InList { .. }
        | Expr::InSelect { .. }
        | Expr::Like { .. }
        | Expr::Exists(_) => true,
        _ => false,
    }
}

fn comparison(operator: Operator) -> Option<Comparison> {
    Some(match operator {
        Operator::Equals => Comparison::Equal,
        Operator::NotEquals => Comparison::NotEqual,
        Operator::Less => Comparison::Less,
        Operator::LessEquals => Comparison::LessEqual,
        Operator::Greater => Comparison::Greater,
        Operator::GreaterEquals => Comparison::GreaterEqual,
        Operator::Is => Comparison::Same,
        Operator::IsNot => Comparison::NotSame,
        Operator::And
        | Operator::Or
        | Operator::Add
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
        | Operator::Subtract => return None,
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn compared(op: Comparison, left: &Expr<'_>, right: &Expr<'_>, sight: &Sight, depth: usize) -> Predicate {
    let (one, two) = (term(left, sight), term(right, sight));
    // `(x IS NULL) = 0`
    for (condition, value) in [(left, &two), (right, &one)] {
        let value = match value {
            Term::Bool(value) => *value,
            Term::Number(0.0) => false,
            Term::Number(1.0) => true,
            _ => continue,
        };
        if is_condition(condition) {
            return same_value(op, predicate(condition, sight, depth), value);
        }
    }
    if two == Term::Null && matches!(op, Comparison::Same | Comparison::NotSame) {
        let null = null(left, sight);
        return if op == Comparison::Same { null } else { Predicate::Not(Box::new(null)) };
    }
    // `typeof(x) <> 'null'`
    if let (Comparison::NotEqual | Comparison::NotSame, Term::Text(text), Some(inner)) =
        (op, &two, argument_of(left, "typeof"))
        && text == "null"
    {
        return Predicate::Not(Box::new(null(inner, sight)));
    }
    // Joined with itself: each row finds itself.
    let (bare_one, bare_two) = (sight.names.bare(&one), sight.names.bare(&two));
    if matches!(op, Comparison::Equal | Comparison::Same) && bare_one.is_some() && bare_one == bare_two {
        return Predicate::Known(true);
    }
    compare(op, &one, &two)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn argument_of<'e, 'a>(expr: &'e Expr<'a>, function: &str) -> Option<&'e Expr<'a>> {
    match expr {
        Expr::FunctionCall { name, args: Some([only]), .. } if folded(name.0) == function => Some(only),
        _ => None,
    }
}

/// `x IS NULL`; of a comparison with NULL it is always so.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn null(expr: &Expr<'_>, sight: &Sight) -> Predicate {
    if let Expr::Parenthesized(parts) = expr
        && let [only] = parts.as_slice()
    {
        return null(only, sight);
    }
    if let Expr::Binary(left, operator, right) = expr
        && !matches!(operator, Operator::Is | Operator::IsNot | Operator::And | Operator::Or)
        && [left, right].into_iter().any(|side| term(side, sight) == Term::Null)
    {
        return Predicate::Known(true);
    }
    match term(expr, sight) {
        Term::Bool(_) | Term::Number(_) | Term::Text(_) => Predicate::Known(false),
        Term::Null => Predicate::Known(true),
        term => compare(Comparison::Same, &term, &Term::Null),
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
        // A row's number is hardly ever zero. A name in double quotes that is a number is that of no column.
        Term::Place(text) => Predicate::NotNull(text),
        Term::Rows(text) if text.parse::<f64>().is_ok_and(|number| number != 0.0) => Predicate::Known(true),
        Term::Rows(text) | Term::Measure(text) => Predicate::Rows(text),
    }
}

/// `EXISTS (SELECT 1)`, one that looks at nothing outside itself, and one that the row itself answers.
fn exists(select: &Select<'_>, sight: &Sight, depth: usize) -> Option<Predicate> {
    let (from, clause) = plain(select)?;
    let inner = sight.inside(from);
    let filter = clause.map_or(Predicate::Known(true), |expr| predicate(expr, &inner, depth));
    let grouped = matches!(&select.body.select, OneSelect::Select { columns, .. }
        if columns.iter().any(|column| matches!(column, ResultColumn::Expr(Expr::FunctionCall { .. } | Expr::FunctionCallStar { .. }, _))));
    if filter.refuses() && !grouped {
        return Some(Predicate::Known(false));
    }
    if from.is_some() && filter.bound() != Bound::Tautology {
        return None;
    }
    Some(match from {
        None => filter,
        Some(_) if inner.names.inner.is_some() => filter,
        Some(_) => Predicate::Constant,
    })
}

/// `id IN (SELECT id FROM the_same_table)`
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn among(left: &Expr<'_>, select: &Select<'_>, sight: &Sight, depth: usize) -> Option<Predicate> {
    if let Some(value) = alone(select) {
        return Some(compared(Comparison::Equal, left, value, sight, depth));
    }
    let (from, clause) = plain(select)?;
    let OneSelect::Select { columns, .. } = &select.body.select else { return None };
    let inner = sight.inside(from);
    let filter = clause.map_or(Predicate::Known(true), |expr| predicate(expr, &inner, depth));
    if filter.refuses() {
        return Some(Predicate::Known(false));
    }
    if inner.names.inner.is_none() || filter.bound() != Bound::Tautology {
        return None;
    }
    let shown = columns.iter().map(|column| match column {
        ResultColumn::Expr(column, _) => inner.names.bare(&term(column, &inner)),
        ResultColumn::Star | ResultColumn::TableStar(_) => None,
    });
    let asked = match left {
        Expr::Parenthesized(parts) => parts.iter().map(|part| sight.names.bare(&term(part, sight))).collect(),
        _ => vec![sight.names.bare(&term(left, sight))],
    };
    let place = |name: &Option<String>| {
        // A row's number has three names.
        name.as_deref()
            .map(|name| if matches!(name, "_rowid_" | "oid") { "rowid".to_owned() } else { name.to_owned() })
    };
    let (asked, shown): (Vec<_>, Vec<_>) =
        (asked.iter().map(place).collect(), shown.map(|name| place(&name)).collect());
    (asked.iter().all(Option::is_some) && asked == shown).then_some(Predicate::Known(true))
}

/// The only value of a query that looks at no table.
fn alone<'a, 'b>(select: &'a Select<'b>) -> Option<&'a Expr<'b>> {
    let (None, None) = plain(select)? else { return None };
    match &select.body.select {
        OneSelect::Select { columns: [ResultColumn::Expr(only, _)], .. } => Some(only),
        OneSelect::Select { .. } | OneSelect::Values(_) => None,
    }
}

type Plain<'a, 'b> = (Option<&'a FromClause<'b>>, Option<&'a Expr<'b>>);

/// A select without anything that takes rows away but its `WHERE`: what stands in its `FROM`, and that clause.
fn plain<'a, 'b>(select: &'a Select<'b>) -> Option<Plain<'a, 'b>> {
    if select.with.is_some() || select.limit.is_some() || select.body.compounds.is_some() {
        return None;
    }
    let OneSelect::Select { from, where_clause, having: None, .. } = &select.body.select else { return None };
    let from = match from.as_ref() {
        None => None,
        Some(from) if from.joins.is_none() => match from.select? {
            SelectTable::Table(..) => Some(from),
            SelectTable::TableCall(..) | SelectTable::Select(..) | SelectTable::Sub(..) => return None,
        },
        Some(_) => return None,
    };
    Some((from, *where_clause))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not a literal is judged by what it mentions")]
fn term(expr: &Expr<'_>, sight: &Sight) -> Term {
    match expr {
        Expr::Literal(Literal::Null) => Term::Null,
        Expr::Literal(Literal::Numeric(text)) => {
            text.parse().map_or_else(|_| Term::Constant((*text).to_owned()), Term::Number)
        }
        Expr::Literal(Literal::String(text)) => Term::Text(unquoted(text)),
        Expr::Parenthesized(parts) => match parts.as_slice() {
            [only] => term(only, sight),
            _ => described(expr, sight),
        },
        Expr::Unary(UnaryOperator::Negative, inner) => match term(inner, sight) {
            Term::Number(value) => Term::Number(-value),
            _ => described(expr, sight),
        },
        Expr::Unary(UnaryOperator::Positive, inner) | Expr::Collate(inner, _) => term(inner, sight),
        Expr::Id(Id(raw)) | Expr::Name(Name(raw)) => match folded(raw).as_str() {
            "true" => Term::Bool(true),
            "false" => Term::Bool(false),
            name => sight.column(None, name),
        },
        Expr::Qualified(Name(table), Name(column)) | Expr::DoublyQualified(_, Name(table), Name(column)) => {
            sight.column(Some(&folded(table)), &folded(column))
        }
        Expr::Subquery(select) => match alone(select) {
            Some(value) => term(value, sight),
            None => described(expr, sight),
        },
        Expr::Binary(left, operator, right) => {
            let word = match operator {
                Operator::Add => "+",
                Operator::Subtract => "-",
                Operator::Multiply => "*",
                Operator::Divide => "/",
                Operator::Modulus => "%",
                Operator::Concat => "||",
                _ => return described(expr, sight),
            };
            crate::predicate::folded(word, &term(left, sight), &term(right, sight))
                .unwrap_or_else(|| described(expr, sight))
        }
        Expr::FunctionCall { name, args: Some(args), filter_over: None, .. } => {
            match (folded(name.0).as_str(), *args) {
                // What stands in for a missing value says nothing of the others.
                ("nullif", [first, _]) if term(first, sight).of_row().is_some() => term(first, sight),
                ("coalesce" | "ifnull", args) => match given(args.iter().map(|arg| term(arg, sight))) {
                    Some(first) if first.of_row().is_some() => first,
                    _ => described(expr, sight),
                },
                ("likely" | "unlikely", [inner]) | ("likelihood", [inner, _]) => term(inner, sight),
                (name, _) if measures(name) => match described(expr, sight) {
                    Term::Rows(text) => Term::Measure(text),
                    constant => constant,
                },
                _ => described(expr, sight),
            }
        }
        _ => described(expr, sight),
    }
}

fn described(expr: &Expr<'_>, sight: &Sight) -> Term {
    let mut text = same_case(&expr.to_string());
    // `person.name` is `name` where `person` is the target.
    if let Some(own) = &sight.names.own {
        let prefix = format!("{own}.");
        let pieces: Vec<&str> = text.split(prefix.as_str()).collect();
        let joined = |(one, two): (String, &str)| {
            let longer = one.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"'));
            if longer { format!("{one}{prefix}{two}") } else { one + two }
        };
        text = pieces
            .into_iter()
            .fold(None, |whole: Option<String>, piece| {
                Some(whole.map_or_else(|| piece.to_owned(), |whole| joined((whole, piece))))
            })
            .unwrap_or_default();
    }
    if constant(expr, sight, 0) { Term::Constant(text) } else { Term::Rows(text) }
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

/// Whether an expression looks at no row of the target: it is built of literals, parameters, columns of other relations
/// and functions of them.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed may look at a row")]
fn constant(expr: &Expr<'_>, sight: &Sight, depth: usize) -> bool {
    let depth = depth.saturating_add(1);
    if depth > DEPTH_MAX {
        return false;
    }
    let all = |parts: &[Expr<'_>]| parts.iter().all(|part| constant(part, sight, depth));
    match expr {
        Expr::Literal(_) | Expr::Variable(_) => true,
        Expr::Binary(left, _, right) => constant(left, sight, depth) && constant(right, sight, depth),
        Expr::Unary(_, inner)
        | Expr::Cast { expr: inner, .. }
        | Expr::Collate(inner, _)
        | Expr::IsNull(inner)
        | Expr::NotNull(inner) => constant(inner, sight, depth),
        Expr::Parenthesized(parts) => all(parts),
        Expr::FunctionCall { args, filter_over: None, .. } => all(args.unwrap_or_default()),
        Expr::Between { lhs, start, end, .. } => {
            [lhs, start, end].into_iter().all(|part| constant(part, sight, depth))
        }
        Expr::Like { lhs, rhs, .. } => constant(lhs, sight, depth) && constant(rhs, sight, depth),
        Expr::InList { lhs, rhs, .. } => constant(lhs, sight, depth) && all(rhs.unwrap_or_default()),
        Expr::Id(Id(raw)) | Expr::Name(Name(raw)) => matches!(folded(raw).as_str(), "true" | "false"),
        Expr::Qualified(Name(table), _) => sight.names.is_other(&folded(table)),
        _ => false,
    }
}

fn unquoted(text: &str) -> String {
    text.get(1..text.len().saturating_sub(1)).unwrap_or_default().replace("''", "'")
}
