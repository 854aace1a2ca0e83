//! No statement reads a whole table that grows with the calls that are kept.
//!
//! Every operation and every reading is driven over a ledger that is filled, and each statement that was asked is
//! explained by its database. One that reads a table or an index from end to end, or sorts, must be on a list with
//! its reason. That none is forgotten is found by the sources: each text in them that is SQL was asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
};

use countersign_gate::{
    NewEntry,
    ledger::{Bond, CallOutcome, CallState, HaltRecord, HaltScope, Ledger, Wait},
};
use countersign_rules::{
    AgentId, ApprovalState, CallDigest, ChannelName, Code, GroupName, IdempotencyKey, PersonId, ProviderName,
    Refusal, ToolName,
    approval::Alike,
    budget::Unit,
    rate::{Rate, RateScope},
    settlement::Settlement,
};
use countersign_store::{
    ApprovalFilter, CallFilter, EntryFilter, KeyOwner, Listener, NewAccount, NewKey, NewLink, NewLogout,
    NewVouchedSession, NewWebSession, Options, PasswordHash, StatementHook, Store, Telling, Vouched,
};
use futures::future::join_all;

use crate::{
    make::{
        NOW, approval_id, call_id, closing, done, hold, intent_of, note, parking, requester, said, signature,
        stored,
    },
    passkeys::{passkey, used},
    place::{Place, contract},
};

const DAY: i64 = 86_400_000;

/// A table of more rows than these counts as one that grows.
const SMALL: u32 = 100;

/// Statements that may read a table or an index from end to end, each by the end of its text, with the table and the
/// reason.
const SCANS: [(&str, &str, &str); 11] = [
    ("FROM account ORDER BY person", "account", "people list every account"),
    ("FROM web_session ORDER BY id", "web_session", "people list every session that is not forgotten"),
    ("FROM api_key ORDER BY issued_ms, id", "api_key", "people list every key"),
    ("FROM halt ORDER BY scope", "halt", "every halt in force is listed"),
    ("SELECT DISTINCT digest FROM approval LIMIT $1", "approval", "by an index alone, once after a start"),
    ("FROM approval WHERE state = 'refused' LIMIT $1", "approval", "by an index alone, once after a start"),
    (
        "FROM approval a LEFT JOIN evidence e ON e.approval = a.id ORDER BY a.place LIMIT $1",
        "approval",
        "the oldest, up to the limit; nobody asks it while there is work",
    ),
    (
        "<> $2) > 0) ORDER BY a.place LIMIT $3",
        "approval",
        "a page of a list: the oldest that fit, up to the limit",
    ),
    (
        "ORDER BY day DESC, budget, subject LIMIT $1",
        "balance",
        "the newest, in the order of an index, up to the limit",
    ),
    ("place FROM call ORDER BY place DESC LIMIT $1", "call", "the newest, up to the limit"),
    (
        "WHERE state = 'done' ORDER BY place DESC LIMIT $1",
        "call",
        "the newest, up to the limit: nearly every call is done",
    ),
];

/// Those of PostgreSQL alone.
const SCANS_OF_POSTGRES: [(&str, &str, &str); 2] = [
    (
        "FROM approval a LEFT JOIN evidence e ON e.approval = a.id ORDER BY a.place LIMIT $1",
        "evidence",
        "where the limit is far above what there is",
    ),
    (
        "SELECT DISTINCT doubted FROM call WHERE doubted IS NOT NULL LIMIT $1",
        "call",
        "by an index alone, of what was in doubt, once after a start",
    ),
];

/// Statements that may sort on SQLite, each by a part of its text, with the reason why that is little.
const SORTS: [(&str, &str); 6] = [
    ("a.grant_until_ms > $4 ORDER", "what people granted, as far as anything is left"),
    ("FROM api_key ORDER BY issued_ms, id", "people list every key"),
    ("FROM approval WHERE state = 'refused' LIMIT $1", "once after a start"),
    ("AND a.until_ms > $4 ORDER BY a.place DESC LIMIT 1", "what people refused an agent and has not expired"),
    ("WHERE doubted = $1 AND", "equal calls of one agent that were in doubt"),
    ("AS due GROUP BY agent", "the thousand keys that are forgotten at once"),
];

/// Texts that are SQL and have no plan.
const UNPLANNED: [(&str, &str); 4] = [
    ("SET statement_timeout", "settings of a connection"),
    ("SELECT pg_advisory_xact_lock", "a lock"),
    ("SELECT pg_try_advisory_lock", "a lock"),
    ("VACUUM evidence", "it reads what is erased, on demand"),
];

