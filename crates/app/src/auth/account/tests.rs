use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use countersign_audit::{SigningKey, sha256};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalRequest, ApprovalState, AskOf, BundleDigest, CallDigest, CallId, DecisionId,
    Effect, GroupName, PolicyId, Requester, SessionId, Signature, StoredCall, ToolName, ToolVersion,
};
use countersign_store::{KeyOwner, NewKey, Options};
use serde_json::json;

use super::{super::Authenticator, *};
use crate::{
    credential::{self, Credentials, Use},
    principal::AgentConfig,
    role::Role,
};

/// A Sunday noon.
const NOW: i64 = 1_795_348_800_000;
pub(super) const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
pub(super) const PASSWORD: &str = "correct horse battery";

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Counted(AtomicU64);

impl Entropy for Counted {
    fn bytes(&self) -> [u8; 16] {
        let hash = sha256(&self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        *hash.as_bytes().first_chunk().unwrap()
    }
}

/// A server with some people: `ann` and `bob` lead, `carol` operates; `bot` acts for `ann`.
pub(super) struct Place {
    pub(super) auth: Arc<Authenticator>,
    pub(super) store: Arc<Store>,
    clock: Arc<TestClock>,
    folder: tempfile::TempDir,
}

pub(super) fn id(person: &str) -> PersonId {
    PersonId::parse(person).unwrap()
}

fn person(groups: &[&str], roles: &[Role]) -> PersonConfig {
    PersonConfig {
        groups: groups.iter().map(|group| GroupName::parse(group).unwrap()).collect(),
        roles: roles.iter().copied().collect(),
        slack: None,
        teams: None,
        subjects: BTreeMap::new(),
    }
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed("test/log", &[7; 32]).unwrap();
        let store =
            Arc::new(Store::open_sqlite(&folder.path().join("ledger.db"), key, &Options::default()).unwrap());
        let clock = Arc::new(TestClock(AtomicI64::new(NOW)));
        let auth = authenticator(&store, &clock, &["ann", "bob", "carol"]);
        Self { auth, store, clock, folder }
    }

    pub(super) fn accounts(&self) -> &Accounts {
        self.auth.accounts()
    }

    pub(super) fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub(super) async fn set_up(&self, person: &str, by: &str) -> (SignedIn, Vec<String>) {
        let token = self.accounts().invite(&id(person), by, LINK_MS).await.unwrap();
        self.accounts().set_up(&token, PASSWORD).await.unwrap()
    }

    async fn sign_in(&self, person: &str, password: &str) -> Result<SignedIn, Refusal> {
        self.accounts().sign_in(person, password, HOME).await
    }

    pub(super) async fn log(&self) -> Vec<(String, serde_json::Value)> {
        let entries = self.store.entries(0, 1_000).await.unwrap();
        let values = entries.iter().map(|entry| serde_json::from_slice(&entry.bytes).unwrap());
        values
            .map(|value: serde_json::Value| {
                (value["kind"].as_str().unwrap().to_owned(), value["body"].clone())
            })
            .collect()
    }
}

fn authenticator(store: &Arc<Store>, clock: &Arc<TestClock>, people: &[&str]) -> Arc<Authenticator> {
    let roles = |name| match name {
        "carol" => vec![Role::Approver, Role::Operator],
        "vera" => vec![Role::Viewer],
        _ => vec![Role::Approver],
    };
    let people = people.iter().map(|name| (id(name), person(&["leads"], &roles(name)))).collect();
    let bot =
        AgentConfig { teams: BTreeSet::new(), accounts: BTreeSet::new(), on_behalf_of: Some(id("ann")) };
    let agents = [(AgentId::parse("bot").unwrap(), bot)].into();
    let (store, clock): (_, Arc<dyn Clock>) = (Arc::clone(store), Arc::<TestClock>::clone(clock));
    static SEED: AtomicU64 = AtomicU64::new(0);
    let entropy = Arc::new(Counted(AtomicU64::new(SEED.fetch_add(1_000_000, Ordering::SeqCst))));
    let providers = Providers::new(BTreeMap::new(), &[7; 32], &clock).unwrap();
    let site = PasskeySite::of(&"https://countersign.example:8443".parse().unwrap());
    Arc::new(Authenticator::new(agents, people, None, store, clock, entropy, (providers, site)).unwrap())
}

