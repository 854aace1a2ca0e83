//! Requests as tasks: durable, one agent's own, and honest about what cancelling does not do.

use rmcp::model::{
    CallToolResponse, CancelTaskParams, GetTaskParams, ProtocolVersion, TaskPayload, TaskStatus,
};

use crate::{
    mcp::world::{self, Agent, World, params},
    place::{Place, on_either_store},
};

on_either_store!(async
    a_task_is_the_request_in_every_session_of_its_agent_and_after_a_kill,
    a_refused_task_is_completed_with_the_refusal,
    without_the_capability_there_are_no_tasks,
);

async fn a_task_is_the_request_in_every_session_of_its_agent_and_after_a_kill(place: Place) {
    let mut world = World::on(place).await;
    let client = world.client_with_tasks(Agent::Ada).await;

    let CallToolResponse::Complete(result) = client.call_tool_once(params("allowed", 1)).await.unwrap()
    else {
        panic!("what need not wait is no task");
    };
    assert_eq!(result.is_error, Some(false));
    assert_eq!(world.effects("allowed", 1), 1);

    let CallToolResponse::Task(task) = client.call_tool_once(params("asked", 1)).await.unwrap() else {
        panic!("what waits is a task");
    };
    let id = task.task.task_id.clone();
    assert_eq!(task.task.status, TaskStatus::Working);
    assert_eq!(world.requests().await, std::slice::from_ref(&id));
    let again = client.call_tool_once(params("asked", 1)).await.unwrap();
    assert!(matches!(again, CallToolResponse::Task(same) if same.task.task_id == id));

    // Nobody else has it.
    let bob = world.client_with_tasks(Agent::Bob).await;
    assert!(bob.get_task(GetTaskParams::new(id.clone())).await.is_err());
    assert!(bob.cancel_task(CancelTaskParams::new(id.clone())).await.is_err());
    assert!(client.get_task(GetTaskParams::new("apr-nosuchtask00")).await.is_err());
    assert!(client.get_task(GetTaskParams::new("no id'--")).await.is_err());

    // Cancelling ends the waiting. Whether the call runs is still people's to say.
    client.cancel_task(CancelTaskParams::new(id.clone())).await.unwrap();
    let state = client.get_task(GetTaskParams::new(id.clone())).await.unwrap();
    assert_eq!(state.task.status(), TaskStatus::Working);
    client.cancel().await.unwrap();

    world.kill_and_restart();
    world.approve(&id).await;
    world.until_effects("asked", 1, 1).await;
    let client = world.client_with_tasks(Agent::Ada).await;
    for _ in 0..2 {
        let state = client.get_task(GetTaskParams::new(id.clone())).await.unwrap();
        let TaskPayload::Completed { result } = state.task.payload else {
            panic!("performed, and {:?}", state.task)
        };
        assert_eq!(result["isError"], false);
    }
    assert_eq!(world.effects("asked", 1), 1);
}

async fn a_refused_task_is_completed_with_the_refusal(place: Place) {
    let world = World::on(place).await;
    let client = world.client_with_tasks(Agent::Ada).await;
    let CallToolResponse::Task(task) = client.call_tool_once(params("asked", 1)).await.unwrap() else {
        panic!("what waits is a task");
    };
    world.refuse(&task.task.task_id, "no").await;
    let state = client.get_task(GetTaskParams::new(task.task.task_id)).await.unwrap();
    let TaskPayload::Completed { result } = state.task.payload else { panic!("{:?}", state.task) };
    assert_eq!(result["isError"], true);
    assert_eq!(result["structuredContent"]["status"], "refused");
    assert_eq!(world.effects("asked", 1), 0);
}

async fn without_the_capability_there_are_no_tasks(place: Place) {
    let world = World::on(place).await;
    let client = world.client(Agent::Ada, &ProtocolVersion::V_2026_07_28).await;
    let answer = client.call_tool_once(params("asked", 1)).await.unwrap();
    assert!(matches!(answer, CallToolResponse::Complete(_)));
    let id = world.until_request().await;
    assert!(client.get_task(GetTaskParams::new(id)).await.is_err());
    let old = world.client(Agent::Ada, &ProtocolVersion::V_2025_11_25).await;
    assert_eq!(world::pending(&old.call_tool(params("asked", 2)).await.unwrap()).get(..4), Some("apr-"));
}
