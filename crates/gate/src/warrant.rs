//! The token that lets one call become one effect.

use std::sync::Arc;

use countersign_rules::{
    Allow, ApprovalId, Call, CallDigest, DecisionId, Effect, Facts, Money, budget::HoldRequest, rate::Rate,
    settlement::Settlement,
};

pub use crate::limits::Limits;
use crate::{
    entry::NewEntry,
    ledger::{Closing, Intent, Issued, Ledger, NotIssued},
    outcome::CallOutcome,
};

/// A call that the rules allow, with the obligations of that decision. Made by `gate` alone, from a
/// decision; consumed by [`Warrant::issue`], which records this and nothing else.
#[derive(Debug)]
pub(crate) struct Permitted<A> {
    pub(crate) call: Call<A>,
    pub(crate) decision: DecisionId,
    pub(crate) limits: Limits,
    /// The call has this effect.
    pub(crate) effect: Effect,
    /// The most rows it may touch, as far as that was measured; counted at once, corrected when closed.
    rows: u64,
    /// The money that it moves, where that is known before.
    amount: Option<Money>,
    /// The approval that it spends.
    pub(crate) approval: Option<ApprovalId>,
    /// It takes one of the calls that were granted with this request, and has this shape.
    grant: Option<(ApprovalId, CallDigest)>,
    /// The history of the session that the decision looked at, where it did.
    if_history: Option<u64>,
    /// The call was decided at this time, in Unix milliseconds UTC.
    pub(crate) now_ms: i64,
    /// These are recorded with the intent, or with the refusal where there will be none.
    pub(crate) entries: Vec<NewEntry>,
}

impl<A> Permitted<A> {
    pub(crate) fn new(
        call: Call<A>,
        decision: DecisionId,
        allow: &Allow,
        facts: &Facts,
        (approval, grant): (Option<ApprovalId>, Option<(ApprovalId, CallDigest)>),
        if_history: Option<u64>,
        entries: Vec<NewEntry>,
    ) -> Self {
        let limits = Limits::new(allow, &call.tool, facts.effect);
        let reach = facts.reach.as_ref();
        Self {
            call,
            decision,
            limits,
            effect: facts.effect,
            rows: reach.map_or(0, |reach| reach.rows),
            amount: reach.and_then(|reach| reach.amount),
            approval,
            grant,
            if_history,
            now_ms: facts.now_ms,
            entries,
        }
    }
}

impl<A> Permitted<A> {
    /// Makes the intent, which is recorded before the system is touched.
    fn intent(&self, Reservation { rates, holds, journal }: Reservation) -> Intent {
        let warrant = NewEntry::warrant_issued(
            self.now_ms,
            &self.call,
            &self.decision,
            (self.approval.as_ref(), self.grant.as_ref().map(|(approval, _shape)| approval)),
            &self.limits,
            &holds,
            journal.as_deref(),
        );
        let mut entries = self.entries.clone();
        entries.push(warrant);
        Intent {
            call: self.call.stored(),
            system: self.call.tool.system.name.clone(),
            journal,
            effect: self.effect,
            decision: self.decision.clone(),
            rates,
            holds,
            rows: self.rows,
            amount: self.amount,
            if_history: self.if_history,
            approval: self.approval.clone(),
            grant: self.grant.clone(),
            replaces: self.call.replaces.clone(),
            now_ms: self.now_ms,
            entries,
        }
    }
}

/// A call takes these while it is under way.
#[derive(Debug)]
pub(crate) struct Reservation {
    /// Rates, each with the key its instant is stored under.
    pub(crate) rates: Vec<(String, Rate)>,
    /// These amounts are held of budgets.
    pub(crate) holds: Vec<HoldRequest>,
    /// The system's record of calls: see [`Tool::journal`](crate::Tool::journal).
    pub(crate) journal: Option<String>,
}

/// A call whose intent is not recorded: nothing of it may be performed.
#[derive(Debug)]
pub(crate) struct Unissued<A> {
    pub(crate) call: Call<A>,
    /// These were to be recorded with the intent.
    pub(crate) entries: Vec<NewEntry>,
    pub(crate) why: NotIssued,
}

