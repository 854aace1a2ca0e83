//! The names and ids that decisions, approvals and log entries refer to.
//!
//! Each is a type of its own, so that a session cannot be passed where an agent is meant. Names that
//! people write are parsed; ids that we make are only wrapped.

use alloc::{borrow::ToOwned as _, string::String, sync::Arc};
use core::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A name or id may have at most so many bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// A text is not a name for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The text is empty.
    #[error("a name may not be empty")]
    Empty,
    /// The text is longer than [`NAME_BYTES_MAX`].
    #[error("a name may have at most {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// The text has a character that names do not have.
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
            /// Returns [`BadName`] when the text is empty, too long or has a character that names do not have.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                parse(text).map(Self)
            }

            /// Returns the text of the name.
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
    /// This names an agent: the authenticated principal that proposes calls.
    AgentId,
    /// This names one connection or conversation of an agent.
    SessionId,
    /// This names one call that an agent proposed.
    CallId,
    /// This names one decision about a call.
    DecisionId,
    /// This names one request for a person's approval.
    ApprovalId,
    /// This names a person who may answer requests.
    PersonId,
    /// This names a group of people that policies ask (`@ask`).
    GroupName,
    /// This names a channel by which people are told that something waits for them.
    ChannelName,
    /// This names an identity provider by which people sign in.
    ProviderName,
    /// This names a passkey of a person: the SHA-256 of its credential id.
    PasskeyId,
    /// This names a team that agents belong to.
    TeamName,
    /// This names a tool, as it is configured and as agents call it.
    ToolName,
    /// This names a system that agents reach only through tools.
    SystemName,
    /// This names a policy by its file and `@id`.
    PolicyId,
    /// This is the digest of a tool's definition: a changed definition is another version.
    ToolVersion,
    /// This is the digest of the policies in force.
    BundleDigest,
    /// This is the digest of what can decide about one agent's calls of one tool.
    SliceDigest,
}

/// The id of a session that its client did not name begins with this.
const UNNAMED: &str = "unnamed-";

impl SessionId {
    /// Returns the id of a session that its client did not name: a connection, a credential.
    ///
    /// # Errors
    /// Returns [`BadName`] as for [`SessionId::parse`].
    pub fn unnamed(what: &str) -> Result<Self, BadName> {
        Self::parse(&alloc::format!("{UNNAMED}{what}"))
    }
}
