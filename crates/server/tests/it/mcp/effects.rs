//! ALLOW has exactly one effect, DENY none, ASK none until a person approves and then one: in each revision,
//! in parallel, after a lost connection and after a kill.

use countersign_rules::call::REASON_FIELDS;
use rmcp::model::{CallToolRequestParams, CallToolResponse, ProtocolVersion};
use serde_json::{Value, json};

use crate::{
    mcp::world::{self, Agent, World, params, pending, rounds, text},
    place::{Place, on_either_store},
};

on_either_store!(async
    in_each_revision,
    a_person_s_refusal_reaches_the_agent_with_its_reason,
    a_round_s_state_is_good_on_a_new_connection_and_for_nothing_else,
    in_parallel,
    a_client_that_hangs_up_loses_the_answer_and_nothing_else,
    a_killed_server_goes_on_where_it_was,
    a_client_that_reconnects_finds_the_request_it_left,
    a_wait_reports_progress_to_whoever_asks_for_it,
);

async fn in_each_revision(place: Place) {
    let world = World::on(place).await;
    for (n, revision) in world::REVISIONS.iter().enumerate() {
        let client = world.client(Agent::Ada, revision).await;
        let n = i64::try_from(n).unwrap();

        let result = client.call_tool(params("allowed", n)).await.unwrap();
        assert_eq!(result.is_error, Some(false), "{revision}: {result:?}");
        assert!(result.meta.unwrap().contains_key("countersign/call"));
        assert_eq!(world.effects("allowed", n), 1, "{revision}");

        let result = client.call_tool(params("denied", n)).await.unwrap();
        assert_eq!(result.is_error, Some(true));
        assert_eq!(result.structured_content.unwrap()["code"], "R004");
        assert_eq!(world.effects("denied", n), 0, "{revision}");

        let first = pending(&client.call_tool(params("asked", n)).await.unwrap());
        let again = pending(&client.call_tool(params("asked", n)).await.unwrap());
        assert_eq!(first, again, "{revision}: a repeated call finds the same request");
        assert_eq!(world.effects("asked", n), 0, "{revision}");
        world.approve(&first).await;
        for _ in 0..2 {
            let result = client.call_tool(world::await_request(&first, 50)).await.unwrap();
            assert_eq!(result.is_error, Some(false), "{revision}: {result:?}");
            assert_eq!(world.effects("asked", n), 1, "{revision}");
        }
        client.cancel().await.unwrap();
    }
}

/// What strict modes of models send for whatever they leave out.
#[tokio::test]
async fn null_for_what_is_optional_is_leaving_it_out_at_each_door() {
    const TOOL: &str = r#"
[tool.noted]
system = "effects"
description = "Has an effect, with a note or without."
effect = "write"
arguments = { n = { type = "integer" }, note = { type = "string", optional = true } }
sql = "insert into effect (kind, n) values (coalesce(:note, 'noted'), :n)"
"#;
    const POLICY: &str = r#"
@id("noted") permit (principal, action == Action::"noted", resource);
@id("no-notes") forbid (principal, action == Action::"noted", resource) when { context.args has note || context.given.contains("note") };
"#;
    let mut world = World::prepare().await;
    world.write("tools/noted.toml", TOOL);
    world.write("policies/noted.cedar", POLICY);
    let nulls = |n: i64| json!({ "n": n, "note": null, "countersign_reason": null });
    let call = |arguments: Value| {
        CallToolRequestParams::new("noted").with_arguments(arguments.as_object().unwrap().clone())
    };
    // A server of its own on the streams, before another one has the ledger.
    let mut n = 0;
    for revision in world::REVISIONS {
        let client = world.stdio_client(Agent::Ada, revision).await;
        n += 1;
        let done = client.call_tool(call(nulls(n))).await.unwrap();
        assert_eq!((done.is_error, world.effects("noted", n)), (Some(false), 1), "{revision}: {done:?}");
        client.cancel().await.unwrap();
    }
    world.serve();
    for revision in world::REVISIONS {
        for client in [world.client(Agent::Ada, revision).await, world.bridged(Agent::Ada, revision).await] {
            n += 1;
            let done = client.call_tool(call(nulls(n))).await.unwrap();
            assert_eq!((done.is_error, world.effects("noted", n)), (Some(false), 1), "{revision}: {done:?}");
            n += 1;
            let said = client.call_tool(call(json!({ "n": n, "note": "noted" }))).await.unwrap();
            assert_eq!((said.is_error, world.effects("noted", n)), (Some(true), 0), "a note is forbidden");
        }
    }
    let done = world.propose(Agent::Ada, &json!({ "tool": "noted", "arguments": nulls(100) })).await;
    assert_eq!((&done["status"], world.effects("noted", 100)), (&json!("done"), 1), "{done}");
    let required = world.propose(Agent::Ada, &json!({ "tool": "noted", "arguments": { "n": null } })).await;
    assert_eq!(required["code"], "R002", "what is required is not left out: {required}");
}

