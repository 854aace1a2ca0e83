//! Connections that break, and servers that kill them, at every step of a write; and what the journal knows
//! afterwards.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use countersign_gate::{Answer, Recalled, ledger::Ledger as _};
use countersign_rules::Code;
use countersign_tools::definition::JournalSettings;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    harness::ALLOW,
    postgres::connect,
    postgres_undo::{SHOP, SHOP_TABLES, recall, reversible, target},
};

/// How a connection ends when the text comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The text never arrives.
    Before,
    /// It arrives and is answered; the answer is lost.
    After,
    /// The server kills its process with the text in hand.
    Killed,
}

/// A proxy in front of a server that ends the first connection by which `text` comes; when `alone`, nobody is
/// let through afterwards.
async fn breaking(
    url: &str,
    admin_url: &str,
    text: &'static str,
    end: End,
    alone: bool,
) -> (String, Arc<AtomicBool>) {
    let mut near_url = url::Url::parse(url).unwrap();
    let server = (near_url.host_str().unwrap().to_owned(), near_url.port().unwrap_or(5432));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    near_url.set_host(Some("127.0.0.1")).unwrap();
    near_url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&broken);
    let (admin_url, account) = (admin_url.to_owned(), near_url.username().to_owned());
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            if alone && done.load(Ordering::SeqCst) {
                continue;
            }
            let mut far = TcpStream::connect((server.0.as_str(), server.1)).await.unwrap();
            let (done, admin_url, account) = (Arc::clone(&done), admin_url.clone(), account.clone());
            tokio::spawn(async move {
                let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        read = near.read(&mut up) => {
                            let Ok(n @ 1..) = read else { return };
                            let hit = up[..n].windows(text.len()).any(|w| w == text.as_bytes());
                            if hit && !done.swap(true, Ordering::SeqCst) {
                                match end {
                                    End::Before => return,
                                    End::After => {
                                        far.write_all(&up[..n]).await.unwrap();
                                        assert!(far.read(&mut down).await.unwrap() > 0);
                                        return;
                                    }
                                    End::Killed => {
                                        let kill = "select pg_terminate_backend(pid) from pg_stat_activity \
                                                    where usename = $1 and datname = current_database()";
                                        connect(&admin_url).await.query(kill, &[&account]).await.unwrap();
                                        far.write_all(&up[..n]).await.ok();
                                    }
                                }
                            } else if far.write_all(&up[..n]).await.is_err() {
                                return;
                            }
                        }
                        read = far.read(&mut down) => {
                            let Ok(n @ 1..) = read else { return };
                            if near.write_all(&down[..n]).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    (near_url.into(), broken)
}

#[tokio::test]
async fn a_break_at_any_step_leaves_all_or_nothing_and_the_journal_knows_which() {
    let db = target("crash", SHOP).await;
    db.admin
        .batch_execute("insert into line select 0, n, 'b' from generate_series(100, 299) n")
        .await
        .unwrap();
    let direct = db.world(vec![reversible(&SHOP_TABLES)], ALLOW);
    db.prepare(&direct, &["customer"]).await;
    let steps = [
        "BEGIN ISOLATION",
        "INSERT INTO countersign.call",
        "delete from line",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "pg_catalog.pg_locks",
        "FROM countersign.image k",
        "countersign.seal",
        "COMMIT\0",
    ];
    let mut row = 100;
    for text in steps {
        for end in [End::Before, End::After, End::Killed] {
            for alone in [true, false] {
                // Only after a commit is there anything to find out by oneself.
                if !alone && text != "COMMIT\0" {
                    continue;
                }
                let case = format!("{text} {end:?} alone {alone}");
                let (url, broken) = breaking(&db.url, &db.admin_url, text, end, alone).await;
                let tools = vec![reversible(&SHOP_TABLES)];
                let world = db.world_at(&url, tools, ALLOW, JournalSettings::default());
                row += 1;
                let sql = format!("delete from line where no = {row}");
                let answer = world.call("query", json!({"sql": sql})).await;
                assert!(broken.load(Ordering::SeqCst), "{case}: the text did not come by");
                let record = world.gate.ledger().calls(None, 1).await.unwrap().remove(0);
                // Killing took idle connections too: the first answer may be that one is gone.
                let known = loop {
                    let known = recall(&direct.gate, &direct.tools["query"], &record.call.id).await;
                    if let Ok(known) = known {
                        break known;
                    }
                };
                let gone = db
                    .admin
                    .query_opt(&format!("select from line where no = {row}"), &[])
                    .await
                    .unwrap()
                    .is_none();
                let happened = Recalled::Happened { rows: 1, amount: None };
                assert_eq!(known, if gone { happened } else { Recalled::Never }, "{case}: {answer:?}");
                match &answer {
                    Answer::Done(done) => {
                        assert!(gone && done.rows == 1, "{case}");
                        assert!(text == "COMMIT\0" && !alone, "{case}: only a lost commit can be found out");
                    }
                    Answer::Refused(refused) if refused.refusal.code == Code::InDoubt => {
                        assert!(text == "COMMIT\0" && alone, "{case}: {}", refused.refusal);
                    }
                    // Said to have failed: then nothing happened, and nothing will.
                    Answer::Refused(refused) => assert!(!gone, "{case}: {}", refused.refusal),
                    Answer::Pending(_) => panic!("{case}: {answer:?}"),
                }
            }
        }
    }
}
