//! What a tool and its system are declared to be.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use serde_json::Value;

use crate::{
    effect::DeclaredEffect,
    id::{SystemName, ToolName, ToolVersion},
    rate::Rate,
};

/// Agents reach this system only through tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemSpec {
    /// The configuration calls the system by this name.
    pub name: SystemName,
    /// The system is of this kind: `sqlite`, `postgres`, `http`, `mcp` or `exec`.
    pub kind: String,
    /// The system is of this environment, which policies ask for: `production`, `staging`, `archive`, …
    pub environment: String,
    /// The account it belongs to; crossing accounts is blocked by the floor.
    pub account: String,
}

/// One narrow, typed operation on one system, as its author declared it and as it was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// Agents call the tool by this name.
    pub name: ToolName,
    /// This is a digest over the whole definition, template and system included. A changed definition is another
    /// version: approvals for the old one no longer fit.
    pub version: ToolVersion,
    /// The system it acts on.
    pub system: SystemSpec,
    /// Agents and approvers are told that the tool does this.
    pub description: String,
    /// The author declares that calls have this effect.
    pub effect: DeclaredEffect,
    /// The author declares these categories, such as `money`, `iam`, `schema`, `personal_data`, `purge`.
    pub categories: BTreeSet<String>,
    /// This is true if we can undo what the tool does.
    pub reversible: bool,
    /// This is true if the reach of its calls can be measured before they run.
    pub measurable: bool,
    /// This is true if the system itself recognises a repeated call by its idempotency key, so that a call in doubt
    /// may be repeated.
    pub idempotent: bool,
    /// Arguments must fit this JSON Schema 2020-12: a closed object, without the reserved reason.
    pub arguments: Value,
    /// Results must fit this JSON Schema 2020-12, when there is one.
    pub result: Option<Value>,
    /// The tool may be called this often; each rate must be met.
    pub rates: Vec<Rate>,
    /// The most rows one call may return or touch; what the rows budget reserves when the reach is not
    /// measured.
    pub rows_max: u64,
}
