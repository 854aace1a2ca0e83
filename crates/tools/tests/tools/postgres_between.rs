//! Time that is up between two messages: the server cancels a statement after it has described it, in answer to the end of
//! that message, where the driver no longer listens. What is heard then is that the transaction is over (`25P02`), and what
//! is told is that the time was up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use countersign_rules::Code;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    harness::{ALLOW, AT_MOST_THREE, counted},
    postgres_undo::{Database, on_each_server, reversible, run, target_on, undo},
};

on_each_server! {
    what_is_cancelled_between_two_messages_is_told_as_time_that_is_up,
}

/// Stands between the driver and the server, and has the server cancel itself right after it has described a statement that
/// holds the word: the same at each run, for the server reads one message after the other.
struct Relay {
    port: u16,
    cancelled: Arc<AtomicUsize>,
}

impl Relay {
    async fn before(db: &Database, word: &'static str) -> (Self, String) {
        let mut url = url::Url::parse(&db.url).unwrap();
        let server = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self { port: listener.local_addr().unwrap().port(), cancelled: Arc::default() };
        let cancelled = Arc::clone(&relay.cancelled);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server.clone()).await.unwrap();
                let cancelled = Arc::clone(&cancelled);
                // Either side may hang up at any time, which ends the other.
                tokio::spawn(async move { pass_on(client, server, word, &cancelled).await.ok() });
            }
        });
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(relay.port)).unwrap();
        (relay, url.into())
    }

    fn cancelled(&self) -> usize {
        self.cancelled.swap(0, Ordering::SeqCst)
    }
}

async fn pass_on(
    client: TcpStream,
    server: TcpStream,
    word: &str,
    cancelled: &AtomicUsize,
) -> io::Result<()> {
    let (mut asks, mut hears) = client.into_split();
    let (mut answers, mut is_asked) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut answers, &mut hears).await.ok() });
    // The first message has no kind.
    let first = content(&mut asks).await?;
    is_asked.write_all(&message(None, &first)).await?;
    let mut described = false;
    loop {
        let kind = asks.read_u8().await?;
        let content = content(&mut asks).await?;
        match kind {
            b'P' => described = content.windows(word.len()).any(|part| part == word.as_bytes()),
            b'S' if described => {
                described = false;
                cancelled.fetch_add(1, Ordering::SeqCst);
                let parse = b"\0select pg_cancel_backend(pg_backend_pid())\0\0\0";
                let bind = [0; 8];
                let execute = [0; 5];
                for (kind, content) in [(b'P', parse.as_slice()), (b'B', &bind), (b'E', &execute)] {
                    is_asked.write_all(&message(Some(kind), content)).await?;
                }
            }
            _ => {}
        }
        is_asked.write_all(&message(Some(kind), &content)).await?;
    }
}

async fn content(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut content = vec![0; usize::try_from(length).unwrap() - 4];
    from.read_exact(&mut content).await?;
    Ok(content)
}

fn message(kind: Option<u8>, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).unwrap().to_be_bytes();
    kind.into_iter().chain(length).chain(content.iter().copied()).collect()
}

async fn what_is_cancelled_between_two_messages_is_told_as_time_that_is_up(server: &str) {
    let schema =
        "create table t (id int primary key, n int); insert into t select i, i from generate_series(1, 5) i;
        create function w() returns trigger language plpgsql as $$ begin return new; end $$;
        create trigger w before update on t for each row execute function w();";
    let db = target_on(server, "between", schema).await;
    let tables = ["t"];
    let direct = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&direct, &tables).await;
    let before = db.dump(&tables).await;
    let stopped = "the statement took too long, and was stopped";

    let (relay, url) = Relay::before(&db, "'slowly'").await;
    let world = db.world_at(&url, vec![reversible(&tables)], ALLOW, <_>::default());
    for sql in [
        "select id from t where 'slowly' = 'slowly'",
        "update t set n = 0 where id = 1 and 'slowly' = 'slowly'",
    ] {
        let refusal = world.refusal("query", json!({"sql": sql})).await;
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::ToolFailed, stopped), "{sql}");
        assert_eq!(relay.cancelled(), 1, "{sql}");
    }
    // Its reach is not known for the time it took, and not because of anything that is wrong with it.
    let bounded = db.world_at(&url, vec![counted(reversible(&tables))], AT_MOST_THREE, <_>::default());
    let sql = "update t set n = 0 where id = 1 and 'slowly' = 'slowly'";
    let refusal = bounded.refusal("query", json!({"sql": sql})).await;
    assert_eq!(refusal.code, Code::ReachUnmeasurable, "{refusal}");
    assert!(refusal.message.contains(stopped), "{refusal}");
    assert_eq!(relay.cancelled(), 1);

    // Nor is a call told to be one that could not be undone, when it was the trial that was stopped.
    let (relay, url) = Relay::before(&db, "AS \"countersign row\" SET").await;
    let world = db.world_at(&url, vec![reversible(&tables)], ALLOW, <_>::default());
    let refusal = world.refusal("query", json!({"sql": "update t set n = 0 where id = 1"})).await;
    assert_eq!((refusal.code, refusal.message.as_str()), (Code::ToolFailed, stopped), "{refusal}");
    assert_eq!(relay.cancelled(), 1);
    assert_eq!(db.dump(&tables).await, before);

    // An undo names the setting that gives it more.
    let call = run(&direct, "update t set n = 0 where id = 1").await;
    let after = db.dump(&tables).await;
    let said = crate::postgres_undo::message(undo(&world, &call).await);
    assert!(said.contains("undoing took longer than") && said.contains("`statement_timeout_ms`"), "{said}");
    assert_eq!(relay.cancelled(), 1);
    assert_eq!(db.dump(&tables).await, after);
}