/// Another server on the same ledger.
pub(super) fn other_server(place: &Place) -> Arc<Authenticator> {
    authenticator(&place.store, &place.clock, &["ann", "bob", "carol"])
}

/// A request of an agent for which `leads` are asked, answered by these people so far.
pub(super) fn asked(agent: &str, on_behalf_of: Option<&str>, signers: &[&str]) -> ApprovalRecord {
    let (tool, version) = (ToolName::parse("refund").unwrap(), ToolVersion::parse("v1").unwrap());
    let requester = Requester {
        agent: AgentId::parse(agent).unwrap(),
        teams: Vec::new(),
        session: SessionId::parse("s1").unwrap(),
        on_behalf_of: on_behalf_of.map(id),
    };
    let call = StoredCall {
        id: CallId::parse("c1").unwrap(),
        requester,
        digest: CallDigest::compute(&tool, &version, &json!({})).unwrap(),
        tool,
        version,
        arguments: json!({}),
        reason: None,
        key: None,
        again: None,
        trace: None,
        narrowed: None,
    };
    let group = GroupName::parse("leads").unwrap();
    let of = AskOf {
        group: group.clone(),
        quorum: 1,
        deadline_ms: 900_000,
        because: None,
        policy: PolicyId::parse("p1").unwrap(),
        rehearse: false,
        step_up: None,
        grant: None,
        shared: false,
    };
    let request = ApprovalRequest {
        id: ApprovalId::parse("a1").unwrap(),
        decision: DecisionId::parse("dec-1").unwrap(),
        bundle: BundleDigest::parse("bundle").unwrap(),
        slice: None,
        reach: None,
        of: vec![of],
        asked_ms: NOW,
        expires_ms: NOW + 900_000,
        alike: None,
        before: Vec::new(),
        call,
    };
    let signed = |person: &&str| Signature {
        person: id(person),
        groups: [group.clone()].into(),
        approved: true,
        comment: None,
        at_ms: NOW,
        channel: "console".into(),
        grant: None,
        passkey: None,
    };
    ApprovalRecord {
        request,
        effect: Effect::Write,
        state: ApprovalState::Approved,
        signatures: signers.iter().map(signed).collect(),
        evidence: None,
        why: None,
        code: None,
        grant: None,
        narrowed_to: None,
        delivered: false,
    }
}

#[tokio::test]
async fn a_link_sets_up_an_account_once_and_looking_at_it_spends_nothing() {
    let place = Place::new();
    let accounts = place.accounts();
    assert!(accounts.none_yet().await.unwrap());
    let token = accounts.invite(&id("ann"), "server", FIRST_LINK_MS).await.unwrap();
    assert_eq!(token.len(), 43);
    for _ in 0..3 {
        assert_eq!(accounts.look_at_link(&token).await.unwrap(), id("ann"));
    }
    let short = accounts.set_up(&token, "eleven char").await.unwrap_err();
    assert_eq!(short.code, Code::Malformed, "and the link is still good");
    assert_eq!(accounts.set_up(&token, &"x".repeat(1_025)).await.unwrap_err().code, Code::Malformed);
    assert!(accounts.none_yet().await.unwrap());

    let (signed_in, codes) = accounts.set_up(&token, PASSWORD).await.unwrap();
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), 10);
    assert!(!accounts.none_yet().await.unwrap());
    let session = accounts.session(&signed_in.token).await.unwrap();
    assert_eq!(session, signed_in.session);
    assert_eq!((session.person.id.as_str(), session.person.roles.to_string()), ("ann", "approver".into()));
    assert_eq!(session.person.credential, format!("session:{}", session.id));
    assert_eq!(session.expires_ms, NOW + SESSION_MS);

    for refusal in [
        accounts.look_at_link(&token).await.map(drop).unwrap_err(),
        accounts.set_up(&token, PASSWORD).await.map(drop).unwrap_err(),
        accounts.look_at_link("").await.map(drop).unwrap_err(),
        accounts.look_at_link(&new_token([[0; 16]; 2])).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(refusal.code, Code::Unauthenticated, "{refusal}");
    }
    let again = place.sign_in("ann", PASSWORD).await.unwrap();
    assert_ne!(again.token, signed_in.token);
    assert_eq!(again.session.person.id, id("ann"));
    assert!(accounts.session(&signed_in.token).await.is_ok(), "one may be signed in twice");
}

