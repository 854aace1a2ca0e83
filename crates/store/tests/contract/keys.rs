//! API keys.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use countersign_rules::{AgentId, PersonId};
use countersign_store::{KeyOwner, NewKey};

use crate::{
    make::{NOW, kinds},
    place::{Place, contract},
};

fn key(owner: KeyOwner, expires_ms: Option<i64>) -> NewKey {
    NewKey { owner, scopes: vec!["tools:call".into()], expires_ms, by: "lea".into(), now_ms: NOW }
}

fn agent() -> KeyOwner {
    KeyOwner::Agent(AgentId::parse("bot").unwrap())
}

contract! {
    async fn a_key_opens_until_it_expires_or_is_revoked(place) {
        let ledger = place.open().await;
        let (record, secret) = ledger.issue_key(key(agent(), Some(NOW + 10)), [3; 32]).await.unwrap();
        assert_eq!(ledger.find_key(&secret, NOW + 9).await.unwrap(), Some(record.clone()));
        assert_eq!(ledger.find_key(&secret, NOW + 10).await.unwrap(), None);

        let person = KeyOwner::Person(PersonId::parse("lea").unwrap());
        let (other, other_secret) = ledger.issue_key(key(person, None), [4; 32]).await.unwrap();
        assert_eq!(ledger.find_key(&other_secret, i64::MAX).await.unwrap(), Some(other.clone()));
        assert!(ledger.revoke_key(&record.id, "lea", NOW + 1).await.unwrap());
        assert!(!ledger.revoke_key(&record.id, "lea", NOW + 2).await.unwrap());
        assert!(!ledger.revoke_key("unknown", "lea", NOW + 2).await.unwrap());
        assert_eq!(ledger.find_key(&secret, NOW + 2).await.unwrap(), None);
        let kept: Vec<_> = ledger.keys().await.unwrap().into_iter().map(|k| (k.id, k.revoked_ms)).collect();
        assert_eq!(kept.len(), 2);
        assert!(kept.contains(&(record.id, Some(NOW + 1))) && kept.contains(&(other.id, None)));
        assert_eq!(kinds(&ledger).await, ["key_issued", "key_issued", "key_revoked"]);
    }

    async fn nothing_but_the_whole_key_opens(place) {
        let ledger = place.open().await;
        let (record, secret) = ledger.issue_key(key(agent(), None), [3; 32]).await.unwrap();
        let (start, _last) = secret.split_at(secret.len() - 1);
        let id = &record.id;
        for wrong in [
            String::new(),
            "csk_".into(),
            id.clone(),
            format!("csk_{id}"),
            format!("csk_{id}_"),
            format!("csk_{id}_{}", "0".repeat(64)),
            format!("{start}f"),
            format!("{secret} "),
            secret.to_uppercase(),
            "é".repeat(40),
            format!("csk_{}_x", "'; DROP TABLE".get(..12).unwrap()),
        ] {
            assert_eq!(ledger.find_key(&wrong, NOW).await.unwrap(), None, "{wrong}");
        }
        assert!(ledger.find_key(&secret, NOW).await.unwrap().is_some());
        // The same bytes again would be the same key.
        assert!(ledger.issue_key(key(agent(), None), [3; 32]).await.is_err());
    }

    async fn a_key_is_issued_once_for_what_it_is_for(place) {
        let ledger = place.open().await;
        let racing = (0..8_u8).map(|number| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.issue_key_once(key(agent(), None), "a code", [number; 32]).await.unwrap() })
        });
        let issued: Vec<_> = futures::future::join_all(racing).await.into_iter().filter_map(Result::unwrap).collect();
        let [(record, secret)] = issued.as_slice() else { panic!("{} keys", issued.len()) };
        assert_eq!(ledger.find_key(secret, NOW).await.unwrap().as_ref(), Some(record));
        // Also after it was revoked, and whatever it would be made of.
        assert!(ledger.revoke_key(&record.id, "lea", NOW).await.unwrap());
        assert_eq!(ledger.issue_key_once(key(agent(), None), "a code", [99; 32]).await.unwrap(), None);
        assert!(ledger.issue_key_once(key(agent(), None), "another", [99; 32]).await.unwrap().is_some());
        assert_eq!(kinds(&ledger).await, ["key_issued", "key_revoked", "key_issued"]);
    }

    async fn a_key_in_use_opens_nothing_from_the_moment_its_revocation_is_answered(place) {
        let ledger = place.open().await;
        for round in 0..10_u8 {
            let (record, secret) = ledger.issue_key(key(agent(), None), [round; 32]).await.unwrap();
            let revoked = Arc::new(AtomicBool::new(false));
            let users: Vec<_> = (0..4).map(|_| {
                let (ledger, secret, revoked) = (Arc::clone(&ledger), secret.clone(), Arc::clone(&revoked));
                tokio::spawn(async move {
                    let mut opened = 0_u32;
                    loop {
                        let over = revoked.load(Ordering::SeqCst);
                        let found = ledger.find_key(&secret, NOW).await.unwrap();
                        match (over, found) {
                            (true, found) => return (opened, found),
                            (false, found) => opened += u32::from(found.is_some()),
                        }
                        tokio::task::yield_now().await;
                    }
                })
            }).collect();
            while ledger.find_key(&secret, NOW).await.unwrap().is_none() {}
            assert!(ledger.revoke_key(&record.id, "lea", NOW).await.unwrap());
            revoked.store(true, Ordering::SeqCst);
            for user in users {
                assert_eq!(user.await.unwrap().1, None);
            }
            assert_eq!(ledger.find_key(&secret, NOW).await.unwrap(), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_one_process_revokes_opens_nothing_in_another() {
    let place = Place::postgres().await;
    let (one, other) = (place.open().await, place.open().await);
    let (record, secret) = one.issue_key(key(agent(), None), [3; 32]).await.unwrap();
    assert!(other.find_key(&secret, NOW).await.unwrap().is_some());
    assert!(one.find_key(&secret, NOW).await.unwrap().is_some());
    assert!(one.revoke_key(&record.id, "lea", NOW).await.unwrap());
    assert_eq!(other.find_key(&secret, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn a_key_is_stored_as_its_hash() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    let (record, secret) = ledger.issue_key(key(agent(), None), [3; 32]).await.unwrap();
    ledger.close().await;
    let random = secret.rsplit('_').next().unwrap();
    let contains = |needle: &[u8]| {
        std::fs::read_dir(place.path().parent().unwrap()).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(needle.len()).any(|window| window == needle)
        })
    };
    assert!(contains(record.id.as_bytes()));
    assert!(!contains(random.as_bytes()));
    assert!(!contains(&[3; 32]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_processes_that_race_to_issue_a_key_for_one_thing_one_does() {
    let place = Place::postgres().await;
    let (one, other) = (place.open().await, place.open().await);
    for round in 0..10 {
        let of = format!("code {round}");
        let issue = |ledger: &Arc<_>, number| {
            let (ledger, of): (Arc<countersign_store::Store>, _) = (Arc::clone(ledger), of.clone());
            tokio::spawn(async move {
                ledger.issue_key_once(key(agent(), None), &of, [number; 32]).await.unwrap()
            })
        };
        let (first, second) = (issue(&one, 1), issue(&other, 2));
        let issued = [first.await.unwrap(), second.await.unwrap()];
        assert_eq!(issued.iter().flatten().count(), 1, "{of}");
        let (_record, secret) = issued.into_iter().flatten().next().unwrap();
        for ledger in [&one, &other] {
            assert!(ledger.find_key(&secret, NOW).await.unwrap().is_some());
        }
    }
}
