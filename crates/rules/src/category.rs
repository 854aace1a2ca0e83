//! What kind of thing a call touches, beyond how strong it is.
//!
//! Categories are plain words, declared by a tool's author or observed in a statement. The list of known
//! words exists so that a typing error does not slip past the floor unnoticed.

/// A category and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CategoryWord {
    /// This word is used in tools, policies and log.
    pub word: &'static str,
    /// A call of this category touches this, in words for people.
    pub meaning: &'static str,
}

/// A deployment's own categories begin with this, such as `x-medical`.
pub const OWN_PREFIX: &str = "x-";

macro_rules! categories {
    ($($word:literal $meaning:literal),* $(,)?) => {
        /// These are all known categories. Other words need the prefix [`OWN_PREFIX`].
        pub const KNOWN: &[CategoryWord] = &[$(CategoryWord { word: $word, meaning: $meaning }),*];
    };
}

categories! {
    "money" "moves money: charges, refunds, transfers, prices",
    "iam" "identities, roles, privileges, access",
    "schema" "creates, alters or drops an object such as a table",
    "purge" "removes for good what is kept on purpose: archives, backups, histories",
    "personal_data" "reads or changes data about people",
    "encryption_keys" "keys and secrets; blocked by the floor",
    "audit_log" "the record of what happened; changing it is blocked by the floor",
    "policy" "the rules themselves; changing them is blocked by the floor",
    "data" "changes rows",
    "session" "settings, cursors and prepared statements of a database session",
    "transaction" "begins, ends or alters a transaction",
    "admin" "maintains, configures or observes a server",
    "files" "reads or writes files of a server",
    "process" "starts a process or loads code",
    "network" "reaches another server",
    "lock" "takes locks beyond those of a plain read",
    "sequence" "moves a sequence",
    "large_object" "large objects, which no table privilege covers",
    "notify" "sends something to other sessions or to replication",
    "catalog" "reads the catalog of a database",
    "credentials" "what a database keeps of passwords, keys and connection strings; blocked by the floor",
    "undo" "puts rows back to what they were before an earlier call",
    "opaque" "runs code or text that cannot be seen from here",
}

/// Returns true if the word is a known category or a deployment's own.
#[must_use]
pub fn is_known(word: &str) -> bool {
    KNOWN.iter().any(|c| c.word == word) || word.strip_prefix(OWN_PREFIX).is_some_and(|rest| !rest.is_empty())
}