#[tokio::test]
async fn of_many_who_spend_one_link_at_once_one_does() {
    let place = Place::new();
    let token = place.accounts().invite(&id("ann"), "cli", LINK_MS).await.unwrap();
    let spent = futures::future::join_all(
        ["the first password", "the second password", "the third password"]
            .map(|password| place.accounts().set_up(&token, password)),
    )
    .await;
    let won = spent.iter().flatten().count();
    assert_eq!(won, 1);
    let works = futures::future::join_all(
        ["the first password", "the second password", "the third password"]
            .map(|password| place.sign_in("ann", password)),
    )
    .await;
    let same: Vec<bool> = spent.iter().map(Result::is_ok).collect();
    assert_eq!(works.iter().map(Result::is_ok).collect::<Vec<_>>(), same);
}

#[tokio::test]
async fn a_link_is_over_after_its_time_and_after_the_account_was_set_up_or_signed_out() {
    let place = Place::new();
    let accounts = place.accounts();
    let invite = async |ms| accounts.invite(&id("ann"), "cli", ms).await.unwrap();
    let (late, one, other) = (invite(LINK_MS).await, invite(i64::MAX).await, invite(FIRST_LINK_MS).await);
    place.pass(LINK_MS - 1);
    assert!(accounts.look_at_link(&late).await.is_ok());
    place.pass(1);
    assert!(accounts.look_at_link(&late).await.unwrap_err().message.contains("expired"));
    let (signed_in, _codes) = accounts.set_up(&one, PASSWORD).await.unwrap();
    assert!(accounts.look_at_link(&other).await.unwrap_err().message.contains("good no more"));
    assert!(accounts.set_up(&other, "the thief's password").await.is_err());
    let third = invite(LINK_MS).await;
    // A link that nobody has spent takes nothing from anybody.
    assert!(accounts.session(&signed_in.token).await.is_ok());
    assert_eq!(accounts.sign_out_everywhere(&id("ann"), "cli").await.unwrap(), 1);
    assert!(accounts.look_at_link(&third).await.is_err());
    let fourth = invite(i64::MAX).await;
    place.pass(FIRST_LINK_MS);
    assert!(accounts.look_at_link(&fourth).await.is_err(), "no link is good for longer than a day");
    assert!(accounts.look_at_link(&invite(-5).await).await.is_err());
}

#[tokio::test]
async fn setting_up_anew_ends_sessions_codes_and_the_old_password() {
    let place = Place::new();
    let (old, codes) = place.set_up("ann", "cli").await;
    let token = place.accounts().invite(&id("ann"), "carol", LINK_MS).await.unwrap();
    let (new, _codes) = place.accounts().set_up(&token, "an entirely new one").await.unwrap();
    assert!(place.accounts().session(&old.token).await.unwrap_err().message.contains("signed out"));
    assert!(place.accounts().session(&new.token).await.is_ok());
    assert!(place.sign_in("ann", PASSWORD).await.is_err());
    assert!(place.sign_in("ann", &codes[0]).await.is_err());
    assert!(place.sign_in("ann", "an entirely new one").await.is_ok());
    let kinds: Vec<String> = place.log().await.into_iter().map(|(kind, _body)| kind).collect();
    let again = ["link_made", "account_set_up", "signed_in"];
    assert_eq!(kinds, [&again[..], &again[..], &["signed_in"]].concat());
}

