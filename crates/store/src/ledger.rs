//! The port of the gate, by operations and by reading.

use std::collections::BTreeMap;

use countersign_gate::{
    NewEntry,
    ledger::{
        ANSWERED_MAX, ApprovalRecord, Bond, CallOutcome, CallRecord, CallState, Closer, Closing, GRANTS_MAX,
        HaltRecord, HaltScope, Intent, Issued, Ledger, LedgerFault, NotAnswered, NotIssued, NotParked,
        Parking, Standing, Wait, session_key,
    },
};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalState, CallDigest, CallId, Code, GrantEnd, IdempotencyKey, Requester,
    RetryKey, Signature, ToolName,
    budget::{Balance, BudgetAccount, HoldRequest},
    charge::Charge,
    rate::Rate,
    settlement::Settlement,
};
use tokio::sync::watch;

use crate::{
    approval::{AddSignature, Deliver, End, EndGrant, LookCloser, Park},
    bond::Bind,
    call::{Close, Issue, Resolve, Sweep},
    halt::{Halt, Resume},
    record::{
        Record as _,
        approval::{self, ApprovalRow},
        bond, budget,
        call::{self, CallRow},
        halt,
        rate::Due,
        session::{Session, history, read_counters, select_counters},
    },
    row::Damage,
    session::{OpenSession, Record},
    store::Store,
    tail::Encoded,
};

impl Ledger for Store {
    async fn standing(
        &self,
        requester: &Requester,
        digest: CallDigest,
        now_ms: i64,
    ) -> Result<Standing, LedgerFault> {
        let newest = approval::select_newest(&RetryKey::new(requester, digest));
        if let Some(standing) = self.cached_standing(requester, now_ms) {
            let (asked, refusals) = self.asked(&requester.agent, digest).await?;
            if !asked {
                return Ok(Standing { refusals, ..standing });
            }
            let rows = self.select(newest).await?;
            let request = rows.first().map(ApprovalRow::read).transpose()?.map(|row| row.record);
            return Ok(Standing { request, refusals, ..standing });
        }
        let answers = self.select_each(vec![
            halt::select_for(&requester.agent),
            select_counters(requester, now_ms),
            newest,
            approval::select_refusals(&requester.agent, now_ms),
        ]);
        let answers = answers.await?;
        let first = |question: usize| answers.get(question).and_then(|rows| rows.first());
        let [session, agent_today] = read_counters(answers.get(1).map_or(&[], Vec::as_slice))?;
        Ok(Standing {
            history: history(&session, &agent_today),
            halted: first(0).map(HaltRecord::read).transpose()?,
            session: session.counters,
            agent_today: agent_today.counters,
            request: first(2).map(ApprovalRow::read).transpose()?.map(|row| row.record),
            refusals: first(3).is_some(),
        })
    }

    async fn open_session(&self, requester: &Requester, entry: NewEntry) -> Result<bool, LedgerFault> {
        let entry = Encoded::of(&entry)?;
        self.submit(OpenSession { requester: requester.clone(), entry }).await
    }

    async fn has_session(&self, requester: &Requester) -> Result<bool, LedgerFault> {
        let key = session_key(&requester.agent, &requester.session);
        Ok(!self.select(Session::select(&key)).await?.is_empty())
    }

    async fn record(&self, entries: Vec<NewEntry>) -> Result<(), LedgerFault> {
        self.submit(Record { entries: Encoded::all(&entries)? }).await
    }

    async fn park(&self, parking: Parking) -> Result<ApprovalRecord, NotParked> {
        self.submit(Park::new(parking)?).await?
    }

    async fn bond(&self, agent: &AgentId, key: &IdempotencyKey) -> Result<Option<Bond>, LedgerFault> {
        let rows = self.select(Bond::select(&(agent.clone(), key.clone()))).await?;
        Ok(rows.first().map(Bond::read).transpose()?)
    }

    async fn bonds(&self, agent: &AgentId) -> Result<u64, LedgerFault> {
        let rows = self.select(bond::select_count(agent)).await?;
        Ok(rows.first().map(|row| row.count(0)).transpose()?.unwrap_or_default())
    }

