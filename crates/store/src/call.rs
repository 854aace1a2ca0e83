//! Issued calls: intent, outcome, doubt.

use std::sync::Arc;

use countersign_gate::{
    NewEntry,
    ledger::{
        ApprovalRecord, Bond, CallOutcome, CallRecord, CallState, Closing, HaltRecord, Intent, Issued,
        LedgerFault, NotIssued,
    },
};
use countersign_rules::{
    ApprovalId, ApprovalState, CallDigest, CallId,
    budget::BudgetAccount,
    charge::{Charge, Charged},
    settlement::{Count, Settlement},
};

use crate::{
    bond, halt,
    queue::Operation,
    record::{
        approval::ApprovalRow,
        bond::{key_of, key_of_call},
        call::CallRow,
        halt::scopes,
        rate::Due,
    },
    records::{Changes, Key, Needs, Records},
    session,
    tail::Encoded,
};

/// Records an intent.
pub(crate) struct Issue {
    intent: Intent,
    entries: Vec<Arc<Encoded>>,
    keys: Vec<Key>,
}

impl Issue {
    /// Takes an intent, encodes its entries, and names the records that it needs.
    ///
    /// # Errors
    /// Fails when an entry cannot be recorded.
    pub(crate) fn new(mut intent: Intent) -> Result<Self, LedgerFault> {
        let entries = Encoded::all(&std::mem::take(&mut intent.entries))?;
        let Intent { call, rates, holds, approval, grant, now_ms, .. } = &intent;
        // A budget for all may halt all, and only once.
        let mut keys: Vec<Key> = scopes(&call.requester.agent).map(Key::Halt).into();
        keys.extend(approval.clone().map(Key::Approval));
        keys.extend(grant.clone().map(|(approval, _shape)| Key::Approval(approval)));
        keys.extend(key_of_call(call).map(Key::Bond));
        keys.extend(rates.iter().map(|(key, _rate)| Key::Rate(key.clone())));
        keys.extend(holds.iter().map(|hold| Key::Balance(hold.account.clone())));
        keys.extend(session::keys(&call.requester, *now_ms));
        Ok(Self { intent, entries, keys })
    }
}

impl Operation for Issue {
    type Output = Result<Issued, NotIssued>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name_all(records, &self.keys);
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        match self.check(records) {
            Ok((issued, changes)) => Ok((Ok(issued), changes)),
            Err(NotIssued::Fault(fault)) => Err(fault),
            Err(why) => Ok((Err(why), Changes::default())),
        }
    }
}

impl Issue {
    fn check(&self, records: &Records) -> Result<(Issued, Changes), NotIssued> {
        let intent = &self.intent;
        let requester = &intent.call.requester;
        if records.calls.has(&intent.call.id) {
            return Err(LedgerFault::Unavailable("a call of this id was issued before".into()).into());
        }
        if let Some(halt) = halt::in_force(records, &requester.agent)? {
            return Err(NotIssued::Halted(halt.clone()));
        }
        let mut changes = Changes::entries(self.entries.clone());
        if let Some(bond) = Bond::of(&intent.call, intent.approval.as_ref(), intent.now_ms) {
            match bond::taken(records, &bond, intent.replaces.as_ref())? {
                Some(taken) => intent.beside(taken)?,
                None => changes.bonds.put(key_of(&bond), bond),
            }
        }
        if let Some(id) = &intent.approval {
            let approval =
                records.approvals.find(id)?.ok_or(NotIssued::ApprovalSpent(ApprovalState::Superseded))?;
            changes.approvals.put(id.clone(), self.spend(approval)?);
        }
        if let Some((id, shape)) = &intent.grant {
            let granting = records.approvals.find(id)?.ok_or(NotIssued::GrantSpent)?;
            changes.approvals.put(id.clone(), self.take(granting, *shape)?);
        }
        let history = session::history_at(records, requester, intent.now_ms)?;
        if intent.if_history.is_some_and(|seen| seen != history) {
            return Err(NotIssued::HistoryMoved);
        }
        let charge = Charge::new::<NotIssued>(
            (&intent.rates, &intent.holds),
            intent.now_ms,
            |key| Ok(records.rates.find(&key.to_owned())?.map(|due| due.0)),
            |account| Ok(records.balances.find(account)?.copied().unwrap_or_default()),
        )?;
        let halts = HaltRecord::set_off(&charge, &requester.agent, intent.now_ms);
        for (key, due_us) in charge.due {
            changes.rates.put(key.to_owned(), Due(due_us));
        }
        for (account, after) in charge.balances {
            changes.balances.put(account.clone(), after);
        }
        let count = self.count();
        session::count(records, requester, intent.now_ms, |counters| count.add(counters), &mut changes)?;
        changes.calls.put(intent.call.id.clone(), self.row(records));
        for halt in &halts {
            changes.entries.push(Encoded::of(&NewEntry::halted(halt))?);
            changes.halts.put(halt.scope.clone(), halt.clone());
        }
        // The widest says most.
        let halted = halts.into_iter().max_by(|a, b| a.scope.cmp(&b.scope));
        Ok((Issued { halted }, changes))
    }

