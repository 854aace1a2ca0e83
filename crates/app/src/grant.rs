//! What people granted beside an approval: listed, ended, and good only as long as those who gave it may approve.

use std::sync::Weak;

use countersign_gate::{
    Ledger as _, Signers,
    ledger::{ApprovalRecord, LedgerFault},
};
use countersign_rules::{ApprovalId, Code, Grant, Refusal};
use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    answer::{not_looked_up, timestamp},
    app::App,
    approval::{UNKNOWN, asks, visible},
    auth::{Person, Principal},
    role::Right,
};

/// So many grants are listed at most.
const GRANTS_MAX: u32 = 1_000;

/// So many characters are kept of why a grant was ended.
const WHY_CHARS_MAX: usize = 500;

/// So far those who approve a request may grant calls like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantBoundBody {
    /// At most so many calls.
    pub calls: u32,
    /// For at most so many seconds.
    pub seconds: u64,
}

/// People granted calls like the one they approved: of the same agent, session and tool, with other values, each of which
/// may reach no further than that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantBody {
    /// So many calls were granted.
    pub calls: u32,
    /// So many of them are left. A call that was begun has taken one, whatever became of it.
    pub left: u32,
    /// They may run until this time (RFC 3339).
    pub until: Option<String>,
    /// This person ended it before its time.
    pub ended_by: Option<String>,
    /// It was ended for this reason.
    pub ended_why: Option<String>,
}

impl From<&Grant> for GrantBody {
    fn from(grant: &Grant) -> Self {
        Self {
            calls: grant.terms.calls,
            left: grant.left,
            until: timestamp(grant.terms.until_ms),
            ended_by: grant.ended.as_ref().map(|end| end.by.to_string()),
            ended_why: grant.ended.as_ref().map(|end| end.why.clone()),
        }
    }
}

/// The gate asks the application about signers.
pub(crate) struct AskedOf(pub(crate) Weak<App>);

impl Signers for AskedOf {
    fn still_approve<'a>(&'a self, record: &'a ApprovalRecord) -> BoxFuture<'a, Result<bool, LedgerFault>> {
        let app = self.0.upgrade();
        async move {
            match app {
                Some(app) => app.still_approved(record, true).await,
                // The server stops.
                None => Ok(false),
            }
        }
        .boxed()
    }
}

impl App {
    /// Lists the requests with which people granted calls, where something of that is left: those that a person may
    /// see. Those that end first come first.
    ///
    /// # Errors
    /// Returns [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn grants(&self, person: &Person) -> Result<Vec<ApprovalRecord>, Refusal> {
        let found = self.store().grants(self.clock().now_ms(), GRANTS_MAX).await;
        let mut records = found.map_err(|fault| not_looked_up(&fault))?;
        records.retain(|record| visible(record, &Principal::Person(person.clone())));
        Ok(records)
    }

    /// Ends the grant that people gave with a request, before its time: whoever is asked by such requests may, and operators.
    /// A call that is under way goes on.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if there is no such grant that the person may end, [`Code::Malformed`] if there is no
    /// reason, and [`Code::NotLookedUp`] if the ledger cannot be used.
    pub async fn end_grant(
        &self,
        person: &Person,
        id: &ApprovalId,
        why: &str,
    ) -> Result<ApprovalRecord, Refusal> {
        let why: String = why.trim().chars().take(WHY_CHARS_MAX).collect();
        if why.is_empty() {
            return Err(
                Refusal::new(Code::Malformed, "nobody says why the grant ends").help("say why, for the log")
            );
        }
        let read = || async {
            let record = self.store().approval(id).await.map_err(|fault| not_looked_up(&fault))?;
            let mine = record.filter(|record| visible(record, &Principal::Person(person.clone())));
            mine.ok_or_else(|| Refusal::new(Code::NotFound, UNKNOWN))
        };
        let record = read().await?;
        if !may_end(&record, person) {
            person.may(Right::Operate)?;
        }
        let ended = self.gate().end_grant(&record, person.id.clone(), &why).await;
        if ended.map_err(|fault| not_looked_up(&fault))? {
            return read().await;
        }
        let message = if record.grant.is_some() {
            format!("what was granted with `{id}` has been ended already")
        } else {
            format!("nothing was granted with `{id}`")
        };
        Err(Refusal::new(Code::NotFound, message))
    }
}

/// Returns true if a person may end what was granted with a request: who answers such requests, and operators.
#[must_use]
pub fn may_end(record: &ApprovalRecord, person: &Person) -> bool {
    person.roles.may(Right::Operate) || person.roles.may(Right::Answer) && asks(record, person)
}