/// What was asked: each text, with the parameters of each time.
type Asked = BTreeMap<String, Vec<Vec<Option<String>>>>;

fn listener() -> (Arc<Mutex<Asked>>, Options) {
    let asked = Arc::<Mutex<Asked>>::default();
    let told = Arc::clone(&asked);
    let hook: StatementHook = Arc::new(move |sql, params| {
        let mut asked = told.lock().unwrap();
        let times = asked.entry(sql.to_owned()).or_default();
        if times.len() < 20 {
            times.push(params);
        }
    });
    (asked, Options { statements: Some(hook), telling: telling(), ..Options::default() })
}

fn channel() -> ChannelName {
    ChannelName::parse("ops").unwrap()
}

/// One channel is told of everything.
fn telling() -> Telling {
    let listener = Listener { name: channel(), groups: [].into(), escalations: false };
    Telling { channels: vec![listener], ..Telling::default() }
}

/// The form of a call, and what it has in common with others.
fn alike(n: usize) -> Alike {
    let form = |text: String| CallDigest::of_form(&ToolName::parse("refund").unwrap(), &text);
    Alike { normal: form(format!("normal {n}")), shape: form(format!("shape {}", n % 5)) }
}

fn agent(n: usize) -> String {
    format!("agent{}", n % 4)
}

/// A few of everything that there can be, as the store itself writes it.
async fn begin(ledger: &Store) {
    for n in 0..40_usize {
        let who = requester(&agent(n), &format!("s{n}"));
        ledger.open_session(&who, NewEntry::session_opened(NOW, &who, "test", None)).await.unwrap();
        let id = format!("c{n}");
        let mut call = stored(&id, &who, &id);
        call.key = Some(IdempotencyKey::parse(&id).unwrap());
        let mut intent = intent_of(call);
        intent.now_ms = NOW - i64::try_from(n).unwrap() * 1_000;
        intent.rates = vec![(format!("session:{n}"), Rate::parse("100/hour", RateScope::Session).unwrap())];
        let mut rows = hold("rows", Unit::Rows, 1, 1_000_000);
        rows.account.subject = format!("agent:{}", who.agent);
        intent.holds = vec![rows];
        ledger.issue(intent).await.unwrap();
        let outcome = match n {
            0 => continue,
            1 => CallOutcome::InDoubt { message: "lost".into() },
            2 => CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false },
            _ => {
                Ledger::close(ledger, done(&id, 1), Wait::Durable).await.unwrap();
                continue;
            }
        };
        Ledger::close(ledger, closing(&id, outcome, Settlement::Reserved), Wait::Durable).await.unwrap();
    }
    for n in 0..20_usize {
        let id = format!("a{n}");
        let mut request = parking(&id, stored(&format!("p{n}"), &requester(&agent(n), "s"), &id));
        request.request.alike = (n % 4 != 0).then(|| alike(n));
        ledger.park(request).await.unwrap();
        let entry = note("answered", &call_id(&format!("p{n}")));
        match n {
            0 => {}
            1 => drop(ledger.answer(&approval_id(&id), signature("lea", true), entry).await.unwrap()),
            2..8 => drop(ledger.answer(&approval_id(&id), signature("lea", false), entry).await.unwrap()),
            _ => {
                let code = (n % 2 == 0).then_some(Code::Halted);
                ledger
                    .end(&approval_id(&id), ApprovalState::Blocked, code, "late", vec![entry])
                    .await
                    .unwrap();
            }
        }
    }
    for n in 0..5 {
        let owner = KeyOwner::Agent(AgentId::parse(&format!("agent{n}")).unwrap());
        let key = NewKey { owner, scopes: Vec::new(), expires_ms: None, by: "lea".into(), now_ms: NOW };
        ledger.issue_key(key, [n; 32]).await.unwrap();
        let scope = HaltScope::Agent(AgentId::parse(&format!("halted{n}")).unwrap());
        let halt = HaltRecord { scope, why: "drill".into(), by: "lea".into(), since_ms: NOW };
        ledger.halt(halt.clone(), NewEntry::halted(&halt)).await.unwrap();
    }
    for n in 0..5 {
        let person = PersonId::parse(&format!("p{n}")).unwrap();
        let token = |what: &str| format!("{what} {n}");
        for link in ["spent", "open"] {
            let new = NewLink {
                person: person.clone(),
                by: "cli".into(),
                maker: None,
                expires_ms: NOW + 1,
                now_ms: NOW,
            };
            assert!(ledger.make_link(new, &token(link)).await.unwrap());
        }
        let account =
            NewAccount { password: PasswordHash::new("p".into()), codes: Vec::new(), passkey: None };
        ledger
            .set_up_account(&token("spent"), account, web_session(&token("session")))
            .await
            .unwrap()
            .unwrap();
    }
    ledger.prune(NOW).await.unwrap();
    // The log, as the store itself writes it.
    for batch in 0..20 {
        let entries = (0..256).map(|n| {
            let mut entry = note("call_proposed", &call_id(&format!("n{batch}-{n}")));
            let who = requester(&agent(n), &format!("s{n}"));
            (entry.agent, entry.session) = (Some(who.agent), Some(who.session));
            entry
        });
        ledger.record(entries.collect()).await.unwrap();
    }
}

