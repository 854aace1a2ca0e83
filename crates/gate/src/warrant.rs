//! The token that lets one call become one effect.

use countersign_rules::{Call, DecisionId};

use crate::{
    entry::Entry,
    ledger::{CallOutcome, Closing, Intent, Issued, Ledger, NotIssued, Settlement},
};

/// A call that the rules allow, with the obligations of that decision. Made by `gate` alone, from a
/// decision; consumed by [`Warrant::issue`].
#[derive(Debug)]
pub(crate) struct Permitted<A> {
    pub(crate) call: Call<A>,
    pub(crate) decision: DecisionId,
    pub(crate) rows_max: u64,
}

/// Authority to perform one call, once.
///
/// It carries the very call it authorises, opens the credential, and moves into [`crate::Tool::perform`].
/// It is neither `Clone` nor `Default` nor `Deserialize`, and [`Warrant::issue`] is its only source.
#[must_use]
#[derive(Debug)]
pub struct Warrant<A> {
    call: Call<A>,
    decision: DecisionId,
    rows_max: u64,
}

impl<A> Warrant<A> {
    /// The only constructor, visible inside `gate` alone: issuing *is* recording. When this returns, the
    /// intent, its holds and its log entries are durable.
    ///
    /// # Errors
    /// [`NotIssued`] on a limit, a halt, a spent approval or a fault; then nothing may be performed.
    pub(crate) async fn issue<L: Ledger>(
        permitted: Permitted<A>,
        intent: Intent,
        ledger: &L,
    ) -> Result<(Self, OpenCall, Issued), (Call<A>, NotIssued)> {
        let open = OpenCall { intent: intent.clone() };
        match ledger.issue(intent).await {
            // A crash here leaves an intent without outcome: the call is in doubt, although nothing was done.
            Ok(issued) => {
                let Permitted { call, decision, rows_max } = permitted;
                Ok((Self { call, decision, rows_max }, open, issued))
            }
            Err(why) => Err((permitted.call, why)),
        }
    }

    /// The call it authorises.
    pub const fn call(&self) -> &Call<A> {
        &self.call
    }

    /// What the tool made of the arguments.
    pub const fn args(&self) -> &A {
        &self.call.parsed
    }

    /// The decision it stands on.
    pub const fn decision(&self) -> &DecisionId {
        &self.decision
    }

    /// The most rows the call may touch or return. The tool enforces it in its own transaction: beyond it,
    /// everything is rolled back.
    pub const fn rows_max(&self) -> u64 {
        self.rows_max
    }

    /// What the system may use to recognise a repeated call.
    pub fn idempotency_key(&self) -> &str {
        self.call.id.as_str()
    }
}

/// Authority to measure one call: to read, never to act. Lives only while the gate gathers facts.
#[derive(Debug)]
pub struct Probe<'a, A> {
    call: &'a Call<A>,
}

impl<'a, A> Probe<'a, A> {
    pub(crate) const fn new(call: &'a Call<A>) -> Self {
        Self { call }
    }

    /// The call to measure.
    #[must_use]
    pub const fn call(&self) -> &'a Call<A> {
        self.call
    }

    /// What the tool made of the arguments.
    #[must_use]
    pub const fn args(&self) -> &'a A {
        &self.call.parsed
    }
}

/// A call whose intent is recorded and whose outcome is not. Closing consumes it; one that is dropped
/// instead stays in doubt in the ledger, which is the truth.
#[must_use]
#[derive(Debug)]
pub(crate) struct OpenCall {
    intent: Intent,
}

impl OpenCall {
    /// What is recorded when the call ends. The ledger takes it; tried again, it has the same effect once.
    pub(crate) fn closing(
        self,
        outcome: CallOutcome,
        settlement: Settlement,
        entry: Entry,
        now_ms: i64,
    ) -> Closing {
        let Intent { call, approval, .. } = self.intent;
        Closing { call: call.id, approval, outcome, settlement, now_ms, entries: vec![entry] }
    }
}
