//! This happens without anybody asking: granted calls are performed, overdue requests end, calls in doubt are
//! found.
//!
//! It is safe in several replicas at once: the ledger spends an approval once, whoever comes first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use countersign_gate::{
    Answer, Gate, Ledger as _, Recalled,
    ledger::{ApprovalRecord, CallRecord, CallState},
};
use countersign_rules::{ApprovalId, CallId, Effect, SystemName};
use countersign_store::Store;
use countersign_tools::Systems;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{app::App, trace as traces};

/// The worker looks after each such time even when nothing seems to have changed: deadlines pass silently.
const TICK: Duration = Duration::from_secs(1);

/// Two looks are at least this far apart, so that a busy ledger is not asked after each of its changes.
const PAUSE: Duration = Duration::from_millis(20);

/// So many granted calls of one system are performed at a time: one that is slow keeps nobody else waiting.
const AT_ONCE: usize = 16;

/// The calls in doubt are looked through after each such time.
const DOUBTS_TICK: Duration = Duration::from_secs(2);

/// So many of them are looked through, newest first.
const DOUBTS_MAX: u32 = 1_000;

/// The ledger and journals are pruned after each such time.
const PRUNE_TICK: Duration = Duration::from_secs(3_600);

/// A system is asked again about the same call after this pause, which is doubled each time.
const RECALL_PAUSE: Duration = Duration::from_secs(2);

/// Such a pause is at most this long.
const RECALL_PAUSE_MAX: Duration = Duration::from_secs(300);

/// Systems are asked about so many calls at a time.
const RECALLS_AT_ONCE: usize = 4;

/// The worker performs, expires, sweeps, and asks systems what became of calls in doubt.
#[derive(Debug)]
pub struct Worker {
    app: Arc<App>,
    systems: Systems,
    /// This process is performing these requests: a slow one must not be tried again at each look.
    under_way: Arc<Mutex<BTreeSet<ApprovalId>>>,
    places: Mutex<BTreeMap<SystemName, Arc<Semaphore>>>,
    doubts: Arc<Mutex<BTreeMap<CallId, Doubt>>>,
    recalls: Arc<Semaphore>,
}

/// The system of a call in doubt is asked about it.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// It may be asked again at this time; `None` while it is being asked.
    next: Option<Instant>,
    pause: Duration,
}

impl Worker {
    /// Makes a worker for an application.
    #[must_use]
    pub fn new(app: Arc<App>, systems: Systems) -> Self {
        Self {
            app,
            systems,
            under_way: Arc::default(),
            places: Mutex::default(),
            doubts: Arc::default(),
            recalls: Arc::new(Semaphore::new(RECALLS_AT_ONCE)),
        }
    }

