//! Refusals that are no errors: how they are marked is the folder's choice, what they say and decide is not.

use rmcp::model::ProtocolVersion;
use serde_json::{Value, json};

use crate::mcp::world::{self, Agent, World, params, pending};

#[tokio::test]
async fn a_refusal_says_and_decides_the_same_however_it_is_marked() {
    let mut told: Vec<Vec<Value>> = Vec::new();
    for (refusals, is_error) in [("error", true), ("text", false)] {
        let world = World::with(&format!("wait_ms = 0\nrefusals = \"{refusals}\"")).await;
        let mut answers = Vec::new();
        for revision in world::REVISIONS {
            let client = world.client(Agent::Ada, revision).await;
            let mut missing = params("allowed", 1);
            missing.arguments = None;
            let nobody = world::await_request("apr-nosuchrequest", 0);
            for (call, code) in [(params("denied", 1), "R004"), (missing, "R002"), (nobody, "R018")] {
                let result = client.call_tool(call).await.unwrap();
                assert_eq!(result.is_error, Some(is_error), "{revision}: {result:?}");
                let answer = result.structured_content.unwrap();
                let written: Value =
                    serde_json::from_str(&result.content[0].as_text().unwrap().text).unwrap();
                assert_eq!(answer, written);
                assert_eq!(answer["code"], code, "{revision}: {answer}");
                answers.push(
                    json!({ "code": answer["code"], "message": answer["message"], "help": answer["help"] }),
                );
            }
            // A tool that is not there is an error of the protocol all the same.
            assert!(client.call_tool(params("nosuchtool", 1)).await.is_err(), "{revision}");
        }
        // A person's refusal too, and what is performed is a result either way.
        let client = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
        let approval = pending(&client.call_tool(params("asked", 1)).await.unwrap());
        world.refuse(&approval, "no").await;
        let refused = client.call_tool(world::await_request(&approval, 0)).await.unwrap();
        assert_eq!(refused.is_error, Some(is_error));
        assert_eq!(client.call_tool(params("allowed", 2)).await.unwrap().is_error, Some(false));
        let effects = ["denied", "asked", "allowed"].map(|kind| world.effects(kind, 1));
        assert_eq!((effects, world.effects("allowed", 2)), ([0, 0, 0], 1));
        told.push(answers);
    }
    assert_eq!(told[0], told[1]);
}