/// Makes many of the few, all but those that are under way, of which there never are many. Of what is over there is
/// one for each number of `series`.
async fn multiply(place: &Place) {
    let (series, step) = match place {
        Place::Sqlite(_) => (
            "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 200) SELECT n FROM s) s",
            "||",
        ),
        Place::Postgres(_) => ("generate_series(1::bigint, 200) s (n)", "||"),
    };
    let over = "(a.state NOT IN ('waiting', 'approved', 'refused') OR a.state = 'refused' AND s.n < 10)";
    let all = [
        format!(
            "INSERT INTO call (place, id, system, effect, decision, approval, state, issued_ms, closed_ms, row_count, process, \
             body, charge, outcome, journal, doubted, agent, tool, unsettled) SELECT place - s.n * 100000, \
             id {step} '-' {step} s.n, system, effect, decision, approval, state, issued_ms - s.n * 100000, closed_ms, row_count, \
             process, body, charge, outcome, journal, doubted, agent {step} (s.n % 20), tool, unsettled \
             FROM call a, {series} WHERE state = 'done' OR state = 'failed' AND s.n < 20"
        ),
        format!(
            "INSERT INTO evidence (approval, body) SELECT e.approval {step} '-' {step} s.n, e.body FROM evidence e, \
             approval a, {series} WHERE e.approval = a.id AND {over}"
        ),
        format!(
            "INSERT INTO approval_group (place, name) SELECT g.place + s.n * 100000, g.name FROM approval_group g, \
             approval a, {series} WHERE g.place = a.place AND {over}"
        ),
        format!(
            "INSERT INTO approval (id, place, agent, session, digest, state, effect, delivered, request, answers, code, \
             tool, until_ms, normal, shape) SELECT id {step} '-' {step} s.n, place + s.n * 100000, agent, session, digest, state, \
             effect, delivered, request, answers, code, tool, until_ms - s.n * 86400000, normal, shape FROM approval a, {series} \
             WHERE {over}"
        ),
        // All but a few were told.
        format!(
            "INSERT INTO outbox (approval, channel, due_ms, dead, day, body) SELECT approval {step} '-' {step} s.n, channel, \
             CASE WHEN s.n = 1 THEN due_ms END, 0, day, body FROM outbox, {series}"
        ),
        format!(
            "INSERT INTO session (id, mark_day) SELECT id {step} '-' {step} s.n, mark_day FROM session, {series}"
        ),
        format!(
            "INSERT INTO counter (subject, day, body, mark_day) SELECT subject {step} '-' {step} s.n, day, body, \
             mark_day FROM counter, {series}"
        ),
        format!(
            "INSERT INTO rate (id, due_us, mark_day) SELECT id {step} '-' {step} s.n, due_us, mark_day \
             FROM rate, {series}"
        ),
        format!(
            "INSERT INTO balance (budget, subject, day, spent, held) SELECT budget, subject, day + s.n, spent, held \
             FROM balance, {series}"
        ),
        format!(
            "INSERT INTO bond (agent, name, digest, call, approval, refusal, at_ms, day) SELECT agent {step} (s.n % 20), name {step} '-' {step} \
             s.n, digest, call, approval, refusal, at_ms, day FROM bond, {series}"
        ),
        format!(
            "INSERT INTO bond_count (agent, bonds) SELECT agent {step} '-' {step} s.n, bonds FROM bond_count, {series}"
        ),
        format!(
            "INSERT INTO api_key (id, hash, owner, scopes, issued_ms) SELECT id {step} '-' {step} s.n, hash, owner, scopes, \
             issued_ms FROM api_key, {series}"
        ),
        format!(
            "INSERT INTO account (person, password, codes, round, created_ms, changed_ms, made_by, makers) SELECT person {step} '-' {step} \
             s.n, password, codes, round, created_ms, changed_ms, made_by, makers FROM account, {series}"
        ),
        format!(
            "INSERT INTO account_link (id, hash, person, made_by, makers, round, expires_ms, spent_ms) SELECT id {step} '-' {step} \
             s.n, hash, person, made_by, makers, round, expires_ms - s.n * 100000000, spent_ms FROM account_link, {series}"
        ),
        format!(
            "INSERT INTO web_session (id, hash, person, round, created_ms, seen_ms, expires_ms, ended_ms) SELECT id {step} '-' \
             {step} s.n, hash, person, round, created_ms, seen_ms, expires_ms - s.n * 100000000, ended_ms FROM web_session, {series}"
        ),
        format!(
            "INSERT INTO sign_in_mark (id, at_s, until_ms) SELECT id {step} '-' {step} s.n, at_s, until_ms + s.n * 100000000 FROM sign_in_mark, {series}"
        ),
        format!(
            "INSERT INTO halt (scope, body) SELECT scope {step} '-' {step} s.n, body FROM halt, {series}"
        ),
    ];
    for sql in all {
        place.execute(&sql).await;
    }
    if let Place::Sqlite(_) = place {
        place
            .execute("INSERT INTO call_place (owner, idx) SELECT agent, place FROM call WHERE place < 0")
            .await;
    }
}

