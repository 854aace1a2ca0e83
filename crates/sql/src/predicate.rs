//! Whether a predicate limits anything, common to both dialects.
//!
//! Both walks translate a `WHERE` into this small form; what they do not understand becomes [`Predicate::Rows`]
//! when it looks at the row and [`Predicate::Constant`] when it does not. It is a heuristic that catches the
//! usual tautologies, and the conditions that are true for nearly every row because they say no more than that there is a
//! value (`x IS NOT NULL`, `x <> ''`, `length(x) >= 0`). It never makes a statement laxer than "a predicate was written".

use crate::statement::Bound;

/// A condition, as far as the question "does it choose among rows" goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Predicate {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// Folded to a truth value; NULL counts as false.
    Known(bool),
    /// The same for every row, not known which.
    Constant,
    /// Depends on the row; the text identifies the condition.
    Rows(String),
    /// A comparison that depends on the row.
    Compared(Comparison, Term, Term),
    /// `term IS NULL`.
    Null(String),
    /// `term IS NOT NULL`.
    NotNull(String),
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    /// The same for every row: parameters, functions of constants.
    Constant(String),
    /// Depends on the row.
    Rows(String),
    /// Depends on the row, and is never below zero: a length, an amount without its sign.
    Measure(String),
    /// Where the row is kept: every row has one, and all of them lie above the beginning.
    Place(String),
}

