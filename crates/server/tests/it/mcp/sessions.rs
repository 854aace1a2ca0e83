//! Sessions belong to one agent, and so does what happens in them.

use http::StatusCode;
use rmcp::model::ProtocolVersion;
use serde_json::{Value, json};

use crate::{
    mcp::world::{self, Agent, World, params, pending},
    place::{Place, on_either_store},
};

on_either_store!(async
    agents_cannot_enter_each_other_s_sessions_or_requests,
    a_named_session_outlives_its_connection,
    an_agent_hears_of_its_calls_by_their_ids,
);

async fn agents_cannot_enter_each_other_s_sessions_or_requests(place: Place) {
    let mut world = World::on(place).await;
    let id = world.initialize(Agent::Ada).await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let with = |id: &str| vec![("mcp-session-id", id.to_owned())];
    assert_eq!(world.post(Agent::Ada, &with(&id), &list).await.0, StatusCode::OK);
    for (agent, id) in [(Agent::Bob, id.as_str()), (Agent::Ada, "made-up")] {
        let (status, answer) = world.post(agent, &with(id), &list).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!(-32001)));
    }
    // Another process with the same folder opens it as well.
    world.kill_and_restart();
    assert_eq!(world.post(Agent::Ada, &with(&id), &list).await.0, StatusCode::OK);
    assert_eq!(world.post(Agent::Bob, &with(&id), &list).await.0, StatusCode::NOT_FOUND);

    let ada = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let bob = world.client(Agent::Bob, &ProtocolVersion::V_2025_11_25).await;
    let approval = pending(&ada.call_tool(params("asked", 1)).await.unwrap());
    let stolen = bob.call_tool(world::await_request(&approval, 0)).await.unwrap();
    assert_eq!(stolen.is_error, Some(true));
    assert_eq!(stolen.structured_content.unwrap()["code"], "R018");
    let none = bob.call_tool(world::await_request("apr-nosuchrequest", 0)).await.unwrap();
    assert_eq!(none.structured_content.unwrap()["code"], "R018");
}

async fn a_named_session_outlives_its_connection(place: Place) {
    let world = World::on(place).await;
    let named = |name: &str| vec![("countersign-session", name.to_owned())];
    let ask = |answer: Value| answer["result"]["structuredContent"]["approval"].as_str().unwrap().to_owned();
    let call = world::call("asked", 1);
    let first = ask(world.post(Agent::Ada, &named("thursday"), &call).await.1);
    let again = ask(world.post(Agent::Ada, &named("thursday"), &call).await.1);
    let other = ask(world.post(Agent::Ada, &named("friday"), &call).await.1);
    let bob = ask(world.post(Agent::Bob, &named("thursday"), &call).await.1);
    assert_eq!(first, again);
    // Its name tells conversations apart for limits and history; what was asked is the agent's.
    assert_eq!(first, other);
    assert_ne!(first, bob);
    let mut in_meta = call.clone();
    in_meta["params"]["_meta"] = json!({ "countersign/session": "thursday" });
    assert_eq!(ask(world.post(Agent::Ada, &[], &in_meta).await.1), first);
    let (status, _) = world.post(Agent::Ada, &named("friday"), &in_meta).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

/// What an answer said once it says again, to the agent whose call it was and to a key that reaches its tool.
async fn an_agent_hears_of_its_calls_by_their_ids(place: Place) {
    let world = World::on(place).await;
    let fetch = async |agent: Agent, call: &str| {
        let mut request = world::call("countersign_await", 0);
        request["params"]["arguments"] = json!({ "call": call });
        world.post(agent, &[], &request).await.1["result"].clone()
    };
    let done = world.post(Agent::Ada, &[], &world::call("allowed", 1)).await.1["result"].clone();
    let call = done["_meta"]["countersign/call"].as_str().unwrap();
    let again = fetch(Agent::Ada, call).await;
    assert_eq!((&again["structuredContent"], &again["isError"]), (&done["structuredContent"], &json!(false)));
    assert_eq!(world.effects("allowed", 1), 1);
    for agent in [Agent::Bob, Agent::Narrow] {
        assert_eq!(fetch(agent, call).await["structuredContent"]["code"], "R018");
    }
    let asked = world.post(Agent::Ada, &[], &world::call("asked", 1)).await.1["result"].clone();
    let (approval, call) = (&asked["structuredContent"]["approval"], &asked["structuredContent"]["call"]);
    let waiting = fetch(Agent::Ada, call.as_str().unwrap()).await;
    assert_eq!(waiting["structuredContent"]["code"], "R018");
    assert!(waiting["structuredContent"]["help"].as_str().unwrap().contains("by its request"), "{waiting}");
    world.approve(approval.as_str().unwrap()).await;
    world.until_effects("asked", 1, 1).await;
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    client.call_tool(world::await_request(approval.as_str().unwrap(), 50)).await.unwrap();
    let performed = fetch(Agent::Ada, call.as_str().unwrap()).await;
    assert_eq!(
        (&performed["isError"], &performed["_meta"]["countersign/approval"]),
        (&json!(false), approval),
        "{performed}"
    );
    assert_eq!(world.effects("asked", 1), 1);
}

#[tokio::test]
async fn an_agent_lists_what_it_may_ever_call() {
    let world = World::start().await;
    for (agent, expected) in [
        (Agent::Ada, vec!["allowed", "asked", "effects", "countersign_await"]),
        (Agent::Bob, vec!["asked", "effects", "countersign_await"]),
        (Agent::Narrow, vec!["effects", "countersign_await"]),
    ] {
        for revision in world::REVISIONS {
            let client = world.client(agent, revision).await;
            let tools = client.list_all_tools().await.unwrap();
            let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
            assert_eq!(names, expected, "{agent:?} {revision}");
        }
    }
    let client = world.client(Agent::Narrow, &ProtocolVersion::V_2025_11_25).await;
    for hidden in ["allowed", "nosuchtool"] {
        let error = client.call_tool(params(hidden, 1)).await.unwrap_err();
        let rmcp::ServiceError::McpError(error) = error else { panic!("{error}") };
        assert_eq!(error.code.0, -32602);
        assert_eq!(error.data.unwrap()["code"], "R001");
    }
    assert_eq!(world.effects("allowed", 1), 0);
}

#[tokio::test]
async fn what_is_listed_says_what_it_does() {
    let world = World::start().await;
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    let tools = client.list_all_tools().await.unwrap();
    let tool = |name: &str| tools.iter().find(|tool| tool.name == name).unwrap();
    let hints = tool("allowed").annotations.as_ref().unwrap();
    assert_eq!((hints.read_only_hint, hints.destructive_hint), (Some(false), Some(false)));
    assert!(tool("allowed").input_schema["properties"]["countersign_reason"].is_object());
    let effects = tool("effects");
    assert_eq!(effects.annotations.as_ref().unwrap().read_only_hint, Some(true));
    let schema = Value::Object(effects.output_schema.as_ref().unwrap().as_ref().clone());
    let fits = |value: &Value| jsonschema::draft202012::is_valid(&schema, value);
    let result = client.call_tool(params("effects", 1)).await.unwrap().structured_content.unwrap();
    assert!(fits(&result), "{result} under {schema}");
    let refused = client.call_tool(rmcp::model::CallToolRequestParams::new("effects")).await.unwrap();
    let answer = refused.structured_content.unwrap();
    assert_eq!(answer["code"], "R002");
    assert!(fits(&answer), "{answer} under {schema}");
}
