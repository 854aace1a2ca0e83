//! Calls that are repeated under an idempotency key, in each revision, over HTTP and stdio.

use rmcp::model::{CallToolRequestParams, CallToolResult, ProtocolVersion};
use serde_json::{Value, json};

use crate::mcp::world::{self, Agent, World, call, params, pending, text};

fn keyed(tool: &str, n: i64, key: &Value) -> CallToolRequestParams {
    let mut params = params(tool, n);
    let meta = json!({ countersign_mcp::IDEMPOTENCY_META: key });
    params.meta = Some(meta.as_object().unwrap().clone().into());
    params
}

fn named(result: &CallToolResult) -> (String, bool) {
    let meta = result.meta.as_ref().unwrap();
    (text(&meta["countersign/call"]).to_owned(), meta.get("countersign/repeated") == Some(&json!(true)))
}

#[tokio::test]
async fn a_key_makes_a_call_repeatable_over_every_revision_and_after_a_kill() {
    let mut world = World::holding(50, 50).await;
    let mut first = None;
    for revision in world::REVISIONS {
        let client = world.client(Agent::Ada, revision).await;
        for _ in 0..2 {
            let result =
                client.call_tool(keyed("allowed", 1, &json!("k \"1\"".replace(' ', "")))).await.unwrap();
            let (call, repeated) = named(&result);
            assert_eq!(repeated, first.is_some(), "{revision}");
            assert_eq!(first.get_or_insert_with(|| call.clone()), &call);
        }
        let reused = client.call_tool(keyed("allowed", 2, &json!("k\"1\""))).await.unwrap();
        assert_eq!(reused.is_error, Some(true));
        assert_eq!(reused.structured_content.unwrap()["code"], "R021");
        for bad in [json!(7), json!(""), json!("a b"), json!("k".repeat(256)), json!(["k"])] {
            let refused = client.call_tool(keyed("allowed", 3, &bad)).await.unwrap_err();
            assert!(refused.to_string().contains("idempotency-key"), "{bad}: {refused}");
        }
        client.cancel().await.unwrap();
    }
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let asked = pending(&client.call_tool(keyed("asked", 1, &json!("asked"))).await.unwrap());
    world.approve(&asked).await;
    world.until_effects("asked", 1, 1).await;
    client.cancel().await.unwrap();
    world.kill_and_restart();
    // Over REST it is the same key: it belongs to the agent.
    for revision in world::REVISIONS {
        let client = world.client(Agent::Ada, revision).await;
        let result = client.call_tool(keyed("allowed", 1, &json!("k\"1\""))).await.unwrap();
        assert_eq!(named(&result), (first.clone().unwrap(), true));
        let result = client.call_tool(keyed("asked", 1, &json!("asked"))).await.unwrap();
        assert!(named(&result).1);
        client.cancel().await.unwrap();
    }
    assert_eq!((world.effects("allowed", 1), world.effects("allowed", 2)), (1, 0));
    assert_eq!((world.effects("allowed", 3), world.effects("asked", 1)), (0, 1));
    assert!(world.requests().await.is_empty());
}

#[tokio::test]
async fn a_key_is_taken_over_stdio() {
    let world = World::prepare().await;
    let line = |id: i64| {
        let mut message = call("allowed", 1);
        message["id"] = json!(id);
        message["params"]["_meta"] = json!({ countersign_mcp::IDEMPOTENCY_META: "k" });
        message.to_string()
    };
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let lines = [initialize.to_string(), initialized.to_string(), line(2), line(3)];
    let answers = world.stdio_lines(Agent::Ada, &lines, 3).await;
    let repeated = answers.matches(r#""countersign/repeated":true"#).count();
    assert_eq!((repeated, world.effects("allowed", 1)), (1, 1), "{answers}");
}
