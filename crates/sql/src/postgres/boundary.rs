//! `WHERE` of PostgreSQL, translated for [`crate::predicate`].

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

use super::{names, walk};
use crate::predicate::{
    Comparison, Predicate, Term, chosen, compare, folded, given, lets_all_through, matches_all, measures,
    same_value,
};
use crate::sight::Names;
use crate::statement::{Bound, TableRef};

/// How far a `WHERE` limits the rows of a statement's target.
pub(super) fn bound(clause: Option<&pb::Node>, sight: &Sight) -> Bound {
    clause.map_or(Bound::None, |node| predicate(node, sight).bound())
}

/// The same for one `WHEN` of a `MERGE`: the join condition and the condition of the action together.
pub(super) fn merge(join: Option<&pb::Node>, condition: Option<&pb::Node>, sight: &Sight) -> Bound {
    let parts: Vec<_> = [join, condition].into_iter().flatten().map(|node| predicate(node, sight)).collect();
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

/// What a condition sees: the rows of the target, under each name that shows all of them, and those of other relations,
/// which say nothing of the target's.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    target: Option<TableRef>,
    names: Names,
    /// Common table expressions that show every row of the target.
    whole: Vec<String>,
}

impl Sight {
    /// Of a statement: its target, what it joins, and its `WITH`.
    pub(super) fn new<'n>(
        target: Option<&pb::RangeVar>,
        joined: impl IntoIterator<Item = &'n pb::Node>,
        with: Option<&pb::WithClause>,
    ) -> Self {
        let mut sight = Self {
            target: target.map(walk::relation),
            names: Names::new(target.map(|range| shown(range).to_owned())),
            ..Self::default()
        };
        for cte in with.iter().flat_map(|with| &with.ctes) {
            if let Some(NodeEnum::CommonTableExpr(cte)) = &cte.node
                && cte.ctequery.as_deref().is_some_and(|query| sight.shows_all(query))
            {
                sight.whole.push(cte.ctename.clone());
            }
        }
        joined.into_iter().for_each(|node| sight.joins(node));
        sight
    }

    /// The same, seen from inside of a subquery.
    fn inside(&self, select: &pb::SelectStmt) -> Self {
        let mut inner = self.clone();
        select.from_clause.iter().for_each(|node| inner.joins(node));
        inner.names.inner = match select.from_clause.as_slice() {
            [pb::Node { node: Some(NodeEnum::RangeVar(range)) }] if self.is_target(range) => {
                Some(shown(range).to_owned())
            }
            _ => None,
        };
        inner
    }

    fn joins(&mut self, node: &pb::Node) {
        let (name, same) = match &node.node {
            Some(NodeEnum::JoinExpr(join)) => {
                for side in [&join.larg, &join.rarg].into_iter().flatten() {
                    self.joins(side);
                }
                return;
            }
            Some(NodeEnum::RangeVar(range)) => (shown(range).to_owned(), self.is_target(range)),
            Some(NodeEnum::RangeSubselect(select)) => {
                let Some(alias) = &select.alias else { return };
                let all = select.subquery.as_deref().is_some_and(|query| self.shows_all(query));
                (alias.aliasname.clone(), all)
            }
            Some(NodeEnum::RangeFunction(function)) => match &function.alias {
                Some(alias) => (alias.aliasname.clone(), false),
                None => return,
            },
            _ => return,
        };
        self.names.join(name, same);
    }

    fn is_target(&self, range: &pb::RangeVar) -> bool {
        let table = walk::relation(range);
        if table.schema.is_none() && self.whole.contains(&table.name) {
            return true;
        }
        // One may have a schema where the other leaves it to the search path.
        self.target.as_ref().is_some_and(|target| {
            target.name == table.name
                && (target.schema == table.schema || target.schema.is_none() || table.schema.is_none())
        })
    }

    /// Whether a query shows every row of the target.
    fn shows_all(&self, query: &pb::Node) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = &query.node else { return false };
        let [source] = select.from_clause.as_slice() else { return false };
        let Some(NodeEnum::RangeVar(source)) = &source.node else { return false };
        self.is_target(source) && unlimited(select) && self.inside(select).unfiltered(select)
    }

    fn unfiltered(&self, select: &pb::SelectStmt) -> bool {
        select
            .where_clause
            .as_deref()
            .is_none_or(|clause| predicate(clause, self).bound() == Bound::Tautology)
    }

    fn column(&self, fields: &[pb::Node]) -> Term {
        let parts = names(fields);
        let (qualifier, column) = match parts.as_slice() {
            [.., qualifier, column] => (Some(*qualifier), *column),
            [column] => (None, *column),
            [] => return Term::Rows(String::new()),
        };
        self.names.elsewhere(qualifier, parts.join("."), column).unwrap_or_else(|| match column {
            "ctid" | "xmin" | "cmin" => Term::Place(column.to_owned()),
            // All rows of a table have the same.
            "tableoid" => Term::Constant(column.to_owned()),
            _ => Term::Rows(column.to_owned()),
        })
    }
}

