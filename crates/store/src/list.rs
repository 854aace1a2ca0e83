//! Listing requests and calls: filtered and paged by the database, so that a list costs what it shows.
//!
//! A page begins after the last record of the one before (keyset paging): nothing is shown twice or left out because
//! something was added meanwhile, and the hundredth page costs no more than the first.

use std::collections::BTreeSet;

use countersign_gate::ledger::{ApprovalRecord, CallRecord, CallState, LedgerFault};
use countersign_rules::{AgentId, ApprovalId, ApprovalState, CallId, GroupName, ToolName};

use crate::{
    approval::{self, ApprovalRow},
    call::{self, CallRow},
    row::Query,
    store::Store,
};

/// Which requests are listed.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// In any of these states; in every one when empty.
    pub states: Vec<ApprovalState>,
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// Asking any of these groups; of none when the set is empty.
    pub groups: Option<BTreeSet<GroupName>>,
    /// After this request.
    pub after: Option<ApprovalId>,
}

/// Which calls are listed.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// In this state.
    pub state: Option<CallState>,
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// Of any of these tools, where an agent is named.
    pub tools: Option<BTreeSet<ToolName>>,
    /// After this call, in the order of the list.
    pub after: Option<CallId>,
}

impl Store {
    /// Requests that fit, oldest first, without their evidence. For the next ones, ask after the last.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn list_approvals(
        &self,
        filter: &ApprovalFilter,
        limit: u32,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let rows = self.scan(approval::select_some(filter, limit)).await?;
        rows.iter().map(|row| Ok(ApprovalRow::read(row)?.record)).collect()
    }

    /// Calls that fit, newest first. For the next ones, ask after the last.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn list_calls(&self, filter: &CallFilter, limit: u32) -> Result<Vec<CallRecord>, LedgerFault> {
        let rows = self.scan(call::select_some(filter, limit)).await?;
        rows.iter().map(|row| Ok(CallRow::read(row)?.record)).collect()
    }

    /// How many requests wait for people, and how many calls are in doubt.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn unsettled(&self) -> Result<(u64, u64), LedgerFault> {
        let count = |sql| async move {
            let rows = self.scan(Query::new(sql, Vec::new())).await?;
            Ok::<u64, LedgerFault>(rows.first().map(|row| row.count(0)).transpose()?.unwrap_or_default())
        };
        Ok((
            count("SELECT count(*) FROM approval WHERE state = 'waiting'").await?,
            count("SELECT count(*) FROM call WHERE state = 'in_doubt'").await?,
        ))
    }
}
