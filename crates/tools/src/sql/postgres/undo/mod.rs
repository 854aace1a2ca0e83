//! Taking back what a call did to the rows of a PostgreSQL database.
//!
//! What was kept of a call is brought down to its net effect, row by row ([`net`](super::net)): rows that were there
//! before, and rows that are there since. A row goes back only when it still is what the call left; each
//! change says so itself in its condition, which the server looks at again when somebody else has changed the
//! row in the meantime. So no lock is needed beforehand, and none of the account's rights but those to change
//! rows.
//!
//! All tables change in one statement, so that foreign keys are looked at only when everything is back:
//! whatever their order or rings. Undoing is kept like any call, and what was kept of it must in the end be
//! the exact reverse: no row more, none less, and each as it was. Anything else is rolled back.

mod departure;
mod plan;
mod statement;
mod table;

pub(super) use plan::{Plan, RestoreMethod};
pub(super) use table::KeptChanges;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use countersign_gate::{Credential, Limits, MeasureError, Measured, Sample, ToolError};
use countersign_rules::CallId;
use countersign_sql::{Dialect, TableRef};
use deadpool_postgres::Object;
use tokio_postgres::Client;

use super::{
    GRACE, PostgresDatabase,
    body::{Body, Done, Uncounted},
    connection::snapshot,
    fault::{PostgresFault, cut_short, told},
    measure::measured,
    schema,
};
use crate::{
    definition::Rehearse,
    sql::{
        journal::{COMES_BACK, GOES_BACK, Mark, OnChange, Undoing, Undone},
        mask::Mask,
        statement::Scope,
    },
};

/// As texts are kept, so are they read and compared: see `prepare.sql`. And nothing is compiled that runs once,
/// nor are lists of a hundred thousand rows sorted in files.
pub(super) const AS_KEPT: &str = "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; \
    SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; \
    SET LOCAL lc_monetary = 'C'; SET LOCAL array_nulls = on; SET LOCAL xmloption = content; \
    SET LOCAL jit = off; SET LOCAL work_mem = '32MB'";

impl PostgresDatabase {
    fn everything(&self) -> Scope {
        Scope::new(Dialect::Postgres, &self.target.search_path, &BTreeSet::new(), &BTreeSet::new())
    }

    /// Tells what undoing a call would touch, in a transaction in which the server refuses every change.
    pub(super) async fn undo_measure(
        &self,
        credential: &Credential,
        mark: &Mark,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        let mask = &mask.keeping_out(self.connections.scrubber(credential));
        let mut measured = self.undo_count(credential, undoing, mask).await?;
        let rehearsed = match self.target.limits.rehearse {
            Rehearse::Never | Rehearse::OnRequest => return Ok(measured),
            Rehearse::WhenInexact if measured.reach.triggers.is_empty() => return Ok(measured),
            Rehearse::WhenInexact | Rehearse::Always => {
                let mut body = self.undo_body(mark, undoing, mask);
                // The plan was counted, and is held to when it is meant.
                let any = Limits { rows_max: u64::MAX, tables: None, amount_max: None };
                loop {
                    let way = (body.method, body.hopeful);
                    let rehearsed = self.run_and_roll_back(credential, &mut body, &any, Some(mark)).await;
                    if rehearsed.is_ok() || (body.method, body.hopeful) == way {
                        break rehearsed;
                    }
                }
            }
        };
        match rehearsed {
            Ok(Done::Within(undone, _)) => {
                measured.reach.rehearsed = true;
                measured.sample = measured.sample.map(|sample| told_rewritten(sample, &undone.rewritten));
                Ok(measured)
            }
            Ok(Done::Beyond(_)) => Ok(measured),
            Err(MeasureError::Limit(_)) if self.target.limits.rehearse == Rehearse::WhenInexact => {
                Ok(measured)
            }
            Err(why) => Err(why),
        }
    }

    async fn undo_count(
        &self,
        credential: &Credential,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        let scrubber = self.connections.scrubber(credential);
        let wait = Duration::from_millis(self.target.limits.measure_timeout_ms);
        let _permit = self.measuring_turn(wait).await?;
        let mut client = self.connections.connect(credential).await?;
        let measuring = self.undo_count_with(&mut client, undoing, mask);
        let outcome = tokio::time::timeout(wait.saturating_add(GRACE), measuring).await;
        measured(client, &scrubber, wait, outcome)?
    }

    async fn undo_count_with(
        &self,
        client: &mut Object,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Result<Measured, MeasureError>, PostgresFault> {
        let tx = snapshot(client).await?;
        tx.batch_execute(&format!("{}; {AS_KEPT}", self.sparing(self.target.limits.measure_timeout_ms)))
            .await?;
        let call = &undoing.call;
        let plan = Plan::new(tx.client(), call).await?;
        let undone = plan.undone(tx.client(), &self.everything(), mask).await?;
        if undone.restored.is_empty()
            && let Some(by) = undone_by(tx.client(), call, None).await?
        {
            let why = format!("call `{call}` was undone by call `{by}`");
            return Ok(Err(MeasureError::NotMeasurable(why)));
        }
        let tables: Vec<TableRef> = plan.tables.iter().map(|table| table.name.clone()).collect();
        let triggers = schema::triggers(tx.client(), &tables).await?;
        let sample = plan.sample(tx.client(), &self.everything(), mask, &undone).await?;
        tx.rollback().await?;
        Ok(undone.measured(undoing, triggers, sample))
    }

    /// Undoes a call within the warrant, or not at all. Returns the rows touched as well.
    pub(super) async fn undo(
        &self,
        credential: &Credential,
        mark: Mark,
        undoing: &Undoing,
        limits: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError> {
        let mask = mask.keeping_out(self.connections.scrubber(credential));
        let mut body = self.undo_body(&mark, undoing, &mask);
        self.perform(credential, &mut body, limits, Some(&mark)).await
    }

    fn undo_body<'a>(&self, mark: &'a Mark, undoing: &'a Undoing, mask: &'a Mask) -> Reversal<'a> {
        let scope = self.everything();
        // Rows that changed since can be left alone only when it is known which.
        let hopeful = undoing.on_change == OnChange::Refuse;
        Reversal { undoing, by: &mark.call, mask, scope, method: RestoreMethod::Update, hopeful }
    }
}

