//! What became of a row between two times.

/// A row that changed: what it was, and what it is now. `R` is how the row is known, at either time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowChange<R> {
    /// There was none before.
    Inserted(R),
    /// There is none any more.
    Deleted(R),
    /// It was there before, and is there now.
    Updated {
        /// It was this.
        old: R,
        /// It is this now.
        new: R,
    },
}

impl<R> RowChange<R> {
    /// Tells what became of a row that was this and is that now. None where there was none and is none.
    pub(crate) fn between(old: Option<R>, new: Option<R>) -> Option<Self> {
        match (old, new) {
            (None, Some(new)) => Some(Self::Inserted(new)),
            (Some(old), None) => Some(Self::Deleted(old)),
            (Some(old), Some(new)) => Some(Self::Updated { old, new }),
            (None, None) => None,
        }
    }

    /// Tells what it was.
    pub(crate) const fn before(&self) -> Option<&R> {
        match self {
            Self::Inserted(_) => None,
            Self::Deleted(old) | Self::Updated { old, .. } => Some(old),
        }
    }

    /// Tells what it is now.
    pub(crate) const fn after(&self) -> Option<&R> {
        match self {
            Self::Deleted(_) => None,
            Self::Inserted(new) | Self::Updated { new, .. } => Some(new),
        }
    }

    /// Tells what it is now, or what it was where it is gone.
    pub(crate) const fn last(&self) -> &R {
        match self {
            Self::Inserted(row) | Self::Deleted(row) | Self::Updated { new: row, .. } => row,
        }
    }
}
