//! Listing requests and calls: filtered and paged by the database, so that a list costs what it shows.
//!
//! A page begins after the last record of the one before (keyset paging): nothing is shown twice or left out
//! because something was added meanwhile, and the hundredth page costs no more than the first. A filter that few
//! of an agent's or a group's records pass is read on for until the page is full.

use std::collections::BTreeSet;

use countersign_gate::ledger::{ApprovalRecord, CallRecord, CallState, LedgerFault};
use countersign_rules::{AgentId, ApprovalId, ApprovalState, CallId, GroupName, ToolName};

use crate::{
    record::{
        Record as _,
        approval::{self, ApprovalRow},
        call::{self, CallRow, call_columns, open_calls, select_calls},
    },
    row::{SqlStatement, Value},
    store::Store,
};

/// This says which requests are listed. Every condition must hold.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// The requests are in this state; in any when `None`.
    pub state: Option<ApprovalState>,
    /// The requests are of this agent; of any when `None`.
    pub agent: Option<AgentId>,
    /// The requests ask any of these groups; none are listed when the set is empty, and groups do not matter
    /// when `None`.
    pub groups: Option<BTreeSet<GroupName>>,
    /// The list begins after this request. It is empty when there is no such request.
    pub after: Option<ApprovalId>,
}

/// This says which calls are listed. Every condition must hold.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// The calls are in this state; in any when `None`.
    pub state: Option<CallState>,
    /// The calls are of this agent; of any when `None`.
    pub agent: Option<AgentId>,
    /// The calls are of any of these tools; none are listed when the set is empty. This counts only where an
    /// agent is named.
    pub tools: Option<BTreeSet<ToolName>>,
    /// The list begins after this call, in its own order. It is empty when there is no such call, or when it is
    /// none of the agent that is named.
    pub after: Option<CallId>,
}

impl Store {
    /// Returns requests that fit, oldest first, without their evidence; at most `limit`. For the next ones, ask
    /// after the last.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn list_approvals(
        &self,
        filter: &ApprovalFilter,
        limit: u32,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let rows = self.scan(page_of_requests(filter, limit)).await?;
        rows.iter().map(|row| Ok(ApprovalRow::read(row)?.record)).collect()
    }

    /// Returns the requests with which people granted calls, where something of that is left at `now_ms` (Unix milliseconds
    /// UTC), those that end first before the others; at most `limit`.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn grants(&self, now_ms: i64, limit: u32) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let rows = self.select(approval::select_grants(now_ms, limit)).await?;
        rows.iter().map(|row| Ok(ApprovalRow::read(row)?.record)).collect()
    }

    /// Returns calls that fit, newest first; at most `limit`. For the next ones, ask after the last.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn list_calls(&self, filter: &CallFilter, limit: u32) -> Result<Vec<CallRecord>, LedgerFault> {
        let rows = self.scan(page_of_calls(self, filter, limit)).await?;
        rows.iter().map(|row| Ok(CallRow::read(row)?.record)).collect()
    }

    /// Returns how many requests wait for people, and how many calls are in doubt.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn unsettled(&self) -> Result<(u64, u64), LedgerFault> {
        let count = |sql| async move {
            let rows = self.scan(SqlStatement::new(sql, Vec::new())).await?;
            Ok::<u64, LedgerFault>(rows.first().map(|row| row.count(0)).transpose()?.unwrap_or_default())
        };
        Ok((
            count("SELECT count(*) FROM approval WHERE state = 'waiting'").await?,
            count("SELECT count(*) FROM call WHERE unsettled = 'in_doubt'").await?,
        ))
    }
}

macro_rules! select_requests {
    ($state:literal, $after:literal) => {
        concat!(
            "SELECT a.place, a.state, a.effect, a.delivered, a.request, a.answers, a.code, CAST(NULL AS TEXT) ",
            "FROM approval a WHERE ",
            $state,
            $after,
            "(CAST($1 AS TEXT) IS NULL OR a.agent = $1) ",
            // The groups stand between commas, which no name has: what is left after taking one out is shorter.
            // They are counted, for PostgreSQL may read every group there is to answer an `EXISTS`.
            "AND (CAST($2 AS TEXT) IS NULL OR (SELECT count(*) FROM approval_group g WHERE g.place = a.place ",
            "AND replace($2, ',' || g.name || ',', '') <> $2) > 0) ",
            "ORDER BY a.place LIMIT $3"
        )
    };
}

