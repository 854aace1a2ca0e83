//! The schema is made in numbered steps. Each is applied once, in one transaction with its number.
//!
//! One text for both databases: `BIGINT` and `BYTEA` become SQLite's `INTEGER` and `BLOB`, and ` STRICT` is
//! dropped for PostgreSQL, which needs no telling. `EACH_ASKED` is each group that a request asks, with the
//! request's place, as each of them reads it out of JSON; `DIGEST_AND_AGENT` is what a call is found by when it
//! is in doubt; `ASKED_TOOL` and `ASKED_UNTIL` are which tool a request is about, and when it expires;
//! `AGENT_OF_CALL` and `TOOL_OF_CALL` are whose a call is and of what.

use std::collections::BTreeSet;

/// These are all steps, in order; the first is number 1.
pub(crate) const STEPS: &[&str] = &[
    FIRST, CODES, ASKED, MARKS, JOURNAL, RARE, AGE, DOUBTED, ALIKE, CALLS, GROWTH, COUNTED, ACCOUNTS, OUTBOX,
    PLACES, PROVIDERS, GRANTS, PASSKEYS, OVERDUE,
];

/// Returns the number of the newest schema that this program knows.
pub(crate) fn newest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Returns the steps that follow on schema `found`, each with its number. It tells of each when it is taken: one may
/// have to read all that there is.
pub(crate) fn after(found: i64) -> impl Iterator<Item = (i64, &'static str)> {
    (1_i64..).zip(STEPS.iter().copied()).skip_while(move |(number, _step)| *number <= found).inspect(
        move |(number, _step)| {
            if found > 0 {
                tracing::info!(schema = number, of = newest(), "the ledger is brought up to date");
            }
        },
    )
}

/// Returns the names of the tables that there are after the first `version` steps, as `written` for a database.
pub(crate) fn tables(version: i64, written: fn(&str) -> String) -> BTreeSet<String> {
    let mut tables = BTreeSet::new();
    for step in STEPS.iter().take(usize::try_from(version).unwrap_or_default()) {
        for statement in written(step).split(';') {
            if let Some((_before, rest)) = statement.split_once("CREATE TABLE ") {
                tables.extend(rest.split(' ').next().map(ToOwned::to_owned));
            } else if let Some((_before, name)) = statement.split_once("DROP TABLE ") {
                tables.remove(name);
            }
        }
    }
    tables
}

/// This table keeps the numbers of the steps that were applied.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS migration (version BIGINT PRIMARY KEY) STRICT";

/// Writes a step in SQLite's dialect.
pub(crate) fn for_sqlite(step: &str) -> String {
    without(step, "-- On PostgreSQL alone:").replace("BIGINT", "INTEGER").replace("BYTEA", "BLOB").replace(
        "EACH_ASKED",
        "json_extract(asked.value, '$.group'), a.place FROM approval a, json_each(a.request, '$.of') asked",
    )
    .replace("DIGEST_AND_AGENT", "json_extract(body, '$.digest') || ' ' || json_extract(body, '$.requester.agent')")
    .replace("ASKED_TOOL", "json_extract(request, '$.call.tool')")
    .replace("ASKED_UNTIL", "json_extract(request, '$.expires_ms')")
    .replace("AGENT_OF_CALL", "json_extract(body, '$.requester.agent')")
    .replace("TOOL_OF_CALL", "json_extract(body, '$.tool')")
}

/// Writes a step in PostgreSQL's dialect.
pub(crate) fn for_postgres(step: &str) -> String {
    without(step, "-- On SQLite alone:").replace(" STRICT", "").replace(
        "EACH_ASKED",
        "asked ->> 'group', a.place FROM approval a, jsonb_array_elements(a.request::jsonb -> 'of') asked",
    )
    .replace("DIGEST_AND_AGENT", "(body::jsonb ->> 'digest') || ' ' || (body::jsonb -> 'requester' ->> 'agent')")
    .replace("ASKED_TOOL", "(request::jsonb -> 'call' ->> 'tool')")
    .replace("ASKED_UNTIL", "(request::jsonb ->> 'expires_ms')::bigint")
    .replace("AGENT_OF_CALL", "body::jsonb -> 'requester' ->> 'agent'")
    .replace("TOOL_OF_CALL", "body::jsonb ->> 'tool'")
}

