//! A process that dies at any step of a call: what the journal says afterwards is what happened.

use std::sync::atomic::{AtomicU32, Ordering};

use countersign_gate::Recalled;
use countersign_rules::CallId;
use rusqlite::Connection;

use super::{SHOP, World, dump, settings, up_to};
use crate::sql::journal::{Mark, OnChange};

/// Where the child process dies.
const STEPS: [&str; 7] = ["record", "first", "last", "image", "complete", "committing", "committed"];
/// What the child is told: the step, and the file.
const STEP: &str = "COUNTERSIGN_TEST_DIE_AT";
const FILE: &str = "COUNTERSIGN_TEST_FILE";

/// Dies at this step of the call on this connection, as by `kill -9`.
fn die_at(connection: &mut Connection, step: &'static str) {
    let seen = AtomicU32::new(0);
    let hear = move |action: rusqlite::hooks::Action, _: &str, table: &str, _: i64| {
        let now = match (table, action) {
            ("countersign_call", rusqlite::hooks::Action::SQLITE_INSERT) => "record",
            ("countersign_call", _) => "complete",
            ("countersign_image", _) => "image",
            // One customer, two bills, three lines: the sixth row is the last that has a rowid.
            _ => match seen.fetch_add(1, Ordering::Relaxed) {
                0 => "first",
                5 => "last",
                _ => "between",
            },
        };
        if now == step {
            std::process::abort();
        }
    };
    connection.update_hook(Some(hear)).unwrap();
    let die = move || std::process::abort();
    match step {
        "committing" => connection.commit_hook(Some(move || -> bool { die() })).unwrap(),
        "committed" => {
            connection.wal_hook(Some(|_: &mut rusqlite::hooks::Wal, _| std::process::abort())).unwrap()
        }
        _ => {}
    }
}

/// The child: performs the call, and dies on the way.
async fn doomed(step: &str, file: &str) {
    let step = STEPS.into_iter().find(|known| *known == step).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let world = World::over(folder, file.as_ref(), Connection::open(file).unwrap(), settings());
    let mark = Mark { call: CallId::parse("doomed").unwrap(), ..world.mark().await };
    {
        let mut turn = world.database.connections.write_turn().await.unwrap();
        die_at(turn.connection().unwrap(), step);
    }
    let work = world.work("delete from customer where id = 1").unwrap();
    let done = world.database.write(work, &up_to(10), Some(mark)).await;
    panic!("it lives on at `{step}`: {done:?}");
}

/// Starts itself again for each step, as the process that dies.
#[tokio::test]
async fn after_a_crash_at_any_step_the_journal_tells_what_happened() {
    #[expect(clippy::disallowed_methods, reason = "how the parent tells its child what to do")]
    let told = std::env::var(STEP).and_then(|step| Ok((step, std::env::var(FILE)?)));
    if let Ok((step, file)) = told {
        return doomed(&step, &file).await;
    }
    for step in STEPS {
        let world = World::new(SHOP).await;
        let before = dump(&world.other);
        let file = world.folder.path().join("shop.db");
        #[expect(clippy::disallowed_methods, reason = "a process of its own, which is to die")]
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "after_a_crash_at_any_step_the_journal_tells_what_happened";
        let name = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
        child.args([name.as_str(), "--exact", "--nocapture"]).env(STEP, step).env(FILE, &file);
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains("lives on"), "{step}: {said}");
        let call = CallId::parse("doomed").unwrap();
        let doubt = world.doubt(&call).await;
        let recalled = world.database.recall(&doubt).await.unwrap();
        if step == "committed" {
            assert_eq!(recalled, Recalled::Happened { rows: 7, amount: None }, "{step}");
            assert_ne!(dump(&world.other), before, "{step}");
            world.undo(&call, OnChange::Refuse).await.unwrap();
        } else {
            assert_eq!(recalled, Recalled::Never, "{step}");
            let mark = Mark { call, ..world.mark().await };
            let work = world.work("delete from customer where id = 1").unwrap();
            world.failure(world.database.write(work, &up_to(10), Some(mark))).await;
        }
        assert_eq!(dump(&world.other), before, "{step}");
    }
}

/// Whoever asks while the call still runs waits for it to end, and then hears the truth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recalling_a_call_that_is_still_running_waits_for_its_end() {
    let world = World::new(SHOP).await;
    let file = world.folder.path().join("shop.db");
    // A second process, as far as SQLite can tell: its own connections.
    let folder = tempfile::tempdir().unwrap();
    let second = World::over(folder, &file, Connection::open(&file).unwrap(), settings());
    let mark = world.mark().await;
    let call = mark.call.clone();
    let (reached, wait) = std::sync::mpsc::channel();
    let (go, hold) = std::sync::mpsc::channel::<()>();
    {
        let mut turn = world.database.connections.write_turn().await.unwrap();
        let (mut reached, hold) = (Some(reached), std::sync::Mutex::new(hold));
        let hook = move || {
            if let Some(reached) = reached.take() {
                reached.send(()).unwrap();
                hold.lock().unwrap().recv().unwrap();
            }
            false
        };
        turn.connection().unwrap().commit_hook(Some(hook)).unwrap();
    }
    let (bounds, doubt) = (up_to(10), world.doubt(&call).await);
    let (performed, recalled) = tokio::join!(
        world.database.write(world.work("delete from line").unwrap(), &bounds, Some(mark)),
        async {
            tokio::task::block_in_place(|| wait.recv().unwrap());
            let mut asking = std::pin::pin!(second.database.recall(&doubt));
            assert!(futures::poll!(asking.as_mut()).is_pending(), "the file is locked");
            go.send(()).unwrap();
            asking.await
        }
    );
    assert_eq!(performed.unwrap().rows, 4);
    assert_eq!(recalled.unwrap(), Recalled::Happened { rows: 4, amount: None });
}
