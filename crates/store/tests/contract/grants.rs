//! What people grant beside an approval: given in the transaction of the answer, taken in that of the intent.

use countersign_gate::ledger::{ApprovalRecord, Intent, Ledger, NotAnswered, NotIssued};
use countersign_rules::{
    ApprovalState, CallDigest, Grant, GrantBound, GrantEnd, GrantTerms, PersonId, Requester, ToolName,
    approval::{Alike, AnswerRefusal},
};
use countersign_store::{Options, Store};
use futures::future::join_all;

use crate::{
    make::{NOW, approval_id, call_id, intent_of, kinds, note, parking, requester, said, signature, stored},
    place::{Place, contract},
};

const TERMS: GrantTerms = GrantTerms { calls: 3, until_ms: NOW + 60_000 };

fn form(text: &str) -> CallDigest {
    CallDigest::of_form(&ToolName::parse("t").unwrap(), text)
}

/// Has a call of shape `shape` approved with this grant beside it.
async fn approved(
    ledger: &Store,
    id: &str,
    who: &Requester,
    shape: &str,
    grant: Option<GrantTerms>,
) -> Result<ApprovalRecord, NotAnswered> {
    let mut parking = parking(id, stored(&format!("c{id}"), who, id));
    parking.request.alike = Some(Alike { normal: form(id), shape: form(shape) });
    for ask in &mut parking.request.of {
        ask.grant = Some(GrantBound { calls: 3, ms: 60_000 });
    }
    ledger.park(parking).await.unwrap();
    let mut signature = signature("lea", true);
    signature.at_ms = NOW;
    signature.grant = grant;
    ledger.answer(&approval_id(id), signature, note("answered", &call_id(&format!("c{id}")))).await
}

/// A call of this shape, under what was granted with a request.
fn under(id: &str, call: &str, who: &Requester, shape: &str) -> Intent {
    Intent { grant: Some((approval_id(id), form(shape))), ..intent_of(stored(call, who, call)) }
}

async fn granting(ledger: &Store, who: &Requester, shape: &str, now_ms: i64) -> Vec<String> {
    let found = ledger.granting(who, form(shape), now_ms).await.unwrap();
    found.into_iter().map(|record| record.request.id.to_string()).collect()
}

async fn left(ledger: &Store, id: &str) -> Option<u32> {
    ledger.approval(&approval_id(id)).await.unwrap().unwrap().grant.map(|grant| grant.left)
}