impl Term {
    /// What tells it apart, where it depends on the row.
    pub(crate) fn of_row(&self) -> Option<&str> {
        match self {
            Self::Rows(text) | Self::Measure(text) | Self::Place(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Constant(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `IS NOT DISTINCT FROM`, SQLite's `IS`.
    Same,
    /// `IS DISTINCT FROM`, SQLite's `IS NOT`.
    NotSame,
}

impl Comparison {
    /// The same with its sides changed.
    fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            Self::Equal | Self::NotEqual | Self::Same | Self::NotSame => self,
        }
    }

    fn opposite(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterEqual,
            Self::LessEqual => Self::Greater,
            Self::Greater => Self::LessEqual,
            Self::GreaterEqual => Self::Less,
            Self::Same => Self::NotSame,
            Self::NotSame => Self::Same,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Every,
    Nothing,
    Constant,
    Some,
}

impl Predicate {
    pub(crate) fn bound(&self) -> Bound {
        match self.reach(false) {
            Reach::Every | Reach::Constant => Bound::Tautology,
            Reach::Nothing | Reach::Some => Bound::Predicate,
        }
    }

    /// Whether no row passes.
    pub(crate) fn refuses(&self) -> bool {
        self.reach(false) == Reach::Nothing
    }

    /// `negated`: of its opposite.
    fn reach(&self, negated: bool) -> Reach {
        match self {
            Self::Known(value) => {
                if *value == negated {
                    Reach::Nothing
                } else {
                    Reach::Every
                }
            }
            Self::Constant => Reach::Constant,
            // `NOT (x = '')`
            Self::Compared(op, left, right) if negated && has_value(op.opposite(), left, right) => {
                Reach::Every
            }
            Self::Rows(_) | Self::Compared(..) => Reach::Some,
            // That there is a value is what nearly every row has in common; that there is none may choose a few.
            Self::Null(_) => {
                if negated {
                    Reach::Every
                } else {
                    Reach::Some
                }
            }
            Self::NotNull(_) => {
                if negated {
                    Reach::Some
                } else {
                    Reach::Every
                }
            }
            Self::Not(inner) => inner.reach(!negated),
            Self::And(parts) if negated => Self::any(parts, true),
            Self::Or(parts) if !negated => Self::any(parts, false),
            Self::And(parts) | Self::Or(parts) => {
                let reaches: Vec<_> = parts.iter().map(|part| part.reach(negated)).collect();
                if reaches.contains(&Reach::Nothing) {
                    Reach::Nothing
                } else if reaches.contains(&Reach::Some) {
                    Reach::Some
                } else if reaches.contains(&Reach::Constant) {
                    Reach::Constant
                } else {
                    Reach::Every
                }
            }
        }
    }

    fn any(parts: &[Self], negated: bool) -> Reach {
        let (mut single, mut whole) = (Vec::new(), Vec::new());
        for part in parts {
            part.alternatives(negated, &mut single, &mut whole);
        }
        let reaches: Vec<_> = single.iter().map(|(part, negated)| part.reach(*negated)).collect();
        let all = || single.iter().chain(&whole);
        // `a OR b OR NOT (a OR b)`: each part of the one stands opposite to another alternative.
        let opposed = |(part, negated): &(&Self, bool)| match part {
            Self::And(parts) | Self::Or(parts) => parts.iter().all(|part| {
                part.reach(*negated) == Reach::Every
                    || all().any(|(other, turned)| *other == part && turned != negated)
            }),
            Self::Not(_)
            | Self::Known(_)
            | Self::Constant
            | Self::Rows(_)
            | Self::Compared(..)
            | Self::Null(_)
            | Self::NotNull(_) => false,
        };
        let covering =
            || all().any(|one| all().any(|other| covers(*one, *other))) || single.iter().any(opposed);
        if reaches.contains(&Reach::Every) || covering() {
            Reach::Every
        } else if reaches.contains(&Reach::Constant) {
            Reach::Constant
        } else if reaches.contains(&Reach::Some) {
            Reach::Some
        } else {
            Reach::Nothing
        }
    }

    /// The alternatives of alternatives, so that the first and the last of many are compared too; `whole`: those that are
    /// made of others, which may still be the opposite of one.
    fn alternatives<'p>(
        &'p self,
        negated: bool,
        single: &mut Vec<(&'p Self, bool)>,
        whole: &mut Vec<(&'p Self, bool)>,
    ) {
        match self {
            Self::Not(inner) => inner.alternatives(!negated, single, whole),
            Self::Or(parts) | Self::And(parts) if parts.len() == 1 => {
                parts.iter().for_each(|part| part.alternatives(negated, single, whole));
            }
            Self::Or(parts) | Self::And(parts) if matches!(self, Self::And(_)) == negated => {
                whole.push((self, negated));
                parts.iter().for_each(|part| part.alternatives(negated, single, whole));
            }
            Self::And(_)
            | Self::Or(_)
            | Self::Known(_)
            | Self::Constant
            | Self::Rows(_)
            | Self::Compared(..)
            | Self::Null(_)
            | Self::NotNull(_) => single.push((self, negated)),
        }
    }
}

/// Whether two conditions, each turned into its opposite or not, let every row through between them: `p OR NOT p`,
/// `x IS NULL OR x IS NOT NULL`, `x < 5 OR x >= 5`, `x > 1 OR x < 7`, `x <> 1 OR x <> 2`.
fn covers((one, one_negated): (&Predicate, bool), (two, two_negated): (&Predicate, bool)) -> bool {
    if one == two && one_negated != two_negated {
        return true;
    }
    match (one, two) {
        (Predicate::Null(one), Predicate::NotNull(two)) => one == two && one_negated == two_negated,
        (Predicate::Compared(one, left, right), Predicate::Compared(two, same, other)) => {
            let turned = |op: Comparison, negated: bool| if negated { op.opposite() } else { op };
            left == same
                && covers_line((turned(*one, one_negated), right), (turned(*two, two_negated), other))
        }
        _ => false,
    }
}

/// The same for two comparisons of one term.
fn covers_line((one, low): (Comparison, &Term), (two, high): (Comparison, &Term)) -> bool {
    use Comparison::{Greater, GreaterEqual, Less, LessEqual, NotEqual, NotSame};
    if low == high {
        return one.opposite() == two;
    }
    let different = |low: &Term, high: &Term| order(low, high).is_some_and(|order| order.is_ne());
    match (one, two) {
        (NotEqual | NotSame, NotEqual | NotSame) => different(low, high),
        (Greater | GreaterEqual, Less | LessEqual) => order(low, high).is_some_and(|order| order.is_lt()),
        _ => false,
    }
}

/// `left op right`.
pub(crate) fn compare(op: Comparison, left: &Term, right: &Term) -> Predicate {
    if let (Some(one), Some(two)) = (left.of_row(), right.of_row())
        && one == two
    {
        // `x = x` is true for every row but those where x is NULL.
        return Predicate::Known(matches!(
            op,
            Comparison::Equal | Comparison::LessEqual | Comparison::GreaterEqual | Comparison::Same
        ));
    }
    if left.of_row().is_none() && right.of_row().is_some() {
        return compare(op.mirrored(), right, left);
    }
    if let (Some(text), Term::Null) = (left.of_row(), right) {
        match op {
            Comparison::Same => return Predicate::Null(text.to_owned()),
            Comparison::NotSame => return Predicate::NotNull(text.to_owned()),
            Comparison::Equal
            | Comparison::NotEqual
            | Comparison::Less
            | Comparison::LessEqual
            | Comparison::Greater
            | Comparison::GreaterEqual => return Predicate::Known(false),
        }
    }
    if let Some(text) = left.of_row() {
        return if has_value(op, left, right) {
            Predicate::NotNull(text.to_owned())
        } else {
            Predicate::Compared(op, left.clone(), right.clone())
        };
    }
    let null = matches!(left, Term::Null) || matches!(right, Term::Null);
    let order = match order(left, right) {
        Some(order) => order,
        None if null && !matches!(op, Comparison::Same | Comparison::NotSame) => {
            return Predicate::Known(false);
        }
        None => return Predicate::Constant,
    };
    Predicate::Known(match op {
        Comparison::Equal | Comparison::Same => order.is_eq(),
        Comparison::NotEqual | Comparison::NotSame => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterEqual => order.is_ge(),
    })
}

/// Whether a comparison with a constant says no more than that there is a value: beside the empty text, beside an
/// infinite number or time, above what nothing lies below.
fn has_value(op: Comparison, left: &Term, right: &Term) -> bool {
    use Comparison::{Greater, GreaterEqual, Less, LessEqual, NotEqual, NotSame};
    let (beside, above, from) = (
        matches!(op, NotEqual | NotSame),
        matches!(op, Greater | GreaterEqual | NotEqual | NotSame),
        matches!(op, GreaterEqual),
    );
    match right {
        Term::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "" | "-infinity" | "-inf" => above,
            "infinity" | "inf" | "+infinity" => beside || matches!(op, Less | LessEqual),
            "(0,0)" => above && matches!(left, Term::Place(_)),
            "(0,1)" => from && matches!(left, Term::Place(_)),
            _ => false,
        },
        Term::Number(number) if matches!(left, Term::Measure(_) | Term::Place(_)) => {
            (above && *number <= 0.0) || (from && *number <= 1.0)
        }
        Term::Number(number) if number.is_infinite() => {
            beside || if *number < 0.0 { above } else { matches!(op, Less | LessEqual) }
        }
        Term::Null
        | Term::Bool(_)
        | Term::Number(_)
        | Term::Constant(_)
        | Term::Rows(_)
        | Term::Measure(_)
        | Term::Place(_) => false,
    }
}

/// How two constants of one type stand to each other.
fn order(left: &Term, right: &Term) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Term::Number(one), Term::Number(two)) => one.partial_cmp(two),
        (Term::Text(one), Term::Text(two)) => Some(one.cmp(two)),
        (Term::Bool(one), Term::Bool(two)) => Some(one.cmp(two)),
        _ => None,
    }
}