    /// Returns the approval as it is once this call has spent it.
    fn spend(&self, approval: &ApprovalRow) -> Result<ApprovalRow, NotIssued> {
        let ApprovalRecord { request, state, .. } = &approval.record;
        let state = request.spend(*state, &self.intent.call).map_err(NotIssued::ApprovalSpent)?;
        let mut spent = approval.clone();
        spent.record.state = state;
        Ok(spent)
    }

    /// Returns the request as it is once this call has taken its share of the grant that was given with it.
    fn take(&self, granting: &ApprovalRow, shape: CallDigest) -> Result<ApprovalRow, NotIssued> {
        let Intent { call, now_ms, .. } = &self.intent;
        let mut taken = granting.clone();
        if taken.record.take_granted(call, shape, *now_ms) { Ok(taken) } else { Err(NotIssued::GrantSpent) }
    }

    const fn count(&self) -> Count<'_> {
        let Intent { call, effect, rows, amount, .. } = &self.intent;
        Count { tool: &call.tool, effect: *effect, rows: *rows, amount: *amount }
    }

    fn row(&self, records: &Records) -> CallRow {
        let intent = &self.intent;
        CallRow {
            place: records.log_tail().size().cast_signed(),
            record: CallRecord {
                call: intent.call.clone(),
                system: intent.system.clone(),
                journal: intent.journal.clone(),
                effect: intent.effect,
                decision: intent.decision.clone(),
                approval: intent.approval.clone(),
                state: CallState::Open,
                outcome: None,
                issued_ms: intent.now_ms,
                closed_ms: None,
                rows: intent.rows,
                doubted: false,
            },
            charge: Charged::new(intent.rows, intent.amount, &intent.holds),
            process: records.process,
        }
    }
}

/// Records an outcome.
pub(crate) struct Close {
    closing: Closing,
    entries: Vec<Arc<Encoded>>,
}

impl Close {
    /// Takes an outcome, and encodes its entries.
    ///
    /// # Errors
    /// Fails when an entry cannot be recorded.
    pub(crate) fn new(mut closing: Closing) -> Result<Self, LedgerFault> {
        let entries = Encoded::all(&std::mem::take(&mut closing.entries))?;
        Ok(Self { closing, entries })
    }
}

impl Operation for Close {
    type Output = ();

    fn needs(&self, records: &Records, needs: &mut Needs) {
        settlement_needs(&self.closing.call, records, needs);
    }

    fn apply(&self, records: &Records) -> Result<((), Changes), LedgerFault> {
        let closing = &self.closing;
        let Some(row) = records.calls.find(&closing.call)?.filter(|row| row.record.outcome.is_none()) else {
            return Ok(((), Changes::default()));
        };
        let mut changes = Changes::entries(self.entries.clone());
        let mut row = row.clone();
        row.settle(records, closing.settlement, &mut changes)?;
        row.record.state = closing.outcome.state();
        row.record.closed_ms = Some(closing.now_ms);
        row.record.outcome = Some(closing.outcome.clone());
        row.record.doubted |= row.record.is_doubtful();
        row.move_approval(records, &closing.outcome, &mut changes)?;
        changes.calls.put(closing.call.clone(), row);
        Ok(((), changes))
    }
}

/// Records a person's finding about a call in doubt. Returns true if it was in doubt; otherwise nothing
/// changes.
pub(crate) struct Resolve {
    pub(crate) call: CallId,
    pub(crate) outcome: CallOutcome,
    pub(crate) settlement: Settlement,
    /// It was found at this time, in Unix milliseconds UTC.
    pub(crate) now_ms: i64,
    pub(crate) entries: Vec<Arc<Encoded>>,
}