/// Does everything that a ledger does, and reads all that can be read of it.
async fn drive(ledger: &Store) {
    let who = requester("agent1", "new");
    let digest = stored("x", &who, "a5").digest;
    let shape = alike(1);
    // Before anything is kept in memory, and after.
    for _ in 0..2 {
        ledger.standing(&who, digest, NOW).await.unwrap();
    }
    ledger.open_session(&who, NewEntry::session_opened(NOW, &who, "test", None)).await.unwrap();
    ledger.has_session(&who).await.unwrap();
    let key = IdempotencyKey::parse("k").unwrap();
    let rates = || vec![("session:new".to_owned(), Rate::parse("100/hour", RateScope::Session).unwrap())];
    for (n, state) in ["done", "in_doubt", "failed", "open"].into_iter().enumerate() {
        let mut call = stored(&format!("d{n}"), &who, "again");
        call.key = Some(IdempotencyKey::parse(&format!("k{n}")).unwrap());
        let mut intent = intent_of(call);
        intent.rates = rates();
        intent.holds = vec![hold("new", Unit::Rows, 1, 1_000_000)];
        ledger.bond(&who.agent, &key).await.unwrap();
        ledger.bonds(&who.agent).await.unwrap();
        ledger.doubted(&who.agent, intent.call.digest, NOW).await.unwrap();
        ledger.room(&intent.rates, &intent.holds, NOW).await.unwrap();
        ledger.issue(intent).await.unwrap();
        let outcome = match state {
            "done" => CallOutcome::Done { reply: serde_json::json!(1) },
            "in_doubt" => CallOutcome::InDoubt { message: "lost".into() },
            "failed" => {
                CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false }
            }
            _ => continue,
        };
        let closing = closing(&format!("d{n}"), outcome, Settlement::Released);
        Ledger::close(ledger, closing, Wait::Durable).await.unwrap();
    }
    // What the process before has left open.
    assert_eq!(ledger.sweep(NOW).await.unwrap().len(), 1);
    let found = CallOutcome::DoneWithoutResult { message: "seen".into() };
    assert!(ledger.resolve(&call_id("d1"), found, Settlement::Kept, NOW, Vec::new()).await.unwrap());
    ledger.doubted(&who.agent, stored("x", &who, "again").digest, NOW).await.unwrap();
    ledger.call(&call_id("d1")).await.unwrap();
    drive_requests(ledger).await;
    drive_outbox(ledger).await;
    ledger.waiting(&who.agent).await.unwrap();
    ledger.overdue(NOW, 100).await.unwrap();
    ledger.refused(&who.agent, (shape.normal, digest), NOW).await.unwrap();
    ledger.answered(&who.agent, &ToolName::parse("refund").unwrap(), shape.shape).await.unwrap();
    ledger.granting(&who, shape.shape, NOW).await.unwrap();
    ledger.grants(NOW, 100).await.unwrap();

    let mut call = stored("b1", &who, "bound");
    call.key = Some(key);
    for _ in 0..2 {
        let mut bond = Bond::of(&call, None, NOW).unwrap();
        bond.refusal = Some(Refusal::new(Code::DeniedByPolicy, "no"));
        ledger.bind(bond, None, Vec::new()).await.unwrap();
    }
    let scope = HaltScope::All;
    let halt = HaltRecord { scope: scope.clone(), why: "drill".into(), by: "lea".into(), since_ms: NOW };
    ledger.halt(halt.clone(), NewEntry::halted(&halt)).await.unwrap();
    ledger.resume(&scope, NewEntry::resumed(NOW, &scope, "lea")).await.unwrap();
    // In one batch, so that one that is there is halted otherwise.
    join_all([true, false, true].map(async |halts| match halts {
        true => drop(ledger.halt(halt.clone(), NewEntry::halted(&halt)).await.unwrap()),
        false => drop(ledger.resume(&scope, NewEntry::resumed(NOW, &scope, "lea")).await.unwrap()),
    }))
    .await;
    ledger.halts().await.unwrap();
    ledger.resume(&scope, NewEntry::resumed(NOW, &scope, "lea")).await.unwrap();
    let owner = KeyOwner::Agent(who.agent.clone());
    let new = NewKey { owner, scopes: Vec::new(), expires_ms: None, by: "lea".into(), now_ms: NOW };
    let (record, presented) = ledger.issue_key(new, [77; 32]).await.unwrap();
    assert!(ledger.find_key(&presented, NOW).await.unwrap().is_some());
    assert!(ledger.revoke_key(&record.id, "lea", NOW).await.unwrap());
    ledger.keys().await.unwrap();
    ledger.balances(100).await.unwrap();
    ledger.prove_writable().await.unwrap();
    drive_people(ledger).await;
    drive_lists(ledger, &who.agent).await;
    drive_log(ledger).await;
    assert!(ledger.prune(NOW + DAY).await.unwrap() > 0);
}