/// `CASE WHEN condition THEN one ELSE two END`.
pub(crate) fn chosen(condition: Predicate, one: Predicate, two: Predicate) -> Predicate {
    let settled = |part: Predicate| match part.reach(false) {
        Reach::Every => Predicate::Known(true),
        Reach::Nothing => Predicate::Known(false),
        Reach::Constant | Reach::Some => part,
    };
    match (settled(one), settled(two)) {
        (Predicate::Known(true), Predicate::Known(true)) => Predicate::Known(true),
        (Predicate::Known(true), Predicate::Known(false)) => condition,
        (Predicate::Known(false), Predicate::Known(true)) => Predicate::Not(Box::new(condition)),
        (Predicate::Known(true), two) => Predicate::Or(vec![condition, two]),
        (Predicate::Known(false), two) => Predicate::And(vec![Predicate::Not(Box::new(condition)), two]),
        (one, Predicate::Known(true)) => Predicate::Or(vec![Predicate::Not(Box::new(condition)), one]),
        (one, two) => Predicate::Or(vec![
            Predicate::And(vec![condition.clone(), one]),
            Predicate::And(vec![Predicate::Not(Box::new(condition)), two]),
        ]),
    }
}

/// What `coalesce` comes to: the first that may have a value.
pub(crate) fn given(mut terms: impl Iterator<Item = Term>) -> Option<Term> {
    terms.find(|term| *term != Term::Null)
}

