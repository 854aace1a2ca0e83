//! Whether a predicate limits anything, common to both dialects.
//!
//! Both walks translate a `WHERE` into this small form; what they do not understand becomes [`Predicate::Rows`]
//! when it looks at the row and [`Predicate::Constant`] when it does not. It is a heuristic that catches the
//! usual tautologies. It never makes a statement laxer than "a predicate was written".

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
        match self.reach() {
            Reach::Every | Reach::Constant => Bound::Tautology,
            Reach::Nothing | Reach::Some => Bound::Predicate,
        }
    }

    fn reach(&self) -> Reach {
        match self {
            Self::Known(true) => Reach::Every,
            Self::Known(false) => Reach::Nothing,
            Self::Constant => Reach::Constant,
            Self::Rows(_) | Self::Compared(..) | Self::Null(_) | Self::NotNull(_) => Reach::Some,
            Self::Not(inner) => match inner.reach() {
                Reach::Every => Reach::Nothing,
                Reach::Nothing => Reach::Every,
                Reach::Constant => Reach::Constant,
                Reach::Some => Reach::Some,
            },
            Self::And(parts) => {
                let reaches: Vec<_> = parts.iter().map(Self::reach).collect();
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
            Self::Or(parts) => {
                let reaches: Vec<_> = parts.iter().map(Self::reach).collect();
                let covering = parts.iter().any(|one| parts.iter().any(|other| one.excludes(other)));
                if covering || reaches.contains(&Reach::Every) {
                    Reach::Every
                } else if reaches.contains(&Reach::Constant) {
                    Reach::Constant
                } else if reaches.contains(&Reach::Some) {
                    Reach::Some
                } else {
                    Reach::Nothing
                }
            }
        }
    }

    /// Whether the two cover every row between them: `p OR NOT p`, `x IS NULL OR x IS NOT NULL`, `x < 5 OR x >= 5`.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Not(inner), same) => **inner == *same,
            (Self::Null(one), Self::NotNull(two)) => one == two,
            (Self::Compared(one, left, right), Self::Compared(two, same_left, same_right)) => {
                left == same_left && right == same_right && one.opposite() == *two
            }
            _ => false,
        }
    }
}

/// `left op right`.
pub(crate) fn compare(op: Comparison, left: &Term, right: &Term) -> Predicate {
    if let (Term::Rows(one), Term::Rows(two)) = (left, right)
        && one == two
    {
        // `x = x` is true for every row but those where x is NULL.
        return Predicate::Known(matches!(
            op,
            Comparison::Equal | Comparison::LessEqual | Comparison::GreaterEqual | Comparison::Same
        ));
    }
    if let (Term::Rows(text), Term::Null) | (Term::Null, Term::Rows(text)) = (left, right) {
        match op {
            Comparison::Same => return Predicate::Null(text.clone()),
            Comparison::NotSame => return Predicate::NotNull(text.clone()),
            Comparison::Equal
            | Comparison::NotEqual
            | Comparison::Less
            | Comparison::LessEqual
            | Comparison::Greater
            | Comparison::GreaterEqual => return Predicate::Known(false),
        }
    }
    if matches!(left, Term::Rows(_)) || matches!(right, Term::Rows(_)) {
        return Predicate::Compared(op, left.clone(), right.clone());
    }
    let order = match (left, right) {
        (Term::Number(one), Term::Number(two)) => one.partial_cmp(two),
        (Term::Text(one), Term::Text(two)) => Some(one.cmp(two)),
        (Term::Bool(one), Term::Bool(two)) => Some(one.cmp(two)),
        _ => None,
    };
    let Some(order) = order else { return Predicate::Constant };
    Predicate::Known(match op {
        Comparison::Equal | Comparison::Same => order.is_eq(),
        Comparison::NotEqual | Comparison::NotSame => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterEqual => order.is_ge(),
    })
}
