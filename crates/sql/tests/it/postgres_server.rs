//! Against a real server, named by `COUNTERSIGN_TEST_POSTGRES`: what is called a read is accepted in a read-only
//! transaction, writes nothing and locks nothing in one that may write; and nearly all that a read-only transaction
//! accepts as harmless is called a read.

use crate::cases::cases;
use countersign_sql::{Dialect, Effect, RowSource, explain, reach_query};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const CORPUS: &str = include_str!("../corpus/postgres.txt");
const SCHEMA: &str = include_str!("../corpus/postgres-schema.sql");

/// A database of this test's own, dropped at its end.
pub(crate) struct Scratch {
    admin: Client,
    client: Client,
    name: String,
}

async fn connect(database: Option<&str>) -> Client {
    connect_to(SERVERS[0], database).await
}

#[expect(clippy::disallowed_methods, reason = "the test speaks to a real server, named by the environment")]
async fn connect_to(server: &str, database: Option<&str>) -> Client {
    let url = std::env::var(server)
        .unwrap_or_else(|_| panic!("{server} must hold the address of a PostgreSQL server, such as postgres://user@127.0.0.1:5432/postgres"));
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    if let Some(database) = database {
        config.dbname(database);
    }
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The oldest and the newest server that we are tested with.
const SERVERS: [&str; 2] = ["COUNTERSIGN_TEST_POSTGRES", "COUNTERSIGN_TEST_POSTGRES_18"];

pub(crate) async fn servers() -> Vec<Client> {
    let mut clients = Vec::new();
    for server in SERVERS {
        clients.push(connect_to(server, None).await);
    }
    clients
}

/// A database of the test's own on each of them.
pub(crate) async fn fresh(label: &str) -> Vec<Scratch> {
    let mut scratches = Vec::new();
    for server in SERVERS {
        scratches.push(Scratch::on(server, label).await);
    }
    scratches
}

impl Scratch {
    pub(crate) async fn new(label: &str) -> Self {
        Self::on(SERVERS[0], label).await
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    async fn on(server: &str, label: &str) -> Self {
        let admin = connect_to(server, None).await;
        let name = format!("countersign_sql_{label}_{}", std::process::id());
        admin.batch_execute(&format!("drop database if exists {name}")).await.unwrap();
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
        let client = connect_to(server, Some(&name)).await;
        client.batch_execute(SCHEMA).await.unwrap();
        Self { admin, client, name }
    }

    pub(crate) async fn drop(self) {
        drop(self.client);
        self.admin.batch_execute(&format!("drop database {} with (force)", self.name)).await.unwrap();
    }

    /// Whether a read-only transaction accepts the text; the server's code otherwise.
    pub(crate) async fn accepted(&self, sql: &str) -> Result<(), String> {
        self.within("begin read only", sql, "").await.map(|_| ())
    }

    /// What the text leaves behind in a transaction that may write: a transaction number, locks beyond those of a
    /// read, another value of a setting.
    pub(crate) async fn traces(&self, sql: &str) -> Result<String, String> {
        let ask = "select coalesce(pg_current_xact_id_if_assigned()::text, '') || coalesce((select string_agg(mode, ',') from \
                   pg_locks where pid = pg_backend_pid() and locktype in ('relation', 'tuple', 'advisory', 'object', 'page') and mode <> \
                   'AccessShareLock'), '') || coalesce((select string_agg(name, ',') from pg_settings where source = 'session' and \
                   name not in ('client_encoding', 'TimeZone', 'DateStyle', 'extra_float_digits', 'application_name', 'transaction_isolation', \
                   'transaction_read_only', 'transaction_deferrable')), '') || coalesce((select string_agg(name, ',') from (select name \
                   from pg_cursors where name <> '' union all select name from pg_prepared_statements where name not like 's%' \
                   union all select * from pg_listening_channels()) kept), '')";
        self.within("begin", sql, ask).await
    }

    async fn within(&self, begin: &str, sql: &str, ask: &str) -> Result<String, String> {
        self.client.batch_execute(begin).await.unwrap();
        let result = async {
            self.client.simple_query(sql).await?;
            let rows = if ask.is_empty() { Vec::new() } else { self.client.simple_query(ask).await? };
            Ok::<_, tokio_postgres::Error>(rows)
        }
        .await;
        self.client.batch_execute("rollback").await.unwrap();
        match result {
            Ok(rows) => Ok(rows
                .iter()
                .find_map(|message| {
                    if let SimpleQueryMessage::Row(row) = message {
                        row.get(0).map(str::to_owned)
                    } else {
                        None
                    }
                })
                .unwrap_or_default()),
            Err(error) => Err(match error.as_db_error() {
                Some(error) => format!("{} {}", error.code().code(), error.message()),
                // `COPY … TO STDOUT` answers in a way this client only takes when it asked for it.
                None if error.to_string().contains("unexpected message") => return Ok(String::new()),
                None => error.to_string(),
            }),
        }
    }
}

#[tokio::test]
async fn what_is_called_a_read_is_one_and_nearly_every_read_is_called_one() {
    let scratch = Scratch::new("corpus").await;
    let (mut accepted, mut proved, mut newer, mut wrong) = (0_u32, 0_u32, 0_u32, Vec::new());
    let generated = crate::generated::reads();
    let known = cases(CORPUS).into_iter().map(|case| (case.heading.to_owned(), case.sql.to_owned()));
    for (heading, sql) in known.chain(generated.into_iter().map(|sql| ("read".to_owned(), sql))) {
        if heading.starts_with("error") {
            continue;
        }
        let explained =
            explain(Dialect::Postgres, &sql, None).unwrap_or_else(|error| panic!("{error}: {sql}"));
        let read = explained.effect == Effect::Read;
        let harmless = heading.starts_with("read") || heading == "cautious";
        if (!read && !harmless) || sql.starts_with("copy") {
            continue;
        }
        let (readonly, traces) = (scratch.accepted(&sql).await, scratch.traces(&sql).await);
        match (readonly, traces) {
            // Planning a change of rows takes the lock of one, and gives it back with the transaction.
            (Ok(()), Ok(traces))
                if traces.is_empty() || sql.starts_with("explain") && only(&traces, "RowExclusiveLock") =>
            {
                accepted += u32::from(harmless);
                proved += u32::from(harmless && read);
            }
            (Ok(()), Ok(traces)) if read => wrong.push(format!("leaves {traces}: {sql}")),
            (Ok(()), Ok(_)) => {}
            (Err(error), _) | (_, Err(error)) => {
                // Syntax or functions this server is too old for.
                if heading == "read-new" && (error.starts_with("42601") || error.starts_with("42883")) {
                    newer += 1;
                } else {
                    wrong.push(format!("{error}: {sql}"));
                }
            }
        }
    }
    scratch.drop().await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(newer <= 6, "{newer} statements were not tried");
    assert!(accepted > 1000, "only {accepted} accepted");
    assert!(proved * 100 >= accepted * 95, "{proved} of {accepted}");
}

pub(crate) fn only(traces: &str, word: &str) -> bool {
    traces.split(',').all(|trace| trace == word)
}

/// The server refuses, in a read-only transaction, what the corpus calls a write of rows, schema or sequences.
#[tokio::test]
async fn what_a_read_only_transaction_refuses_is_never_called_a_read() {
    let scratch = Scratch::new("writes").await;
    let mut refused = 0_u32;
    for case in cases(CORPUS) {
        // Transaction control would end the transaction of the test, and some statements would end its session.
        if ["transaction", "admin", "session", "files", "process", "network", "notify"]
            .iter()
            .any(|word| case.heading.contains(word))
            || case.heading.starts_with("error")
        {
            continue;
        }
        let Ok(explained) = explain(Dialect::Postgres, case.sql, None) else { continue };
        if let Err(error) = scratch.accepted(case.sql).await
            && error.starts_with("25006")
        {
            refused += 1;
            assert_ne!(explained.effect, Effect::Read, "{}", case.sql);
        }
    }
    scratch.drop().await;
    assert!(refused > 100, "only {refused} refused");
}

/// The list of harmless functions against the server's own: no trigger or internal function, and of the volatile ones
/// only those that were looked at.
#[tokio::test]
async fn the_list_of_harmless_functions_holds_against_the_catalog() {
    const LOOKED_AT: &str = "random random_normal clock_timestamp timeofday gen_random_uuid uuidv4 uuidv7 currval lastval pg_relation_size \
        pg_table_size pg_total_relation_size pg_indexes_size pg_database_size pg_tablespace_size pg_is_in_recovery pg_current_wal_lsn \
        pg_current_wal_insert_lsn pg_current_wal_flush_lsn pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp \
        pg_blocking_pids pg_safe_snapshot_blocking_pids pg_lock_status pg_partition_tree pg_partition_ancestors pg_xact_status \
        txid_status pg_notification_queue_usage pg_jit_available pg_sequence_last_value pg_collation_actual_version \
        pg_database_collation_actual_version pg_xact_commit_timestamp pg_last_committed_xact pg_control_checkpoint pg_control_init \
        pg_control_recovery pg_control_system pg_get_wal_replay_pause_state pg_is_wal_replay_paused current_query array_sample \
        array_shuffle bernoulli system";
    let client = connect(None).await;
    let rows = client
        .query(
            "select distinct proname::text, provolatile = 'v', prorettype in ('trigger'::regtype, 'event_trigger'::regtype) \
             from pg_proc where pronamespace = 'pg_catalog'::regnamespace",
            &[],
        )
        .await
        .unwrap();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for row in rows {
        let (name, volatile, trigger): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
        let explained = explain(Dialect::Postgres, &format!("select pg_catalog.\"{name}\"()"), None).unwrap();
        let looked_at =
            LOOKED_AT.split_whitespace().any(|known| known == name) || name.starts_with("pg_stat_get_xact_");
        let read = explained.effect == Effect::Read;
        checked += usize::from(read);
        if read && (trigger || (volatile && !looked_at)) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(checked > 1500, "only {checked} of the list are on this server");
}

/// Counting tells exactly how many rows the statement then touches, joins that match a row twice included.
#[tokio::test]
async fn the_counted_reach_is_the_real_one() {
    let scratch = Scratch::new("reach").await;
    let mut wrong = Vec::new();
    for sql in [
        "delete from billing where amount < 50",
        "delete from only billing b where b.amount between 5 and 9 returning b.id",
        "delete from billing using invoice i where i.id = billing.invoice_id and i.customer_id < 5",
        "delete from billing b using invoice i, customer c where i.customer_id = c.id",
        "with old as (select id from billing order by id limit 7) delete from billing where id in (select id from old)",
        "update invoice set total = total + 1",
        "update invoice set total = 0 where customer_id = 3",
        "update invoice set total = b.amount from billing b where b.invoice_id = invoice.id",
        "update invoice i set total = 1 from billing b join customer c on c.id = b.invoice_id where c.id = i.customer_id",
        "update customer set name = 'x' where exists (select 1 from invoice i where i.customer_id = customer.id and i.total > 190)",
        "insert into audit_log (entry) values ('a'), ('b')",
        "insert into audit_log default values",
        "insert into audit_log (entry) select name from customer where id > 15",
        "insert into audit_log (entry) select distinct currency from invoice union select 'x'",
        "insert into audit_log (entry) select name from customer order by id limit 3",
        "insert into audit_log (entry) select count(*)::text from customer",
        "with x as (select name from customer where id < 4) insert into audit_log (entry) select name from x",
        "truncate audit_log",
    ] {
        let reach = reach_query(Dialect::Postgres, sql, None).unwrap();
        assert!(reach.exact, "{sql}");
        let counted: i64 = match &reach.source {
            RowSource::Known(rows) => i64::try_from(*rows).unwrap(),
            RowSource::Query { .. } => {
                scratch.client.query_one(&reach.count(1_000_000).text, &[]).await.unwrap().get(0)
            }
        };
        if let Some(sample) = reach.sample(2) {
            assert!(scratch.client.query(&sample.text, &[]).await.unwrap().len() <= 2);
        }
        scratch.client.batch_execute("begin").await.unwrap();
        let touched = scratch.client.execute(sql, &[]).await.unwrap();
        scratch.client.batch_execute("rollback").await.unwrap();
        if i64::try_from(touched).unwrap() != counted {
            wrong.push(format!("counted {counted}, touched {touched}: {sql}"));
        }
    }
    scratch.drop().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