/// Whether a query leaves no row out but by its `WHERE`.
fn unlimited(select: &pb::SelectStmt) -> bool {
    let all = |limit: &Option<Box<pb::Node>>| {
        limit.as_deref().is_none_or(|node| match &node.node {
            Some(NodeEnum::AConst(constant)) => {
                constant.isnull
                    || constant.val.is_none()
                    || matches!(&constant.val, Some(pb::a_const::Val::Ival(number)) if number.ival == 0)
            }
            _ => false,
        })
    };
    let limited = match select.limit_count.as_deref().map(|node| &node.node) {
        None => false,
        Some(Some(NodeEnum::AConst(constant))) => !constant.isnull,
        Some(_) => true,
    };
    !limited
        && all(&select.limit_offset)
        && select.having_clause.is_none()
        && select.larg.is_none()
        && select.values_lists.is_empty()
        && select.locking_clause.is_empty()
        && select.with_clause.is_none()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not understood counts as an ordinary predicate"
)]
fn predicate(node: &pb::Node, sight: &Sight) -> Predicate {
    let Some(kind) = &node.node else { return other(node, sight) };
    match kind {
        NodeEnum::BoolExpr(x) => {
            let parts = x.args.iter().map(|arg| predicate(arg, sight)).collect::<Vec<_>>();
            match x.boolop() {
                pb::BoolExprType::AndExpr => Predicate::And(parts),
                pb::BoolExprType::OrExpr => Predicate::Or(parts),
                pb::BoolExprType::NotExpr => parts
                    .into_iter()
                    .next()
                    .map_or(Predicate::Constant, |part| Predicate::Not(Box::new(part))),
                pb::BoolExprType::Undefined => other(node, sight),
            }
        }
        NodeEnum::AExpr(x) => operator(x, sight).unwrap_or_else(|| other(node, sight)),
        NodeEnum::NullTest(x) => null_test(x, sight),
        NodeEnum::BooleanTest(x) => {
            let inner = x.arg.as_deref().map_or(Predicate::Constant, |arg| predicate(arg, sight));
            match x.booltesttype() {
                pb::BoolTestType::IsTrue | pb::BoolTestType::IsNotFalse => inner,
                pb::BoolTestType::IsFalse | pb::BoolTestType::IsNotTrue => Predicate::Not(Box::new(inner)),
                // What compares with NULL counts as false here.
                pb::BoolTestType::IsUnknown if inner.refuses() => Predicate::Known(true),
                pb::BoolTestType::IsNotUnknown => match other(node, sight) {
                    Predicate::Rows(text) => Predicate::NotNull(text),
                    constant => constant,
                },
                pb::BoolTestType::Undefined | pb::BoolTestType::IsUnknown => other(node, sight),
            }
        }
        NodeEnum::CaseExpr(x) => case(x, sight),
        NodeEnum::CoalesceExpr(x) => {
            let mut parts = x.args.iter().map(|arg| predicate(arg, sight)).filter(|part| !part.refuses());
            parts.next().unwrap_or(Predicate::Known(false))
        }
        NodeEnum::SubLink(x) => sublink(x, sight).unwrap_or_else(|| other(node, sight)),
        NodeEnum::FuncCall(x) => function(x, sight).unwrap_or_else(|| other(node, sight)),
        NodeEnum::TypeCast(x) if x.arg.as_deref().is_some_and(is_condition) => {
            x.arg.as_deref().map_or(Predicate::Constant, |arg| predicate(arg, sight))
        }
        NodeEnum::CollateClause(x) => {
            x.arg.as_deref().map_or(Predicate::Constant, |arg| predicate(arg, sight))
        }
        _ => match term(node, sight) {
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
            Term::Rows(text) | Term::Measure(text) | Term::Place(text) => Predicate::Rows(text),
        },
    }
}

