//! Older schemas, and ledgers that are brought up to date.

use std::time::Duration;

use countersign_gate::ledger::{CallState, Ledger, Wait};
use countersign_rules::IdempotencyKey;
use countersign_store::{Options, Store};

use crate::{
    make::{NOW, call_id, done, intent, intent_of, requester, stored},
    place::{Place, contract},
    places::{is_exact, note_all},
};

/// What undoes each step of the schema but the first, the newest last.
const UNDONE: [&str; 18] = [
    "ALTER TABLE approval DROP COLUMN code",
    "DROP TABLE approval_group",
    "ALTER TABLE counter DROP COLUMN mark; ALTER TABLE counter DROP COLUMN mark_day; \
     ALTER TABLE session DROP COLUMN mark_day",
    "ALTER TABLE call DROP COLUMN journal",
    "DROP INDEX entry_rare; CREATE INDEX entry_kind ON entry (kind)",
    "DROP TABLE age; ALTER TABLE rate DROP COLUMN mark; ALTER TABLE rate DROP COLUMN mark_day",
    "DROP INDEX call_doubted; ALTER TABLE call DROP COLUMN doubted",
    "DROP INDEX approval_refused; DROP INDEX approval_shape; ALTER TABLE approval DROP COLUMN tool; \
     ALTER TABLE approval DROP COLUMN until_ms; ALTER TABLE approval DROP COLUMN normal; \
     ALTER TABLE approval DROP COLUMN shape",
    "DROP TABLE bond; DROP INDEX call_agent; ALTER TABLE call DROP COLUMN agent; ALTER TABLE call DROP COLUMN tool",
    "DROP INDEX call_unsettled; \
     CREATE INDEX call_unsettled ON call (state, issued_ms, id) WHERE state IN ('open', 'in_doubt'); \
     DROP INDEX approval_request; CREATE INDEX approval_request ON approval (digest, agent, session, place); \
     DROP INDEX approval_refused_tool; DROP INDEX approval_refused; \
     CREATE INDEX approval_refused ON approval (agent, normal, place) WHERE state = 'refused'; \
     DROP INDEX balance_day; CREATE INDEX balance_day ON balance (day); \
     DROP INDEX bond_day; CREATE INDEX bond_at ON bond (at_ms); \
     DROP INDEX rate_mark; ALTER TABLE rate ADD COLUMN mark BIGINT; UPDATE rate SET mark = due_us; \
     DROP INDEX counter_mark; ALTER TABLE counter ADD COLUMN mark TEXT; UPDATE counter SET mark = body WHERE day = 0; \
     DROP INDEX session_mark",
    "DROP TABLE bond_count; DROP INDEX bond_day; CREATE INDEX bond_day ON bond (day, at_ms)",
    "DROP TABLE account; DROP TABLE account_link; DROP TABLE web_session",
    "DROP TABLE outbox",
    "ALTER TABLE counter DROP COLUMN version; CREATE TABLE history (agent TEXT PRIMARY KEY, version BIGINT NOT NULL); \
     ALTER TABLE call RENAME TO call_after; \
     CREATE TABLE call (id TEXT PRIMARY KEY, system TEXT NOT NULL, effect TEXT NOT NULL, decision TEXT NOT NULL, \
     approval TEXT, state TEXT NOT NULL, issued_ms BIGINT NOT NULL, closed_ms BIGINT, row_count BIGINT NOT NULL, \
     process BIGINT NOT NULL, body TEXT NOT NULL, charge TEXT NOT NULL, outcome TEXT, journal TEXT, doubted TEXT, \
     agent TEXT, tool TEXT); \
     INSERT INTO call SELECT id, system, effect, decision, approval, state, issued_ms, closed_ms, row_count, process, body, \
     charge, outcome, journal, doubted, agent, tool FROM call_after; DROP TABLE call_after; \
     CREATE INDEX call_issued ON call (issued_ms, id); \
     CREATE INDEX call_unsettled ON call (state, issued_ms, id) WHERE state <> 'done'; \
     CREATE INDEX call_doubted ON call (doubted, issued_ms, id) WHERE doubted IS NOT NULL; \
     CREATE INDEX call_agent ON call (agent, issued_ms, id); \
     DROP TABLE IF EXISTS call_place; DROP TABLE IF EXISTS entry_place; \
     CREATE INDEX IF NOT EXISTS entry_call ON entry (call) WHERE call IS NOT NULL; \
     CREATE INDEX IF NOT EXISTS entry_session ON entry (session) WHERE session IS NOT NULL; \
     CREATE INDEX IF NOT EXISTS entry_agent ON entry (agent) WHERE agent IS NOT NULL; \
     CREATE INDEX IF NOT EXISTS entry_approval ON entry (approval) WHERE approval IS NOT NULL; \
     CREATE INDEX IF NOT EXISTS entry_rare ON entry (kind) \
     WHERE kind <> 'call_proposed' AND kind <> 'decided' AND kind <> 'warrant_issued' AND kind <> 'outcome'",
    "DROP TABLE sign_in_mark; ALTER TABLE web_session DROP COLUMN vouched",
    "DROP INDEX approval_grant; DROP INDEX approval_granting; ALTER TABLE approval DROP COLUMN grant_until_ms",
    "DROP INDEX account_handle; ALTER TABLE account DROP COLUMN handle; ALTER TABLE account DROP COLUMN passkeys",
    "DROP INDEX approval_waiting",
];