const fn web_session(token: &str) -> NewWebSession<'_> {
    NewWebSession { token, now_ms: NOW, expires_ms: NOW + DAY }
}

async fn drive_people(ledger: &Store) {
    let person = PersonId::parse("p1").unwrap();
    let maker = Some(PersonId::parse("p2").unwrap());
    let new = NewLink { person: person.clone(), by: "p2".into(), maker, expires_ms: NOW + 1, now_ms: NOW };
    assert!(ledger.make_link(new, "link").await.unwrap());
    ledger.look_at_link("link", NOW).await.unwrap().unwrap();
    let account = NewAccount { password: PasswordHash::new("p".into()), codes: Vec::new(), passkey: None };
    ledger.set_up_account("link", account, web_session("first")).await.unwrap().unwrap();
    let account = ledger.account(&person).await.unwrap().unwrap();
    let session = ledger.begin_web_session(&account, None, web_session("second")).await.unwrap().unwrap();
    ledger.find_web_session("second").await.unwrap().unwrap();
    ledger.use_web_session(&session.id, NOW + 1).await.unwrap();
    assert!(ledger.end_web_session(&session.id, "p1", NOW).await.unwrap());
    assert!(ledger.add_passkey(&person, account.round, passkey("k1", "made")).await.unwrap().is_ok());
    let account = ledger.account_of_handle("handle").await.unwrap().unwrap();
    let used = used(&account, "k1", "signed", 1);
    ledger.begin_passkey_session(used, web_session("fourth")).await.unwrap().unwrap();
    let vouched = Vouched {
        provider: ProviderName::parse("corp").unwrap(),
        subject: "0042".into(),
        sub: "0042".into(),
        sid: Some("s".into()),
        groups: BTreeSet::new(),
    };
    let (provider, sub) = (vouched.provider.clone(), Some(vouched.sub.clone()));
    let new = NewVouchedSession {
        person: person.clone(),
        vouched,
        vouched_s: NOW / 1_000,
        state: "state",
        state_until_ms: NOW + 1,
        session: web_session("third"),
    };
    ledger.begin_vouched_session(new).await.unwrap().unwrap();
    let (jti, at_s) = ("1".into(), NOW / 1_000 + 1);
    let out = NewLogout { provider, sub, sid: None, jti, at_s, until_ms: NOW + 1, now_ms: NOW };
    assert_eq!(ledger.end_vouched_sessions(out).await.unwrap(), Some(1));
    assert!(ledger.sign_out_everywhere(&person, "p2", NOW).await.unwrap());
    assert_eq!(ledger.enable_account(&person, false, "p2", NOW).await.unwrap(), Some(true));
    ledger.accounts().await.unwrap();
    ledger.web_sessions().await.unwrap();
}

