//! The same over standard input and output, where a process is a session.

use rmcp::model::ProtocolVersion;
use serde_json::{Value, json};

use crate::{
    mcp::world::{self, Agent, World, params, pending},
    place::{Place, on_either_store},
};

on_either_store!(async
    in_each_revision,
    a_request_outlives_the_process_it_came_in_by,
);

async fn in_each_revision(place: Place) {
    let world = World::prepare_on(place).await;
    for (n, revision) in world::REVISIONS.iter().enumerate() {
        let client = world.stdio_client(Agent::Ada, revision).await;
        let n = i64::try_from(n).unwrap();
        assert_eq!(client.call_tool(params("allowed", n)).await.unwrap().is_error, Some(false));
        assert_eq!(world.effects("allowed", n), 1);
        assert_eq!(client.call_tool(params("denied", n)).await.unwrap().is_error, Some(true));
        assert_eq!(world.effects("denied", n), 0);
        let first = pending(&client.call_tool(params("asked", n)).await.unwrap());
        assert_eq!(pending(&client.call_tool(params("asked", n)).await.unwrap()), first);
        assert_eq!(world.effects("asked", n), 0);
        world.approve(&first).await;
        let result = client.call_tool(world::await_request(&first, 50)).await.unwrap();
        assert_eq!(result.is_error, Some(false), "{revision}: {result:?}");
        assert_eq!(world.effects("asked", n), 1);
        client.cancel().await.unwrap();
    }
}

async fn a_request_outlives_the_process_it_came_in_by(place: Place) {
    let world = World::prepare_on(place).await;
    let client = world.stdio_client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let approval = pending(&client.call_tool(params("asked", 1)).await.unwrap());
    client.cancel().await.unwrap();
    let client = world.stdio_client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    assert_eq!(world.effects("asked", 1), 0);
    world.approve(&approval).await;
    let result = client.call_tool(world::await_request(&approval, 50)).await.unwrap();
    assert_eq!(result.is_error, Some(false));
    assert_eq!(world.effects("asked", 1), 1);
}

#[tokio::test]
async fn standard_output_carries_messages_only_and_bad_lines_are_answered() {
    let world = World::prepare().await;
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let lines = [
        "not json".to_owned(),
        initialize.to_string(),
        initialized.to_string(),
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"allowed","arguments":{"n":1,"n":2}}}"#.to_owned(),
        r#"[{"jsonrpc":"2.0","id":3,"method":"ping"}]"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":4,"method":"ping"}"#.to_owned(),
        world::call("allowed", 5).to_string(),
    ];
    let output = world.stdio_lines(Agent::Ada, &lines, 6).await;
    let messages: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<&Value> = messages.iter().filter_map(|m| m["error"].get("code")).collect();
    assert_eq!(codes, [&json!(-32700), &json!(-32700), &json!(-32600)], "{output}");
    assert!(messages.iter().any(|m| m["id"] == 4 && m["result"] == json!({})), "{output}");
    assert_eq!((world.effects("allowed", 1), world.effects("allowed", 2)), (0, 0));
    assert_eq!(world.effects("allowed", 5), 1);
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_anything_is_read() {
    let world = World::prepare().await;
    let (code, output, errors) = world.stdio_refused("ck_nosuchkey").await;
    assert_ne!(code, Some(0));
    assert_eq!(output, "");
    assert!(errors.contains("R015"), "{errors}");
    assert!(!errors.contains("ck_nosuchkey"), "{errors}");
}
