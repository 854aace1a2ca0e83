//! The work of one call of a statement tool.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value};

use super::statement::AdmittedStatement;
use crate::declared::Declared;

/// One call of a statement tool is about to do this.
#[derive(Debug)]
pub struct Work {
    pub(crate) statement: AdmittedStatement,
    pub(crate) arguments: Map<String, Value>,
    pub(super) declared: Arc<Declared>,
    pub(super) fixed: bool,
    /// The rows it changes are kept for undo: it can be undone, and is declared so.
    pub(crate) images: bool,
}

impl Work {
    /// The names of the tables that the statement names, and of those that stand behind them, in lower case.
    pub(crate) fn tables(&self) -> BTreeSet<String> {
        let named = self.statement.reads.iter().chain(&self.statement.writes).chain(&self.statement.through);
        named.map(|table| table.name.to_ascii_lowercase()).collect()
    }

    /// Tells whether the author wrote the statement, so that it comes again.
    pub(crate) const fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Checks a reply against the declared result.
    pub(crate) fn fits(&self, reply: impl FnOnce() -> Value) -> Result<(), String> {
        if self.declared.spec.result.is_none() {
            return Ok(());
        }
        self.declared.fits(&reply())
    }
}