/// Says of the rows that go back in which columns they will not be what they were.
fn told_rewritten(mut sample: Sample, rewritten: &BTreeMap<String, BTreeMap<String, u64>>) -> Sample {
    if let Some(columns) = rewritten.get(&sample.table) {
        let columns: Vec<String> = columns.keys().map(|column| format!("`{column}`")).collect();
        for row in &mut sample.rows {
            if let Some(Some(word)) = row.first_mut()
                && [COMES_BACK, GOES_BACK].contains(&word.as_str())
            {
                word.push_str(&format!(", but for {}", columns.join(", ")));
            }
        }
    }
    sample
}

/// The undo of a call, as the body of a transaction.
struct Reversal<'a> {
    undoing: &'a Undoing,
    by: &'a CallId,
    mask: &'a Mask,
    scope: Scope,
    /// How the rows go back. The next one is tried when one fails.
    method: RestoreMethod,
    /// Whether no row is looked at before it is put back. Where that goes wrong, whatever it is, nothing was changed, and the
    /// next try looks first.
    hopeful: bool,
}

impl Reversal<'_> {
    /// Goes over to the next method where it may do better than the one that failed so: then nothing was changed, and another
    /// try is worth it.
    fn go_on(&mut self, fault: PostgresFault) -> PostgresFault {
        match (fault, self.method.next()) {
            (PostgresFault::Database(error), Some(next)) if RestoreMethod::stands_in_the_way(&error) => {
                self.method = next;
                PostgresFault::Moved(told(&error))
            }
            (fault, _) => fault,
        }
    }

    /// Puts the rows back, and looks at what came of it.
    async fn put_back(&mut self, client: &Client) -> Result<Undone, PostgresFault> {
        let call = &self.undoing.call;
        let plan =
            if self.hopeful { Plan::hopeful(client, call).await? } else { Plan::new(client, call).await? };
        let mut undone = plan.undone(client, &self.scope, self.mask).await?;
        if undone.restored.is_empty()
            && let Some(by) = undone_by(client, call, Some(self.by)).await?
        {
            return Err(PostgresFault::Other(format!("call `{call}` was undone by call `{by}`")));
        }
        if let Some(why) = undone.refusal(self.undoing) {
            return Err(PostgresFault::Other(why));
        }
        if undone.restored.is_empty() {
            return Err(PostgresFault::Other(format!("nothing is left to undo of call `{call}`")));
        }
        if let Err(fault) = plan.apply(client, call, self.method).await {
            return Err(if self.hopeful { fault } else { self.go_on(fault) });
        }
        let accepted = &self.undoing.rewritten;
        let departure = plan.settled(client, call, accepted, KeptChanges { call: self.by, after: 0 }).await?;
        if departure.refused(accepted) {
            return Err(PostgresFault::Other(departure.message(accepted)));
        }
        undone.rewritten = departure.told(&self.scope);
        Ok(undone)
    }
}

/// Whatever went wrong while no row was looked at first: another try that does may do better, or will say why not. Not where
/// the server broke off, or is gone.
fn less_hopeful(fault: PostgresFault) -> PostgresFault {
    match fault {
        PostgresFault::Database(error) if error.as_db_error().is_none() || cut_short(&error) => {
            PostgresFault::Database(error)
        }
        PostgresFault::Database(error) => PostgresFault::Moved(told(&error)),
        PostgresFault::Other(why) => PostgresFault::Moved(why),
        fault @ (PostgresFault::Moved(_) | PostgresFault::Row(_) | PostgresFault::Recorded(_)) => fault,
    }
}

impl Body for Reversal<'_> {
    type Made = Undone;

    async fn run(&mut self, client: &Object) -> Result<(Undone, Uncounted), PostgresFault> {
        client.batch_execute(AS_KEPT).await?;
        // Two that undo the same call at once take turns.
        client
            .query(
                "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))",
                &[&self.undoing.call.as_str()],
            )
            .await?;
        let done = self.put_back(client).await;
        let undone = match done {
            Err(fault) if std::mem::take(&mut self.hopeful) => return Err(less_hopeful(fault)),
            done => done?,
        };
        let rows = undone.restored.clone();
        Ok((undone, Uncounted { rows: Some(rows), ..Uncounted::default() }))
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn writes(&self) -> Vec<TableRef> {
        Vec::new()
    }

    fn rewrites(&self) -> bool {
        false
    }

    fn lingers(&self) -> bool {
        false
    }

    fn undoes(&self) -> Option<&CallId> {
        Some(&self.undoing.call)
    }
}

/// The call that undid a call, other than the one that is at it now.
async fn undone_by(
    client: &Client,
    call: &CallId,
    now: Option<&CallId>,
) -> Result<Option<String>, PostgresFault> {
    let sql = "SELECT id FROM countersign.call WHERE undoes = $1 AND state = 'committed' AND id IS DISTINCT FROM $2 \
                ORDER BY at DESC LIMIT 1";
    let row = client.query_opt(sql, &[&call.as_str(), &now.map(CallId::as_str)]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
