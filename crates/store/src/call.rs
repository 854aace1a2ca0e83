//! Issued calls: intent, outcome, doubt.

use std::{collections::BTreeMap, sync::Arc};

use countersign_gate::{
    Entry,
    ledger::{
        Bond, CallOutcome, CallRecord, CallState, Charge, Closing, Intent, Issued, LedgerFault, NotIssued,
    },
};
use countersign_rules::{
    AgentId, ApprovalState, CallDigest, CallId, Effect, Money,
    budget::{Balance, BudgetAccount},
    settlement::{Count, Settlement},
};
use serde::{Deserialize, Serialize};

use crate::{
    approval::ApprovalRow,
    bond,
    budget::Hold,
    halt,
    list::CallFilter,
    log::Encoded,
    queue::Operation,
    records::{Changes, Key, Needs, Records},
    row::{Damage, Query, Row, Value, json},
    session,
};

/// A call with what it is charged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CallRow {
    pub(crate) record: CallRecord,
    charge: Charged,
    process: i64,
}

/// What a call is charged: what was counted and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Charged {
    /// Rows that were counted.
    rows: u64,
    /// Money that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    /// What it holds still; empty once it is settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holds: Vec<Hold>,
}

/// Records an intent.
pub(crate) struct Issue {
    intent: Intent,
    entries: Vec<Arc<Encoded>>,
    keys: Vec<Key>,
}

impl Issue {
    /// Takes an intent.
    ///
    /// # Errors
    /// When an entry cannot be recorded.
    pub(crate) fn new(mut intent: Intent) -> Result<Self, LedgerFault> {
        let entries = Encoded::all(&std::mem::take(&mut intent.entries))?;
        let Intent { call, rates, holds, approval, now_ms, .. } = &intent;
        // A budget for all may halt all, and only once.
        let mut keys: Vec<Key> = halt::scopes(&call.requester.agent).map(Key::Halt).into();
        keys.extend(approval.clone().map(Key::Approval));
        keys.extend(bond::key(call).map(Key::Bond));
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
                // People have granted this one: what the key stands for since is another matter.
                Some(_) if intent.approval.is_some() => {}
                Some(taken) => return Err(NotIssued::KeyTaken(taken)),
                None => changes.bonds.push(bond),
            }
        }
        if let Some(id) = &intent.approval {
            let approval =
                records.approvals.find(id)?.ok_or(NotIssued::ApprovalSpent(ApprovalState::Superseded))?;
            changes.approvals.push((id.clone(), self.spend(approval)?));
        }
        let history = session::history(records, &requester.agent)?;
        if intent.if_history.is_some_and(|seen| seen != history) {
            return Err(NotIssued::HistoryMoved);
        }
        let charge = Charge::new(
            (&intent.rates, &intent.holds),
            intent.now_ms,
            |key| Ok(records.rates.find(&key.to_owned())?.copied()),
            |account| Ok(records.balances.find(account)?.copied().unwrap_or_default()),
        )?;
        let halts = charge.halts(&requester.agent, intent.now_ms);
        changes.rates = charge.due.into_iter().map(|(key, due)| (key.to_owned(), due)).collect();
        changes.balances =
            charge.balances.into_iter().map(|(account, after)| (account.clone(), after)).collect();
        let count = self.count();
        session::count(records, requester, intent.now_ms, |counters| count.add(counters), &mut changes)?;
        changes.calls.push((intent.call.id.clone(), self.row(records.process)));
        for halt in &halts {
            changes.entries.push(Encoded::of(&Entry::halted(halt))?);
            changes.halts.push((halt.scope.clone(), Some(halt.clone())));
        }
        // The widest says most.
        let halted = halts.into_iter().max_by(|a, b| a.scope.cmp(&b.scope));
        Ok((Issued { halted }, changes))
    }

    /// The approval once this call has spent it. It must be granted, and for this very call: the gate
    /// asks no less, and a grant must not reach further by a defect there.
    fn spend(&self, approval: &ApprovalRow) -> Result<ApprovalRow, NotIssued> {
        let (call, granted) = (&self.intent.call, &approval.record.request.call);
        if approval.record.state != ApprovalState::Approved {
            return Err(NotIssued::ApprovalSpent(approval.record.state));
        }
        if call.digest != granted.digest || call.requester.agent != granted.requester.agent {
            return Err(NotIssued::ApprovalSpent(ApprovalState::Superseded));
        }
        let mut spent = approval.clone();
        spent.record.state = ApprovalState::Executing;
        Ok(spent)
    }

    const fn count(&self) -> Count<'_> {
        let Intent { call, effect, rows, amount, .. } = &self.intent;
        Count { tool: &call.tool, effect: *effect, rows: *rows, amount: *amount }
    }

    fn row(&self, process: i64) -> CallRow {
        let intent = &self.intent;
        CallRow {
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
            charge: Charged {
                rows: intent.rows,
                amount: intent.amount,
                holds: intent.holds.iter().map(Hold::of).collect(),
            },
            process,
        }
    }
}

