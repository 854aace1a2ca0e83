//! What a call does to its system.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A call has one of these effects, from harmless to irreversible. The order is the strictness: the larger of what a
/// tool declares and what a call is seen to do is what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The call changes nothing.
    Read,
    /// The call changes something, within what a predicate or an argument names.
    Write,
    /// The call deletes, or changes without a bound.
    Destructive,
}

impl Effect {
    /// Returns the word used in policies, configuration and log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tool's author declares one of these effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclaredEffect {
    /// Every call is a read.
    Read,
    /// Every call is at least a write.
    Write,
    /// Every call is destructive.
    Destructive,
    /// The agent writes the statement, and the statement decides.
    FromStatement,
}

impl DeclaredEffect {
    /// Returns the word used in configuration and listings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read | Self::Write | Self::Destructive => self.floor().as_str(),
            Self::FromStatement => "from_statement",
        }
    }

    /// The least effect a call of such a tool has.
    #[must_use]
    pub const fn floor(self) -> Effect {
        match self {
            Self::Read | Self::FromStatement => Effect::Read,
            Self::Write => Effect::Write,
            Self::Destructive => Effect::Destructive,
        }
    }

    /// The most a call of such a tool may be seen to do; what is seen to do more is refused, because
    /// then the declaration is wrong.
    #[must_use]
    pub const fn ceiling(self) -> Effect {
        match self {
            Self::Read => Effect::Read,
            Self::Write => Effect::Write,
            Self::Destructive | Self::FromStatement => Effect::Destructive,
        }
    }
}
