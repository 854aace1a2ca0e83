//! Accounts of people, their links and sessions.

use countersign_audit::{Hash, sha256};
use countersign_rules::PersonId;
use countersign_store::{
    AccountRecord, LinkRefusal, NewAccount, NewLink, NewWebSession, PasswordHash, Store, WebSessionRecord,
    WebSessionRefusal,
};

use crate::{
    make::{NOW, kinds},
    place::{Place, contract},
};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn id(person: &str) -> PersonId {
    PersonId::parse(person).unwrap()
}

fn code(n: u8) -> Hash {
    sha256(&[n])
}

fn account(password: &str) -> NewAccount {
    NewAccount { password: PasswordHash::new(password.into()), codes: vec![code(1), code(2)], passkey: None }
}

fn session(token: &str) -> NewWebSession<'_> {
    NewWebSession { token, now_ms: NOW, expires_ms: NOW + DAY }
}

async fn link(ledger: &Store, person: &str, by: &str, token: &str) -> bool {
    let maker = (by != "cli").then(|| id(by));
    let new = NewLink { person: id(person), by: by.into(), maker, expires_ms: NOW + HOUR, now_ms: NOW };
    ledger.make_link(new, token).await.unwrap()
}

/// An account that is set up, with the session that it began with.
async fn set_up(ledger: &Store, person: &str, by: &str) -> (AccountRecord, WebSessionRecord) {
    let token = format!("{person} {by} {}", kinds(ledger).await.len());
    assert!(link(ledger, person, by, &token).await);
    let first = format!("first {token}");
    let session = ledger.set_up_account(&token, account("secret"), session(&first)).await.unwrap().unwrap();
    (ledger.account(&id(person)).await.unwrap().unwrap(), session)
}

/// Why the session of a token opens nothing.
async fn refused(ledger: &Store, token: &str, now_ms: i64) -> Option<WebSessionRefusal> {
    match ledger.find_web_session(token).await.unwrap() {
        Some((session, account)) => session.check(&account, now_ms, 8 * HOUR).err(),
        None => Some(WebSessionRefusal::Unknown),
    }
}