    async fn bind(
        &self,
        bond: Bond,
        replaces: Option<&CallId>,
        entries: Vec<NewEntry>,
    ) -> Result<Option<Bond>, LedgerFault> {
        let entries = Encoded::all(&entries)?;
        self.submit(Bind { bond, replaces: replaces.cloned(), entries }).await
    }

    async fn room(
        &self,
        rates: &[(String, Rate)],
        holds: &[HoldRequest],
        now_ms: i64,
    ) -> Result<(), NotIssued> {
        let rate = rates.iter().map(|(key, _rate)| Due::select(key));
        let balance = holds.iter().map(|hold| Balance::select(&hold.account));
        let answers = self.select_each(rate.chain(balance).collect()).await?;
        let mut rows = answers.iter().map(|rows| rows.first());
        let mut due = BTreeMap::new();
        for (key, _rate) in rates {
            let stored = rows.next().flatten().map(Due::read).transpose();
            due.insert(key.as_str(), stored.map_err(LedgerFault::from)?.map(|due| due.0));
        }
        let mut balances = BTreeMap::new();
        for hold in holds {
            let stored = rows.next().flatten().map(Balance::read).transpose().map_err(LedgerFault::from)?;
            balances.insert(&hold.account, stored.unwrap_or_default());
        }
        let unread = || NotIssued::Fault(LedgerFault::Unavailable("a record was not read".into()));
        let due = |key: &str| due.get(key).copied().ok_or_else(unread);
        let balance = |account: &BudgetAccount| balances.get(account).copied().ok_or_else(unread);
        Charge::new((rates, holds), now_ms, due, balance).map(|_taken| ())
    }

    async fn issue(&self, intent: Intent) -> Result<Issued, NotIssued> {
        self.submit(Issue::new(intent)?).await?
    }

    async fn close(&self, closing: Closing, wait: Wait) -> Result<(), LedgerFault> {
        match wait {
            Wait::Durable => self.submit(Close::new(closing)?).await,
            Wait::Queued => self.leave(Close::new(closing)?).await,
        }
    }

    async fn answer(
        &self,
        approval: &ApprovalId,
        signature: Signature,
        entry: NewEntry,
    ) -> Result<ApprovalRecord, NotAnswered> {
        let entry = Encoded::of(&entry)?;
        self.submit(AddSignature { approval: approval.clone(), signature, entry }).await?
    }

    async fn look_closer(
        &self,
        approval: &ApprovalId,
        seen: Closer,
        entries: Vec<NewEntry>,
    ) -> Result<ApprovalRecord, NotAnswered> {
        let entries = Encoded::all(&entries)?;
        self.submit(LookCloser { approval: approval.clone(), seen, entries }).await?
    }

    async fn end(
        &self,
        approval: &ApprovalId,
        state: ApprovalState,
        code: Option<Code>,
        why: &str,
        entries: Vec<NewEntry>,
    ) -> Result<bool, LedgerFault> {
        let (why, entries) = (why.to_owned(), Encoded::all(&entries)?);
        self.submit(End { approval: approval.clone(), state, code, why, entries }).await
    }

    async fn deliver(&self, approval: &ApprovalId) -> Result<(), LedgerFault> {
        self.submit(Deliver(approval.clone())).await
    }

    async fn halt(&self, halt: HaltRecord, entry: NewEntry) -> Result<HaltRecord, LedgerFault> {
        self.submit(Halt { record: halt, entry: Encoded::of(&entry)? }).await
    }

    async fn resume(&self, scope: &HaltScope, entry: NewEntry) -> Result<bool, LedgerFault> {
        self.submit(Resume { scope: scope.clone(), entry: Encoded::of(&entry)? }).await
    }

    async fn sweep(&self, now_ms: i64) -> Result<Vec<CallRecord>, LedgerFault> {
        self.submit(Sweep { now_ms }).await
    }

    async fn resolve(
        &self,
        call: &CallId,
        outcome: CallOutcome,
        settlement: Settlement,
        now_ms: i64,
        entries: Vec<NewEntry>,
    ) -> Result<bool, LedgerFault> {
        let entries = Encoded::all(&entries)?;
        self.submit(Resolve { call: call.clone(), outcome, settlement, now_ms, entries }).await
    }