async fn a_person_s_refusal_reaches_the_agent_with_its_reason(place: Place) {
    let world = World::on(place).await;
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let approval = pending(&client.call_tool(params("asked", 1)).await.unwrap());
    world.refuse(&approval, "not on a Friday").await;
    let result = client.call_tool(world::await_request(&approval, 50)).await.unwrap();
    assert_eq!(result.is_error, Some(true));
    let answer = result.structured_content.unwrap();
    assert_eq!((&answer["status"], &answer["code"]), (&json!("refused"), &json!("R009")));
    assert!(answer.to_string().contains("not on a Friday"), "{answer}");
    assert_eq!(world.effects("asked", 1), 0);
}

async fn a_round_s_state_is_good_on_a_new_connection_and_for_nothing_else(place: Place) {
    let world = World::on(place).await;
    let modern = ProtocolVersion::V_2026_07_28;
    let client = world.client(Agent::Ada, &modern).await;
    let CallToolResponse::InputRequired(round) = client.call_tool_once(rounds("asked", 1)).await.unwrap()
    else {
        panic!("the call must ask to be repeated");
    };
    let state = round.request_state.unwrap();
    client.cancel().await.unwrap();

    let again = |n: i64, state: &str| params("asked", n).with_request_state(state.to_owned());
    let bob = world.client(Agent::Bob, &modern).await;
    assert!(bob.call_tool_once(again(1, &state)).await.is_err());
    let client = world.client(Agent::Ada, &modern).await;
    assert!(client.call_tool_once(again(2, &state)).await.is_err());
    assert!(client.call_tool_once(again(1, &format!("{state}A"))).await.is_err());

    let requests = world.requests().await;
    assert_eq!(requests.len(), 1, "{requests:?}");
    world.approve(&requests[0]).await;
    world.until_effects("asked", 1, 1).await;
    // The state fetches what was done, also twice: the call is not proposed again.
    for _ in 0..2 {
        let CallToolResponse::Complete(result) = client.call_tool_once(again(1, &state)).await.unwrap()
        else {
            panic!("the call was performed");
        };
        assert_eq!(result.is_error, Some(false));
    }
    assert_eq!(world.effects("asked", 1), 1);
    assert_eq!(world.requests().await.len(), 0);
}

async fn in_parallel(place: Place) {
    let world = World::on(place).await;
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let calls = (0..16).map(|n| client.call_tool(params("allowed", n)));
    for result in futures::future::join_all(calls).await {
        assert_eq!(result.unwrap().is_error, Some(false));
    }
    for n in 0..16 {
        assert_eq!(world.effects("allowed", n), 1);
    }
    let calls = (0..8).map(|_| client.call_tool(params("asked", 1)));
    let mut approvals: Vec<String> =
        futures::future::join_all(calls).await.into_iter().map(|result| pending(&result.unwrap())).collect();
    approvals.dedup();
    assert_eq!(approvals.len(), 1, "equal calls share one request");
    world.approve(&approvals[0]).await;
    world.until_effects("asked", 1, 1).await;
}