async fn drive_requests(ledger: &Store) {
    for (n, id) in ["r0", "r1"].into_iter().enumerate() {
        let call = format!("rc{n}");
        let mut request = parking(id, stored(&call, &requester("agent1", "new"), id));
        request.request.alike = Some(alike(n));
        ledger.park(request).await.unwrap();
        ledger
            .answer(&approval_id(id), signature("lea", n == 0), note("answered", &call_id(&call)))
            .await
            .unwrap();
    }
    ledger.end(&approval_id("r0"), ApprovalState::Expired, None, "late", Vec::new()).await.unwrap();
    ledger.deliver(&approval_id("r0")).await.unwrap();
    ledger.approval(&approval_id("r0")).await.unwrap();
    ledger.erase_evidence(&approval_id("r0"), said("evidence_erased", serde_json::json!({}))).await.unwrap();
    for before in [None, Some(1_000)] {
        assert!(!ledger.request_times(before, 10).await.unwrap().is_empty());
    }
    // As the gate asks.
    for states in [&[][..], &[ApprovalState::Approved], &[ApprovalState::Waiting, ApprovalState::Approved]] {
        ledger.approvals(states, 100_000).await.unwrap();
    }
}

async fn drive_outbox(ledger: &Store) {
    ledger.park(parking("told", stored("told", &requester("agent1", "new"), "told"))).await.unwrap();
    let (approval, lease) = (approval_id("told"), std::time::Duration::from_secs(60));
    assert!(!ledger.due(&channel(), NOW, 10).await.unwrap().is_empty());
    let turn = ledger.take_turn(&approval, &channel(), NOW, lease).await.unwrap().unwrap();
    ledger.failing(&channel(), 10).await.unwrap();
    ledger.fail_turn(&turn, "away", None, [0; 16], NOW + DAY).await.unwrap();
    assert_eq!(ledger.given_up(&channel(), 10).await.unwrap().len(), 1);
    assert!(ledger.try_again(&approval, &channel(), NOW + DAY).await.unwrap());
}

async fn drive_lists(ledger: &Store, agent: &AgentId) {
    let groups = BTreeSet::from([GroupName::parse("leads").unwrap()]);
    let tools = BTreeSet::from([ToolName::parse("refund").unwrap()]);
    let states = [CallState::Open, CallState::Done, CallState::Failed, CallState::InDoubt];
    for state in states.map(Some).into_iter().chain([None]) {
        ledger.calls(state, 100).await.unwrap();
        for agent in [None, Some(agent.clone())] {
            for after in [None, Some(call_id("c9-100"))] {
                let filter = CallFilter { state, agent: agent.clone(), tools: Some(tools.clone()), after };
                ledger.list_calls(&filter, 10).await.unwrap();
            }
        }
    }
    for state in ApprovalState::ALL.map(Some).into_iter().chain([None]) {
        for (agent, groups) in [(None, Some(groups.clone())), (Some(agent.clone()), None), (None, None)] {
            for after in [None, Some(approval_id("a9-100"))] {
                let filter = ApprovalFilter { state, agent: agent.clone(), groups: groups.clone(), after };
                ledger.list_approvals(&filter, 10).await.unwrap();
            }
        }
    }
    ledger.unsettled().await.unwrap();
}

async fn drive_log(ledger: &Store) {
    let who = requester("agent1", "s1");
    let every = EntryFilter::default;
    for filter in [
        every(),
        EntryFilter { call: Some(call_id("c1")), ..every() },
        EntryFilter { approval: Some(approval_id("a1")), ..every() },
        EntryFilter { session: Some(who.session), ..every() },
        EntryFilter { agent: Some(who.agent), ..every() },
        EntryFilter { kind: Some("asked".into()), ..every() },
        EntryFilter { kind: Some("call_proposed".into()), ..every() },
    ] {
        ledger.find_entries(&filter, 10).await.unwrap();
        ledger.last_entries(&filter, 10).await.unwrap();
    }
    ledger.record((0..300).map(|n| note("noted", &call_id(&format!("m{n}")))).collect()).await.unwrap();
    ledger.checkpoints(0, 100).await.unwrap();
    ledger.receipt(300).await.unwrap();
    ledger.consistency(300, 2_000).await.unwrap();
    let report = ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap();
    assert!(report.verified(), "{:?}", report.findings);
}

/// What a plan reads from end to end, and whether it sorts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Plan {
    scans: BTreeSet<String>,
    sorts: bool,
    text: String,
}

/// Other names of tables, which SQLite tells in their place.
const ALIASES: [(&str, &str); 2] = [("a", "approval"), ("h", "log_head")];

fn plan_of_sqlite(connection: &rusqlite::Connection, sql: &str) -> Result<Plan, rusqlite::Error> {
    let mut plan = Plan::default();
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let line: String = row.get(3)?;
        if let Some(rest) = line.strip_prefix("SCAN ") {
            let table = rest.split(' ').next().unwrap();
            // Not a table, but what a part of the statement has found.
            let part = ["CONSTANT", "due", "gone"].contains(&table);
            let table = ALIASES.iter().find(|(alias, _)| *alias == table).map_or(table, |(_, table)| table);
            if !part {
                plan.scans.insert(table.to_owned());
            }
        }
        plan.sorts |= line.contains("TEMP B-TREE");
        plan.text.push_str(&line);
        plan.text.push('\n');
    }
    Ok(plan)
}

