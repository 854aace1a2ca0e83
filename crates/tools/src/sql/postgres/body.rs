//! What is done inside a transaction that changes rows.

use std::{collections::BTreeMap, future::Future};

use countersign_rules::{CallId, Reach};
use countersign_sql::TableRef;
use deadpool_postgres::Object;

use super::fault::PostgresFault;
use crate::sql::statement::Scope;

/// What is done inside the transaction.
pub(super) trait Body: Send {
    /// What comes of it.
    type Made: Send;

    /// Does it. Another try may do it otherwise.
    fn run(
        &mut self,
        client: &Object,
    ) -> impl Future<Output = Result<(Self::Made, Uncounted), PostgresFault>> + Send;

    /// Gives tables the names that the rules know.
    fn scope(&self) -> &Scope;

    /// The tables that it names.
    fn writes(&self) -> Vec<TableRef>;

    /// Tells whether it may change or empty whole tables, by its own words.
    fn rewrites(&self) -> bool;

    /// Tells whether it may leave something on the session that outlasts its transaction.
    fn lingers(&self) -> bool;

    /// The call that it undoes.
    fn undoes(&self) -> Option<&CallId>;
}

/// What the server's counts do not tell.
#[derive(Default)]
pub(super) struct Uncounted {
    /// Rows of tables that go as a whole.
    pub(super) whole: BTreeMap<String, u64>,
    /// What the command itself said.
    pub(super) tag: u64,
    /// The rows of each table, where they are known one by one: a row may be touched more than once on the
    /// way back to what it was.
    pub(super) rows: Option<BTreeMap<String, u64>>,
}

/// What a write did before its commit.
pub(super) enum Done<M> {
    /// Within the warrant.
    Within(M, u64),
    /// Beyond it.
    Beyond(Box<Reach>),
}