    async fn approval(&self, approval: &ApprovalId) -> Result<Option<ApprovalRecord>, LedgerFault> {
        let rows = self.select(ApprovalRow::select(approval)).await?;
        Ok(rows.first().map(ApprovalRow::read).transpose()?.map(|row| row.record))
    }

    async fn approvals(
        &self,
        states: &[ApprovalState],
        limit: u32,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let answers = self.scan_each(approval::select_all(states, limit)).await?;
        Ok(approval::read_all(&answers, limit)?)
    }

    async fn overdue(&self, now_ms: i64, limit: u32) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let rows = self.select(approval::select_overdue(now_ms, limit)).await?;
        Ok(rows.iter().map(|row| Ok(ApprovalRow::read(row)?.record)).collect::<Result<_, Damage>>()?)
    }

    async fn call(&self, call: &CallId) -> Result<Option<CallRecord>, LedgerFault> {
        let rows = self.select(CallRow::select(call)).await?;
        Ok(rows.first().map(CallRow::read).transpose()?.map(|row| row.record))
    }

    async fn waiting(&self, agent: &AgentId) -> Result<u64, LedgerFault> {
        let rows = self.select(approval::count_waiting(agent)).await?;
        Ok(rows.first().map(|row| row.count(0)).transpose()?.unwrap_or_default())
    }

    async fn refused(
        &self,
        agent: &AgentId,
        forms: (CallDigest, CallDigest),
        now_ms: i64,
    ) -> Result<Option<ApprovalRecord>, LedgerFault> {
        let rows = self.select(approval::select_refused(agent, forms, now_ms)).await?;
        Ok(rows.first().map(ApprovalRow::read).transpose()?.map(|row| row.record))
    }

    async fn answered(
        &self,
        agent: &AgentId,
        tool: &ToolName,
        shape: CallDigest,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let most = u64::try_from(ANSWERED_MAX).unwrap_or(u64::MAX);
        let answers = self
            .select_each(vec![
                approval::select_like(agent, shape, most),
                approval::select_refused_tool(agent, tool, shape, most),
            ])
            .await?;
        let mut rows = answers.iter().flatten().map(ApprovalRow::read).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by_key(|row| std::cmp::Reverse(row.order));
        Ok(rows.into_iter().map(|row| row.record).collect())
    }

    async fn granting(
        &self,
        requester: &Requester,
        shape: CallDigest,
        now_ms: i64,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let most = u64::try_from(GRANTS_MAX).unwrap_or(u64::MAX);
        let rows = self.select(approval::select_granting(requester, shape, now_ms, most)).await?;
        Ok(rows.iter().map(|row| Ok(ApprovalRow::read(row)?.record)).collect::<Result<_, Damage>>()?)
    }

    async fn end_grant(
        &self,
        approval: &ApprovalId,
        end: GrantEnd,
        entry: NewEntry,
    ) -> Result<bool, LedgerFault> {
        let entry = Encoded::of(&entry)?;
        self.submit(EndGrant { approval: approval.clone(), end, entry }).await
    }

    async fn doubted(
        &self,
        agent: &AgentId,
        digest: CallDigest,
        since_ms: i64,
    ) -> Result<Option<CallRecord>, LedgerFault> {
        if !self.may_be_doubted(agent, digest).await? {
            return Ok(None);
        }
        let rows = self.select(call::select_doubted(agent, digest, since_ms)).await?;
        rows.first().map(|row| Ok(CallRow::read(row)?.record)).transpose()
    }

    async fn calls(&self, state: Option<CallState>, limit: u32) -> Result<Vec<CallRecord>, LedgerFault> {
        let rows = self.scan(call::select_all(state, limit)).await?;
        rows.iter().map(|row| Ok(CallRow::read(row)?.record)).collect()
    }

    async fn halts(&self) -> Result<Vec<HaltRecord>, LedgerFault> {
        let rows = self.scan(halt::select_all()).await?;
        rows.iter().map(|row| Ok(HaltRecord::read(row)?)).collect()
    }

    async fn balances(&self, limit: u32) -> Result<Vec<(BudgetAccount, Balance)>, LedgerFault> {
        budget::read_all(&self.scan(budget::select_all(limit)).await?)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.watch()
    }
}