/// Records an outcome.
pub(crate) struct Close {
    closing: Closing,
    entries: Vec<Arc<Encoded>>,
}

impl Close {
    /// Takes an outcome.
    ///
    /// # Errors
    /// When an entry cannot be recorded.
    pub(crate) fn new(mut closing: Closing) -> Result<Self, LedgerFault> {
        let entries = Encoded::all(&std::mem::take(&mut closing.entries))?;
        Ok(Self { closing, entries })
    }
}

impl Operation for Close {
    type Output = ();

    fn needs(&self, records: &Records, needs: &mut Needs) {
        if let Some(approval) = &self.closing.approval {
            needs.name(records, &Key::Approval(approval.clone()));
        }
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
        row.record.doubted |= doubted(&row.record).is_some();
        row.move_approval(records, &closing.outcome, &mut changes)?;
        changes.calls.push((closing.call.clone(), row));
        Ok(((), changes))
    }
}

/// Records a person's finding about a call in doubt. Answers whether it was in doubt.
pub(crate) struct Resolve {
    pub(crate) call: CallId,
    pub(crate) outcome: CallOutcome,
    pub(crate) settlement: Settlement,
    /// When, in Unix milliseconds UTC.
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
        changes.calls.push((self.call.clone(), row));
        Ok((true, changes))
    }
}

/// Finds calls whose process is gone, and records them as in doubt.
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
            row.record.doubted |= doubted(&row.record).is_some();
            changes.entries.push(Encoded::of(&Entry::in_doubt(
                self.now_ms,
                &row.record.call,
                row.record.approval.as_ref(),
            ))?);
            if let Some((id, mut approval)) = row.approval(records)? {
                approval.record.state = ApprovalState::InDoubt;
                changes.approvals.push((id, approval));
            }
            found.push(row.record.clone());
            changes.calls.push((id.clone(), row));
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
        for hold in &row.charge.holds {
            needs.name(records, &Key::Balance(hold.account.clone()));
        }
        needs.name_all(records, &session::keys(&row.record.call.requester, row.record.issued_ms));
    }
}

impl CallRow {
    /// Whether an outcome is awaited from this process.
    pub(crate) fn is_open(&self) -> bool {
        self.record.state == CallState::Open
    }

    /// Settles the holds and corrects the counters.
    fn settle(
        &mut self,
        records: &Records,
        settlement: Settlement,
        changes: &mut Changes,
    ) -> Result<(), LedgerFault> {
        if settlement == Settlement::Kept {
            return Ok(());
        }
        let mut balances: BTreeMap<BudgetAccount, Balance> = BTreeMap::new();
        for hold in std::mem::take(&mut self.charge.holds) {
            let before = match balances.get(&hold.account) {
                Some(balance) => *balance,
                None => records.balances.find(&hold.account)?.copied().unwrap_or_default(),
            };
            balances.extend(hold.settle(before, settlement).map(|after| (hold.account, after)));
        }
        changes.balances.extend(balances);

        let Charged { rows, amount, .. } = self.charge;
        let CallRecord { call, effect, issued_ms, .. } = &self.record;
        let count = Count { tool: &call.tool, effect: *effect, rows, amount };
        let correct = |counters: &mut _| count.settle(settlement, counters);
        session::count(records, &call.requester, *issued_ms, correct, changes)?;
        let settled = count.settled(settlement).map(|after| (after.rows, after.amount));
        (self.charge.rows, self.charge.amount) = settled.unwrap_or_default();
        if let Some((rows, _)) = settled {
            self.record.rows = rows;
        }
        Ok(())
    }

