//! Databases that are full, locked, slow, damaged or gone: a clear fault, nothing half done, and on again
//! without a restart.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};
use std::time::Duration;

use countersign_gate::ledger::{CallState, Ledger, LedgerFault, NotIssued, Wait};
use countersign_rules::budget::Unit;
use countersign_store::{Options, Step, Store, StoreError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    held::Held,
    make::{NOW, balances, call_id, done, hold, intent, kinds},
    place::{Place, contract},
};

fn fault(result: Result<countersign_gate::ledger::Issued, NotIssued>) -> LedgerFault {
    match result {
        Err(NotIssued::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

contract! {
    async fn a_caller_that_goes_away_does_not_undo_what_it_asked_for(place) {
        let (held, options) = Held::at(Step::Begun, Options::default());
        let ledger = place.open_with(options).await.unwrap();
        let caller = { let ledger = Arc::clone(&ledger); tokio::spawn(async move { ledger.issue(intent("c1")).await }) };
        held.reached().await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        held.open();
        ledger.record(Vec::new()).await.unwrap();
        assert_eq!(ledger.call(&call_id("c1")).await.unwrap().unwrap().state, CallState::Open);
    }

    async fn an_overloaded_ledger_refuses_instead_of_waiting_for_ever(place) {
        let options = Options { queue: 1, queue_timeout: Duration::from_millis(250), ..Options::default() };
        let (held, options) = Held::at(Step::Begun, options);
        let ledger = place.open_with(options).await.unwrap();
        let issue = |id: &'static str| { let ledger = Arc::clone(&ledger); tokio::spawn(async move { ledger.issue(intent(id)).await }) };
        let first = issue("c1");
        held.reached().await;
        // One more fits the queue; whichever it is, the others are refused.
        let results = futures::future::join_all([issue("c2"), issue("c3"), issue("c4")].map(|task| async {
            tokio::time::timeout(Duration::from_secs(1), task).await
        })).await;
        let refused: Vec<_> = results.into_iter().flatten().map(|r| fault(r.unwrap())).collect();
        assert_eq!(refused, vec![LedgerFault::Unavailable("too many operations wait to be written".into()); 2]);
        held.open();
        first.await.unwrap().unwrap();
        ledger.record(Vec::new()).await.unwrap();
        ledger.close().await;
        // Read by another: 20 ms are also what a new connection may take here, too little on a busy machine.
        assert_eq!(kinds(&*place.open().await).await.len(), 2);
    }

    async fn what_is_queued_is_written_before_the_ledger_closes(place) {
        let ledger = place.open().await;
        for n in 0..20 {
            ledger.issue(intent(&format!("c{n}"))).await.unwrap();
            Ledger::close(&*ledger, done(&format!("c{n}"), 1), Wait::Queued).await.unwrap();
        }
        ledger.close().await;
        assert!(ledger.record(Vec::new()).await.is_err());
        assert_eq!(place.open().await.calls(Some(CallState::Done), 100).await.unwrap().len(), 20);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_what_was_acknowledged() {
    let place = Place::sqlite();
    let small = Options { sqlite_pages_max: Some(80), ..Options::default() };
    let ledger = place.open_with(small).await.unwrap();
    let with = |n: usize| {
        let mut call = intent(&format!("c{n}"));
        call.holds = vec![hold("calls", Unit::Calls, 1, 1_000_000)];
        call.call.arguments = serde_json::json!("x".repeat(2_000));
        call
    };
    let mut issued = 0_usize;
    let full = loop {
        match ledger.issue(with(issued)).await {
            Ok(_) => issued += 1,
            Err(why) => break why,
        }
    };
    assert_eq!(full, NotIssued::Fault(LedgerFault::Unavailable("the disk is full".into())));
    assert!(issued > 3);
    // Still full, still readable, still exact.
    assert!(ledger.issue(with(issued)).await.is_err());
    assert_eq!(balances(&ledger).await, [("calls".into(), 0, u64::try_from(issued).unwrap())]);
    assert_eq!(kinds(&ledger).await.len(), issued);
    ledger.close().await;

    let ledger = place.open().await;
    ledger.issue(with(issued)).await.unwrap();
    assert_eq!(kinds(&ledger).await.len(), issued + 1);
    assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
}

#[tokio::test]
async fn a_file_that_another_program_locks_is_unavailable_until_it_lets_go() {
    let place = Place::sqlite();
    let options = Options { lock_timeout: Duration::from_millis(20), ..Options::default() };
    let ledger = place.open_with(options).await.unwrap();
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = fault(ledger.issue(intent("c1")).await);
    assert_eq!(locked, LedgerFault::Unavailable("another program has locked the file".into()));
    other.execute_batch("ROLLBACK").unwrap();
    ledger.issue(intent("c1")).await.unwrap();
    assert_eq!(kinds(&ledger).await, ["warrant_issued"]);
}

#[tokio::test]
async fn what_is_no_ledger_is_not_opened() {
    let place = Place::sqlite();
    std::fs::write(
        place.path(),
        "this is a text and no database, and long enough to be looked at".repeat(20),
    )
    .unwrap();
    let refused = place.open_with(Options::default()).await.unwrap_err();
    assert_eq!(refused, StoreError::Damaged("the file is no intact SQLite database".into()));
    let folder = tempfile::tempdir().unwrap();
    let refused = Store::open_sqlite(folder.path(), Place::key(), &Options::default()).unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    let missing = folder.path().join("missing/ledger.db");
    assert!(Store::open_sqlite(&missing, Place::key(), &Options::default()).is_err());
    assert!(Store::open_sqlite_read_only(&missing, &Options::default()).is_err());
}

#[tokio::test]
async fn a_file_is_readable_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::sqlite();
    let ledger = place.open().await;
    ledger.issue(intent("c1")).await.unwrap();
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let mode = std::fs::metadata(place.path().with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_postgres_is_not_waited_for_without_end() {
    let place = Place::postgres().await;
    let options = Options { lock_timeout: Duration::from_millis(20), ..Options::default() };
    let ledger = place.open_with(options).await.unwrap();
    let other = place.database().connect().await;
    other.batch_execute("BEGIN; SELECT 1 FROM log_head FOR UPDATE").await.unwrap();
    let locked = fault(ledger.issue(intent("c1")).await);
    assert_eq!(locked, LedgerFault::Unavailable("another process holds the lock".into()));
    other.batch_execute("ROLLBACK").await.unwrap();
    ledger.issue(intent("c1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_terminated_leaves_nothing_half_done() {
    for at in [Step::Begun, Step::Written] {
        let place = Place::postgres().await;
        let (held, options) = Held::at(at, Options::default());
        let ledger = place.open_with(options).await.unwrap();
        let issue = {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.issue(intent("c1")).await })
        };
        held.reached().await;
        let admin = place.database().connect().await;
        let terminated = admin
            .query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'countersign' AND datname = current_database()", &[])
            .await
            .unwrap();
        assert!(!terminated.is_empty());
        held.open();
        match fault(issue.await.unwrap()) {
            LedgerFault::Unavailable(_) | LedgerFault::Unknown(_) => {}
            other @ LedgerFault::Damaged(_) => panic!("{other}"),
        }
        assert_eq!(kinds(&ledger).await, [""; 0]);
        ledger.issue(intent("c1")).await.unwrap();
        Ledger::close(&*ledger, done("c1", 1), Wait::Durable).await.unwrap();
        assert_eq!(kinds(&ledger).await, ["warrant_issued", "outcome"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_survives_a_new_connection() {
    let place = Place::postgres().await;
    let ledger = place.open().await;
    ledger.issue(intent("c1")).await.unwrap();
    let admin = place.database().connect().await;
    admin
        .query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'countersign' AND datname = current_database()", &[])
        .await
        .unwrap();
    // Its process is alive, so nobody takes it for lost.
    assert_eq!(ledger.sweep(NOW).await.unwrap(), []);
    let other = place.open().await;
    assert_eq!(other.sweep(NOW).await.unwrap(), []);
    Ledger::close(&*ledger, done("c1", 1), Wait::Durable).await.unwrap();
    assert_eq!(kinds(&other).await, ["warrant_issued", "outcome"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_gone_and_back_again() {
    let place = Place::postgres().await;
    let proxy = Proxy::before(&place).await;
    let ledger = proxy.open(Options { queue_timeout: Duration::from_secs(1), ..Options::default() }).await;
    ledger.issue(intent("c1")).await.unwrap();
    proxy.mode(Mode::Down);
    assert!(matches!(fault(ledger.issue(intent("c2")).await), LedgerFault::Unavailable(_)));
    assert!(matches!(ledger.call(&call_id("c1")).await, Err(LedgerFault::Unavailable(_))));
    // An outcome that nobody waits for is kept until it can be written.
    Ledger::close(&*ledger, done("c1", 1), Wait::Queued).await.unwrap();
    assert!(matches!(fault(ledger.issue(intent("c2")).await), LedgerFault::Unavailable(_)));
    proxy.mode(Mode::Up);
    ledger.issue(intent("c2")).await.unwrap();
    assert_eq!(ledger.call(&call_id("c1")).await.unwrap().unwrap().state, CallState::Done);
    assert_eq!(kinds(&ledger).await, ["warrant_issued", "outcome", "warrant_issued"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_unknown_whether_it_was_kept_or_not() {
    for (mode, kept) in [(Mode::LoseAnswer, 1), (Mode::LoseCommit, 0)] {
        let place = Place::postgres().await;
        let proxy = Proxy::before(&place).await;
        let ledger = proxy.open(Options::default()).await;
        proxy.mode(mode);
        let lost = fault(ledger.issue(intent("c1")).await);
        assert!(matches!(lost, LedgerFault::Unknown(_)), "{lost}");
        proxy.mode(Mode::Up);
        ledger.record(Vec::new()).await.unwrap();
        assert_eq!(kinds(&ledger).await.len(), kept);
        assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
        // Closing it is right in both cases.
        Ledger::close(&*ledger, done("c1", 1), Wait::Durable).await.unwrap();
        assert_eq!(kinds(&ledger).await.len(), 2 * kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_not_waited_for_without_end() {
    let place = Place::postgres().await;
    let proxy = Proxy::before(&place).await;
    let ledger =
        proxy.open(Options { statement_timeout: Duration::from_secs(1), ..Options::default() }).await;
    proxy.mode(Mode::Silent);
    assert!(matches!(fault(ledger.issue(intent("c1")).await), LedgerFault::Unavailable(_)));
    proxy.mode(Mode::Up);
    ledger.issue(intent("c1")).await.unwrap();
    assert_eq!(kinds(&ledger).await, ["warrant_issued"]);
}

#[tokio::test]
async fn tls_that_is_asked_for_is_not_gone_without() {
    let place = Place::postgres().await;
    let Place::Postgres(database) = &place else { panic!("no database") };
    for mode in ["require", "verify-full", "verify-ca"] {
        let joint = if database.url().contains('?') { "&" } else { "?" };
        let url = format!("{}{joint}sslmode={mode}", database.url()).replace("?&", "?");
        let refused = Store::open_postgres(&url, Place::key(), &Options::default()).await.unwrap_err();
        let untrusted = "PostgreSQL offers no TLS, or a certificate that is not trusted";
        assert_eq!(refused, StoreError::Unavailable(untrusted.into()), "{mode}");
    }
    let missing = Options { postgres_ca: Some("/nonexistent/ca.pem".into()), ..Options::default() };
    let refused =
        Store::open_postgres("postgres://db.example/x?sslmode=require", Place::key(), &missing).await;
    assert!(matches!(refused.unwrap_err(), StoreError::Url(_)));
}

#[tokio::test]
async fn no_fault_tells_the_password() {
    for url in [
        "postgres://bot:hunter2@127.0.0.1:1/x",
        "postgres://bot:hunter2@127.0.0.1:notaport/x",
        "postgres://bot:hunter2@127.0.0.1/x?sslmode=hunter2",
        "hunter2",
    ] {
        let refused = Store::open_postgres(url, Place::key(), &Options::default()).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }
}

/// What a proxy does with what passes it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Passes everything on.
    Up,
    /// Breaks every connection and takes no new one.
    Down,
    /// Passes nothing on.
    Silent,
    /// Passes a commit on and breaks the connection before its answer.
    LoseAnswer,
    /// Breaks the connection in place of passing a commit on.
    LoseCommit,
}

/// Between a ledger and its server.
struct Proxy {
    url: String,
    mode: Arc<AtomicU8>,
    changed: tokio::sync::watch::Sender<()>,
}

impl Proxy {
    async fn before(place: &Place) -> Self {
        let url = place.database().url();
        let server: tokio_postgres::Config = url.parse().unwrap();
        let port = server.get_ports().first().copied().unwrap_or(5432);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let url = url.replacen(&format!(":{port}/"), &format!(":{own}/"), 1);
        assert!(url.contains(&own.to_string()), "the server's URL must name its port");
        let mode = Arc::new(AtomicU8::new(Mode::Up as u8));
        let changed = tokio::sync::watch::Sender::new(());
        let (shared, watch) = (Arc::clone(&mode), changed.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.load(Ordering::SeqCst) != Mode::Down as u8 {
                    tokio::spawn(pass(client, port, Arc::clone(&shared), watch.clone()));
                }
            }
        });
        Self { url, mode, changed }
    }

    async fn open(&self, options: Options) -> Arc<Store> {
        Arc::new(Store::open_postgres(&self.url, Place::key(), &options).await.unwrap())
    }

    fn mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
        self.changed.send_replace(());
    }
}

/// Passes one connection on, as the mode says.
async fn pass(
    mut client: TcpStream,
    port: u16,
    mode: Arc<AtomicU8>,
    mut changed: tokio::sync::watch::Receiver<()>,
) {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let is = |wanted: Mode| mode.load(Ordering::SeqCst) == wanted as u8;
    loop {
        tokio::select! {
            biased;
            _ = changed.changed() => if is(Mode::Down) { return },
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let sent = &asked[..length];
                let commit = sent.windows(7).any(|window| window == b"COMMIT\0");
                if is(Mode::Down) || (commit && is(Mode::LoseCommit)) {
                    return;
                }
                if is(Mode::Silent) {
                    continue;
                }
                if server.write_all(sent).await.is_err() {
                    return;
                }
                if commit && is(Mode::LoseAnswer) {
                    // The server has committed when it answers.
                    drop(server.read(&mut answered).await);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