fn is_condition(node: &pb::Node) -> bool {
    matches!(
        node.node,
        Some(
            NodeEnum::BoolExpr(_)
                | NodeEnum::NullTest(_)
                | NodeEnum::BooleanTest(_)
                | NodeEnum::CaseExpr(_)
                | NodeEnum::SubLink(_)
                | NodeEnum::AExpr(_)
        )
    )
}

fn other(node: &pb::Node, sight: &Sight) -> Predicate {
    match described(node, sight) {
        Term::Rows(text) | Term::Measure(text) | Term::Place(text) => Predicate::Rows(text),
        Term::Null | Term::Bool(_) | Term::Number(_) | Term::Text(_) | Term::Constant(_) => {
            Predicate::Constant
        }
    }
}

fn null_test(test: &pb::NullTest, sight: &Sight) -> Predicate {
    let is_null = test.nulltesttype() == pb::NullTestType::IsNull;
    let Some(arg) = test.arg.as_deref() else { return Predicate::Constant };
    // `(x = NULL) IS NULL`
    if let Some(NodeEnum::AExpr(x)) = &arg.node
        && x.kind() == pb::AExprKind::AexprOp
        && [&x.lexpr, &x.rexpr].into_iter().flatten().any(|side| term(side, sight) == Term::Null)
    {
        return Predicate::Known(is_null);
    }
    match term(arg, sight) {
        Term::Rows(text) | Term::Measure(text) | Term::Place(text) => {
            if is_null {
                Predicate::Null(text)
            } else {
                Predicate::NotNull(text)
            }
        }
        Term::Null => Predicate::Known(is_null),
        Term::Bool(_) | Term::Number(_) | Term::Text(_) => Predicate::Known(!is_null),
        Term::Constant(_) => Predicate::Constant,
    }
}

fn case(case: &pb::CaseExpr, sight: &Sight) -> Predicate {
    let outcome =
        |node: Option<&pb::Node>| node.map_or(Predicate::Known(false), |node| predicate(node, sight));
    let mut answer = outcome(case.defresult.as_deref());
    for when in case.args.iter().rev() {
        let Some(NodeEnum::CaseWhen(when)) = &when.node else { return Predicate::Rows(String::new()) };
        let Some(expr) = when.expr.as_deref() else { return Predicate::Rows(String::new()) };
        let condition = match case.arg.as_deref() {
            Some(arg) => compare(Comparison::Equal, &term(arg, sight), &term(expr, sight)),
            None => predicate(expr, sight),
        };
        answer = chosen(condition, outcome(when.result.as_deref()), answer);
    }
    answer
}