contract! {
    async fn a_link_is_spent_once_and_makes_an_account_with_a_session(place) {
        let ledger = place.open().await;
        assert!(link(&ledger, "ann", "cli", "token").await);
        let (found, late) = (ledger.look_at_link("token", NOW).await, ledger.look_at_link("token", NOW + HOUR).await);
        assert_eq!(found.unwrap().unwrap().person, id("ann"));
        assert_eq!(late.unwrap().unwrap_err(), LinkRefusal::Expired);
        let spend = async |token, session_token| {
            ledger.set_up_account(token, account("secret"), session(session_token)).await.unwrap()
        };
        assert_eq!(spend("other", "s").await.unwrap_err(), LinkRefusal::Unknown);
        let begun = spend("token", "s").await.unwrap();
        assert_eq!(spend("token", "s2").await.unwrap_err(), LinkRefusal::Spent);
        assert_eq!(ledger.look_at_link("token", NOW).await.unwrap().unwrap_err(), LinkRefusal::Spent);
        let (found, account) = ledger.find_web_session("s").await.unwrap().unwrap();
        assert_eq!(found, begun);
        assert_eq!(ledger.web_session(&begun.id).await.unwrap(), Some((found, account.clone())));
        assert_eq!((account.person.as_str(), account.made_by.as_str(), account.round), ("ann", "cli", 1));
        assert_eq!((account.password.expose(), account.codes.as_slice()), ("secret", [code(1), code(2)].as_slice()));
        assert_eq!(ledger.accounts().await.unwrap(), [account]);
        // The same token again would be the same link, and the same session.
        let new = NewLink { person: id("bob"), by: "cli".into(), maker: None, expires_ms: NOW + HOUR, now_ms: NOW };
        assert!(ledger.make_link(new, "token").await.is_err());
        assert!(link(&ledger, "ann", "cli", "token 2").await);
        assert!(ledger.set_up_account("token 2", crate::accounts::account("secret"), session("s")).await.is_err());
        assert!(ledger.look_at_link("token 2", NOW).await.unwrap().is_ok(), "what failed has spent nothing");
        assert_eq!(kinds(&ledger).await, ["link_made", "account_set_up", "signed_in", "link_made"]);
    }

    async fn of_racing_spends_of_one_persons_links_one_wins(place) {
        let ledger = place.open().await;
        for round in 0..5 {
            // Two links of the same person, each spent by three at once.
            let tokens = [format!("a{round}"), format!("b{round}")];
            for token in &tokens {
                assert!(link(&ledger, "ann", "cli", token).await);
            }
            let spends = (0..6).map(|n| {
                let (ledger, token) = (&ledger, &tokens[n % 2]);
                async move {
                    let (password, session_token) = (format!("password {round} {n}"), format!("session {round} {n}"));
                    let set_up = ledger.set_up_account(token, account(&password), session(&session_token)).await;
                    set_up.unwrap().is_ok().then_some(password)
                }
            });
            let won: Vec<String> = futures::future::join_all(spends).await.into_iter().flatten().collect();
            let account = ledger.account(&id("ann")).await.unwrap().unwrap();
            assert_eq!(won, [account.password.expose()]);
            for token in &tokens {
                assert!(ledger.look_at_link(token, NOW).await.unwrap().is_err());
            }
        }
    }

    async fn a_session_ends_with_its_account_and_its_time(place) {
        let ledger = place.open().await;
        let (ann, _session) = set_up(&ledger, "ann", "cli").await;
        let begin = async |account: &AccountRecord, token: &str| {
            ledger.begin_web_session(account, None, session(token)).await.unwrap()
        };
        let one = begin(&ann, "one").await.unwrap();
        begin(&ann, "two").await.unwrap();
        assert_eq!(refused(&ledger, "one", NOW + 8 * HOUR - 1).await, None);
        assert_eq!(refused(&ledger, "one", NOW + 8 * HOUR).await, Some(WebSessionRefusal::Expired));
        ledger.use_web_session(&one.id, NOW + 7 * HOUR).await.unwrap();
        // An older use, which comes late, takes nothing back; and what is written next comes after both.
        ledger.use_web_session(&one.id, NOW + HOUR).await.unwrap();
        ledger.prove_writable().await.unwrap();
        assert_eq!(refused(&ledger, "one", NOW + 14 * HOUR).await, None);
        assert_eq!(refused(&ledger, "one", NOW + 15 * HOUR).await, Some(WebSessionRefusal::Expired));
        assert!(ledger.end_web_session(&one.id, "ann", NOW).await.unwrap());
        assert!(!ledger.end_web_session(&one.id, "ann", NOW).await.unwrap());
        assert!(!ledger.end_web_session("unknown", "ann", NOW).await.unwrap());
        assert_eq!(refused(&ledger, "one", NOW).await, Some(WebSessionRefusal::SignedOut));
        assert_eq!(refused(&ledger, "two", NOW).await, None);

        assert!(ledger.sign_out_everywhere(&id("ann"), "cli", NOW).await.unwrap());
        assert!(!ledger.sign_out_everywhere(&id("bob"), "cli", NOW).await.unwrap());
        assert_eq!(refused(&ledger, "two", NOW).await, Some(WebSessionRefusal::SignedOut));
        // Whose password was checked before that is not signed in after it.
        assert_eq!(begin(&ann, "three").await, None);
        let ann = ledger.account(&id("ann")).await.unwrap().unwrap();
        begin(&ann, "four").await.unwrap();
        assert_eq!(ledger.enable_account(&id("ann"), false, "cli", NOW).await.unwrap(), Some(true));
        assert_eq!(refused(&ledger, "four", NOW).await, Some(WebSessionRefusal::Disabled));
        assert_eq!(begin(&ann, "five").await, None);
        assert!(!link(&ledger, "ann", "cli", "link").await);
        assert_eq!(ledger.enable_account(&id("ann"), true, "cli", NOW).await.unwrap(), Some(true));
        assert_eq!(refused(&ledger, "four", NOW).await, Some(WebSessionRefusal::SignedOut));
        let kinds = kinds(&ledger).await;
        let set_up = ["link_made", "account_set_up", "signed_in"];
        let then = ["signed_in", "signed_in", "signed_out", "signed_out", "signed_in", "account_disabled", "account_enabled"];
        assert_eq!(kinds, [&set_up[..], &then].concat());
    }

    async fn a_code_is_used_up_by_one(place) {
        let ledger = place.open().await;
        let (ann, _session) = set_up(&ledger, "ann", "cli").await;
        let tokens = ["a", "b", "c"];
        let uses = tokens.map(|token| ledger.begin_web_session(&ann, Some(code(1)), session(token)));
        let begun: Vec<_> = futures::future::join_all(uses).await.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(begun.len(), 1);
        assert_eq!(ledger.begin_web_session(&ann, Some(code(9)), session("d")).await.unwrap(), None);
        assert_eq!(ledger.account(&id("ann")).await.unwrap().unwrap().codes, [code(2)]);
        let used = kinds(&ledger).await.into_iter().filter(|kind| kind == "recovery_code_used").count();
        assert_eq!(used, 1);
    }

    async fn who_makes_an_account_has_what_is_made_through_it(place) {
        let ledger = place.open().await;
        let makers = async |person, by| {
            let (account, _session) = set_up(&ledger, person, by).await;
            account.makers.iter().map(|maker| maker.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(makers("ann", "cli").await, Vec::<String>::new());
        assert_eq!(makers("bob", "ann").await, ["ann"]);
        assert_eq!(makers("carol", "bob").await, ["ann", "bob"]);
        assert_eq!(makers("bob", "bob").await, ["ann", "bob"]);
        assert_eq!(makers("bob", "cli").await, Vec::<String>::new());
        assert_eq!(ledger.account(&id("carol")).await.unwrap().unwrap().makers.len(), 2);
    }

    async fn what_is_long_over_is_forgotten_and_accounts_are_not(place) {
        let ledger = place.open().await;
        let (ann, _session) = set_up(&ledger, "ann", "cli").await;
        let late = NewWebSession { token: "late", now_ms: NOW, expires_ms: NOW + 40 * DAY };
        ledger.begin_web_session(&ann, None, late).await.unwrap().unwrap();
        assert!(link(&ledger, "bob", "cli", "link").await);
        ledger.prune(NOW + 30 * DAY).await.unwrap();
        assert_eq!(ledger.look_at_link("link", NOW + 30 * DAY).await.unwrap().unwrap_err(), LinkRefusal::Expired);
        assert_eq!(ledger.web_sessions().await.unwrap().len(), 2);
        ledger.prune(NOW + 32 * DAY).await.unwrap();
        assert_eq!(ledger.look_at_link("link", NOW).await.unwrap().unwrap_err(), LinkRefusal::Unknown);
        let left = ledger.web_sessions().await.unwrap();
        assert_eq!(left.iter().map(|session| session.expires_ms).collect::<Vec<_>>(), [NOW + 40 * DAY]);
        assert_eq!(ledger.account(&id("ann")).await.unwrap(), Some(ann));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_links_and_sessions_are_the_same_in_every_process() {
    let place = Place::postgres().await;
    let (one, other) = (place.open().await, place.open().await);
    // A link that one process makes is spent once among both.
    for round in 0..5 {
        let token = format!("token {round}");
        assert!(link(&one, "ann", "cli", &token).await);
        assert!(other.look_at_link(&token, NOW).await.unwrap().is_ok());
        let sessions = [format!("one {round}"), format!("other {round}")];
        let spends = [&one, &other].into_iter().zip(&sessions);
        let spends = spends.map(|(ledger, token_of_session)| {
            ledger.set_up_account(&token, account("p"), session(token_of_session))
        });
        let won = futures::future::join_all(spends)
            .await
            .into_iter()
            .filter(|spent| spent.as_ref().unwrap().is_ok())
            .count();
        assert_eq!(won, 1);
        assert!(one.look_at_link(&token, NOW).await.unwrap().is_err());
        assert!(other.look_at_link(&token, NOW).await.unwrap().is_err());
    }
    // A session is good in both from the moment it begins, and in none from the moment it ends.
    let ann = other.account(&id("ann")).await.unwrap().unwrap();
    let begun = one.begin_web_session(&ann, None, session("session")).await.unwrap().unwrap();
    assert_eq!(refused(&other, "session", NOW).await, None);
    assert!(other.end_web_session(&begun.id, "ann", NOW).await.unwrap());
    assert_eq!(refused(&one, "session", NOW).await, Some(WebSessionRefusal::SignedOut));
    one.begin_web_session(&ann, None, session("again")).await.unwrap().unwrap();
    assert!(other.sign_out_everywhere(&id("ann"), "cli", NOW).await.unwrap());
    assert_eq!(refused(&one, "again", NOW).await, Some(WebSessionRefusal::SignedOut));
    assert_eq!(one.begin_web_session(&ann, None, session("late")).await.unwrap(), None);
    // A code that both processes are given at once signs in once.
    let ann = one.account(&id("ann")).await.unwrap().unwrap();
    let both = futures::future::join(
        one.begin_web_session(&ann, Some(code(1)), session("x")),
        other.begin_web_session(&ann, Some(code(1)), session("y")),
    );
    let (x, y) = both.await;
    assert!(x.unwrap().is_some() != y.unwrap().is_some());
}
