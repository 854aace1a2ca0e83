//! What service levels are measured by: who was asked when, and who answered when.

use countersign_gate::ledger::LedgerFault;
use countersign_rules::{ApprovalState, Effect, Signature, ToolName, decision::AskOf};
use serde::Deserialize;

use crate::{
    record::{
        approval::{Answers, state},
        call::effect,
    },
    row::{Damage, SqlStatement, StoredRow},
    store::Store,
};

/// This reads requests before a place, newest first. What is asked of whom is taken out here and not by the database, which
/// takes no JSON that has every text an argument may have.
const SELECT: &str = "SELECT a.place, a.state, a.effect, a.tool, a.request, a.answers FROM approval a \
     WHERE a.place < $1 ORDER BY a.place DESC LIMIT $2";

/// These are the times of one request, with what they are told apart by.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestTimes {
    /// The request has this place in the order of requests.
    pub place: u64,
    /// The call is one of this tool.
    pub tool: ToolName,
    /// The call has this effect.
    pub effect: Effect,
    /// The request stands so.
    pub state: ApprovalState,
    /// These groups are asked, every one of them.
    pub of: Vec<AskOf>,
    /// People were asked at this time, in Unix milliseconds UTC.
    pub asked_ms: i64,
    /// The request expires at this time, in Unix milliseconds UTC.
    pub expires_ms: i64,
    /// People answered this, in this order.
    pub signatures: Vec<Signature>,
}

impl Store {
    /// Returns the times of requests, newest first in the order in which people were asked, whatever clocks said; at most
    /// `limit`. For the next ones, ask for those `before` the place of the last.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn request_times(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RequestTimes>, LedgerFault> {
        // Both are numbers with sign in a database.
        let before = before.map_or(i64::MAX, |place| i64::try_from(place).unwrap_or(i64::MAX));
        let params = vec![before.into(), u64::from(limit).into()];
        let rows = self.scan(SqlStatement::new(SELECT, params)).await?;
        Ok(rows.iter().map(read).collect::<Result<_, Damage>>()?)
    }
}

/// What counts of a request as it is kept; the rest is passed over.
#[derive(Debug, Deserialize)]
struct Asking {
    of: Vec<AskOf>,
    asked_ms: i64,
    expires_ms: i64,
}

fn read(row: &StoredRow) -> Result<RequestTimes, Damage> {
    let Asking { of, asked_ms, expires_ms } = row.json(4)?;
    let Answers { signatures, .. } = row.json(5)?;
    Ok(RequestTimes {
        place: row.count(0)?,
        state: state(row.text(1)?)?,
        effect: effect(row.text(2)?)?,
        tool: row.parse(3)?,
        of,
        asked_ms,
        expires_ms,
        signatures,
    })
}