fn operator(expression: &pb::AExpr, sight: &Sight) -> Option<Predicate> {
    let left = expression.lexpr.as_deref()?;
    let right = expression.rexpr.as_deref()?;
    let name = names(&expression.name).last().copied().unwrap_or_default();
    match expression.kind() {
        pb::AExprKind::AexprOp => match comparison(name) {
            Some(op) => Some(compared(op, left, right, sight)),
            None => matched(name, left, right, sight),
        },
        pb::AExprKind::AexprDistinct => Some(compared(Comparison::NotSame, left, right, sight)),
        pb::AExprKind::AexprNotDistinct => Some(compared(Comparison::Same, left, right, sight)),
        pb::AExprKind::AexprIn => {
            let Some(NodeEnum::List(list)) = &right.node else { return None };
            let negated = name == "<>";
            let op = if negated { Comparison::NotEqual } else { Comparison::Equal };
            let parts = list.items.iter().map(|item| compared(op, left, item, sight)).collect();
            Some(if negated { Predicate::And(parts) } else { Predicate::Or(parts) })
        }
        pb::AExprKind::AexprOpAny | pb::AExprKind::AexprOpAll => {
            let op = comparison(name)?;
            let any = expression.kind() == pb::AExprKind::AexprOpAny;
            match &right.node {
                Some(NodeEnum::AArrayExpr(array)) => {
                    let parts = array.elements.iter().map(|item| compared(op, left, item, sight)).collect();
                    Some(if any { Predicate::Or(parts) } else { Predicate::And(parts) })
                }
                Some(NodeEnum::SubLink(link)) if any && op == Comparison::Equal => {
                    among(left, select_of(link)?, sight)
                }
                _ => None,
            }
        }
        pb::AExprKind::AexprLike | pb::AExprKind::AexprIlike | pb::AExprKind::AexprSimilar => {
            matched(name, left, right, sight)
        }
        pb::AExprKind::AexprBetween
        | pb::AExprKind::AexprBetweenSym
        | pb::AExprKind::AexprNotBetween
        | pb::AExprKind::AexprNotBetweenSym => {
            let Some(NodeEnum::List(list)) = &right.node else { return None };
            let [low, high] = list.items.as_slice() else { return None };
            let within = Predicate::And(vec![
                compared(Comparison::GreaterEqual, left, low, sight),
                compared(Comparison::LessEqual, left, high, sight),
            ]);
            let negated = matches!(
                expression.kind(),
                pb::AExprKind::AexprNotBetween | pb::AExprKind::AexprNotBetweenSym
            );
            Some(if negated { Predicate::Not(Box::new(within)) } else { within })
        }
        pb::AExprKind::Undefined | pb::AExprKind::AexprNullif => None,
    }
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        "=" => Comparison::Equal,
        "<>" | "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterEqual,
        _ => return None,
    })
}

fn compared(op: Comparison, left: &pb::Node, right: &pb::Node, sight: &Sight) -> Predicate {
    let (one, two) = (term(left, sight), term(right, sight));
    // `(x IS NULL) = false`
    for (condition, value) in [(left, &two), (right, &one)] {
        if let Term::Bool(value) = value
            && is_condition(condition)
        {
            return same_value(op, predicate(condition, sight), *value);
        }
    }
    // `num_nulls(x) = 0`
    if op == Comparison::Equal
        && two == Term::Number(0.0)
        && let Some(NodeEnum::FuncCall(call)) = &left.node
        && names(&call.funcname).last() == Some(&"num_nulls")
        && let Some(text) = one.of_row()
    {
        return Predicate::NotNull(text.to_owned());
    }
    // Joined with itself: each row finds itself.
    let (bare_one, bare_two) = (sight.names.bare(&one), sight.names.bare(&two));
    if matches!(op, Comparison::Equal | Comparison::Same) && bare_one.is_some() && bare_one == bare_two {
        return Predicate::Known(true);
    }
    compare(op, &one, &two)
}

/// Patterns, and what contains what.
fn matched(operator: &str, left: &pb::Node, right: &pb::Node, sight: &Sight) -> Option<Predicate> {
    let (one, two) = (term(left, sight), term(right, sight));
    let text = one.of_row();
    let negated = operator.starts_with('!');
    let positive = operator.trim_start_matches('!');
    let same = text.is_some() && one == two;
    let all = match positive {
        "~~" | "~~*" | "~" | "~*" | "^@" if same => true,
        "~~" | "~~*" => pattern(right, sight).is_some_and(|text| lets_all_through(&text, '%', Some('_'))),
        // `SIMILAR TO` is a regular expression by the time it is run.
        "~" | "~*" => {
            let text = pattern(right, sight)?;
            matches_all(&text) || (is_call(right) && lets_all_through(&text, '%', Some('_')))
        }
        "^@" => two == Term::Text(String::new()),
        "@>" | "<@" if same => true,
        "@>" => two == Term::Text("{}".to_owned()),
        "<@" if one == Term::Text("{}".to_owned()) => {
            return two.of_row().map(|text| Predicate::NotNull(text.to_owned()));
        }
        // `x NOT LIKE ''`
        _ => false,
    };
    if negated
        && matches!(positive, "~~" | "~~*")
        && pattern(right, sight).is_some_and(|text| text.is_empty())
    {
        return text.map(|text| Predicate::NotNull(text.to_owned()));
    }
    if !all {
        return None;
    }
    let Some(text) = text else { return Some(Predicate::Known(!negated && one != Term::Null)) };
    Some(if negated { Predicate::Known(false) } else { Predicate::NotNull(text.to_owned()) })
}

