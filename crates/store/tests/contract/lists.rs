//! Lists of requests and calls: filtered and paged by the database.

use countersign_gate::ledger::{ApprovalRecord, CallState, Ledger, Wait};
use countersign_rules::{AgentId, ApprovalState, GroupName};
use countersign_store::{ApprovalFilter, CallFilter, Store};

use crate::{
    make::{approval_id, call_id, done, intent, note, parking, requester, signature, stored},
    place::contract,
    schema::go_back,
};

fn ids(records: &[ApprovalRecord]) -> Vec<&str> {
    records.iter().map(|record| record.request.id.as_str()).collect()
}

fn groups(names: &[&str]) -> Option<std::collections::BTreeSet<GroupName>> {
    Some(names.iter().map(|name| GroupName::parse(name).unwrap()).collect())
}

/// Asks `group`, and `leads` as well where that is said.
async fn ask(ledger: &Store, id: &str, agent: &str, group: &str, leads: bool) {
    let mut parking = parking(id, stored(&format!("call-{id}"), &requester(agent, "s"), id));
    let mut ask = parking.request.of[0].clone();
    ask.group = GroupName::parse(group).unwrap();
    if leads {
        // The same group asked twice is one group.
        parking.request.of.extend([ask.clone(), ask]);
    } else {
        parking.request.of = vec![ask];
    }
    ledger.park(parking).await.unwrap();
}