#[tokio::test]
async fn nobody_learns_from_a_refusal_which_people_and_accounts_there_are() {
    let place = Place::new();
    place.set_up("ann", "cli").await;
    place.set_up("bob", "cli").await;
    assert_eq!(place.store.enable_account(&id("bob"), false, "cli", NOW).await.unwrap(), Some(true));
    let mut told = BTreeSet::new();
    // Wrong, disabled though right, without account, configured nowhere, no name at all.
    for (who, password) in [
        ("ann", "wrong wrong wrong"),
        ("bob", PASSWORD),
        ("carol", PASSWORD),
        ("mallory", PASSWORD),
        ("", PASSWORD),
        ("ann\u{0}", PASSWORD),
        ("ann", ""),
        ("ann", &"x".repeat(100_000)),
        (&"y".repeat(100_000), PASSWORD),
    ] {
        let refusal = place.sign_in(who, password).await.unwrap_err();
        assert_eq!(refusal.code, Code::Unauthenticated);
        told.insert((refusal.message, refusal.help, refusal.retry_after_ms));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    // Each is locked after as many tries, whoever they are.
    for who in ["ann", "bob", "carol", "mallory"] {
        place.pass(attempts::WINDOW_MS);
        for n in 0..attempts::FAILURES_OF_PERSON {
            let from = IpAddr::from([10, 0, 0, u8::try_from(n).unwrap()]);
            let refusal = place.accounts().sign_in(who, "a guess of a guess", from).await.unwrap_err();
            assert_eq!(refusal.code, Code::Unauthenticated, "{who}");
        }
        let refusal = place.sign_in(who, PASSWORD).await.unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::RateLimited, Some(900_000)), "{who}");
    }
}

#[tokio::test]
async fn a_flood_of_guesses_locks_nobody_out_for_ever() {
    let place = Place::new();
    place.set_up("ann", "cli").await;
    for n in 0..attempts::FAILURES_OF_PERSON {
        let from = IpAddr::from([10, 0, 0, u8::try_from(n).unwrap()]);
        assert!(place.accounts().sign_in("ann", "a guess of a guess", from).await.is_err());
    }
    // The right password is not told from a wrong one now.
    assert_eq!(place.sign_in("ann", PASSWORD).await.unwrap_err().code, Code::RateLimited);
    assert!(!place.log().await.iter().any(|(kind, _body)| kind.contains("refus")), "no guess is an entry");
    let token = place.accounts().invite(&id("ann"), "cli", LINK_MS).await.unwrap();
    assert!(place.accounts().set_up(&token, "another long password").await.is_ok());
    assert!(place.sign_in("ann", "another long password").await.is_ok(), "a link opens at once");
}

#[tokio::test]
async fn a_recovery_code_signs_in_once() {
    let place = Place::new();
    let (_signed_in, codes) = place.set_up("ann", "cli").await;
    place.set_up("bob", "cli").await;
    assert!(place.sign_in("bob", &codes[0]).await.is_err(), "it is one of ann's");
    let typed = codes[0].to_uppercase().replace('-', " ");
    let both = futures::future::join(place.sign_in("ann", &typed), place.sign_in("ann", &codes[0])).await;
    assert!(both.0.is_ok() != both.1.is_ok(), "of two at once one signs in");
    assert!(place.sign_in("ann", &codes[0]).await.is_err());
    assert!(place.sign_in("ann", &codes[1]).await.is_ok());
    let log = place.log().await;
    let used: Vec<_> = log
        .iter()
        .filter(|(kind, _)| kind == "recovery_code_used")
        .map(|(_, body)| body["left"].clone())
        .collect();
    assert_eq!(used, [json!(9), json!(8)]);
    let with: Vec<_> =
        log.iter().filter(|(kind, _)| kind == "signed_in").map(|(_, body)| body["with"].clone()).collect();
    assert_eq!(with, ["link", "link", "recovery_code", "recovery_code"]);
}

