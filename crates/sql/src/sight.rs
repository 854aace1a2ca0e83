//! Under which names a condition sees the rows of a statement's target, common to both dialects.

use crate::predicate::Term;

/// The names that a condition sees: of the target, and of other relations, which say nothing of the target's rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// The name of the target itself, unless a subquery gives it to something else.
    pub(crate) own: Option<String>,
    /// Other names under which its rows are seen: each of them, beside the row that is chosen or not.
    same: Vec<String>,
    /// What a column without a qualifier belongs to, where it is not the target.
    pub(crate) inner: Option<String>,
    others: Vec<String>,
}

impl Names {
    /// Of a statement whose target has this name.
    pub(crate) fn new(own: Option<String>) -> Self {
        Self { own, ..Self::default() }
    }

    /// A relation is joined; `same`: it shows every row of the target. The innermost of a name is meant.
    pub(crate) fn join(&mut self, name: String, same: bool) {
        if self.own.as_deref() == Some(&name) {
            self.own = None;
        }
        self.same.retain(|other| *other != name);
        self.others.retain(|other| *other != name);
        if same { self.same.push(name) } else { self.others.push(name) }
    }

    /// Whether a name is of a relation that says nothing of the target's rows.
    pub(crate) fn is_other(&self, name: &str) -> bool {
        self.others.iter().any(|other| other == name)
    }

    /// A column without the name under which the rows of the target are seen. Of two names that are equal so, the
    /// columns are equal in one pair of rows at least: that of each row with itself.
    pub(crate) fn bare(&self, term: &Term) -> Option<String> {
        let text = term.of_row()?;
        match text.split_once('.') {
            Some((name, column)) if self.same.iter().any(|same| same == name) => Some(column.to_owned()),
            _ => Some(text.to_owned()),
        }
    }

    /// A column that is not of the row that is chosen or not; `written`: with all of its qualifiers. `None` where it is.
    pub(crate) fn elsewhere(&self, qualifier: Option<&str>, written: String, column: &str) -> Option<Term> {
        match (qualifier, &self.inner) {
            (Some(name), _) if self.is_other(name) => Some(Term::Constant(written)),
            (Some(name), _) if self.own.as_deref() != Some(name) => Some(Term::Rows(written)),
            (None, Some(inner)) => Some(Term::Rows(format!("{inner}.{column}"))),
            _ => None,
        }
    }
}