    /// The approval that the call has spent and that no other call may have.
    fn approval(
        &self,
        records: &Records,
    ) -> Result<Option<(countersign_rules::ApprovalId, ApprovalRow)>, LedgerFault> {
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
            changes.approvals.push((id, approval));
        }
        Ok(())
    }

    pub(crate) fn read(row: &Row) -> Result<Self, Damage> {
        let record = CallRecord {
            system: row.parse(0)?,
            effect: effect(row.text(1)?)?,
            decision: row.parse(2)?,
            approval: row.optional_parse(3)?,
            state: state(row.text(4)?)?,
            issued_ms: row.int(5)?,
            closed_ms: row.optional_int(6)?,
            rows: row.count(7)?,
            call: row.json(9)?,
            outcome: row.optional_json(11)?,
            journal: row.optional_text(12)?.map(ToOwned::to_owned),
            doubted: row.optional_text(13)?.is_some(),
        };
        Ok(Self { record, process: row.int(8)?, charge: row.json(10)? })
    }
}

macro_rules! select_calls {
    ($($rest:literal),+) => {
        concat!(
            "SELECT system, effect, decision, approval, state, issued_ms, closed_ms, row_count, process, body, ",
            "charge, outcome, journal, doubted FROM call ",
            $($rest),+
        )
    };
}

pub(crate) fn select(id: &CallId) -> Query {
    Query::new(select_calls!("WHERE id = $1"), vec![id.as_str().into()])
}

pub(crate) fn select_all(state: Option<CallState>, limit: u32) -> Query {
    let limit = Value::from(u64::from(limit));
    match state {
        Some(CallState::Open) => Query::new(
            select_calls!("WHERE state = 'open' ORDER BY issued_ms DESC, id DESC LIMIT $1"),
            vec![limit],
        ),
        Some(CallState::InDoubt) => Query::new(
            select_calls!("WHERE state = 'in_doubt' ORDER BY issued_ms DESC, id DESC LIMIT $1"),
            vec![limit],
        ),
        Some(state @ (CallState::Done | CallState::Failed)) => Query::new(
            select_calls!("WHERE state = $1 ORDER BY issued_ms DESC, id DESC LIMIT $2"),
            vec![state.as_str().into(), limit],
        ),
        None => Query::new(select_calls!("ORDER BY issued_ms DESC, id DESC LIMIT $1"), vec![limit]),
    }
}

/// What a call that is in doubt is found by.
fn doubt(agent: &AgentId, digest: CallDigest) -> String {
    format!("{digest} {agent}")
}

/// What a write in doubt is found by from now on, also once the doubt is settled.
fn doubted(record: &CallRecord) -> Option<String> {
    let doubts = record.state == CallState::InDoubt && record.effect >= Effect::Write;
    doubts.then(|| doubt(&record.call.requester.agent, record.call.digest))
}

/// The newest call of an agent with this digest that is in doubt, or else was and has happened, and was closed after `since_ms`.
pub(crate) fn select_doubted(agent: &AgentId, digest: CallDigest, since_ms: i64) -> Query {
    Query::new(
        select_calls!(
            "WHERE doubted = $1 AND (state = 'in_doubt' OR (state = 'done' AND closed_ms > $2)) ",
            "ORDER BY CASE state WHEN 'in_doubt' THEN 0 ELSE 1 END, issued_ms DESC, id DESC LIMIT 1"
        ),
        vec![doubt(agent, digest).into(), since_ms.into()],
    )
}

macro_rules! select_listed {
    ($state:literal) => {
        select_calls!(
            $state,
            "(CAST($1 AS TEXT) IS NULL OR (issued_ms, id) < (SELECT issued_ms, id FROM call WHERE id = $1)) ",
            "ORDER BY issued_ms DESC, id DESC LIMIT $2"
        )
    };
}

