//! What happens without anybody asking: granted calls are performed, overdue requests end, calls in doubt
//! are found.
//!
//! Safe in several replicas at once: the ledger spends an approval once, whoever comes first.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use countersign_gate::{Answer, Ledger as _, ledger::ApprovalRecord};
use countersign_rules::ApprovalId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// How often the worker looks even when nothing seems to have changed: deadlines pass silently.
const TICK: Duration = Duration::from_secs(1);

/// The shortest time between two looks, so that a busy ledger is not asked after each of its changes.
const PAUSE: Duration = Duration::from_millis(20);

/// How many granted calls are performed at a time.
const AT_ONCE: usize = 16;

/// Performs, expires and sweeps.
#[derive(Debug)]
pub struct Worker {
    app: Arc<App>,
    /// Requests that this process is performing: a slow one must not be tried again at each look.
    under_way: Arc<Mutex<BTreeSet<ApprovalId>>>,
    places: Arc<Semaphore>,
}

impl Worker {
    /// A worker for an application.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app, under_way: Arc::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Works until it is stopped. Calls under way then are the gate's to finish.
    pub async fn run(self, stopping: CancellationToken) {
        let mut changes = self.app.gate().ledger().changes();
        let mut tended: Option<Instant> = None;
        loop {
            changes.borrow_and_update();
            if tended.is_none_or(|at| at.elapsed() >= TICK) {
                tended = Some(Instant::now());
                self.tend().await;
            }
            self.perform_granted().await;
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Finds calls in doubt and ends overdue requests.
    async fn tend(&self) {
        let gate = self.app.gate();
        match gate.sweep().await {
            Ok(found) => {
                for call in found {
                    tracing::warn!(call = %call.call.id, tool = %call.call.tool, "a call is in doubt");
                }
            }
            Err(fault) => tracing::warn!(%fault, "calls in doubt cannot be looked for"),
        }
        if let Err(fault) = gate.expire().await {
            tracing::warn!(%fault, "overdue requests cannot be ended");
        }
    }

    /// Begins to perform what people have granted.
    async fn perform_granted(&self) {
        let granted = match self.app.gate().granted().await {
            Ok(granted) => granted,
            Err(fault) => {
                tracing::warn!(%fault, "granted requests cannot be read");
                return;
            }
        };
        for record in granted {
            let approval = record.request.id.clone();
            if !self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(approval.clone()) {
                continue;
            }
            let (app, under_way, places) =
                (Arc::clone(&self.app), Arc::clone(&self.under_way), Arc::clone(&self.places));
            // The gate keeps count of the call itself; nothing is lost when this task is dropped.
            tokio::spawn(async move {
                if let Ok(_place) = places.acquire().await {
                    perform(&app, record).await;
                }
                under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&approval);
            });
        }
    }
}

async fn perform(app: &App, record: ApprovalRecord) {
    let gate = app.gate();
    let approval = record.request.id.clone();
    let offer = match app.tool(&record.request.call.tool) {
        None => Err("its tool is no longer configured".to_owned()),
        Some(offer) => offer.off().map_or(Ok(offer), |refusal| Err(refusal.message)),
    };
    let offer = match offer {
        Ok(offer) => offer,
        Err(why) => {
            if let Err(fault) = gate.supersede_without_tool(&record, &why).await {
                tracing::warn!(%fault, %approval, "a granted request without tool cannot be ended");
            }
            return;
        }
    };
    let since = Instant::now();
    let answer = offer.tool.perform_granted(gate, record).await;
    app.metrics().called(offer.spec().name.as_str(), &answer, since.elapsed());
    match &answer {
        Answer::Done(done) => tracing::info!(%approval, call = %done.call, rows = done.rows, "performed"),
        Answer::Pending(_) => {}
        Answer::Refused(refused) => {
            let refusal = &refused.refusal;
            tracing::info!(%approval, code = refusal.code.as_str(), message = %refusal.message, "not performed");
        }
    }
}