/// Leaves out each paragraph that begins with this line: it is for the other database.
fn without(step: &str, other: &str) -> String {
    let paragraphs = step.split("\n\n").filter(|paragraph| !paragraph.starts_with(other));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

const FIRST: &str = "
-- The log. What a record is found by stands beside its bytes; the bytes are what is proven.
CREATE TABLE log_head (
    id BIGINT PRIMARY KEY CHECK (id = 0),
    vkey TEXT NOT NULL,
    size BIGINT NOT NULL,
    frontier BYTEA NOT NULL,
    checkpoint TEXT NOT NULL,
    changed BIGINT NOT NULL
) STRICT;
CREATE TABLE entry (
    idx BIGINT PRIMARY KEY,
    leaf BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    kind TEXT NOT NULL,
    agent TEXT,
    session TEXT,
    call TEXT,
    approval TEXT,
    bytes BYTEA NOT NULL
) STRICT;
CREATE INDEX entry_call ON entry (call) WHERE call IS NOT NULL;
CREATE INDEX entry_session ON entry (session) WHERE session IS NOT NULL;
CREATE INDEX entry_agent ON entry (agent) WHERE agent IS NOT NULL;
CREATE INDEX entry_approval ON entry (approval) WHERE approval IS NOT NULL;
CREATE INDEX entry_kind ON entry (kind);
CREATE TABLE node (
    level BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT;
CREATE TABLE checkpoint (
    size BIGINT PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;

-- Calls and requests.
CREATE TABLE process (
    last BIGINT NOT NULL
) STRICT;
INSERT INTO process (last) VALUES (0);
CREATE TABLE call (
    id TEXT PRIMARY KEY,
    system TEXT NOT NULL,
    effect TEXT NOT NULL,
    decision TEXT NOT NULL,
    approval TEXT,
    state TEXT NOT NULL,
    issued_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    row_count BIGINT NOT NULL,
    process BIGINT NOT NULL,
    body TEXT NOT NULL,
    charge TEXT NOT NULL,
    outcome TEXT
) STRICT;
CREATE INDEX call_issued ON call (issued_ms, id);
CREATE INDEX call_unsettled ON call (state, issued_ms, id) WHERE state IN ('open', 'in_doubt');
CREATE TABLE approval (
    id TEXT PRIMARY KEY,
    place BIGINT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL,
    effect TEXT NOT NULL,
    delivered BIGINT NOT NULL,
    request TEXT NOT NULL,
    answers TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX approval_place ON approval (place);
CREATE INDEX approval_state ON approval (state, place);
CREATE INDEX approval_request ON approval (digest, agent, session, place);
CREATE TABLE evidence (
    approval TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

-- Limits and history.
CREATE TABLE session (
    id TEXT PRIMARY KEY
) STRICT;
CREATE TABLE counter (
    subject TEXT NOT NULL,
    day BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (subject, day)
) STRICT;
CREATE TABLE history (
    agent TEXT PRIMARY KEY,
    version BIGINT NOT NULL
) STRICT;
CREATE TABLE rate (
    id TEXT PRIMARY KEY,
    due_us BIGINT NOT NULL
) STRICT;
CREATE TABLE balance (
    budget TEXT NOT NULL,
    subject TEXT NOT NULL,
    day BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    held BIGINT NOT NULL,
    PRIMARY KEY (budget, subject, day)
) STRICT;
CREATE INDEX balance_day ON balance (day);
CREATE TABLE halt (
    scope TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    hash BYTEA NOT NULL,
    owner TEXT NOT NULL,
    scopes TEXT NOT NULL,
    issued_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    revoked_ms BIGINT
) STRICT;
";

/// A refused grant's code gets a field of its own; it was the first word of the reason before.
const CODES: &str = r#"
ALTER TABLE approval ADD COLUMN code TEXT;
UPDATE approval SET code = 'R004' WHERE state = 'blocked' AND answers LIKE '%"why":"R004 %';
UPDATE approval SET code = 'R005' WHERE state = 'blocked' AND answers LIKE '%"why":"R005 %';
UPDATE approval SET code = 'R006' WHERE state = 'blocked' AND answers LIKE '%"why":"R006 %';
UPDATE approval SET code = 'R007' WHERE state = 'blocked' AND answers LIKE '%"why":"R007 %';
UPDATE approval SET code = 'R008' WHERE state = 'blocked' AND answers LIKE '%"why":"R008 %';
UPDATE approval SET code = 'F002' WHERE state = 'blocked' AND answers LIKE '%"why":"F002 %';
UPDATE approval SET answers = replace(answers, '"why":"' || code || ' ', '"why":"') WHERE code IS NOT NULL;
"#;

/// The groups that a request asks stand beside it, for the lists of people.
const ASKED: &str = "
CREATE TABLE approval_group (
    place BIGINT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (place, name)
) STRICT;
INSERT INTO approval_group (name, place) SELECT DISTINCT EACH_ASKED;
";

/// Pruning notes what it has seen of a session, and on which day: one that stays so is over.
const MARKS: &str = "
ALTER TABLE counter ADD COLUMN mark TEXT;
ALTER TABLE counter ADD COLUMN mark_day BIGINT;
ALTER TABLE session ADD COLUMN mark_day BIGINT;
";

/// A call says which record of its calls its system kept when it was issued.
const JOURNAL: &str = "ALTER TABLE call ADD COLUMN journal TEXT;";

/// The kinds that every call has are found by call, or by reading on; an index over them would cost each call
/// more than all that is ever found by it. PostgreSQL's [`crate::place`] has the same condition. It is no `NOT IN`, for which
/// SQLite would make a table of the words at each insertion.
const RARE: &str = "
DROP INDEX entry_kind;
CREATE INDEX entry_rare ON entry (kind)
    WHERE kind <> 'call_proposed' AND kind <> 'decided' AND kind <> 'warrant_issued' AND kind <> 'outcome';
";

/// The ledger counts how many days it has seen go by: a clock that jumps is one day. `seen` is the newest of
/// them. Marks were days of the calendar until now.
const AGE: &str = "
CREATE TABLE age (
    id BIGINT PRIMARY KEY CHECK (id = 0),
    day BIGINT NOT NULL,
    seen BIGINT NOT NULL
) STRICT;
INSERT INTO age (id, day, seen) VALUES (0, 0, 0);
ALTER TABLE rate ADD COLUMN mark BIGINT;
ALTER TABLE rate ADD COLUMN mark_day BIGINT;
UPDATE counter SET mark = NULL, mark_day = NULL;
UPDATE session SET mark_day = NULL;
";

/// Writes that are or were in doubt are found by what they would do and for whom: their equals wait for them.
/// The others, which are nearly all, cost nothing.
const DOUBTED: &str = "
ALTER TABLE call ADD COLUMN doubted TEXT;
UPDATE call SET doubted = DIGEST_AND_AGENT WHERE state = 'in_doubt' AND effect <> 'read';
CREATE INDEX call_doubted ON call (doubted, issued_ms, id) WHERE doubted IS NOT NULL;
";

/// What people refused is found by what the call does and for whom, and what they answered to calls like it. Of
/// older requests only the very call is known.
const ALIKE: &str = "
ALTER TABLE approval ADD COLUMN tool TEXT;
ALTER TABLE approval ADD COLUMN until_ms BIGINT;
ALTER TABLE approval ADD COLUMN normal TEXT;
ALTER TABLE approval ADD COLUMN shape TEXT;
UPDATE approval SET tool = ASKED_TOOL, until_ms = ASKED_UNTIL, normal = digest;
CREATE INDEX approval_refused ON approval (agent, normal, place) WHERE state = 'refused';
CREATE INDEX approval_shape ON approval (agent, shape, place) WHERE shape IS NOT NULL;
";

/// A call says whose it is and of which tool, for the lists of agents; and bonds say what agents' idempotency
/// keys stand for.
const CALLS: &str = "
ALTER TABLE call ADD COLUMN agent TEXT;
ALTER TABLE call ADD COLUMN tool TEXT;
UPDATE call SET agent = AGENT_OF_CALL, tool = TOOL_OF_CALL;
CREATE INDEX call_agent ON call (agent, issued_ms, id);
CREATE TABLE bond (
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    call TEXT NOT NULL,
    approval TEXT,
    refusal TEXT,
    at_ms BIGINT NOT NULL,
    day BIGINT NOT NULL,
    PRIMARY KEY (agent, name)
) STRICT;
CREATE INDEX bond_at ON bond (at_ms);
";

/// What is looked for again and again is found by an index, however large the ledger is: the calls that are not
/// done, the newest request, what was refused and has not expired, and what is to be forgotten. A mark says by
/// itself that its row was not used since: using it takes the mark away.
const GROWTH: &str = "
DROP INDEX call_unsettled;
CREATE INDEX call_unsettled ON call (state, issued_ms, id) WHERE state <> 'done';
DROP INDEX approval_request;
CREATE INDEX approval_request ON approval (digest, agent, place);
DROP INDEX approval_refused;
CREATE INDEX approval_refused ON approval (agent, until_ms) WHERE state = 'refused';
CREATE INDEX approval_refused_tool ON approval (agent, tool, place) WHERE state = 'refused';
DROP INDEX balance_day;
CREATE INDEX balance_day ON balance (day DESC, budget, subject);
DROP INDEX bond_at;
CREATE INDEX bond_day ON bond (day, at_ms);
UPDATE rate SET mark_day = NULL WHERE mark <> due_us;
ALTER TABLE rate DROP COLUMN mark;
CREATE INDEX rate_mark ON rate (mark_day);
UPDATE counter SET mark_day = NULL WHERE day = 0 AND mark <> body;
ALTER TABLE counter DROP COLUMN mark;
CREATE INDEX counter_mark ON counter (mark_day);
CREATE INDEX session_mark ON session (mark_day);
";

/// How many keys an agent has is counted when one comes and when some are forgotten. The index gives an order in which
/// no two keys are alike, so that what is taken from the count is what is deleted.
const COUNTED: &str = "
CREATE TABLE bond_count (
    agent TEXT PRIMARY KEY,
    bonds BIGINT NOT NULL
) STRICT;
INSERT INTO bond_count (agent, bonds) SELECT agent, count(*) FROM bond GROUP BY agent;
DROP INDEX bond_day;
CREATE INDEX bond_day ON bond (day, at_ms, agent, name);
";

/// People sign in to a browser: with accounts, which links set up, and in sessions.
const ACCOUNTS: &str = "
CREATE TABLE account (
    person TEXT PRIMARY KEY,
    password TEXT NOT NULL,
    codes TEXT NOT NULL,
    round BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    makers TEXT NOT NULL,
    disabled_ms BIGINT
) STRICT;
CREATE TABLE account_link (
    id TEXT PRIMARY KEY,
    hash BYTEA NOT NULL,
    person TEXT NOT NULL,
    made_by TEXT NOT NULL,
    makers TEXT NOT NULL,
    round BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    spent_ms BIGINT
) STRICT;
CREATE INDEX account_link_expires ON account_link (expires_ms);
CREATE TABLE web_session (
    id TEXT PRIMARY KEY,
    hash BYTEA NOT NULL,
    person TEXT NOT NULL,
    round BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    ended_ms BIGINT
) STRICT;
CREATE INDEX web_session_expires ON web_session (expires_ms);
";

/// What channels are told of requests. Most rows have nothing to do: only those that do are in the index by which that is
/// found.
const OUTBOX: &str = "
CREATE TABLE outbox (
    approval TEXT NOT NULL,
    channel TEXT NOT NULL,
    due_ms BIGINT,
    dead BIGINT NOT NULL,
    day BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (approval, channel)
) STRICT;
CREATE INDEX outbox_due ON outbox (channel, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX outbox_dead ON outbox (channel, approval) WHERE dead = 1;
CREATE INDEX outbox_day ON outbox (day);
";

/// A call that one caller waits for changes few pages. Calls stand in the order in which they were issued, and only those
/// are in an index of calls that are not done that stay so for a while. Counters have the version that `history` had. On
/// SQLite, entries and calls of agents are filed in bulk; see [`crate::place`]. Calls that are there already stand before
/// the first that comes.
const PLACES: &str = "
ALTER TABLE counter ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
DROP TABLE history;
ALTER TABLE call RENAME TO call_before;
DROP INDEX call_issued;
DROP INDEX call_unsettled;
DROP INDEX call_doubted;
DROP INDEX call_agent;
CREATE TABLE call (
    place BIGINT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    system TEXT NOT NULL,
    effect TEXT NOT NULL,
    decision TEXT NOT NULL,
    approval TEXT,
    state TEXT NOT NULL,
    issued_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    row_count BIGINT NOT NULL,
    process BIGINT NOT NULL,
    body TEXT NOT NULL,
    charge TEXT NOT NULL,
    outcome TEXT,
    journal TEXT,
    doubted TEXT,
    agent TEXT,
    tool TEXT,
    unsettled TEXT
) STRICT;
INSERT INTO call (place, id, system, effect, decision, approval, state, issued_ms, closed_ms, row_count, process, body, charge,
        outcome, journal, doubted, agent, tool, unsettled)
    SELECT row_number() OVER (ORDER BY issued_ms, id) - (SELECT count(*) FROM call_before) - 1, id, system, effect, decision,
        approval, state, issued_ms, closed_ms, row_count, process, body, charge, outcome, journal, doubted, agent, tool,
        CASE state WHEN 'done' THEN NULL ELSE state END
    FROM call_before ORDER BY issued_ms, id;
DROP TABLE call_before;
CREATE INDEX call_unsettled ON call (unsettled, place) WHERE unsettled IS NOT NULL;
CREATE INDEX call_doubted ON call (doubted, place) WHERE doubted IS NOT NULL;

-- On PostgreSQL alone:
CREATE INDEX call_agent ON call (agent, place);

-- On SQLite alone:
CREATE TABLE call_place (
    owner TEXT NOT NULL,
    idx BIGINT NOT NULL,
    PRIMARY KEY (owner, idx)
) STRICT, WITHOUT ROWID;
INSERT INTO call_place (owner, idx) SELECT agent, place FROM call WHERE agent IS NOT NULL ORDER BY agent, place;
CREATE TABLE entry_place (
    what TEXT NOT NULL,
    value TEXT NOT NULL,
    idx BIGINT NOT NULL,
    PRIMARY KEY (what, value, idx)
) STRICT, WITHOUT ROWID;
INSERT INTO entry_place (what, value, idx)
    SELECT 'agent', agent, idx FROM entry
        WHERE agent IS NOT NULL AND idx < (SELECT size / 256 * 256 FROM log_head) ORDER BY agent, idx;
INSERT INTO entry_place (what, value, idx)
    SELECT 'approval', approval, idx FROM entry
        WHERE approval IS NOT NULL AND idx < (SELECT size / 256 * 256 FROM log_head) ORDER BY approval, idx;
INSERT INTO entry_place (what, value, idx)
    SELECT 'call', call, idx FROM entry
        WHERE call IS NOT NULL AND idx < (SELECT size / 256 * 256 FROM log_head) ORDER BY call, idx;
INSERT INTO entry_place (what, value, idx)
    SELECT 'kind', kind, idx FROM entry
        WHERE kind NOT IN ('call_proposed', 'decided', 'warrant_issued', 'outcome')
        AND idx < (SELECT size / 256 * 256 FROM log_head) ORDER BY kind, idx;
INSERT INTO entry_place (what, value, idx)
    SELECT 'session', session, idx FROM entry
        WHERE session IS NOT NULL AND idx < (SELECT size / 256 * 256 FROM log_head) ORDER BY session, idx;
DROP INDEX entry_call;
DROP INDEX entry_session;
DROP INDEX entry_agent;
DROP INDEX entry_approval;
DROP INDEX entry_rare;
";

/// People sign in by providers, who vouch for them and may end their sessions. What may happen once, a sign-in or an order to
/// end a session, leaves a mark for as long as it could be repeated.
const PROVIDERS: &str = "
ALTER TABLE web_session ADD COLUMN vouched TEXT;
CREATE TABLE sign_in_mark (
    id TEXT PRIMARY KEY,
    at_s BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
) STRICT;
CREATE INDEX sign_in_mark_until ON sign_in_mark (until_ms);
";

/// What people granted beside an approval is found by whose calls it covers, as long as it may cover one.
const GRANTS: &str = "
ALTER TABLE approval ADD COLUMN grant_until_ms BIGINT;
CREATE INDEX approval_grant ON approval (agent, session, shape, grant_until_ms) WHERE grant_until_ms IS NOT NULL;
CREATE INDEX approval_granting ON approval (grant_until_ms, place) WHERE grant_until_ms IS NOT NULL;
";

/// People have passkeys, which know the account by a value that says nothing of whose it is.
const PASSKEYS: &str = "
ALTER TABLE account ADD COLUMN handle TEXT;
ALTER TABLE account ADD COLUMN passkeys TEXT;
CREATE UNIQUE INDEX account_handle ON account (handle) WHERE handle IS NOT NULL;
";

/// Requests whose time is over are looked for each second, however many wait. The state stands in the index as well, or SQLite
/// without statistics would take the other one that begins with it.
const OVERDUE: &str = "
CREATE INDEX approval_waiting ON approval (state, until_ms, place) WHERE state = 'waiting';
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_a_schema_are_known() {
        let first = tables(1, for_sqlite);
        assert!(first.len() == 15 && first.contains("log_head") && first.contains("history"));
        let newest = tables(newest(), for_sqlite);
        assert!(!first.contains("approval_group") && newest.contains("approval_group"));
        assert!(newest.contains("call") && !newest.contains("call_before") && !newest.contains("history"));
    }

    #[test]
    fn what_is_for_one_database_alone_is_not_in_the_other() {
        let of = |written| tables(newest(), written).contains("entry_place");
        assert!(of(for_sqlite) && !of(for_postgres));
        assert!(
            for_postgres(PLACES).contains("call_agent ON") && !for_sqlite(PLACES).contains("call_agent ON")
        );
    }

    #[test]
    fn a_step_has_one_text_for_both_databases() {
        assert_eq!(for_sqlite("a BIGINT, b BYTEA) STRICT"), "a INTEGER, b BLOB) STRICT");
        assert_eq!(for_postgres("a BIGINT, b BYTEA) STRICT"), "a BIGINT, b BYTEA)");
    }
}