/// A page of the list of an agent's calls.
fn select_own(agent: &AgentId, filter: &CallFilter, limit: u32) -> Query {
    // Tools stand between commas, which no name has: what is left after taking one out is shorter.
    let tools = filter.tools.as_ref().map(|tools| {
        let names: String = tools.iter().map(|tool| format!(",{tool},")).collect();
        if names.is_empty() { ",".to_owned() } else { names }
    });
    Query::new(
        select_calls!(
            "WHERE agent = $3 AND (CAST($4 AS TEXT) IS NULL OR state = $4) ",
            "AND (CAST($5 AS TEXT) IS NULL OR replace($5, ',' || tool || ',', '') <> $5) ",
            // Where the page begins is told by the agent's own calls alone.
            "AND (CAST($1 AS TEXT) IS NULL ",
            "OR (issued_ms, id) < (SELECT c.issued_ms, c.id FROM call c WHERE c.id = $1 AND c.agent = $3)) ",
            "ORDER BY issued_ms DESC, id DESC LIMIT $2"
        ),
        vec![
            filter.after.as_ref().map(CallId::as_str).into(),
            u64::from(limit).into(),
            agent.as_str().into(),
            filter.state.map(CallState::as_str).into(),
            tools.as_deref().into(),
        ],
    )
}

/// A page of a list.
pub(crate) fn select_some(filter: &CallFilter, limit: u32) -> Query {
    if let Some(agent) = &filter.agent {
        return select_own(agent, filter, limit);
    }
    let mut params = vec![filter.after.as_ref().map(CallId::as_str).into(), u64::from(limit).into()];
    match filter.state {
        // Said in the text, so that the small index on what is unsettled is used.
        Some(CallState::Open) => Query::new(select_listed!("WHERE state = 'open' AND "), params),
        Some(CallState::InDoubt) => Query::new(select_listed!("WHERE state = 'in_doubt' AND "), params),
        Some(state @ (CallState::Done | CallState::Failed)) => {
            params.push(state.as_str().into());
            Query::new(select_listed!("WHERE state = $3 AND "), params)
        }
        None => Query::new(select_listed!("WHERE "), params),
    }
}

pub(crate) fn insert(id: &CallId, row: &CallRow) -> Result<Query, LedgerFault> {
    let CallRow { record, charge, process } = row;
    let outcome = record.outcome.as_ref().map(json).transpose()?;
    Ok(Query::one(
        "INSERT INTO call (id, system, effect, decision, approval, state, issued_ms, closed_ms, row_count, \
         process, body, charge, outcome, journal, doubted, agent, tool) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        vec![
            id.as_str().into(),
            record.system.as_str().into(),
            record.effect.as_str().into(),
            record.decision.as_str().into(),
            record.approval.as_ref().map(|id| id.as_str()).into(),
            record.state.as_str().into(),
            record.issued_ms.into(),
            record.closed_ms.into(),
            record.rows.into(),
            (*process).into(),
            json(&record.call)?,
            json(charge)?,
            outcome.into(),
            record.journal.as_deref().into(),
            doubted(record).into(),
            record.call.requester.agent.as_str().into(),
            record.call.tool.as_str().into(),
        ],
    ))
}

pub(crate) fn update(id: &CallId, row: &CallRow) -> Result<Query, LedgerFault> {
    let CallRow { record, charge, .. } = row;
    let outcome = record.outcome.as_ref().map(json).transpose()?;
    Ok(Query::one(
        "UPDATE call SET state = $1, closed_ms = $2, row_count = $3, charge = $4, outcome = $5, \
         doubted = COALESCE(doubted, $6) WHERE id = $7",
        vec![
            record.state.as_str().into(),
            record.closed_ms.into(),
            record.rows.into(),
            json(charge)?,
            outcome.into(),
            doubted(record).into(),
            id.as_str().into(),
        ],
    ))
}

fn state(text: &str) -> Result<CallState, Damage> {
    [CallState::Open, CallState::Done, CallState::Failed, CallState::InDoubt]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Damage("a call has an unknown state".into()))
}

/// Reads an effect.
pub(crate) fn effect(text: &str) -> Result<Effect, Damage> {
    [Effect::Read, Effect::Write, Effect::Destructive]
        .into_iter()
        .find(|effect| effect.as_str() == text)
        .ok_or_else(|| Damage("a record has an unknown effect".into()))
}