    /// Works until it is stopped. Calls under way then are the gate's to finish.
    pub async fn run(self, stopping: CancellationToken) {
        let mut changes = self.app.gate().ledger().changes();
        let mut tended: Option<Instant> = None;
        let mut doubted: Option<Instant> = None;
        let mut pruned: Option<Instant> = None;
        loop {
            changes.borrow_and_update();
            if tended.is_none_or(|at| at.elapsed() >= TICK) {
                tended = Some(Instant::now());
                self.tend().await;
            }
            if doubted.is_none_or(|at| at.elapsed() >= DOUBTS_TICK) {
                doubted = Some(Instant::now());
                self.recall().await;
            }
            if pruned.is_none_or(|at| at.elapsed() >= PRUNE_TICK) {
                pruned = Some(Instant::now());
                self.prune();
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
        if let Err(fault) = gate.sum_up_refusals(false).await {
            tracing::warn!(%fault, "refusals that were counted cannot be summed up");
        }
    }

    /// Begins to let the ledger forget what is long over, and journals rows past their retention. The first
    /// time also tells whether they are there.
    fn prune(&self) {
        let (app, systems) = (Arc::clone(&self.app), self.systems.clone());
        tokio::spawn(async move {
            if let Err(fault) = app.store().prune(app.clock().now_ms()).await {
                tracing::warn!(%fault, "what is long over in the ledger cannot be forgotten");
            }
            for (name, database) in systems.journals() {
                match database.prune(&Gate::<Store>::review(name)).await {
                    Ok(0) => {}
                    Ok(rows) => {
                        tracing::info!(system = %name, rows, "kept rows were past their time and are gone")
                    }
                    Err(why) => tracing::warn!(
                        system = %name,
                        %why,
                        "the journal cannot be used: until it can, writes there are refused; see `countersign system prepare {name}`"
                    ),
                }
            }
        });
    }

    /// Begins to ask systems about calls in doubt: in the background, for a system may be slow to answer.
    async fn recall(&self) {
        let found = match self.app.gate().ledger().calls(Some(CallState::InDoubt), DOUBTS_MAX).await {
            Ok(found) => found,
            Err(fault) => {
                tracing::warn!(%fault, "calls in doubt cannot be read");
                return;
            }
        };
        let due = {
            let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
            let still: BTreeSet<&CallId> = found.iter().map(|record| &record.call.id).collect();
            doubts.retain(|call, _| still.contains(call));
            let now = Instant::now();
            let mut due = Vec::new();
            for record in &found {
                let doubt = doubts
                    .entry(record.call.id.clone())
                    .or_insert(Doubt { next: Some(now), pause: RECALL_PAUSE });
                if doubt.next.is_some_and(|at| at <= now) {
                    doubt.next = None;
                    due.push(record.clone());
                }
            }
            due
        };
        for record in due {
            let (app, doubts, places) =
                (Arc::clone(&self.app), Arc::clone(&self.doubts), Arc::clone(&self.recalls));
            tokio::spawn(async move {
                if let Ok(_place) = places.acquire().await {
                    recall(&app, &record).await;
                }
                let mut doubts = doubts.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(doubt) = doubts.get_mut(&record.call.id) {
                    doubt.next = Instant::now().checked_add(doubt.pause);
                    doubt.pause = doubt.pause.saturating_mul(2).min(RECALL_PAUSE_MAX);
                }
            });
        }
    }

    /// Returns the places at the system of a granted call.
    fn places(&self, record: &ApprovalRecord) -> Arc<Semaphore> {
        let Some(offer) = self.app.tool(&record.request.call.tool) else {
            // Without a tool there is nothing to perform, and so nothing to wait for.
            return Arc::new(Semaphore::new(1));
        };
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.entry(offer.spec().system.name.clone());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
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
            let places = self.places(&record);
            let (app, under_way) = (Arc::clone(&self.app), Arc::clone(&self.under_way));
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

async fn recall(app: &App, record: &CallRecord) {
    let call = &record.call.id;
    if record.effect < Effect::Write {
        match app.gate().end_read(record).await {
            Ok(true) => tracing::info!(%call, "a read whose answer was lost was closed"),
            Ok(false) => {}
            Err(fault) => tracing::warn!(%call, %fault, "a read whose answer was lost could not be closed"),
        }
        return;
    }
    let Some(offer) = app.tool(&record.call.tool) else { return };
    match offer.tool.recall(app.gate(), record).await {
        Ok(Recalled::Unknown) => {
            tracing::debug!(%call, "the system keeps no record of the call; a person has to look");
        }
        Ok(Recalled::Happened { .. } | Recalled::Never) => {}
        Err(why) => tracing::warn!(%call, %why, "the system cannot be asked what became of a call"),
    }
}

async fn perform(app: &App, record: ApprovalRecord) {
    let gate = app.gate();
    let approval = record.request.id.clone();
    // INVARIANT: a signature counts while its signer does.
    match app.still_approved(&record, false).await {
        Ok(true) => {}
        Ok(false) => {
            let why = "somebody who approved it may no longer approve";
            if let Err(fault) = gate.supersede(&record, why).await {
                tracing::warn!(%fault, %approval, "a granted request without its signers cannot be ended");
            }
            return;
        }
        Err(fault) => {
            tracing::warn!(%fault, %approval, "whether those who approved still may cannot be read");
            return;
        }
    }
    let offer = match app.tool(&record.request.call.tool) {
        None => Err("its tool is no longer configured".to_owned()),
        Some(offer) => offer.off().map_or(Ok(offer), |refusal| Err(refusal.message)),
    };
    let offer = match offer {
        Ok(offer) => offer,
        Err(why) => {
            if let Err(fault) = gate.supersede(&record, &why).await {
                tracing::warn!(%fault, %approval, "a granted request without tool cannot be ended");
            }
            return;
        }
    };
    let since = Instant::now();
    let span = Gate::<Store>::granted_span(&record);
    if let Some(trace) = &record.request.call.trace {
        traces::linked(&span, trace);
    }
    let answer = offer.tool.perform_granted(gate, record, span).await;
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
