//! Why a text has no answer.

use thiserror::Error;

/// The text cannot be classified. Nothing is guessed: a caller treats this as a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The grammar refuses it.
    #[error("the statement is not valid {dialect}: {message}")]
    Syntax {
        /// `PostgreSQL` or `SQLite`.
        dialect: &'static str,
        /// The parser's own words.
        message: String,
        /// Byte offset of the offence, where the parser tells.
        position: Option<usize>,
    },
    /// There is no statement in it.
    #[error("the text holds no statement")]
    Empty,
    /// Longer than [`crate::LENGTH_MAX`].
    #[error("the text has {length} bytes, more than the {max} that are examined")]
    TooLong {
        /// Bytes of the text.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Nested deeper than is examined.
    #[error("the statement is nested too deeply to be examined")]
    TooDeep,
    /// A zero byte would hide what follows it from the parser.
    #[error("the text holds a zero byte")]
    ZeroByte {
        /// Byte offset of the first one.
        position: usize,
    },
    /// Valid, but what it does cannot be found out.
    #[error("the statement cannot be classified: {message}")]
    Unclassifiable {
        /// What stood in the way.
        message: String,
    },
}

impl SqlError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "sql_syntax",
            Self::Empty => "sql_empty",
            Self::TooLong { .. } => "sql_too_long",
            Self::TooDeep => "sql_too_deep",
            Self::ZeroByte { .. } => "sql_zero_byte",
            Self::Unclassifiable { .. } => "sql_unclassifiable",
        }
    }

    /// Byte offset of the offence, where it is known.
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        match self {
            Self::Syntax { position, .. } => *position,
            Self::ZeroByte { position } => Some(*position),
            Self::Empty | Self::TooLong { .. } | Self::TooDeep | Self::Unclassifiable { .. } => None,
        }
    }
}