/// Takes over what one node of PostgreSQL's plan does, and those below it. `first` says that no more than one row is
/// taken of it.
fn take_node(node: &serde_json::Value, first: bool, plan: &mut Plan) {
    let kind = node["Node Type"].as_str().unwrap();
    let table = node["Relation Name"].as_str();
    match kind {
        // The least or the largest: the first at one end.
        "Index Scan" | "Index Only Scan" if first && node["Filter"].is_null() => {}
        "Seq Scan" => drop(plan.scans.insert(table.unwrap().to_owned())),
        // From end to end: by no condition.
        "Index Scan" | "Index Only Scan" if node["Index Cond"].is_null() => {
            plan.scans.insert(table.unwrap().to_owned());
        }
        _ => {}
    }
    let index = node["Index Name"].as_str().unwrap_or_default();
    plan.text.push_str(&format!("{kind} {} {index} {}\n", table.unwrap_or_default(), node["Index Cond"]));
    for below in node["Plans"].as_array().into_iter().flatten() {
        take_node(below, kind == "Limit" && node["Plan Rows"] == 1, plan);
    }
}

/// The plans of a statement, asked as it was so often that PostgreSQL settles for one plan where that is its habit.
async fn plans_of_postgres(
    client: &tokio_postgres::Client,
    sql: &str,
    times: &[Vec<Option<String>>],
) -> Result<Vec<Plan>, tokio_postgres::Error> {
    client.batch_execute(&format!("PREPARE explained AS {sql}")).await?;
    let count = (1..100).take_while(|n| sql.contains(&format!("${n}"))).count();
    let none = [vec![None; count]];
    let mut plans = Vec::new();
    for params in if times.is_empty() { &none } else { times }.iter().cycle().take(times.len().max(8)) {
        let params: Vec<String> = params
            .iter()
            .map(|param| {
                param.as_ref().map_or_else(|| "NULL".into(), |text| format!("'{}'", text.replace('\'', "''")))
            })
            .collect();
        let list = if params.is_empty() { String::new() } else { format!("({})", params.join(", ")) };
        let rows = client.query_one(&format!("EXPLAIN (FORMAT JSON) EXECUTE explained{list}"), &[]).await?;
        let explained: serde_json::Value = rows.get(0);
        let mut plan = Plan::default();
        take_node(&explained[0]["Plan"], false, &mut plan);
        if !plans.contains(&plan) {
            plans.push(plan);
        }
    }
    client.batch_execute("DEALLOCATE explained").await?;
    Ok(plans)
}

/// The texts in the sources that are SQL, but for those of the other database, of tests and of the schema's steps.
fn sql_of_sources(other: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != other {
                folders.push(path);
            } else if name.ends_with(".rs") && name != format!("{other}.rs") && name != "migration.rs" {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                found.extend(texts(code).into_iter().filter(|text| is_sql(text)));
            }
        }
    }
    found
}

fn is_sql(text: &str) -> bool {
    let words =
        ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WHERE ", "AND ", "ORDER BY", "IS NULL", "VACUUM"];
    words.iter().any(|word| text.contains(word)) || (1..10).any(|n| text.contains(&format!("${n}")))
}

/// Every string literal of a source, as it is compiled.
fn texts(code: &str) -> Vec<String> {
    let (mut texts, mut rest) = (Vec::new(), code);
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, here) = rest.split_at(at);
        rest = if here.starts_with("//") {
            here.split_once('\n').map_or("", |(_comment, rest)| rest)
        } else if let Some(text) = here.strip_prefix('"') {
            assert!(!before.ends_with(['r', '#']), "raw strings are not read here");
            let (text, rest) = text_to_its_end(text);
            texts.push(text);
            rest
        } else if here.starts_with("'\"'") || here.starts_with("'\\") {
            here.get(3..).unwrap_or_default()
        } else {
            here.get(1..).unwrap_or_default()
        };
    }
    texts
}

fn text_to_its_end(code: &str) -> (String, &str) {
    let (mut text, mut chars) = (String::new(), code.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => chars = chars.as_str().trim_start().chars(),
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            c => text.push(c),
        }
    }
    (text, chars.as_str())
}