async fn a_client_that_hangs_up_loses_the_answer_and_nothing_else(place: Place) {
    let world = World::on(place).await;
    // Some are heard before the connection is gone, and some perhaps not: what was issued is finished.
    for n in 0..20 {
        drop(world.send_only(Agent::Ada, &world::call("allowed", n)).await);
    }
    let (_, answer) = world.post(Agent::Ada, &[], &world::call("allowed", 20)).await;
    assert_eq!(answer["result"]["isError"], false);
    let calls = world.closed().await;
    assert!(calls.iter().all(|state| state == "done"), "{calls:?}");
    let effects: Vec<i64> = (0..=20).map(|n| world.effects("allowed", n)).collect();
    assert!(effects.iter().all(|times| *times <= 1), "{effects:?}");
    assert_eq!(effects.iter().sum::<i64>(), i64::try_from(calls.len()).unwrap());

    let connection = world.send_only(Agent::Ada, &world::call("asked", 2)).await;
    let approval = world.until_request().await;
    drop(connection);
    world.approve(&approval).await;
    world.until_effects("asked", 2, 1).await;
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let result = client.call_tool(world::await_request(&approval, 0)).await.unwrap();
    assert_eq!(result.is_error, Some(false));
    assert_eq!(world.effects("asked", 2), 1);
}

async fn a_killed_server_goes_on_where_it_was(place: Place) {
    let mut world = World::on(place).await;
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    assert_eq!(client.call_tool(params("allowed", 1)).await.unwrap().is_error, Some(false));
    let waiting = pending(&client.call_tool(params("asked", 2)).await.unwrap());

    world.kill_and_restart();

    // The same client with the same session id, on what is another process to it.
    assert_eq!(pending(&client.call_tool(params("asked", 2)).await.unwrap()), waiting);
    assert_eq!(world.effects("asked", 2), 0);
    world.approve(&waiting).await;
    let result = client.call_tool(world::await_request(&waiting, 50)).await.unwrap();
    assert_eq!(result.is_error, Some(false));
    assert_eq!((world.effects("allowed", 1), world.effects("asked", 2)), (1, 1));
}

async fn a_client_that_reconnects_finds_the_request_it_left(place: Place) {
    let world = World::on(place).await;
    let mut waiting = Vec::new();
    // Each initialises anew, or has no handshake: none of them has the session of the one before.
    for revision in world::REVISIONS {
        let client = world.client(Agent::Ada, revision).await;
        waiting.push(pending(&client.call_tool(params("asked", 1)).await.unwrap()));
        client.cancel().await.unwrap();
    }
    waiting.dedup();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!(world.requests().await, waiting);
    world.approve(&waiting[0]).await;
    world.until_effects("asked", 1, 1).await;
    // The next one is told what became of it, and nobody is asked again.
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let result = client.call_tool(params("asked", 1)).await.unwrap();
    assert_eq!(result.is_error, Some(false), "{result:?}");
    assert_ne!(result.structured_content.unwrap()["status"], "pending");
    assert_eq!((world.effects("asked", 1), world.requests().await.len()), (1, 0));
    let bob = world.client(Agent::Bob, &ProtocolVersion::V_2025_11_25).await;
    assert_ne!(pending(&bob.call_tool(params("asked", 1)).await.unwrap()), waiting[0]);
}

async fn a_wait_reports_progress_to_whoever_asks_for_it(place: Place) {
    let world = World::on(place).await;
    let mut call = world::call("asked", 1);
    call["params"]["_meta"] = json!({ "progressToken": "p" });
    let (kind, body) = world.send(Agent::Ada, &call).await;
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let frames: Vec<Value> =
        body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok()).collect();
    let progress: Vec<&Value> = frames.iter().filter(|f| f["method"] == "notifications/progress").collect();
    assert!(!progress.is_empty(), "{body}");
    assert!(progress.iter().all(|f| f["params"]["progressToken"] == "p"));
    assert!(text(&progress[0]["params"]["message"]).contains("waits for 1 of `approvers`"), "{body}");
    assert_eq!(frames.last().unwrap()["result"]["structuredContent"]["status"], "pending");

    let (kind, body) = world.send(Agent::Ada, &world::call("asked", 1)).await;
    assert!(kind.starts_with("application/json"), "{kind}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["result"]["structuredContent"]["status"], "pending");
    assert!(text(&answer["result"]["structuredContent"]["next"]).contains("countersign_await"));

    // Our own tool takes a reason too, under either of its names.
    let approval = &answer["result"]["structuredContent"]["approval"];
    for name in REASON_FIELDS {
        let mut call = world::call("countersign_await", 0);
        call["params"]["arguments"] = json!({ "approval": approval, "wait_seconds": 0, *name: "to go on" });
        let (_, answer) = world.post(Agent::Ada, &[], &call).await;
        assert_eq!(answer["result"]["structuredContent"]["status"], "pending", "{name}: {answer}");
    }
}
