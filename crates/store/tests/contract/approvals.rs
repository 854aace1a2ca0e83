//! Requests from asking to performing, and the evidence beside them.

use countersign_gate::{
    Evidence, Sample,
    ledger::{
        CallOutcome, CallState, Closer, Ledger, MakesWay, NotAnswered, NotIssued, NotParked, Parking, Wait,
    },
};
use countersign_rules::{
    ApprovalState, CallDigest, Code, DecisionId, GroupName, Reach, Requester, ToolName,
    approval::{Alike, AnswerRefusal},
    settlement::Settlement,
};
use countersign_store::{Erasure, Store};
use serde_json::json;

use crate::{
    make::{
        NOW, approval_id, call_id, closing, done, intent_of, kinds, note, parking, requester, said,
        signature, stored,
    },
    place::{Place, contract},
    schema::go_back,
};

contract! {
    async fn a_granted_request_is_performed_once(place) {
        let ledger = place.open().await;
        let (who, call) = (requester("bot", "s1"), stored("c1", &requester("bot", "s1"), "x"));
        let parked = ledger.park(parking("a1", call.clone())).await.unwrap();
        assert_eq!((parked.state, parked.delivered), (ApprovalState::Waiting, false));
        assert_eq!(parked.evidence, parking("a1", call.clone()).evidence);
        assert_eq!(ledger.standing(&who, call.digest, NOW).await.unwrap().request, Some(parked.clone()));
        // A retry of the same call finds the same request.
        let again = stored("c2", &who, "x");
        assert_eq!(ledger.park(parking("a2", again)).await.unwrap(), parked);
        // So does one in another session; another agent's is another.
        let other = stored("c3", &requester("bot", "s2"), "x");
        assert_eq!(ledger.park(parking("a3", other)).await.unwrap(), parked);
        let other = stored("c8", &requester("eve", "s1"), "x");
        assert_eq!(ledger.park(parking("a8", other)).await.unwrap().request.id, approval_id("a8"));

        let waiting = with_approval("c1", "a1");
        assert_eq!(ledger.issue(waiting.clone()).await.unwrap_err(), NotIssued::ApprovalSpent(ApprovalState::Waiting));
        let granted = ledger.answer(&approval_id("a1"), signature("lea", true), note("answered", &call_id("c1"))).await.unwrap();
        assert_eq!((granted.state, granted.signatures.len()), (ApprovalState::Approved, 1));
        ledger.issue(waiting.clone()).await.unwrap();
        let mut second = with_approval("c9", "a1");
        second.call.digest = call.digest;
        assert_eq!(ledger.issue(second).await.unwrap_err(), NotIssued::ApprovalSpent(ApprovalState::Executing));
        assert!(!ledger.end(&approval_id("a1"), ApprovalState::Expired, None, "late", Vec::new()).await.unwrap());

        let outcome = done("c1", 3);
        Ledger::close(&*ledger, outcome, Wait::Durable).await.unwrap();
        let record = ledger.approval(&approval_id("a1")).await.unwrap().unwrap();
        assert_eq!((record.state, record.delivered), (ApprovalState::Done, false));
        ledger.deliver(&approval_id("a1")).await.unwrap();
        ledger.deliver(&approval_id("a1")).await.unwrap();
        assert!(ledger.approval(&approval_id("a1")).await.unwrap().unwrap().delivered);
        assert_eq!(kinds(&ledger).await, ["asked", "asked", "answered", "warrant_issued", "outcome"]);
        // The next equal call opens a new one, which is then the newest.
        ledger.park(parking("a4", stored("c4", &who, "x"))).await.unwrap();
        assert_eq!(ledger.standing(&who, call.digest, NOW).await.unwrap().request.unwrap().request.id, approval_id("a4"));
    }

    async fn what_waits_past_its_time_is_found_by_when_that_was(place) {
        let ledger = place.open().await;
        for (id, ends) in [("a1", 30), ("a2", 10), ("a3", 20), ("a4", 10), ("a5", 10)] {
            let mut request = parking(id, stored(&format!("c{id}"), &requester("bot", "s1"), id));
            request.request.expires_ms = NOW + ends;
            ledger.park(request).await.unwrap();
        }
        // What was answered or ended waits no more.
        ledger.answer(&approval_id("a4"), signature("lea", true), note("answered", &call_id("ca4"))).await.unwrap();
        assert!(ledger.end(&approval_id("a5"), ApprovalState::Blocked, None, "late", Vec::new()).await.unwrap());
        let overdue = async |ledger: &Store, at: i64, limit: u32| {
            let found = ledger.overdue(NOW + at, limit).await.unwrap();
            found.into_iter().map(|record| record.request.id.to_string()).collect::<Vec<_>>()
        };
        for (at, found) in [(9, &[][..]), (10, &["a2"]), (29, &["a2", "a3"]), (30, &["a2", "a3", "a1"])] {
            assert_eq!(overdue(&ledger, at, 10).await, found, "{at}");
        }
        assert_eq!(overdue(&ledger, 30, 2).await, ["a2", "a3"]);
        // As the schema before had them.
        drop(ledger);
        go_back(&place, 18).await;
        let ledger = place.open().await;
        assert_eq!(overdue(&ledger, 30, 10).await, ["a2", "a3", "a1"]);
    }

    async fn a_refusal_is_found_by_what_the_call_does_until_it_would_have_expired(place) {
        let ledger = place.open().await;
        let (who, eve) = (requester("bot", "s1"), requester("eve", "s1"));
        let form = |text: &str| CallDigest::of_form(&ToolName::parse("t").unwrap(), text);
        let alike = |normal: &str, shape: &str| Some(Alike { normal: form(normal), shape: form(shape) });
        let park = async |id: &str, who: &Requester, alike| {
            let mut parking = parking(id, stored(&format!("c{id}"), who, id));
            parking.request.alike = alike;
            ledger.park(parking).await.unwrap().request
        };
        let refusals = async |who: &Requester, at| ledger.standing(who, form("none"), at).await.unwrap().refusals;
        let refused = async |who: &Requester, normal: &str, digest, at| {
            let found = ledger.refused(&who.agent, (form(normal), digest), at).await.unwrap();
            found.map(|record| record.request.id)
        };
        let answer = async |id: &str, yes| {
            let entry = note("answered", &call_id(&format!("c{id}")));
            ledger.answer(&approval_id(id), signature("lea", yes), entry).await.unwrap();
        };
        let first = park("a1", &who, alike("n", "s")).await;
        assert!(!refusals(&who, NOW).await && refused(&who, "n", form("d"), NOW).await.is_none());
        answer("a1", false).await;
        assert!(refusals(&who, NOW).await && !refusals(&eve, NOW).await);
        let end = first.expires_ms;
        for (normal, digest, at, found) in [
            ("n", form("d"), end - 1, true),
            ("m", first.call.digest, end - 1, true),
            ("m", form("d"), NOW, false),
            ("n", form("d"), end, false),
        ] {
            assert_eq!(refused(&who, normal, digest, at).await, found.then(|| approval_id("a1")), "{normal} {at}");
        }
        assert_eq!(refused(&eve, "n", form("d"), NOW).await, None);
        // What was answered to others of this shape, and what was refused of the tool.
        park("a2", &who, alike("n2", "s")).await;
        park("a3", &who, alike("n3", "s")).await;
        answer("a3", true).await;
        park("a4", &who, alike("n4", "other")).await;
        answer("a4", false).await;
        park("a5", &who, None).await;
        answer("a5", true).await;
        let tool = first.call.tool.clone();
        let answered = ledger.answered(&who.agent, &tool, form("s")).await.unwrap();
        let ids: Vec<_> = answered.iter().map(|record| record.request.id.clone()).collect();
        assert_eq!(ids, ["a4", "a3", "a1"].map(approval_id));
        assert!(ledger.answered(&eve.agent, &tool, form("s")).await.unwrap().is_empty());
    }

    async fn an_agent_has_one_request_for_a_call_in_all_its_sessions(place) {
        let ledger = place.open().await;
        let (one, other, named) = (requester("bot", "unnamed-1"), requester("bot", "unnamed-2"), requester("bot", "s1"));
        let park = async |id: &str, who: &Requester| {
            ledger.park(parking(id, stored(&format!("c{id}"), who, "x"))).await.unwrap().request.id
        };
        let request = async |who: &Requester| {
            let standing = ledger.standing(who, stored("c", who, "x").digest, NOW).await.unwrap();
            standing.request.map(|record| record.request.id)
        };
        let first = park("a1", &one).await;
        assert_eq!(park("a2", &other).await, first);
        let (theirs, own) = (park("a3", &requester("eve", "unnamed-1")).await, park("a4", &named).await);
        assert_eq!((theirs, own), (approval_id("a3"), first.clone()));
        assert_eq!((request(&other).await, request(&named).await), (Some(first.clone()), Some(first.clone())));
        assert!(ledger.end(&first, ApprovalState::Expired, None, "late", Vec::new()).await.unwrap());
        assert_eq!(request(&other).await, Some(first), "final or not");
        assert_eq!(park("a5", &other).await, approval_id("a5"));
        assert_eq!(request(&one).await, Some(approval_id("a5")));
    }

    async fn an_answer_that_does_not_count_changes_nothing(place) {
        let ledger = place.open().await;
        let mut request = parking("a1", stored("c1", &requester("bot", "s1"), "x"));
        request.request.of[0].quorum = 2;
        ledger.park(request).await.unwrap();
        let answer = async |signature: countersign_rules::Signature| {
            ledger.answer(&approval_id("a1"), signature, note("answered", &call_id("c1"))).await
        };
        let refused = |result: Result<_, NotAnswered>| match result {
            Err(NotAnswered::Refused(why)) => why,
            other => panic!("{other:?}"),
        };
        let mut stranger = signature("eve", true);
        stranger.groups = [GroupName::parse("others").unwrap()].into();
        let mut late = signature("lea", true);
        late.at_ms = NOW + 900_000;
        assert!(matches!(refused(answer(stranger).await), AnswerRefusal::NotAsked { .. }));
        assert!(matches!(refused(answer(signature("bot", true)).await), AnswerRefusal::OwnRequest(_)));
        assert!(matches!(refused(answer(late).await), AnswerRefusal::Expired));
        assert_eq!(answer(signature("lea", true)).await.unwrap().state, ApprovalState::Waiting);
        assert!(matches!(refused(answer(signature("lea", true)).await), AnswerRefusal::AnsweredAlready(_)));
        assert_eq!(answer(signature("max", true)).await.unwrap().state, ApprovalState::Approved);
        assert!(matches!(refused(answer(signature("ann", false)).await), AnswerRefusal::NotOpen(ApprovalState::Approved)));
        let nobody = ledger.answer(&approval_id("a9"), signature("lea", true), note("answered", &call_id("c1"))).await;
        assert_eq!(nobody.unwrap_err(), NotAnswered::NotFound);
        assert_eq!(kinds(&ledger).await, ["asked", "answered", "answered"]);
    }

    async fn a_refusal_and_an_end_say_why(place) {
        let ledger = place.open().await;
        for id in ["1", "2"] {
            let call = stored(&format!("c{id}"), &requester("bot", "s1"), id);
            ledger.park(parking(&format!("a{id}"), call)).await.unwrap();
        }
        let refused = ledger.answer(&approval_id("a1"), signature("lea", false), note("answered", &call_id("c1"))).await.unwrap();
        assert_eq!((refused.state, refused.why.as_deref()), (ApprovalState::Refused, Some("because")));
        let end = async |id: &str| {
            let entry = note("request_ended", &call_id("c2"));
            ledger.end(&approval_id(id), ApprovalState::Expired, None, "nobody answered", vec![entry]).await.unwrap()
        };
        assert_eq!((end("a1").await, end("a2").await, end("a2").await, end("a9").await), (false, true, false, false));
        let ended = ledger.approval(&approval_id("a2")).await.unwrap().unwrap();
        assert_eq!((ended.state, ended.why.as_deref()), (ApprovalState::Expired, Some("nobody answered")));
        assert_eq!(kinds(&ledger).await, ["asked", "asked", "answered", "request_ended"]);
    }

    async fn a_refused_grant_keeps_the_code_of_its_refusal(place) {
        let ledger = place.open().await;
        let who = requester("bot", "s1");
        for id in ["1", "2"] {
            ledger.park(parking(&format!("a{id}"), stored(&format!("c{id}"), &who, id))).await.unwrap();
            let answered = note("answered", &call_id(&format!("c{id}")));
            ledger.answer(&approval_id(&format!("a{id}")), signature("lea", true), answered).await.unwrap();
        }
        let end = async |id: &str, code| {
            ledger.end(&approval_id(id), ApprovalState::Blocked, code, "R007 is no word of it", Vec::new()).await.unwrap()
        };
        assert!(end("a1", Some(Code::BudgetExhausted)).await && end("a2", None).await);
        ledger.close().await;
        let ledger = place.open().await;
        let code = async |id: &str| ledger.approval(&approval_id(id)).await.unwrap().unwrap().code;
        assert_eq!((code("a1").await, code("a2").await), (Some(Code::BudgetExhausted), None));
    }

    async fn a_ledger_of_schema_1_is_brought_up_to_date(place) {
        let who = requester("bot", "s1");
        let ledger = place.open().await;
        for id in ["1", "2"] {
            ledger.park(parking(&format!("a{id}"), stored(&format!("c{id}"), &who, id))).await.unwrap();
            ledger.end(&approval_id(&format!("a{id}")), ApprovalState::Blocked, None, "R008 no `room` left", Vec::new()).await.unwrap();
        }
        ledger.issue(intent_of(stored("c3", &who, "3"))).await.unwrap();
        ledger.close().await;
        go_back(&place, 1).await;
        let ledger = place.open().await;
        let record = ledger.approval(&approval_id("a1")).await.unwrap().unwrap();
        assert_eq!((record.code, record.why.as_deref()), (Some(Code::BudgetExhausted), Some("no `room` left")));
        assert_eq!(ledger.standing(&who, stored("c4", &who, "4").digest, NOW).await.unwrap().session.calls, 1);
        ledger.issue(intent_of(stored("c5", &who, "5"))).await.unwrap();
        ledger.close().await;
        place.open().await;
    }

    async fn a_grant_is_good_for_its_own_call_only(place) {
        let ledger = place.open().await;
        ledger.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
        ledger.answer(&approval_id("a1"), signature("lea", true), note("answered", &call_id("c1"))).await.unwrap();
        let superseded = NotIssued::ApprovalSpent(ApprovalState::Superseded);
        let mut other = intent_of(stored("c1", &requester("bot", "s1"), "y"));
        other.approval = Some(approval_id("a1"));
        assert_eq!(ledger.issue(other).await.unwrap_err(), superseded);
        let mut other = intent_of(stored("c1", &requester("eve", "s1"), "x"));
        other.approval = Some(approval_id("a1"));
        assert_eq!(ledger.issue(other).await.unwrap_err(), superseded);
        let mut unknown = intent_of(stored("c1", &requester("bot", "s1"), "x"));
        unknown.approval = Some(approval_id("a9"));
        assert_eq!(ledger.issue(unknown).await.unwrap_err(), superseded);
        assert_eq!(kinds(&ledger).await, ["asked", "answered"]);
    }

    async fn a_call_in_doubt_takes_its_request_along(place) {
        let ledger = place.open().await;
        ledger.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
        ledger.answer(&approval_id("a1"), signature("lea", true), note("answered", &call_id("c1"))).await.unwrap();
        ledger.issue(with_approval("c1", "a1")).await.unwrap();
        ledger.close().await;
        let ledger = place.open().await;
        assert_eq!(ledger.sweep(NOW).await.unwrap().len(), 1);
        let state = async || ledger.approval(&approval_id("a1")).await.unwrap().unwrap().state;
        assert_eq!(state().await, ApprovalState::InDoubt);
        let failed = CallOutcome::Failed { code: Code::ToolFailed, message: "it was not".into(), superseded: false };
        let entries = vec![note("doubt_resolved", &call_id("c1"))];
        assert!(ledger.resolve(&call_id("c1"), failed, Settlement::Released, NOW, entries).await.unwrap());
        assert_eq!(state().await, ApprovalState::Failed);
        assert_eq!(ledger.call(&call_id("c1")).await.unwrap().unwrap().state, CallState::Failed);
    }

    async fn a_request_that_is_ended_in_the_batch_that_opens_it_keeps_the_code(place) {
        let ledger = place.open().await;
        let call = stored("c1", &requester("bot", "s1"), "x");
        let (id, end) = (approval_id("a1"), note("request_ended", &call.id));
        // The writer takes the first, and what waits meanwhile together.
        let (recorded, parked, ended) = futures::join!(
            ledger.record(vec![note("configured", &call.id)]),
            ledger.park(parking("a1", call)),
            ledger.end(&id, ApprovalState::Blocked, Some(Code::Halted), "late", vec![end]),
        );
        assert_eq!((recorded, parked.is_ok(), ended), (Ok(()), true, Ok(true)));
        let record = ledger.approval(&approval_id("a1")).await.unwrap().unwrap();
        assert_eq!((record.state, record.code), (ApprovalState::Blocked, Some(Code::Halted)));
    }

    async fn what_exceeded_its_approval_supersedes_it(place) {
        let ledger = place.open().await;
        ledger.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
        ledger.answer(&approval_id("a1"), signature("lea", true), note("answered", &call_id("c1"))).await.unwrap();
        ledger.issue(with_approval("c1", "a1")).await.unwrap();
        let exceeded = CallOutcome::Failed { code: Code::ReachExceeded, message: "more rows".into(), superseded: true };
        let outcome = closing("c1", exceeded, Settlement::Released);
        Ledger::close(&*ledger, outcome, Wait::Durable).await.unwrap();
        let record = ledger.approval(&approval_id("a1")).await.unwrap().unwrap();
        assert_eq!((record.state, record.why.as_deref()), (ApprovalState::Superseded, Some("more rows")));
    }

    async fn requests_are_listed_oldest_first(place) {
        let ledger = place.open().await;
        for id in ["z", "y", "x"] {
            ledger.park(parking(id, stored(id, &requester("bot", "s1"), id))).await.unwrap();
        }
        ledger.answer(&approval_id("y"), signature("lea", true), note("answered", &call_id("y"))).await.unwrap();
        let ids = async |states: &[ApprovalState], limit| -> Vec<String> {
            ledger.approvals(states, limit).await.unwrap().iter().map(|r| r.request.id.to_string()).collect()
        };
        assert_eq!(ids(&[], 10).await, ["z", "y", "x"]);
        assert_eq!(ids(&[], 2).await, ["z", "y"]);
        assert_eq!(ids(&[ApprovalState::Waiting], 10).await, ["z", "x"]);
        assert_eq!(ids(&[ApprovalState::Waiting, ApprovalState::Approved], 10).await, ["z", "y", "x"]);
        assert_eq!(ids(&[ApprovalState::Done], 10).await, [""; 0]);
    }

    async fn evidence_can_be_erased_and_the_log_stays_whole(place) {
        let ledger = place.open().await;
        ledger.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
        assert!(ledger.approval(&approval_id("a1")).await.unwrap().unwrap().evidence.is_some());
        let entry = || said("evidence_erased", json!({ "by": "lea" }));
        // Whoever is asked has to see it.
        let until_ms = NOW + 900_000;
        let asked = ledger.erase_evidence(&approval_id("a1"), entry()).await.unwrap();
        assert_eq!(asked, Erasure::Asked { until_ms });
        assert!(ledger.approval(&approval_id("a1")).await.unwrap().unwrap().evidence.is_some());
        assert_eq!(kinds(&ledger).await, ["asked"]);
        assert!(ledger.end(&approval_id("a1"), ApprovalState::Expired, None, "late", Vec::new()).await.unwrap());
        assert_eq!(ledger.erase_evidence(&approval_id("a1"), entry()).await.unwrap(), Erasure::Erased);
        assert_eq!(ledger.erase_evidence(&approval_id("a1"), entry()).await.unwrap(), Erasure::Nothing);
        let record = ledger.approval(&approval_id("a1")).await.unwrap().unwrap();
        assert_eq!((record.evidence, record.state), (None, ApprovalState::Expired));
        assert_eq!(kinds(&ledger).await, ["asked", "evidence_erased"]);
        // Where no server runs nobody notes that the time is over; and a refusal ends the asking at once.
        for (id, call) in [("a2", "c2"), ("a3", "c3")] {
            ledger.park(parking(id, stored(call, &requester("bot", "s1"), call))).await.unwrap();
        }
        let mut late = entry();
        late.at_ms = until_ms;
        assert_eq!(ledger.erase_evidence(&approval_id("a2"), late).await.unwrap(), Erasure::Erased);
        ledger.answer(&approval_id("a3"), signature("ana", false), note("answered", &call_id("c3"))).await.unwrap();
        assert_eq!(ledger.erase_evidence(&approval_id("a3"), entry()).await.unwrap(), Erasure::Erased);
        assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    }

    async fn a_request_makes_way_for_another_in_one_transaction_or_not_at_all(place) {
        let ledger = place.open().await;
        let who = requester("bot", "s1");
        let way = |id: &str| Some(MakesWay { approval: approval_id(id), why: "changed".into() });
        let instead = |id: &str, of: &str| Parking { makes_way: way(of), ..parking(id, stored(&format!("c{id}"), &who, id)) };
        ledger.park(parking("a1", stored("c1", &who, "x"))).await.unwrap();
        ledger.park(instead("a2", "a1")).await.unwrap();
        let moved = NotParked::Moved(ApprovalState::Superseded);
        assert_eq!(ledger.park(instead("a3", "a1")).await.unwrap_err(), moved);
        assert_eq!(ledger.park(instead("a3", "a0")).await.unwrap_err(), moved);
        assert_eq!(ledger.approval(&approval_id("a3")).await.unwrap(), None);
        // An equal call that waits is found, and then nothing makes way.
        let equal = Parking { makes_way: way("a2"), ..parking("a4", stored("c4", &who, "a2")) };
        assert_eq!(ledger.park(equal).await.unwrap().request.id, approval_id("a2"));
        ledger.answer(&approval_id("a2"), signature("lea", true), note("answered", &call_id("ca2"))).await.unwrap();
        assert_eq!(ledger.park(instead("a5", "a2")).await.unwrap_err(), NotParked::Moved(ApprovalState::Approved));
        ledger.close().await;
        let ledger = place.open().await;
        let first = ledger.approval(&approval_id("a1")).await.unwrap().unwrap();
        assert_eq!((first.state, first.narrowed_to), (ApprovalState::Superseded, Some(approval_id("a2"))));
        assert_eq!(ledger.approval(&approval_id("a2")).await.unwrap().unwrap().state, ApprovalState::Approved);
        assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    }

    async fn what_is_found_by_looking_closer_is_kept_in_place_of_what_was_shown(place) {
        let ledger = place.open().await;
        let id = approval_id("a1");
        ledger.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
        let reach = Reach { rows: 9, exact: true, rehearsed: true, ..Reach::default() };
        let evidence = parking("a1", stored("c1", &requester("bot", "s1"), "x")).evidence;
        let seen = |evidence| Closer { reach: reach.clone(), decision: DecisionId::parse("dec-2").unwrap(), evidence };
        let entries = || vec![note("looked_closer", &call_id("c1"))];
        let shown = ledger.look_closer(&id, seen(None), entries()).await.unwrap();
        assert_eq!((shown.request.reach.as_ref(), &shown.evidence), (Some(&reach), &evidence));
        let other = Sample { table: "other".into(), columns: vec!["id".into()], rows: vec![vec![Some("2".into())]] };
        let other = Some(Evidence::new(other, [7; 32]).unwrap());
        ledger.look_closer(&id, seen(other.clone()), entries()).await.unwrap();
        ledger.close().await;
        let ledger = place.open().await;
        let kept = ledger.approval(&id).await.unwrap().unwrap();
        assert_eq!((kept.request.reach.as_ref(), &kept.evidence), (Some(&reach), &other));
        assert_eq!(kept.request.decision.as_str(), "dec-2");
        ledger.answer(&id, signature("lea", true), note("answered", &call_id("c1"))).await.unwrap();
        let late = ledger.look_closer(&id, seen(None), entries()).await.unwrap_err();
        assert_eq!(late, NotAnswered::Refused(AnswerRefusal::NotOpen(ApprovalState::Approved)));
        assert_eq!(ledger.look_closer(&approval_id("a0"), seen(None), entries()).await.unwrap_err(), NotAnswered::NotFound);
        assert_eq!(kinds(&ledger).await, ["asked", "looked_closer", "looked_closer", "answered"]);
        assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    }

    async fn requests_of_any_size_are_read_beside_others(place) {
        // What is read of them fills a connection's buffers many times over, and another question stands behind it.
        let ledger = place.open().await;
        let who = requester("bot", "s1");
        let tool = ToolName::parse("refund").unwrap();
        let form = |text: &str| CallDigest::of_form(&tool, text);
        for id in ["a1", "a2", "a3", "a4", "a5"] {
            let mut parking = parking(id, stored(&format!("c{id}"), &who, &id.repeat(100_000)));
            parking.request.alike = Some(Alike { normal: form(id), shape: form("s") });
            ledger.park(parking).await.unwrap();
            let entry = note("answered", &call_id(&format!("c{id}")));
            ledger.answer(&approval_id(id), signature("lea", id != "a1"), entry).await.unwrap();
        }
        let answered = ledger.answered(&who.agent, &tool, form("s")).await.unwrap();
        assert_eq!(answered.len(), 5);
        for record in answered {
            let request = record.request;
            let standing = ledger.standing(&who, request.call.digest, NOW).await.unwrap();
            assert_eq!(standing.request.unwrap().request.call.arguments, request.call.arguments);
        }
        let mut granted = intent_of(stored("c2", &who, &"a2".repeat(100_000)));
        granted.approval = Some(approval_id("a2"));
        ledger.issue(granted).await.unwrap();
        Ledger::close(&*ledger, done("c2", 3), Wait::Durable).await.unwrap();
    }

    async fn whoever_waits_is_woken(place) {
        let ledger = place.open().await;
        let mut changes = ledger.changes();
        changes.mark_unchanged();
        ledger.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
        changes.changed().await.unwrap();
    }
}

fn with_approval(call: &str, approval: &str) -> countersign_gate::ledger::Intent {
    let mut intent = intent_of(stored(call, &requester("bot", "s1"), "x"));
    intent.approval = Some(approval_id(approval));
    intent
}

#[tokio::test]
async fn erased_evidence_is_in_no_file() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    ledger.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
    let found = || {
        let folder = place.path().parent().unwrap().to_owned();
        std::fs::read_dir(folder).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(10).any(|window| window == b"Ada SECRET")
        })
    };
    assert!(found());
    let entry = said("evidence_erased", json!({ "by": "lea" }));
    assert!(ledger.end(&approval_id("a1"), ApprovalState::Expired, None, "late", Vec::new()).await.unwrap());
    assert_eq!(ledger.erase_evidence(&approval_id("a1"), entry).await.unwrap(), Erasure::Erased);
    assert!(!found());
}