contract! {
    async fn a_grant_is_given_with_the_approval_and_taken_call_by_call(place) {
        let ledger = place.open().await;
        let (who, eve) = (requester("bot", "s1"), requester("eve", "s1"));
        let record = approved(&ledger, "a1", &who, "s", Some(TERMS)).await.unwrap();
        assert_eq!((record.state, record.grant), (ApprovalState::Approved, Some(Grant::new(TERMS))));
        assert_eq!(kinds(&ledger).await, ["asked", "answered", "grant_given"]);
        approved(&ledger, "a2", &who, "s", None).await.unwrap();
        let end = TERMS.until_ms;
        let other = requester("bot", "s2");
        for (who, shape, now_ms, found) in [
            (&who, "s", NOW, true),
            (&who, "s", end - 1, true),
            (&who, "s", end, false),
            (&who, "other", NOW, false),
            (&eve, "s", NOW, false),
            (&other, "s", NOW, false),
        ] {
            let ids: Vec<_> = found.then(|| approval_id("a1").to_string()).into_iter().collect();
            assert_eq!(granting(&ledger, who, shape, now_ms).await, ids, "{who:?} {shape} {now_ms}");
        }
        // What is of another agent, session or shape takes nothing, whoever says so; nor does what comes too late.
        let late = Intent { now_ms: end, ..under("a1", "x4", &who, "s") };
        for wrong in [
            under("a1", "x1", &eve, "s"),
            under("a1", "x2", &other, "s"),
            under("a1", "x3", &who, "other"),
            late,
            under("a2", "x5", &who, "s"),
            under("none", "x6", &who, "s"),
        ] {
            assert_eq!(ledger.issue(wrong.clone()).await, Err(NotIssued::GrantSpent), "{wrong:?}");
        }
        assert_eq!(left(&ledger, "a1").await, Some(3));
        for (call, remain) in [("k1", 2), ("k2", 1), ("k3", 0)] {
            ledger.issue(under("a1", call, &who, "s")).await.unwrap();
            assert_eq!(left(&ledger, "a1").await, Some(remain));
        }
        assert_eq!(ledger.issue(under("a1", "k4", &who, "s")).await, Err(NotIssued::GrantSpent));
        assert!(granting(&ledger, &who, "s", NOW).await.is_empty());
        assert!(ledger.grants(NOW, 10).await.unwrap().is_empty());
        // So it stands after a start.
        ledger.close().await;
        drop(ledger);
        let ledger = place.open().await;
        assert_eq!(left(&ledger, "a1").await, Some(0));
        assert_eq!(ledger.issue(under("a1", "k5", &who, "s")).await, Err(NotIssued::GrantSpent));
    }

    async fn more_than_the_policies_allow_is_no_answer(place) {
        let ledger = place.open().await;
        let who = requester("bot", "s1");
        for (id, terms) in [
            ("a1", GrantTerms { calls: 4, ..TERMS }),
            ("a2", GrantTerms { until_ms: NOW + 60_001, ..TERMS }),
            ("a3", GrantTerms { calls: 0, ..TERMS }),
        ] {
            let refused = approved(&ledger, id, &who, "s", Some(terms)).await;
            assert!(matches!(refused, Err(NotAnswered::Refused(AnswerRefusal::NotGrantable(_)))), "{refused:?}");
            assert_eq!(ledger.approval(&approval_id(id)).await.unwrap().unwrap().state, ApprovalState::Waiting);
        }
        assert!(!kinds(&ledger).await.iter().any(|kind| kind == "answered" || kind == "grant_given"));
    }

    async fn a_grant_is_ended_once_and_covers_nothing_then(place) {
        let ledger = place.open().await;
        let who = requester("bot", "s1");
        approved(&ledger, "a1", &who, "s", Some(TERMS)).await.unwrap();
        approved(&ledger, "a2", &who, "other", None).await.unwrap();
        let end = |why: &str| GrantEnd { by: PersonId::parse("ana").unwrap(), at_ms: NOW, why: why.into() };
        let said = || said("grant_ended", serde_json::json!({ "test": true }));
        for (id, did) in [("a1", true), ("a1", false), ("a2", false), ("none", false)] {
            assert_eq!(ledger.end_grant(&approval_id(id), end(id), said()).await.unwrap(), did, "{id}");
        }
        assert_eq!(kinds(&ledger).await.iter().filter(|kind| *kind == "grant_ended").count(), 1);
        assert!(granting(&ledger, &who, "s", NOW).await.is_empty());
        assert_eq!(ledger.issue(under("a1", "k1", &who, "s")).await, Err(NotIssued::GrantSpent));
    }

    async fn servers_that_share_a_ledger_spend_a_grant_exactly(place) {
        let first = place.open().await;
        let who = requester("bot", "s1");
        approved(&first, "a1", &who, "s", Some(TERMS)).await.unwrap();
        // Whoever else has the ledger open, where that can be.
        let second = match &place {
            Place::Sqlite(_) => None,
            Place::Postgres(_) => Some(place.open_with(Options::default()).await.unwrap()),
        };
        let both = [Some(&first), second.as_ref().or(Some(&first))];
        let tries = (0..20).map(|n| {
            let ledger = both[n % 2].unwrap();
            let intent = under("a1", &format!("k{n}"), &who, "s");
            async move { ledger.issue(intent).await }
        });
        let issued = join_all(tries).await;
        let spent = issued.iter().filter(|one| **one == Err(NotIssued::GrantSpent)).count();
        assert_eq!((issued.iter().filter(|one| one.is_ok()).count(), spent), (3, 17), "{issued:?}");
        assert_eq!(left(&first, "a1").await, Some(0));
    }
}