contract! {
    async fn requests_are_listed_by_state_agent_and_whom_they_ask(place) {
        let ledger = place.open().await;
        for (id, agent, group, leads) in [
            ("a1", "bot", "dba", false), ("a2", "bot", "dba", true), ("a3", "other", "d_a", false), ("a4", "other", "x", true),
        ] {
            ask(&ledger, id, agent, group, leads).await;
        }
        ledger.answer(&approval_id("a2"), signature("lea", false), note("answered", &call_id("call-a2"))).await.unwrap();
        let listed = async |filter: ApprovalFilter| {
            let found = ledger.list_approvals(&filter, 100).await.unwrap();
            ids(&found).join(" ")
        };
        let every = ApprovalFilter::default;
        assert_eq!(listed(every()).await, "a1 a2 a3 a4");
        let waiting = Some(ApprovalState::Waiting);
        assert_eq!(listed(ApprovalFilter { state: waiting, ..every() }).await, "a1 a3 a4");
        let agent = Some(AgentId::parse("other").unwrap());
        assert_eq!(listed(ApprovalFilter { agent: agent.clone(), ..every() }).await, "a3 a4");
        for (names, found) in [
            (&["dba"][..], "a1 a2"), (&["leads"], "a2 a4"), (&["dba", "leads"], "a1 a2 a4"), (&["leads", "x", "dba", "d_a"], "a1 a2 a3 a4"),
            // A part of a name, a pattern, and nothing are nobody's groups.
            (&["db"], ""), (&["a"], ""), (&["d_a"], "a3"), (&[], ""),
        ] {
            assert_eq!(listed(ApprovalFilter { groups: groups(names), ..every() }).await, found, "{names:?}");
        }
        let all = ApprovalFilter { state: waiting, agent, groups: groups(&["leads"]), after: Some(approval_id("a2")) };
        assert_eq!(listed(all).await, "a4");
        assert_eq!(ledger.unsettled().await.unwrap(), (3, 0));
    }

    async fn requests_of_an_older_schema_are_found_by_whom_they_ask(place) {
        let ledger = place.open().await;
        ask(&ledger, "a1", "bot", "dba", true).await;
        ask(&ledger, "a2", "bot", "x", false).await;
        ledger.close().await;
        drop(ledger);
        go_back(&place, 2).await;
        let ledger = place.open().await;
        for (names, found) in [(&["dba"][..], "a1"), (&["leads"], "a1"), (&["x"], "a2"), (&["y"], "")] {
            let filter = ApprovalFilter { groups: groups(names), ..ApprovalFilter::default() };
            assert_eq!(ids(&ledger.list_approvals(&filter, 10).await.unwrap()).join(" "), found);
        }
    }

    async fn times_of_requests_are_read_newest_first_without_what_they_are_about(place) {
        let ledger = place.open().await;
        for n in 0..5 {
            ask(&ledger, &format!("a{n}"), "bot", "dba", true).await;
        }
        // No text that an argument may have stands in the way.
        let mut odd = parking("odd", stored("odd", &requester("bot", "s"), "odd"));
        odd.request.call.arguments = serde_json::json!({ "of": 1, "asked_ms": "no", "nul": "a\u{0}b", "quoted": "\\u0000 \\ud83d" });
        ledger.park(odd.clone()).await.unwrap();
        ledger.answer(&approval_id("a2"), signature("lea", false), note("answered", &call_id("call-a2"))).await.unwrap();
        let first = ledger.request_times(None, 4).await.unwrap();
        let rest = ledger.request_times(first.last().map(|last| last.place), 4).await.unwrap();
        let all: Vec<_> = first.into_iter().chain(rest).collect();
        assert_eq!(all.len(), 6);
        assert!(all.windows(2).all(|two| two[0].place > two[1].place));
        assert_eq!((&all[0].of, all[0].asked_ms, all[0].expires_ms), (&odd.request.of, odd.request.asked_ms, odd.request.expires_ms));
        assert_eq!((all[0].tool.as_str(), all[0].effect), (odd.request.call.tool.as_str(), odd.effect));
        assert_eq!((all[3].state, all[3].of.len()), (ApprovalState::Refused, 3));
        assert_eq!(all[3].signatures, [signature("lea", false)]);
        assert!(ledger.request_times(Some(0), 4).await.unwrap().is_empty());
        assert!(ledger.request_times(Some(u64::MAX), 9).await.unwrap().len() == 6);
    }

    async fn pages_of_requests_show_everything_once_while_more_comes(place) {
        let ledger = place.open().await;
        for n in 0..7 {
            ask(&ledger, &format!("a{n}"), "bot", "dba", true).await;
        }
        let mut filter = ApprovalFilter { groups: groups(&["dba"]), ..ApprovalFilter::default() };
        let mut seen = Vec::new();
        for page in 0..5 {
            let found = ledger.list_approvals(&filter, 2).await.unwrap();
            seen.extend(ids(&found).into_iter().map(str::to_owned));
            let Some(last) = found.last() else { break };
            filter.after = Some(last.request.id.clone());
            if page == 1 {
                // One of a page that was shown, and a new one.
                ledger.answer(&approval_id("a0"), signature("lea", false), note("answered", &call_id("call-a0"))).await.unwrap();
                ask(&ledger, "a7", "bot", "dba", true).await;
            }
        }
        assert_eq!(seen, ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"]);
        filter.after = Some(approval_id("none"));
        assert!(ledger.list_approvals(&filter, 2).await.unwrap().is_empty(), "after nothing that is known comes nothing");
    }

    async fn pages_of_calls_show_everything_once(place) {
        let ledger = place.open().await;
        // All in the same millisecond: the id decides.
        for n in 0..5 {
            ledger.issue(intent(&format!("c{n}"))).await.unwrap();
        }
        for n in [1, 3] {
            Ledger::close(&*ledger, done(&format!("c{n}"), 1), Wait::Durable).await.unwrap();
        }
        for (state, expected) in [
            (None, "c4 c3 c2 c1 c0"), (Some(CallState::Open), "c4 c2 c0"), (Some(CallState::Done), "c3 c1"), (Some(CallState::InDoubt), ""),
        ] {
            let mut filter = CallFilter { state, ..CallFilter::default() };
            let mut seen = Vec::new();
            loop {
                let found = ledger.list_calls(&filter, 2).await.unwrap();
                let Some(last) = found.last() else { break };
                filter.after = Some(last.call.id.clone());
                seen.extend(found.iter().map(|record| record.call.id.to_string()));
            }
            assert_eq!(seen.join(" "), expected, "{state:?}");
        }
    }
}
