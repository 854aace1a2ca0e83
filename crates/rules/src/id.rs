//! The names and ids that decisions, approvals and log entries refer to.
//!
//! Each is a type of its own, so that a session cannot be passed where an agent is meant. Names that
//! people write are parsed; ids that we make are only wrapped.

use alloc::{borrow::ToOwned as _, string::String, sync::Arc};
use core::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Longest name or id accepted, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// A text is not a name for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing was written.
    #[error("a name may not be empty")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("a name may have at most {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A character that names do not have.
    #[error("`{0}` may not stand in a name: use letters, digits, `_`, `-`, `.`, `@` and `:`")]
    Character(char),
}

fn parse(text: &str) -> Result<Arc<str>, BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | ':'))) {
        Some(bad) => Err(BadName::Character(bad)),
        None => Ok(text.into()),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// [`BadName`] when the text is empty, too long or has a character that names do not have.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                parse(text).map(Self)
            }

            /// The text of the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                (*name.0).to_owned()
            }
        }
    )*};
}

names! {
    /// An agent: the authenticated principal that proposes calls.
    AgentId,
    /// One connection or conversation of an agent.
    SessionId,
    /// One call that an agent proposed.
    CallId,
    /// One decision about a call.
    DecisionId,
    /// One request for a person's approval.
    ApprovalId,
    /// A person who may answer requests.
    PersonId,
    /// A group of people that policies name in `@ask`.
    GroupName,
    /// A team that agents belong to.
    TeamName,
    /// A tool, as configured and as agents name it.
    ToolName,
    /// A system that agents reach only through tools.
    SystemName,
    /// A policy, as its file and `@id` name it.
    PolicyId,
    /// The digest of a tool's definition: a changed definition is another version.
    ToolVersion,
    /// The digest of the policies in force.
    BundleDigest,
    /// The digest of what can decide about one agent's calls of one tool.
    SliceDigest,
}

/// The id of a session that its client did not name begins with this.
const UNNAMED: &str = "unnamed-";

impl SessionId {
    /// The id of a session that its client did not name: a connection, a credential.
    ///
    /// # Errors
    /// [`BadName`] as for [`SessionId::parse`].
    pub fn unnamed(what: &str) -> Result<Self, BadName> {
        Self::parse(&alloc::format!("{UNNAMED}{what}"))
    }
}