/// Makes a ledger what an older schema had.
pub(crate) async fn go_back(place: &Place, version: usize) {
    let undone: Vec<&str> = UNDONE.iter().skip(version - 1).rev().copied().collect();
    let forget = format!("DELETE FROM migration WHERE version > {version}");
    let sql = format!("{}; {forget}", undone.join("; "));
    match place {
        Place::Sqlite(_) => place.execute(&sql.replace("BIGINT", "INTEGER")).await,
        Place::Postgres(_) => place.execute(&sql).await,
    }
}

async fn ids(ledger: &Store) -> Vec<String> {
    ledger.calls(None, 10).await.unwrap().iter().map(|record| record.call.id.to_string()).collect()
}

contract! {
    async fn every_older_schema_is_brought_up_to_date(place) {
        let ledger = place.open().await;
        let keyed = |id: &str| {
            let mut intent = intent(id);
            intent.call.key = Some(IdempotencyKey::parse(id).unwrap());
            intent
        };
        ledger.issue(keyed("c1")).await.unwrap();
        ledger.prune(NOW).await.unwrap();
        note_all(&ledger, 300).await;
        ledger.issue(keyed("c2")).await.unwrap();
        Ledger::close(&*ledger, done("c2", 1), Wait::Durable).await.unwrap();
        ledger.close().await;
        drop(ledger);
        for version in (1..=UNDONE.len()).rev() {
            go_back(&place, version).await;
            let ledger = place.open().await;
            let who = requester("bot", "s1");
            let standing = ledger.standing(&who, stored("c3", &who, "3").digest, NOW).await.unwrap();
            assert_eq!(standing.session.calls, 2, "schema {version}");
            // Schema 10 brought them.
            assert_eq!(ledger.bonds(&who.agent).await.unwrap(), if version < 10 { 0 } else { 2 }, "schema {version}");
            assert_eq!(ledger.call(&call_id("c2")).await.unwrap().unwrap().state, CallState::Done);
            assert_eq!(ids(&ledger).await, ["c2", "c1"], "schema {version}");
            is_exact(&ledger).await;
            assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified(), "schema {version}");
            ledger.prune(NOW).await.unwrap();
            ledger.close().await;
        }
        let ledger = place.open().await;
        ledger.issue(intent_of(stored("c3", &requester("bot", "s1"), "3"))).await.unwrap();
        note_all(&ledger, 300).await;
        assert_eq!(ids(&ledger).await, ["c3", "c2", "c1"]);
        is_exact(&ledger).await;
    }

    async fn what_was_used_after_its_mark_is_not_forgotten_by_an_upgrade(place) {
        let ledger = place.open().await;
        ledger.issue(intent("c1")).await.unwrap();
        for day in 0..=20 {
            ledger.prune(NOW + day * 86_400_000).await.unwrap();
        }
        ledger.close().await;
        drop(ledger);
        go_back(&place, 10).await;
        // As an older program left a session that was used since it was marked.
        place.change("UPDATE counter SET mark = '{}' WHERE day = 0").await;
        let ledger = place.open().await;
        for day in 21..=45 {
            ledger.prune(NOW + day * 86_400_000).await.unwrap();
        }
        let who = requester("bot", "s1");
        let calls = async || ledger.standing(&who, stored("c3", &who, "3").digest, NOW).await.unwrap().session.calls;
        assert_eq!(calls().await, 1, "it was used on the twentieth day");
        for day in 46..=53 {
            ledger.prune(NOW + day * 86_400_000).await.unwrap();
        }
        assert_eq!(calls().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_may_take_longer_than_any_statement_of_a_call() {
    let place = Place::postgres().await;
    place.open().await.close().await;
    go_back(&place, 10).await;
    // As with a table of many rows.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_sleep(4); RETURN NULL; END $$; \
                CREATE TRIGGER slow AFTER UPDATE ON rate FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    place.execute(slow).await;
    let options = Options { statement_timeout: Duration::from_secs(1), ..Options::default() };
    let ledger = place.open_with(options).await.unwrap();
    ledger.issue(intent("c1")).await.unwrap();
}