/// The text of a pattern, also where `ESCAPE` or `SIMILAR TO` make a call of it.
fn pattern(node: &pb::Node, sight: &Sight) -> Option<String> {
    if let Some(NodeEnum::FuncCall(call)) = &node.node
        && matches!(names(&call.funcname).last(), Some(&("like_escape" | "similar_to_escape")))
    {
        return pattern(call.args.first()?, sight);
    }
    match term(node, sight) {
        Term::Text(text) => Some(text),
        Term::Null
        | Term::Bool(_)
        | Term::Number(_)
        | Term::Constant(_)
        | Term::Rows(_)
        | Term::Measure(_)
        | Term::Place(_) => None,
    }
}

fn is_call(node: &pb::Node) -> bool {
    matches!(node.node, Some(NodeEnum::FuncCall(_)))
}

/// Functions that are conditions, by the operators they are.
fn function(call: &pb::FuncCall, sight: &Sight) -> Option<Predicate> {
    let name = names(&call.funcname).last().copied()?;
    match (name, call.args.as_slice()) {
        ("isfinite", [value]) => term(value, sight).of_row().map(|text| Predicate::NotNull(text.to_owned())),
        ("textlike" | "like", [left, right]) => matched("~~", left, right, sight),
        ("texticlike", [left, right]) => matched("~~*", left, right, sight),
        ("textregexeq" | "regexp_like", [left, right, ..]) => matched("~", left, right, sight),
        ("starts_with", [left, right]) => matched("^@", left, right, sight),
        (_, [left, right]) => {
            let (one, two) = (term(left, sight), term(right, sight));
            let reflexive = ["eq", "ge", "le", "_eq", "_ge", "_le"].iter().any(|end| name.ends_with(end));
            (reflexive && one.of_row().is_some() && one == two).then_some(Predicate::Known(true))
        }
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only this is a query")]
fn select_of(link: &pb::SubLink) -> Option<&pb::SelectStmt> {
    match link.subselect.as_deref()?.node.as_ref()? {
        NodeEnum::SelectStmt(select) => Some(select),
        _ => None,
    }
}

/// `EXISTS (SELECT 1)` and `id IN (SELECT id FROM the_same_table)`.
fn sublink(link: &pb::SubLink, sight: &Sight) -> Option<Predicate> {
    let select = select_of(link)?;
    match link.sub_link_type() {
        pb::SubLinkType::ExistsSublink if select.larg.is_none() => {
            let inner = sight.inside(select);
            let filter =
                select.where_clause.as_deref().map_or(Predicate::Known(true), |node| predicate(node, &inner));
            if filter.refuses() && select.group_clause.is_empty() && !aggregates(select) {
                return Some(Predicate::Known(false));
            }
            if !unlimited(select) || filter.bound() != Bound::Tautology {
                return None;
            }
            let own = |item: &pb::Node| matches!(&item.node, Some(NodeEnum::RangeVar(range)) if sight.is_target(range));
            // The row itself is among those of its table.
            let found = select.from_clause.iter().all(own);
            // Not correlated with anything outside: the same answer for every row.
            Some(if found { filter } else { Predicate::Constant })
        }
        pb::SubLinkType::AnySublink => {
            let operator = names(&link.oper_name);
            if !operator.is_empty() && operator.last() != Some(&"=") {
                return None;
            }
            among(link.testexpr.as_deref()?, select, sight)
        }
        pb::SubLinkType::ExprSublink => match alone(select)? {
            value if is_condition(value) => Some(predicate(value, sight)),
            value => match term(value, sight) {
                Term::Bool(value) => Some(Predicate::Known(value)),
                Term::Constant(_) => Some(Predicate::Constant),
                Term::Null
                | Term::Number(_)
                | Term::Text(_)
                | Term::Rows(_)
                | Term::Measure(_)
                | Term::Place(_) => None,
            },
        },
        pb::SubLinkType::Undefined
        | pb::SubLinkType::ExistsSublink
        | pb::SubLinkType::AllSublink
        | pb::SubLinkType::RowcompareSublink
        | pb::SubLinkType::MultiexprSublink
        | pb::SubLinkType::ArraySublink
        | pb::SubLinkType::CteSublink => None,
    }
}

/// Whether it answers with a row where none is left to it.
fn aggregates(select: &pb::SelectStmt) -> bool {
    select.target_list.iter().any(|target| match &target.node {
        Some(NodeEnum::ResTarget(target)) => target.val.as_deref().is_some_and(is_call),
        _ => true,
    })
}

/// The only value of a query that looks at no table.
fn alone(select: &pb::SelectStmt) -> Option<&pb::Node> {
    let [pb::Node { node: Some(NodeEnum::ResTarget(target)) }] = select.target_list.as_slice() else {
        return None;
    };
    let plain = select.from_clause.is_empty() && select.where_clause.is_none() && unlimited(select);
    plain.then_some(target.val.as_deref()).flatten()
}

/// `left IN (SELECT …)`.
fn among(left: &pb::Node, select: &pb::SelectStmt, sight: &Sight) -> Option<Predicate> {
    if let Some(value) = alone(select) {
        return Some(compared(Comparison::Equal, left, value, sight));
    }
    let inner = sight.inside(select);
    let filter =
        select.where_clause.as_deref().map_or(Predicate::Known(true), |node| predicate(node, &inner));
    if filter.refuses() && select.larg.is_none() && select.values_lists.is_empty() {
        return Some(Predicate::Known(false));
    }
    let [source] = select.from_clause.as_slice() else { return None };
    let own = match &source.node {
        Some(NodeEnum::RangeVar(range)) => sight.is_target(range),
        Some(NodeEnum::RangeSubselect(query)) => {
            query.subquery.as_deref().is_some_and(|query| sight.shows_all(query))
        }
        _ => false,
    };
    if !own || !unlimited(select) || filter.bound() != Bound::Tautology {
        return None;
    }
    let shown: Vec<Option<String>> = select
        .target_list
        .iter()
        .map(|target| match &target.node {
            Some(NodeEnum::ResTarget(target)) => {
                target.val.as_deref().and_then(|value| inner.names.bare(&term(value, &inner)))
            }
            _ => None,
        })
        .collect();
    let asked: Vec<Option<String>> = match &left.node {
        Some(NodeEnum::RowExpr(row)) => {
            row.args.iter().map(|arg| sight.names.bare(&term(arg, sight))).collect()
        }
        _ => vec![sight.names.bare(&term(left, sight))],
    };
    (asked.iter().all(Option::is_some) && asked == shown).then_some(Predicate::Known(true))
}

/// The name under which a statement speaks of a relation.
fn shown(range: &pb::RangeVar) -> &str {
    range.alias.as_ref().map_or(&range.relname, |alias| &alias.aliasname)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not a literal is judged by what it mentions")]
fn term(node: &pb::Node, sight: &Sight) -> Term {
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
        NodeEnum::TypeCast(x) => match x.arg.as_deref().map(|arg| term(arg, sight)) {
            // `'1'::int`
            Some(Term::Text(text)) if of_numbers(x) => {
                text.trim().parse().map_or(Term::Text(text), Term::Number)
            }
            Some(inner @ (Term::Bool(_) | Term::Text(_) | Term::Number(_) | Term::Null | Term::Place(_))) => {
                inner
            }
            Some(Term::Constant(text)) => Term::Constant(text),
            Some(Term::Rows(_) | Term::Measure(_)) => described(node, sight),
            None => Term::Constant(String::new()),
        },
        NodeEnum::ColumnRef(x)
            if x.fields.iter().all(|field| matches!(field.node, Some(NodeEnum::String(_)))) =>
        {
            sight.column(&x.fields)
        }
        NodeEnum::ParamRef(x) => Term::Constant(format!("${}", x.number)),
        NodeEnum::CollateClause(x) => x.arg.as_deref().map_or(Term::Null, |arg| term(arg, sight)),
        // What stands in for a missing value says nothing of the others.
        NodeEnum::CoalesceExpr(x) => match given(x.args.iter().map(|arg| term(arg, sight))) {
            Some(first @ (Term::Rows(_) | Term::Measure(_) | Term::Place(_))) => first,
            _ => described(node, sight),
        },
        NodeEnum::MinMaxExpr(x) if x.args.len() == 1 => {
            x.args.first().map_or(Term::Null, |arg| term(arg, sight))
        }
        NodeEnum::SubLink(x) if x.sub_link_type() == pb::SubLinkType::ExprSublink => {
            match select_of(x).and_then(alone) {
                Some(value) => term(value, sight),
                None => described(node, sight),
            }
        }
        NodeEnum::FuncCall(x) => match (names(&x.funcname).last().copied(), described(node, sight)) {
            // Of every row the same.
            (Some("pg_typeof"), Term::Rows(text)) => Term::Constant(text),
            (Some(name), Term::Rows(text)) if measures(name) => Term::Measure(text),
            (_, term) => term,
        },
        NodeEnum::AExpr(x) => arithmetic(x, sight).unwrap_or_else(|| described(node, sight)),
        _ => described(node, sight),
    }
}

fn of_numbers(cast: &pb::TypeCast) -> bool {
    let name = cast.type_name.as_ref().and_then(|name| names(&name.names).last().copied());
    matches!(name, Some("int2" | "int4" | "int8" | "numeric" | "float4" | "float8"))
}

fn arithmetic(expression: &pb::AExpr, sight: &Sight) -> Option<Term> {
    let name = names(&expression.name).last().copied()?;
    let right = expression.rexpr.as_deref()?;
    match (expression.kind(), expression.lexpr.as_deref()) {
        (pb::AExprKind::AexprOp, Some(left)) => folded(name, &term(left, sight), &term(right, sight)),
        (pb::AExprKind::AexprOp, None) => match (name, term(right, sight)) {
            ("+", term) => Some(term),
            ("-", Term::Number(number)) => Some(Term::Number(-number)),
            _ => None,
        },
        (pb::AExprKind::AexprNullif, Some(left)) => match term(left, sight) {
            term @ (Term::Rows(_) | Term::Measure(_) | Term::Place(_)) => Some(term),
            Term::Null | Term::Bool(_) | Term::Number(_) | Term::Text(_) | Term::Constant(_) => None,
        },
        _ => None,
    }
}

/// Judges an expression by the column references and subqueries in it.
fn described(node: &pb::Node, sight: &Sight) -> Term {
    let mut looks = false;
    let text = serde_json::to_value(node)
        .map(|value| settled(value, sight, &mut looks).to_string())
        .unwrap_or_default();
    if looks { Term::Rows(text) } else { Term::Constant(text) }
}

/// Two spellings of one expression at different places compare equal. `looks`: whether it looks at a row of the target, or
/// may do so.
fn settled(mut value: serde_json::Value, sight: &Sight, looks: &mut bool) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(map) => {
            map.retain(|key, _| !key.ends_with("location"));
            if let Some(fields) = map.get_mut("ColumnRef").and_then(|column| column.get_mut("fields")) {
                column(fields, sight, looks);
            }
            // What stands in a query of its own may be of the row, or not.
            *looks |= map.contains_key("SubLink") || map.contains_key("CurrentOfExpr");
            for (_, inner) in map.iter_mut() {
                *inner = settled(inner.take(), sight, looks);
            }
        }
        serde_json::Value::Array(list) => {
            for inner in list {
                *inner = settled(inner.take(), sight, looks);
            }
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
    value
}

/// The parts of a column's name, without those that only say that it is the target's.
fn column(fields: &mut serde_json::Value, sight: &Sight, looks: &mut bool) {
    let serde_json::Value::Array(parts) = fields else {
        *looks = true;
        return;
    };
    let word = |part: &serde_json::Value| {
        part.pointer("/node/String/sval").and_then(|text| text.as_str()).map(str::to_owned)
    };
    let place = parts.len().checked_sub(2);
    match place.and_then(|place| parts.get(place)).and_then(word) {
        Some(name) if sight.names.is_other(&name) => {}
        Some(name) if sight.names.own.as_deref() == Some(&name) => {
            *looks = true;
            parts.drain(..place.map_or(0, |place| place.saturating_add(1)));
        }
        _ => *looks = true,
    }
}