/// Authority to perform one call, once.
///
/// It carries the very call it authorises, opens the credential, and moves into [`crate::Tool::perform`].
/// It is neither `Clone` nor `Default` nor `Deserialize`, and [`Warrant::issue`] is its only source.
#[must_use]
#[derive(Debug)]
pub struct Warrant<A> {
    call: Arc<Call<A>>,
    decision: DecisionId,
    limits: Limits,
    journal: Option<String>,
}

impl<A> Warrant<A> {
    /// The only constructor, visible inside `gate` alone: issuing *is* recording. When this returns, the
    /// intent, its holds and its log entries are durable, and they are those of what is permitted.
    ///
    /// # Errors
    /// [`Unissued`] on a limit, a halt, a spent approval or a fault; then nothing may be performed.
    pub(crate) async fn issue<L: Ledger>(
        permitted: Permitted<A>,
        reservation: Reservation,
        ledger: &L,
    ) -> Result<(Self, OpenCall<A>, Issued), Box<Unissued<A>>> {
        let intent = permitted.intent(reservation);
        let Permitted { call, decision, limits, effect, approval, now_ms, entries, .. } = permitted;
        let journal = intent.journal.clone();
        match ledger.issue(intent).await {
            // A crash here leaves an intent without outcome: the call is in doubt, although nothing was done.
            Ok(issued) => {
                let call = Arc::new(call);
                let open = OpenCall { call: Arc::clone(&call), approval, effect, decided_ms: now_ms };
                Ok((Self { call, decision, limits, journal }, open, issued))
            }
            Err(why) => Err(Box::new(Unissued { call, entries, why })),
        }
    }

    /// Returns the call it authorises.
    pub fn call(&self) -> &Call<A> {
        &self.call
    }

    /// Returns what the tool made of the arguments.
    pub fn args(&self) -> &A {
        &self.call.parsed
    }

    /// Returns the decision it stands on.
    pub const fn decision(&self) -> &DecisionId {
        &self.decision
    }

    /// Returns how far the call may go.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the system's record that the intent names: the call takes effect under this one, or not at all.
    pub fn journal(&self) -> Option<&str> {
        self.journal.as_deref()
    }

    /// The most rows the call may touch or return: [`Limits::rows_max`].
    pub const fn rows_max(&self) -> u64 {
        self.limits.rows_max
    }

    /// Returns what the system may use to recognise a repeated call: the id of the call, or of the equal one that it
    /// is sent for once more.
    pub fn idempotency_key(&self) -> &str {
        self.call.again.as_ref().unwrap_or(&self.call.id).as_str()
    }
}

/// Authority to measure one call: to read, or to run it where it is rolled back, never to act. Lives only while
/// the gate gathers facts.
#[derive(Debug)]
pub struct Probe<'a, A> {
    call: &'a Call<A>,
}

impl<'a, A> Probe<'a, A> {
    pub(crate) const fn new(call: &'a Call<A>) -> Self {
        Self { call }
    }

    /// Returns the call to measure.
    #[must_use]
    pub const fn call(&self) -> &'a Call<A> {
        self.call
    }

    /// Returns what the tool made of the arguments.
    #[must_use]
    pub const fn args(&self) -> &'a A {
        &self.call.parsed
    }
}

/// A call whose intent is recorded and whose outcome is not. Closing consumes it; one that is dropped
/// instead stays in doubt in the ledger, which is the truth.
#[must_use]
#[derive(Debug)]
pub(crate) struct OpenCall<A> {
    pub(crate) call: Arc<Call<A>>,
    pub(crate) approval: Option<ApprovalId>,
    pub(crate) effect: Effect,
    /// The call was decided at this time, in Unix milliseconds UTC.
    pub(crate) decided_ms: i64,
}

impl<A> OpenCall<A> {
    /// Makes what is recorded when the call ends. The ledger takes it; tried again, it has the same effect once.
    pub(crate) fn closing(
        &self,
        outcome: CallOutcome,
        settlement: Settlement,
        entries: Vec<NewEntry>,
        now_ms: i64,
    ) -> Closing {
        Closing { call: self.call.id.clone(), outcome, settlement, now_ms, entries }
    }
}