#[tokio::test]
async fn a_session_is_over_when_it_is_idle_old_signed_out_or_nobodys() {
    let place = Place::new();
    let accounts = place.accounts();
    place.set_up("ann", "cli").await;
    let token = place.sign_in("ann", PASSWORD).await.unwrap().token;
    // Used every seven hours, it lasts for a week, and no longer.
    for _ in 0..23 {
        place.pass(7 * 3_600_000);
        assert!(accounts.session(&token).await.is_ok());
        // Each use is noted, in order with what comes after it.
        place.store.prove_writable().await.unwrap();
    }
    place.pass(7 * 3_600_000 - 1);
    assert!(accounts.session(&token).await.is_ok());
    place.pass(1);
    assert!(accounts.session(&token).await.unwrap_err().message.contains("over"));

    let idle = place.sign_in("ann", PASSWORD).await.unwrap().token;
    place.pass(SESSION_IDLE_MS - 1);
    // What a page asks by itself is no use.
    assert!(accounts.look_at_session(&idle).await.is_ok());
    place.store.prove_writable().await.unwrap();
    let other = place.sign_in("ann", PASSWORD).await.unwrap().token;
    place.pass(1);
    assert!(accounts.session(&idle).await.unwrap_err().message.contains("over"));
    assert!(accounts.session(&other).await.is_ok());

    accounts.sign_out(&other).await.unwrap();
    assert!(accounts.session(&other).await.unwrap_err().message.contains("signed out"));
    accounts.sign_out(&other).await.unwrap();
    accounts.sign_out("nothing").await.unwrap();

    let last = place.sign_in("ann", PASSWORD).await.unwrap();
    let (start, end) = last.token.split_at(42);
    let flipped = format!("{start}{}", if end == "A" { "E" } else { "A" });
    for wrong in ["", &last.session.id, &flipped, &last.token.to_uppercase(), &format!("{} ", last.token)] {
        assert!(accounts.session(wrong).await.is_err(), "{wrong}");
    }
    // Who is taken out of the configuration is signed out by that, and cannot come back.
    let without = authenticator(&place.store, &place.clock, &["bob"]);
    assert_eq!(without.accounts().session(&last.token).await.unwrap_err().code, Code::Unauthenticated);
    assert!(without.accounts().sign_in("ann", PASSWORD, HOME).await.is_err());
    assert!(without.accounts().none_yet().await.unwrap());
    assert!(accounts.session(&last.token).await.is_ok());
}

