//! `countersign connect`: clients that can only start a program share one running server.

use rmcp::{
    model::{CallToolRequest, ClientRequest, ProtocolVersion, SubscriptionFilter},
    service::PeerRequestOptions,
};

use crate::{
    mcp::world::{self, Agent, World},
    place::{Place, on_either_store},
};

on_either_store!(async
    clients_that_start_a_program_share_a_running_server,
    what_a_client_takes_back_or_listens_to_passes_the_bridge,
);

async fn clients_that_start_a_program_share_a_running_server(place: Place) {
    // A client that hears progress is held for as long as people take; one that does not, hardly at all.
    let mut world = World::on_with(place, "hold_ms = 50\nwait_ms = 600000").await;
    for (revision, n, later) in
        [(ProtocolVersion::V_2025_11_25, 1, 11), (ProtocolVersion::V_2026_07_28, 2, 12)]
    {
        let ada = world.bridged(Agent::Ada, &revision).await;
        let bob = world.bridged(Agent::Bob, &revision).await;
        let done = ada.call_tool(world::params("allowed", n)).await.unwrap();
        assert_eq!((done.is_error, world.effects("allowed", n)), (Some(false), 1), "{done:?}");
        let refused = bob.call_tool(world::params("allowed", n)).await.unwrap();
        assert_eq!((refused.is_error, world.effects("allowed", n)), (Some(true), 1), "{refused:?}");

        // Progress passes, so the call waits for the person; and others are served meanwhile.
        let calling = ada.call_tool(world::params("asked", n));
        let approving = async {
            let approval = world.until_request().await;
            assert!(!bob.list_all_tools().await.unwrap().is_empty());
            world.approve(&approval).await;
        };
        let (held, ()) = tokio::join!(Box::pin(calling), Box::pin(approving));
        let held = held.unwrap();
        assert_eq!((held.is_error, world.effects("asked", n)), (Some(false), 1), "{held:?}");
        assert!(held.structured_content.unwrap().get("approval").is_none(), "the result, and no `pending`");

        // The server goes and comes; the program stays.
        world.kill_and_restart();
        let again = || async {
            let answer = ada.call_tool(world::params("allowed", later)).await;
            answer.is_ok_and(|answer| answer.is_error == Some(false)).then_some(())
        };
        world.until(again).await;
        assert!(world.effects("allowed", later) >= 1);
        ada.cancel().await.unwrap();
    }
}

async fn what_a_client_takes_back_or_listens_to_passes_the_bridge(place: Place) {
    // Two requests at a time: as long as the server holds a call, it takes one other of the same agent.
    let world = World::on_with(place, "hold_ms = 600000\nwait_ms = 600000\nrequests_max = 2").await;
    let ada = world.bridged(Agent::Ada, &ProtocolVersion::V_2026_07_28).await;
    let ask = async |n| {
        let asked = ClientRequest::CallToolRequest(CallToolRequest::new(world::params("asked", n)));
        let held = ada.send_cancellable_request(asked, PeerRequestOptions::no_options()).await.unwrap();
        let count = usize::try_from(n).unwrap();
        world.until(|| async { (world.requests().await.len() == count).then_some(()) }).await;
        held
    };
    let taken_back = ask(1).await;
    let first = world.until_request().await;
    taken_back.cancel(Some("not needed any more".into())).await.unwrap();
    let held = ask(2).await;
    world
        .until(|| async { ada.list_all_tools().await.is_ok_and(|tools| !tools.is_empty()).then_some(()) })
        .await;
    let other = ask(3).await;
    assert!(ada.list_all_tools().await.is_err(), "two are held");
    // Nobody waits for the first, and what was asked is asked still.
    world.approve(&first).await;
    world.until_effects("asked", 1, 1).await;
    drop((held, other));

    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let bob = world.bridged(Agent::Bob, &ProtocolVersion::V_2026_07_28).await;
    let mut listening = bob.listen(filter).await.unwrap();
    world.revoke(Agent::Bob).await;
    let ended = tokio::time::timeout(crate::deployment::PATIENCE, listening.next()).await.unwrap();
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
}

#[tokio::test]
async fn a_second_server_on_a_folder_says_how_to_join_the_first() {
    let world = World::start().await;
    let (code, out, err) = world.stdio_beside(Agent::Ada).await;
    assert!(code != Some(0) && out.is_empty(), "{code:?} {out}");
    assert!(err.contains("countersign connect -C"), "{err}");
}

#[tokio::test]
async fn a_bad_key_is_told_and_ends_the_program() {
    let world = World::start().await;
    let (code, out, _) = world.bridge_refused("csk_000000000000_00").await;
    assert_eq!(code, Some(2));
    assert!(out.contains("\"error\"") && out.contains("\"id\":1"), "{out}");
}
