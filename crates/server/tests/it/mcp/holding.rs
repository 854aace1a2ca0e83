//! How long a call that waits for people is held, in each revision: shorter than clients wait that hear nothing.
//!
//! What is waited for lies ten minutes off, so an answer that comes at all came for the reason that is tested.

use std::time::{Duration, Instant};

use rmcp::model::{CallToolResponse, ProtocolVersion, SubscriptionFilter};
use serde_json::{Value, json};

use crate::{
    mcp::world::{self, Agent, World, rounds, text},
    place::{Place, on_either_store},
};

on_either_store!(async what_is_open_and_quiet_ends_with_its_key);

const TEN_MINUTES_MS: u32 = 600_000;

/// A client of the SDK in one revision; it asks for progress by itself, so what must not is made by hand.
fn by_hand(revision: &ProtocolVersion, body: &Value) -> Value {
    let mut body = body.clone();
    if *revision >= ProtocolVersion::V_2026_07_28 {
        body["params"]["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": revision.as_str(),
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "1" },
        });
    }
    body
}

async fn answered(world: &World, revision: &ProtocolVersion, body: &Value) -> Value {
    let mut headers = world.headers(Agent::Ada);
    headers.retain(|(name, _)| *name != "mcp-protocol-version");
    headers.push(("mcp-protocol-version", revision.as_str().to_owned()));
    headers.push(("mcp-method", "tools/call".to_owned()));
    headers.push(("mcp-name", text(&body["params"]["name"]).to_owned()));
    let body = by_hand(revision, body).to_string().into_bytes();
    let answer =
        tokio::time::timeout(crate::deployment::PATIENCE, world.raw(http::Method::POST, &headers, body));
    let answer = answer.await.expect("a client that hears nothing is not held").json();
    assert_eq!(answer["result"]["isError"], false, "{revision}: {answer}");
    answer["result"]["structuredContent"].clone()
}

#[tokio::test]
async fn a_client_that_hears_nothing_is_told_soon_that_its_call_waits() {
    let world = World::holding(50, TEN_MINUTES_MS).await;
    for revision in world::REVISIONS {
        let answer = answered(&world, revision, &world::call("asked", 1)).await;
        assert_eq!(answer["status"], "pending", "{revision}: {answer}");
        let next = text(&answer["next"]);
        assert!(next.contains("countersign_await") && next.contains("as often as needed"), "{next}");
    }
    assert_eq!(world.effects("asked", 1), 0);
    // What was held is one request, and its result is fetched in any revision.
    let [approval] = world.requests().await.try_into().unwrap();
    world.approve(&approval).await;
    world.until_effects("asked", 1, 1).await;
    let mut fetch = world::call("countersign_await", 0);
    fetch["params"]["arguments"] = json!({ "approval": approval });
    for revision in world::REVISIONS {
        let answer = answered(&world, revision, &fetch).await;
        assert_eq!(answer["status"], Value::Null, "{revision}: {answer}");
    }
    assert_eq!(world.effects("asked", 1), 1);
}

#[tokio::test]
async fn our_own_tool_answers_within_five_seconds_and_says_that_it_may_be_called_again() {
    let world = World::holding(0, TEN_MINUTES_MS).await;
    let asked = answered(&world, &ProtocolVersion::V_2025_11_25, &world::call("asked", 1)).await;
    // As long as may be said, and nothing said at all; all at once, because each takes its time.
    let began = Instant::now();
    let waits = world::REVISIONS.iter().flat_map(|revision| [(revision, json!(50)), (revision, Value::Null)]);
    let answers = waits.map(|(revision, seconds)| {
        let mut fetch = world::call("countersign_await", 0);
        fetch["params"]["arguments"] = json!({ "approval": asked["approval"], "wait_seconds": seconds });
        let world = &world;
        async move { answered(world, revision, &fetch).await }
    });
    for answer in futures::future::join_all(answers).await {
        assert_eq!((&answer["status"], &answer["approval"]), (&json!("pending"), &asked["approval"]));
        assert!(text(&answer["next"]).contains("as often as needed"), "{answer}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_asked_for_progress_is_held_until_people_answer() {
    let world = World::holding(0, TEN_MINUTES_MS).await;
    for (n, revision) in (1..).zip(world::REVISIONS) {
        // The SDK asks for progress of every request.
        let client = world.client(Agent::Ada, revision).await;
        let calling = client.call_tool(world::params("asked", n));
        let approving = async {
            let approval = world.until_request().await;
            world.approve(&approval).await;
        };
        let (result, ()) = futures::future::join(calling, approving).await;
        let result = result.unwrap();
        assert_eq!(result.is_error, Some(false), "{revision}: {result:?}");
        assert_eq!(result.structured_content.unwrap()["status"], Value::Null, "{revision}");
        assert_eq!(world.effects("asked", n), 1, "{revision}");
    }
}

#[tokio::test]
async fn only_who_says_so_is_sent_through_rounds() {
    let world = World::holding(0, 0).await;
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2026_07_28).await;
    let plain = client.call_tool_once(world::params("asked", 1)).await.unwrap();
    assert!(matches!(plain, CallToolResponse::Complete(_)), "{plain:?}");
    let mut once = client.call_tool_once(rounds("asked", 1)).await.unwrap();
    // Who goes on needs not say it again, and the rounds end.
    let mut times = 0;
    while let CallToolResponse::InputRequired(round) = once {
        times += 1;
        let again = world::params("asked", 1).with_request_state(round.request_state.unwrap());
        once = client.call_tool_once(again).await.unwrap();
    }
    assert_eq!(times, 3);
    let CallToolResponse::Complete(result) = once else { panic!("{once:?}") };
    world::pending(&result);
    // The revisions with a handshake have no rounds.
    let old = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    assert!(matches!(old.call_tool_once(rounds("asked", 1)).await.unwrap(), CallToolResponse::Complete(_)));
}

/// Nothing is sent on any of them, and nothing would be for ten minutes.
async fn what_is_open_and_quiet_ends_with_its_key(place: Place) {
    let world =
        World::on_with(place, &format!("wait_ms = {TEN_MINUTES_MS}\nhold_ms = {TEN_MINUTES_MS}")).await;
    let modern = ProtocolVersion::V_2026_07_28;
    let ada = world.client(Agent::Ada, &modern).await;
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let mut listening = ada.listen(filter.clone()).await.unwrap();
    let bob = world.client(Agent::Bob, &modern).await;
    let mut of_another = bob.listen(filter).await.unwrap();
    let caller = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let events = world.events(Agent::Ada).await;
    let waiting = caller.call_tool(world::params("asked", 1));
    let revoking = async {
        world.until_request().await;
        world.revoke(Agent::Ada).await;
        Instant::now()
    };
    let ended = async {
        let answer = waiting.await;
        let refused = answer.as_ref().is_ok_and(|result| result.is_error == Some(true));
        assert!(refused || answer.is_err(), "{answer:?}");
        assert!(
            !matches!(listening.next().await, Ok(Some(_))),
            "something was sent on a stream of a revoked key"
        );
        events.bytes().await.unwrap();
        Instant::now()
    };
    let (revoked, ended) =
        tokio::time::timeout(crate::deployment::PATIENCE, Box::pin(async { tokio::join!(revoking, ended) }))
            .await
            .unwrap();
    let after = ended.saturating_duration_since(revoked);
    assert!(after < Duration::from_secs(5), "it took {after:?}");
    let open = tokio::time::timeout(Duration::from_millis(50), of_another.next()).await;
    assert!(open.is_err(), "another's stream stays open: {open:?}");
}
