//! Passkeys: each challenge is spent once, whoever presents it, and an account has what it had when it was looked at.

use countersign_rules::{PasskeyId, PersonId};
use countersign_store::{
    AccountRecord, NewAccount, NewLink, NewPasskey, NewWebSession, PasskeyRecord, PasskeyRefusal, PasskeyUse,
    PasswordHash, PasswordProof, SpentChallenge, Store,
};

use crate::{
    make::{NOW, kinds},
    place::{Place, contract},
};

const HOUR: i64 = 3_600_000;

fn ann() -> PersonId {
    PersonId::parse("ann").unwrap()
}

fn id(name: &str) -> PasskeyId {
    PasskeyId::parse(name).unwrap()
}

fn spent(challenge: &str) -> SpentChallenge {
    SpentChallenge { challenge: challenge.into(), until_ms: NOW + HOUR, now_ms: NOW }
}

pub(crate) fn passkey(name: &str, challenge: &str) -> NewPasskey {
    let passkey = PasskeyRecord {
        id: id(name),
        credential: format!("credential {name}"),
        key: "key".into(),
        algorithm: -7,
        counter: 0,
        label: name.into(),
        syncable: false,
        synced: false,
        signs_in: name != "confirms",
        made_ms: NOW,
        used_ms: None,
    };
    NewPasskey { passkey, handle: "handle".into(), challenge: spent(challenge) }
}

pub(crate) fn used(account: &AccountRecord, name: &str, challenge: &str, counter: u32) -> PasskeyUse {
    let (person, round, passkey) = (account.person.clone(), account.round, id(name));
    PasskeyUse { person, round, passkey, challenge: spent(challenge), counter, synced: true }
}

fn session(token: &str) -> NewWebSession<'_> {
    NewWebSession { token, now_ms: NOW, expires_ms: NOW + HOUR }
}

async fn account(ledger: &Store) -> AccountRecord {
    ledger.account(&ann()).await.unwrap().unwrap()
}

/// Sets up the account of `ann` by a link.
async fn set_up(ledger: &Store, token: &str, passkey: Option<NewPasskey>) -> AccountRecord {
    let new = NewLink { person: ann(), by: "cli".into(), maker: None, expires_ms: NOW + HOUR, now_ms: NOW };
    assert!(ledger.make_link(new, token).await.unwrap());
    let new = NewAccount { password: PasswordHash::new("secret".into()), codes: Vec::new(), passkey };
    ledger.set_up_account(token, new, session(token)).await.unwrap().unwrap();
    account(ledger).await
}

