//! More clients than the server has descriptors for: people and the ledger have places of their own.

use std::time::Duration;

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    acting::{Folder, PATIENCE},
    place::{Place, on_either_store},
};

on_either_store!(async people_are_served_beside_a_crowd);

/// Files that the server may open: far fewer than connections are tried.
const FILES: u32 = 256;

async fn people_are_served_beside_a_crowd(place: Place) {
    let folder = Folder::new(place);
    let mut server = folder.serve_with_few_files(FILES);
    let url = server.url.clone();
    let first = folder.ask(&url, 0).await;

    // Sockets that say nothing, and some that never come to the end of their headers.
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut idle = Vec::new();
    for n in 0..FILES * 2 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        if n % 4 == 0 {
            stream.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
        }
        idle.push(stream);
    }
    // One agent waits for people wherever it can, each time on a connection of its own.
    let waiting: Vec<_> = (1..=120)
        .map(|n| {
            let sent = folder.waits(&url, n);
            // A connection that was kept for another request may have given way.
            tokio::spawn(async move {
                let Ok(answer) = sent.await else { return (0, String::new()) };
                (answer.status().as_u16(), answer.text().await.unwrap_or_default())
            })
        })
        .collect();
    let crowded = async {
        loop {
            let refused = waiting.iter().any(tokio::task::JoinHandle::is_finished);
            if refused {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, crowded).await.expect("an agent is refused beyond its places");

    let patience = Duration::from_secs(20);
    let served = async {
        let (status, halt) =
            folder.post(&format!("{url}/v1/halts"), json!({ "agent": "ada", "why": "enough" })).await;
        assert_eq!(status, 200, "{halt}");
        assert_eq!(folder.status(&format!("{url}/v1/log/entries?kind=halted")).await, 200);
        assert_eq!(folder.status(&format!("{url}/readyz")).await, 200, "the ledger can be written");
        assert_eq!(folder.resume(&url, "ada").await, 200);
        assert_eq!(folder.approve(&url, &folder.carol, &first).await, 200);
        folder.until_acted(0).await;
    };
    tokio::time::timeout(patience, served).await.expect("people wait for nobody");

    // What was refused had no effect, and says so.
    let mut refused = false;
    for call in waiting {
        if call.is_finished() {
            let (status, told) = call.await.unwrap();
            // Some of them may arrive while the agent is halted.
            let halted = status == 403 && told.contains("\"halted\"");
            assert!(halted || matches!(status, 0 | 202 | 429), "{status} {told}");
            refused |= status == 429;
        } else {
            call.abort();
        }
    }
    assert!(refused);
    drop(idle);
    assert!(server.kill().contains("fewer connections"), "the limit is told at the start");
    folder.verify();
}