impl Operation for Resolve {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        settlement_needs(&self.call, records, needs);
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let Some(row) = records.calls.find(&self.call)?.filter(|row| row.record.state == CallState::InDoubt)
        else {
            return Ok((false, Changes::default()));
        };
        let mut changes = Changes::entries(self.entries.clone());
        let mut row = row.clone();
        row.settle(records, self.settlement, &mut changes)?;
        row.record.state = self.outcome.state();
        row.record.closed_ms = Some(row.record.closed_ms.unwrap_or(self.now_ms));
        row.record.outcome = Some(self.outcome.clone());
        row.move_approval(records, &self.outcome, &mut changes)?;
        changes.calls.put(self.call.clone(), row);
        Ok((true, changes))
    }
}

/// Finds open calls whose process is gone, records them as in doubt, and returns them.
pub(crate) struct Sweep {
    pub(crate) now_ms: i64,
}

impl Operation for Sweep {
    type Output = Vec<CallRecord>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Orphans);
        for id in records.orphans().unwrap_or_default() {
            needs.name(records, &Key::Call(id.clone()));
            if let Ok(Some(CallRow { record: CallRecord { approval: Some(id), .. }, .. })) =
                records.calls.find(id)
            {
                needs.name(records, &Key::Approval(id.clone()));
            }
        }
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let mut changes = Changes::default();
        let mut found = Vec::new();
        for id in records.orphans()? {
            // One that an operation before this one in the batch has closed is none any more.
            let Some(row) = records.calls.find(id)?.filter(|row| row.record.state == CallState::Open) else {
                continue;
            };
            let mut row = row.clone();
            row.record.state = CallState::InDoubt;
            row.record.doubted |= row.record.is_doubtful();
            changes.entries.push(Encoded::of(&NewEntry::in_doubt(
                self.now_ms,
                &row.record.call,
                row.record.approval.as_ref(),
            ))?);
            if let Some((id, mut approval)) = row.approval(records)? {
                approval.record.state = ApprovalState::InDoubt;
                changes.approvals.put(id, approval);
            }
            found.push(row.record.clone());
            changes.calls.put(id.clone(), row);
        }
        Ok((found, changes))
    }
}

/// Names what settling a call touches, as far as the call is known.
fn settlement_needs(id: &CallId, records: &Records, needs: &mut Needs) {
    needs.name(records, &Key::Call(id.clone()));
    // What more it touches shows once it is read.
    if let Ok(Some(row)) = records.calls.find(id) {
        if let Some(approval) = &row.record.approval {
            needs.name(records, &Key::Approval(approval.clone()));
        }
        for account in row.charge.accounts() {
            needs.name(records, &Key::Balance(account.clone()));
        }
        needs.name_all(records, &session::keys(&row.record.call.requester, row.record.issued_ms));
    }
}

impl CallRow {
    /// Settles the holds and corrects the counters.
    fn settle(
        &mut self,
        records: &Records,
        settlement: Settlement,
        changes: &mut Changes,
    ) -> Result<(), LedgerFault> {
        let Self { record, charge, .. } = self;
        let CallRecord { call, effect, issued_ms, .. } = &*record;
        let balance =
            |account: &BudgetAccount| Ok(records.balances.find(account)?.copied().unwrap_or_default());
        let settled = charge.settle::<LedgerFault>(settlement, (&call.tool, *effect), balance)?;
        let Some(settled) = settled else { return Ok(()) };
        let correct = |counters: &mut _| settled.correct(counters);
        session::count(records, &call.requester, *issued_ms, correct, changes)?;
        let rows = settled.rows;
        for (account, after) in settled.balances {
            changes.balances.put(account, after);
        }
        record.rows = rows.unwrap_or(record.rows);
        Ok(())
    }

    /// Returns the approval that the call has spent and that no other call may have, if it has one.
    fn approval(&self, records: &Records) -> Result<Option<(ApprovalId, ApprovalRow)>, LedgerFault> {
        let Some(id) = &self.record.approval else { return Ok(None) };
        Ok(records.approvals.find(id)?.map(|row| (id.clone(), row.clone())))
    }

    /// Moves the approval on to what became of the call.
    fn move_approval(
        &self,
        records: &Records,
        outcome: &CallOutcome,
        changes: &mut Changes,
    ) -> Result<(), LedgerFault> {
        if let Some((id, mut approval)) = self.approval(records)? {
            approval.record.state = outcome.approval_state();
            if let Some(why) = outcome.why_not() {
                approval.record.why = Some(why.to_owned());
            }
            changes.approvals.put(id, approval);
        }
        Ok(())
    }
}