contract! {
    async fn a_challenge_is_spent_once_by_whoever_races_for_it_and_at_any_server(place) {
        let ledger = place.open().await;
        let account = set_up(&ledger, "link", Some(passkey("k1", "made"))).await;
        assert_eq!(ledger.account_of_handle("handle").await.unwrap(), Some(account.clone()));
        assert_eq!(ledger.account_of_handle("").await.unwrap(), None);
        assert_eq!(ledger.add_passkey(&ann(), account.round, passkey("k2", "made")).await.unwrap(), Err(PasskeyRefusal::Spent));
        let other = match &place {
            Place::Sqlite(_) => std::sync::Arc::clone(&ledger),
            Place::Postgres(_) => place.open().await,
        };
        let tokens: Vec<String> = (0..8).map(|n| format!("session {n}")).collect();
        let signing = tokens.iter().enumerate().map(|(n, token)| {
            let (ledger, used) = (if n % 2 == 0 { &ledger } else { &other }, used(&account, "k1", "sign in", 0));
            async move { ledger.begin_passkey_session(used, session(token)).await.unwrap() }
        });
        let begun = futures::future::join_all(signing).await;
        assert_eq!(begun.iter().filter(|one| one.is_ok()).count(), 1, "{begun:?}");
        assert!(begun.iter().flat_map(|one| one.as_ref().err()).all(|why| *why == PasskeyRefusal::Spent));
        // What signed a sign-in confirms nothing.
        let again = ledger.use_passkey(used(&account, "k1", "sign in", 0)).await.unwrap();
        assert_eq!(again, Err(PasskeyRefusal::Spent));
        let noted = crate::passkeys::account(&ledger).await.passkeys;
        assert!(noted[0].synced && noted[0].used_ms == Some(NOW), "{noted:?}");
        let word = async |word: &'static str| { kinds(&ledger).await.into_iter().filter(|kind| kind == word).count() };
        assert_eq!((word("signed_in").await, word("passkey_added").await), (2, 1));
        assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    }

    async fn a_passkey_counts_for_the_account_as_it_stands_and_never_backwards(place) {
        let ledger = place.open().await;
        let before = set_up(&ledger, "link", Some(passkey("k1", "made"))).await;
        assert_eq!(ledger.add_passkey(&ann(), before.round, passkey("confirms", "c0")).await.unwrap(), Ok(()));
        // One that confirms signs nobody in, and what was refused has spent nothing.
        let begun = ledger.begin_passkey_session(used(&before, "confirms", "c1", 3), session("s1")).await.unwrap();
        assert_eq!(begun, Err(PasskeyRefusal::Unknown));
        assert_eq!(ledger.use_passkey(used(&before, "confirms", "c1", 3)).await.unwrap(), Ok(()));
        for (challenge, counter) in [("c2", 3), ("c3", 2), ("c4", 0)] {
            let back = ledger.use_passkey(used(&before, "confirms", challenge, counter)).await.unwrap();
            assert_eq!(back, Err(PasskeyRefusal::CountedBack));
            let again = ledger.use_passkey(used(&before, "confirms", challenge, 9)).await.unwrap();
            assert_eq!(again, Err(PasskeyRefusal::Spent), "what was signed by a copy is not good for the other");
        }
        assert_eq!(ledger.use_passkey(used(&before, "confirms", "c5", 4)).await.unwrap(), Ok(()));
        let refused = kinds(&ledger).await.into_iter().filter(|kind| kind == "passkey_refused").count();
        assert_eq!(refused, 3);
        // No other value, no second of one id, no twenty-first.
        let other = NewPasskey { handle: "other".into(), ..passkey("k2", "c6") };
        assert_eq!(ledger.add_passkey(&ann(), before.round, other).await.unwrap(), Err(PasskeyRefusal::Unknown));
        assert_eq!(ledger.add_passkey(&ann(), before.round, passkey("k1", "c6")).await.unwrap(), Err(PasskeyRefusal::Known));
        for n in 2..21 {
            let new = passkey(&format!("n{n}"), &format!("n{n}"));
            let added = ledger.add_passkey(&ann(), before.round, new).await.unwrap();
            assert_eq!(added, if n < 20 { Ok(()) } else { Err(PasskeyRefusal::TooMany) }, "{n}");
        }
        assert!(ledger.remove_passkey(&ann(), &id("n2"), "cli", NOW).await.unwrap());
        assert!(!ledger.remove_passkey(&ann(), &id("n2"), "cli", NOW).await.unwrap());
        assert_eq!(ledger.use_passkey(used(&before, "n2", "c7", 1)).await.unwrap(), Err(PasskeyRefusal::Unknown));
        // Checked before the account was signed out everywhere, disabled or set up anew: over.
        assert!(ledger.sign_out_everywhere(&ann(), "cli", NOW).await.unwrap());
        assert_eq!(ledger.use_passkey(used(&before, "k1", "c8", 1)).await.unwrap(), Err(PasskeyRefusal::Over));
        assert_eq!(ledger.add_passkey(&ann(), before.round, passkey("k9", "c8")).await.unwrap(), Err(PasskeyRefusal::Over));
        let now = account(&ledger).await;
        assert_eq!(ledger.enable_account(&ann(), false, "cli", NOW).await.unwrap(), Some(true));
        assert_eq!(ledger.use_passkey(used(&now, "k1", "c8", 1)).await.unwrap(), Err(PasskeyRefusal::Over));
        assert_eq!(ledger.enable_account(&ann(), true, "cli", NOW).await.unwrap(), Some(true));
        let anew = set_up(&ledger, "another link", None).await;
        assert!(anew.passkeys.is_empty() && anew.handle.as_deref() == Some("handle"), "{anew:?}");
        let removed = kinds(&ledger).await.into_iter().filter(|kind| kind == "passkey_removed").count();
        assert_eq!(removed, 1 + 19, "by hand, and by the link");
    }

    async fn a_password_is_set_anew_once_for_what_was_shown_and_ends_the_other_sessions(place) {
        let ledger = place.open().await;
        let before = set_up(&ledger, "link", Some(passkey("k1", "made"))).await;
        let begun = ledger.begin_web_session(&before, None, session("here")).await.unwrap().unwrap();
        ledger.begin_web_session(&before, None, session("there")).await.unwrap().unwrap();
        let good = async |token: &str| {
            let (session, account) = ledger.find_web_session(token).await.unwrap().unwrap();
            session.check(&account, NOW, HOUR).is_ok()
        };
        let change = async |account: &AccountRecord, proof: PasswordProof| {
            let (session, password) = (begun.id.as_str(), PasswordHash::new("another".into()));
            ledger.change_password(account, session, proof, password, NOW).await.unwrap()
        };
        let by_key = |account: &AccountRecord| PasswordProof::Passkey(used(account, "k1", "c1", 1));
        let no_code = PasswordProof::Code(countersign_audit::sha256(b"no code"));
        assert!(!change(&before, no_code).await, "a code that it has not");
        assert!(change(&before, by_key(&before)).await);
        assert!(good("here").await && !good("there").await && !good("link").await);
        let after = account(&ledger).await;
        assert_eq!((after.password.expose(), after.passkeys[0].counter), ("another", 1));
        assert!(!change(&before, PasswordProof::Password).await, "checked against the password of before");
        assert!(!change(&after, by_key(&after)).await, "signed once");
        assert!(ledger.end_web_session(&begun.id, "ann", NOW).await.unwrap());
        assert!(!change(&after, PasswordProof::Password).await, "in a session that has ended");
        assert_eq!(kinds(&ledger).await.into_iter().filter(|kind| kind == "password_changed").count(), 1);
    }
}