/// Returns the statement that reads a page of the list of requests. What it begins with is said in the text, so
/// that an index leads there.
fn page_of_requests(filter: &ApprovalFilter, limit: u32) -> SqlStatement {
    let groups = filter.groups.as_ref().map(|groups| {
        let names: String = groups.iter().map(|group| format!(",{group},")).collect();
        // Between two names there are two commas, so that taking one out leaves the next as it is.
        if names.is_empty() { ",".to_owned() } else { names }
    });
    let mut params = vec![
        filter.agent.as_ref().map(AgentId::as_str).into(),
        groups.as_deref().into(),
        u64::from(limit).into(),
    ];
    params.extend(filter.after.as_ref().map(|after| Value::from(after.as_str())));
    params.extend(filter.state.map(|state| Value::from(state.as_str())));
    let sql = match (&filter.state, &filter.after) {
        (None, None) => select_requests!("", ""),
        (None, Some(_)) => {
            select_requests!("", "a.place > (SELECT place FROM approval WHERE id = $4) AND ")
        }
        (Some(_), None) => select_requests!("a.state = $4 AND ", ""),
        (Some(_), Some(_)) => {
            select_requests!("a.state = $5 AND ", "a.place > (SELECT place FROM approval WHERE id = $4) AND ")
        }
    };
    SqlStatement::new(sql, params)
}

/// Returns the statement that reads a page of the list of an agent's calls.
fn page_of_own_calls(store: &Store, agent: &AgentId, filter: &CallFilter, limit: u32) -> SqlStatement {
    // Tools stand between commas, which no name has: what is left after taking one out is shorter.
    let tools = filter.tools.as_ref().map(|tools| {
        let names: String = tools.iter().map(|tool| format!(",{tool},")).collect();
        if names.is_empty() { ",".to_owned() } else { names }
    });
    let mut params = vec![
        u64::from(limit).into(),
        agent.as_str().into(),
        filter.state.map(CallState::as_str).into(),
        tools.as_deref().into(),
    ];
    params.extend(filter.after.as_ref().map(|after| Value::from(after.as_str())));
    SqlStatement::new(store.select_own_calls(filter.after.is_some()), params)
}

/// Returns the statement that reads a page of the list of calls.
fn page_of_calls(store: &Store, filter: &CallFilter, limit: u32) -> SqlStatement {
    if let Some(agent) = &filter.agent {
        return page_of_own_calls(store, agent, filter, limit);
    }
    let Some(after) = &filter.after else { return call::select_all(filter.state, limit) };
    let mut params = vec![u64::from(limit).into(), after.as_str().into()];
    let sql = match filter.state {
        Some(CallState::Open) => concat!(
            open_calls!(
                concat!(call_columns!(), ", place"),
                "AND place < (SELECT c.place FROM call c WHERE c.id = $2) "
            ),
            "ORDER BY place DESC LIMIT $1"
        ),
        Some(state @ (CallState::InDoubt | CallState::Failed)) => {
            params.push(state.as_str().into());
            select_calls!(
                "WHERE unsettled = $3 AND place < (SELECT c.place FROM call c WHERE c.id = $2) \
                 ORDER BY place DESC LIMIT $1"
            )
        }
        Some(CallState::Done) => select_calls!(
            "WHERE state = 'done' AND place < (SELECT c.place FROM call c WHERE c.id = $2) \
             ORDER BY place DESC LIMIT $1"
        ),
        None => select_calls!(
            "WHERE place < (SELECT c.place FROM call c WHERE c.id = $2) ORDER BY place DESC LIMIT $1"
        ),
    };
    SqlStatement::new(sql, params)
}