#[tokio::test]
async fn whose_account_is_disabled_is_signed_out_at_once() {
    let place = Place::new();
    let (signed_in, codes) = place.set_up("ann", "cli").await;
    let token = place.accounts().invite(&id("ann"), "cli", LINK_MS).await.unwrap();
    let enable = async |enabled| place.store.enable_account(&id("ann"), enabled, "cli", NOW).await.unwrap();
    assert_eq!(enable(false).await, Some(true));
    assert_eq!(enable(false).await, Some(false));
    assert!(place.accounts().session(&signed_in.token).await.unwrap_err().message.contains("disabled"));
    assert!(place.accounts().set_up(&token, PASSWORD).await.is_err());
    assert!(place.accounts().invite(&id("ann"), "carol", LINK_MS).await.is_err());
    assert!(place.sign_in("ann", PASSWORD).await.is_err());
    assert!(place.sign_in("ann", &codes[0]).await.is_err());
    assert_eq!(enable(true).await, Some(true));
    assert!(place.accounts().session(&signed_in.token).await.is_err(), "what was open does not come back");
    assert!(place.accounts().look_at_link(&token).await.is_err());
    assert!(place.sign_in("ann", PASSWORD).await.is_ok());
    assert_eq!(place.store.enable_account(&id("bob"), false, "cli", NOW).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_open_on_a_session_ends_with_it() {
    let place = Place::new();
    let (signed_in, _codes) = place.set_up("ann", "cli").await;
    let (stays, _codes) = place.set_up("bob", "cli").await;
    let credentials = Credentials::default();
    let open = |signed_in: &SignedIn| {
        let WebSession { person, expires_ms, .. } = &signed_in.session;
        credentials.open(&person.credential, Some(*expires_ms), NOW)
    };
    let (ends, other) = (open(&signed_in), open(&stays));
    let over = |used: &Use| futures::FutureExt::now_or_never(used.ended()).is_some();
    credential::look(&credentials, &place.store, NOW).await.unwrap();
    assert!(!over(&ends) && !over(&other));
    place.accounts().sign_out(&signed_in.token).await.unwrap();
    credential::look(&credentials, &place.store, NOW).await.unwrap();
    assert!(over(&ends) && !over(&other));
    // One that is not used any more, and one that there never was.
    let nobodys = credentials.open("session:000000000000", None, NOW);
    credential::look(&credentials, &place.store, NOW + SESSION_IDLE_MS).await.unwrap();
    assert!(over(&other) && over(&nobodys));
}

#[tokio::test]
async fn nobody_answers_by_an_account_that_the_requester_made() {
    let place = Place::new();
    let accounts = place.accounts();
    let may = async |session: &SignedIn, record: &ApprovalRecord| {
        accounts.may_answer(&session.session, record).await
    };
    // `bot` acts for `ann`, who has made the account of `bob`: it may be ann who is signed in.
    let (bob, _codes) = place.set_up("bob", "ann").await;
    let refusal = may(&bob, &asked("bot", Some("ann"), &[])).await.unwrap_err();
    assert_eq!(refusal.code, Code::AnswerRefused);
    assert!(refusal.message.contains("`bob`") && refusal.message.contains("`ann`"), "{refusal}");
    assert!(may(&bob, &asked("bot", Some("carol"), &[])).await.is_ok());
    assert!(may(&bob, &asked("other", None, &[])).await.is_ok());
    assert!(may(&bob, &asked("ann", None, &[])).await.is_err(), "she is the agent");

    // Through an account of hers, what she makes is hers, too; also her own link for it.
    let (carol, _codes) = place.set_up("carol", "bob").await;
    assert!(may(&carol, &asked("bot", Some("ann"), &[])).await.is_err());
    let (bob_again, _codes) = place.set_up("bob", "bob").await;
    assert!(may(&bob_again, &asked("bot", Some("ann"), &[])).await.is_err());
    assert!(may(&carol, &asked("bot", Some("bob"), &[])).await.is_err());
    assert!(may(&bob, &asked("other", None, &[])).await.is_err(), "a session that is over answers nothing");

    // From the machine it is bob's again, and carol's is what it was.
    let (bob, _codes) = place.set_up("bob", "cli").await;
    assert!(may(&bob, &asked("bot", Some("ann"), &[])).await.is_ok());
    assert!(may(&carol, &asked("bot", Some("ann"), &[])).await.is_err());
}

#[tokio::test]
async fn a_person_who_is_called_as_the_machine_is_a_person() {
    let place = Place::new();
    let auth = authenticator(&place.store, &place.clock, &["cli", "bob"]);
    let token = auth.accounts().invite(&id("bob"), "cli", LINK_MS).await.unwrap();
    let (bob, _codes) = auth.accounts().set_up(&token, PASSWORD).await.unwrap();
    assert!(auth.accounts().may_answer(&bob.session, &asked("bot", Some("cli"), &[])).await.is_err());
    assert!(auth.accounts().invite(&id("bob"), "", LINK_MS).await.is_err());
    assert_eq!(auth.accounts().invite(&id("eve"), "cli", LINK_MS).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_signature_counts_while_its_signer_has_a_key_or_an_account() {
    let place = Place::new();
    let record = asked("bot", None, &["bob"]);
    let counts = async || record.request.is_met(&place.auth.still_signed(&record).await.unwrap());
    assert!(!counts().await, "neither");
    place.set_up("bob", "cli").await;
    assert!(counts().await, "an account");
    place.store.enable_account(&id("bob"), false, "cli", NOW).await.unwrap();
    assert!(!counts().await, "one that is disabled");
    let new = NewKey {
        owner: KeyOwner::Person(id("bob")),
        scopes: Vec::new(),
        expires_ms: None,
        by: "cli".into(),
        now_ms: NOW,
    };
    let (key, _presented) = place.store.issue_key(new.clone(), [3; 32]).await.unwrap();
    assert!(counts().await, "a key");
    assert!(place.store.revoke_key(&key.id, "cli", NOW).await.unwrap());
    assert!(!counts().await);
    let looks = NewKey { scopes: vec!["role:viewer".into()], ..new };
    place.store.issue_key(looks, [4; 32]).await.unwrap();
    assert!(!counts().await, "a key that answers nothing");

    let looking = authenticator(&place.store, &place.clock, &["vera"]);
    let token = looking.accounts().invite(&id("vera"), "cli", LINK_MS).await.unwrap();
    looking.accounts().set_up(&token, PASSWORD).await.unwrap();
    let record = asked("bot", None, &["vera"]);
    assert!(looking.still_signed(&record).await.unwrap().is_empty(), "who looks only");
    place.store.enable_account(&id("bob"), true, "cli", NOW).await.unwrap();
    assert!(counts().await);
    let without = authenticator(&place.store, &place.clock, &["ann"]);
    assert!(
        !record.request.is_met(&without.still_signed(&record).await.unwrap()),
        "who is in no group any more"
    );
}

#[tokio::test]
async fn nothing_that_could_be_presented_is_stored_or_logged() {
    let place = Place::new();
    let link = place.accounts().invite(&id("ann"), "cli", LINK_MS).await.unwrap();
    let (set_up, codes) = place.accounts().set_up(&link, PASSWORD).await.unwrap();
    let signed_in = place.sign_in("ann", PASSWORD).await.unwrap();
    place.sign_in("ann", &codes[9]).await.unwrap();
    let log = format!("{:?}", place.log().await);
    assert!(!log.contains("argon2"), "{log}");
    assert!(
        !format!("{set_up:?}{signed_in:?}{:?}", place.store.accounts().await.unwrap()).contains("argon2")
    );
    place.store.close().await;
    let plain: Vec<String> = codes.iter().map(|code| code.replace('-', "")).collect();
    for secret in [&link, &set_up.token, &signed_in.token, PASSWORD]
        .into_iter()
        .chain(codes.iter().chain(&plain).map(String::as_str))
    {
        assert!(!log.contains(secret) && !format!("{set_up:?}{signed_in:?}").contains(secret));
        for file in std::fs::read_dir(place.folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
    let account = place.store.account(&id("ann")).await.unwrap().unwrap();
    assert!(account.password.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_eq!(account.codes.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_sign_ins_hashes_two_at_a_time_and_the_rest_is_told_to_come_again() {
    let place = Place::new();
    place.set_up("ann", "cli").await;
    let from = |n: u8| IpAddr::from([10, 0, 0, n]);
    let (auth, at_once) = (Arc::clone(&place.auth), 60_u8);
    let flood: Vec<_> = (0..at_once)
        .map(|n| {
            let auth = Arc::clone(&auth);
            tokio::spawn(async move {
                auth.accounts().sign_in(&format!("p{n}"), "a guess of a guess", from(n)).await.map(drop)
            })
        })
        .collect();
    let mut codes = Vec::new();
    for one in flood {
        codes.push(one.await.unwrap().unwrap_err().code);
    }
    assert!(codes.iter().all(|code| matches!(code, Code::Unauthenticated | Code::RateLimited)), "{codes:?}");
    // Nobody who was told to come again was counted as wrong.
    assert!(place.sign_in("ann", PASSWORD).await.is_ok());
}