/// Adds what was not asked by an operation or a reading, but by opening a ledger and keeping a connection.
fn add_others(asked: &mut Asked, other: &str) {
    let mut missing = Vec::new();
    for text in sql_of_sources(other) {
        let unplanned = UNPLANNED.iter().any(|(part, _why)| text.contains(part));
        if unplanned || asked.keys().any(|sql| sql.contains(&text)) {
            continue;
        }
        match ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb)) {
            true => drop(asked.entry(text).or_default()),
            false => missing.push(text),
        }
    }
    assert!(missing.is_empty(), "these parts of statements were never asked: {missing:#?}");
}

/// A table whose number of rows does not depend on the calls.
fn is_fixed(table: &str) -> bool {
    ["log_head", "age", "process", "migration", "sqlite_schema", "pg_database"].contains(&table)
}

/// What plans do that is on no list, with the plan, and what of the lists is needed.
#[derive(Default)]
struct Findings {
    bad: BTreeMap<String, String>,
    used: BTreeSet<(&'static str, &'static str)>,
}

impl Findings {
    fn look(&mut self, sql: &str, plan: &Plan, how: &str) {
        for table in plan.scans.iter().filter(|table| !is_fixed(table)) {
            let mut listed = SCANS.iter().chain(&SCANS_OF_POSTGRES);
            match listed.find(|(end, of, _why)| sql.ends_with(end) && of == table) {
                Some((end, of, _why)) => drop(self.used.insert((end, of))),
                None => {
                    let found = format!("reads `{table}` from end to end ({how}): {sql}");
                    self.bad.insert(found, plan.text.clone());
                }
            }
        }
        if plan.sorts {
            match SORTS.iter().find(|(part, _why)| sql.contains(part)) {
                Some((part, _why)) => drop(self.used.insert((part, "sorts"))),
                None => drop(self.bad.insert(format!("sorts ({how}): {sql}"), plan.text.clone())),
            }
        }
    }
}

contract! {
    async fn no_statement_reads_a_table_that_grows(place) {
        let ledger = place.open_with(Options { telling: telling(), ..Options::default() }).await.unwrap();
        begin(&ledger).await;
        ledger.close().await;
        drop(ledger);
        multiply(&place).await;
        let (asked, options) = listener();
        let ledger = place.open_with(options.clone()).await.unwrap();
        if let Place::Postgres(_) = place {
            place.execute("ANALYZE").await;
            // What others append is followed.
            let beside = place.open_with(options).await.unwrap();
            beside.record(vec![note("noted", &call_id("x"))]).await.unwrap();
            beside.close().await;
        }
        drive(&ledger).await;
        ledger.close().await;
        drop(ledger);
        let mut asked = std::mem::take(&mut *asked.lock().unwrap());
        let mut findings = Findings::default();
        match &place {
            Place::Sqlite(_) => {
                add_others(&mut asked, "postgres");
                let connection = rusqlite::Connection::open(place.path()).unwrap();
                connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).unwrap();
                for how in ["not analyzed", "analyzed"] {
                    for sql in asked.keys() {
                        let plan = plan_of_sqlite(&connection, sql).unwrap();
                        findings.look(sql, &plan, how);
                    }
                    connection.execute_batch("ANALYZE").unwrap();
                }
            }
            Place::Postgres(database) => {
                add_others(&mut asked, "sqlite");
                let client = database.connect().await;
                client.batch_execute("ANALYZE").await.unwrap();
                let counted = format!("SELECT relname::text FROM pg_class WHERE reltuples > {SMALL}");
                let large: BTreeSet<String> =
                    client.query(&counted, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
                for seqscan in ["off", "on"] {
                    client.batch_execute(&format!("SET enable_seqscan = {seqscan}")).await.unwrap();
                    for (sql, times) in &asked {
                        for plan in plans_of_postgres(&client, sql, times).await.unwrap_or_else(|why| panic!("{sql}: {why:?}")) {
                            let mut plan = plan;
                            // One of a few rows may be read as PostgreSQL likes.
                            plan.scans.retain(|table| large.contains(table));
                            findings.look(sql, &plan, &format!("enable_seqscan {seqscan}"));
                        }
                    }
                }
            }
        }
        let bad: Vec<String> = findings.bad.iter().map(|(found, plan)| format!("{found}\n{plan}")).collect();
        assert!(bad.is_empty(), "{} findings\n{}", bad.len(), bad.join("\n"));
        let mut listed: BTreeSet<_> = SCANS.iter().map(|(end, table, _why)| (*end, *table)).collect();
        match place {
            Place::Sqlite(_) => listed.extend(SORTS.map(|(part, _why)| (part, "sorts"))),
            Place::Postgres(_) => listed.extend(SCANS_OF_POSTGRES.map(|(end, table, _why)| (end, table))),
        }
        assert_eq!(findings.used, listed, "what is listed is needed");
    }
}