/// A condition compared with a truth value: `(x IS NULL) = false`.
pub(crate) fn same_value(op: Comparison, condition: Predicate, value: bool) -> Predicate {
    let holds = match op {
        Comparison::Equal | Comparison::Same => value,
        Comparison::NotEqual | Comparison::NotSame => !value,
        // False lies below true.
        Comparison::GreaterEqual => return if value { condition } else { Predicate::Known(true) },
        Comparison::Greater => return if value { Predicate::Known(false) } else { condition },
        Comparison::LessEqual => {
            return if value { Predicate::Known(true) } else { Predicate::Not(Box::new(condition)) };
        }
        Comparison::Less => {
            return if value { Predicate::Not(Box::new(condition)) } else { Predicate::Known(false) };
        }
    };
    if holds { condition } else { Predicate::Not(Box::new(condition)) }
}

/// What is left of arithmetic with a constant that changes nothing, or leaves nothing of the row: `x + 0`, `x || ''`,
/// `x * 0`, `x - x`.
pub(crate) fn folded(operator: &str, left: &Term, right: &Term) -> Option<Term> {
    let is = |term: &Term, value: f64| matches!(term, Term::Number(number) if *number == value);
    let empty = |term: &Term| matches!(term, Term::Text(text) if text.is_empty());
    let same = left.of_row().is_some() && left == right;
    match operator {
        "+" if is(right, 0.0) => Some(left.clone()),
        "+" if is(left, 0.0) => Some(right.clone()),
        "-" if same => Some(Term::Number(0.0)),
        "-" if is(right, 0.0) => Some(left.clone()),
        "*" if is(left, 0.0) || is(right, 0.0) => Some(Term::Number(0.0)),
        "*" | "/" if is(right, 1.0) => Some(left.clone()),
        "*" if is(left, 1.0) => Some(right.clone()),
        "/" if same => Some(Term::Number(1.0)),
        "*" if same => Some(Term::Measure(format!("{operator} {left:?}"))),
        "%" if is(right, 1.0) => Some(Term::Number(0.0)),
        "||" if empty(right) => Some(left.clone()),
        "||" if empty(left) => Some(right.clone()),
        _ => None,
    }
}

/// Functions whose value is never below zero.
pub(crate) fn measures(function: &str) -> bool {
    matches!(
        function,
        "abs"
            | "array_length"
            | "bit_length"
            | "cardinality"
            | "char_length"
            | "character_length"
            | "length"
            | "num_nonnulls"
            | "octet_length"
            | "pg_column_size"
    )
}

/// Whether a pattern lets every text through that there is, the empty one perhaps excepted.
pub(crate) fn lets_all_through(pattern: &str, any: char, one: Option<char>) -> bool {
    pattern.contains(any)
        && pattern.chars().all(|c| c == any || Some(c) == one)
        && pattern.chars().filter(|c| Some(*c) == one).count() <= 1
}

/// The same of a regular expression.
pub(crate) fn matches_all(expression: &str) -> bool {
    let inner = expression.trim_start_matches(['^', '(']).trim_end_matches(['$', ')']);
    matches!(inner, "" | "." | ".*" | ".+" | ".*?" | ".+?" | "[^]*" | "\\A" | "\\Z" | "|")
}
