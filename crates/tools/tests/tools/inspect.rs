//! What a real database holds, read into a snapshot, and what the snapshot changes in what is said of statements.

use std::sync::Arc;

use countersign_gate::{Gate, Vault, simulation::SimLedger};
use countersign_rules::{DeclaredEffect, Effect as Declared, SystemName};
use countersign_sql::{
    Catalog, Dialect, Effect, Known, Relation, RelationKind, Snapshot, Volatility, explain,
};
use countersign_tools::{
    AnyDefinition, SqlSystem,
    definition::{SqlLimits, SystemDefinition},
};
use serde_json::json;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{ALLOW, TestVault, World, fixed, from_agent, sqlite};
use crate::postgres::{Database, database, postgres};
use crate::statements::Maker;

/// The schema of the corpora, and what hides in databases.
const SCHEMA: &str = include_str!("../../../sql/tests/corpus/postgres-schema.sql");
const HIDDEN: &str = include_str!("../../../sql/tests/corpus/postgres-hidden.sql");

async fn inspected(definition: &SystemDefinition, vault: TestVault) -> Snapshot {
    let upkeep = Gate::<SimLedger>::review(&SystemName::parse("billing").unwrap());
    let vault: Arc<dyn Vault> = Arc::new(vault);
    SqlSystem::new(definition, vault).unwrap().inspect(&upkeep).await.unwrap()
}

pub(crate) async fn postgres_snapshot(db: &Database) -> Snapshot {
    let vault = TestVault::default().with("billing", "url", &db.url);
    inspected(&postgres(SqlLimits::default()), vault).await
}

async fn prepared(name: &str) -> Database {
    let db = database(name, 0).await;
    db.client.batch_execute("drop schema public cascade; create schema public").await.unwrap();
    db.client.batch_execute(SCHEMA).await.unwrap();
    db.client.batch_execute(HIDDEN).await.unwrap();
    db
}

fn relation<'c>(catalog: &'c Catalog, name: &str) -> &'c Relation {
    catalog.relations.iter().find(|relation| relation.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn postgres_tells_what_it_holds() {
    let db = prepared("inspect").await;
    let snapshot = postgres_snapshot(&db).await;
    let text = snapshot.text().unwrap();
    assert_eq!(postgres_snapshot(&db).await.text().unwrap(), text, "one text for one database");
    assert_eq!(Snapshot::parse(&text).unwrap(), snapshot);
    let catalog = &snapshot.catalog;
    assert_eq!(catalog.search_path, ["public"]);

    let parted = relation(catalog, "parted");
    assert_eq!(parted.primary_key, ["id"]);
    let flags = |table: &str, name: &str| {
        let column = relation(catalog, table).columns.iter().find(|column| column.name == name).unwrap();
        (column.data_type.as_str(), column.generated, column.identity)
    };
    assert_eq!(flags("parted", "total"), ("numeric", true, false));
    assert_eq!(flags("numbered", "id"), ("integer", false, true));
    assert_eq!(relation(catalog, "parted_low").inherits[0].name, "parted");
    let peer = serde_json::to_value(&relation(catalog, "peer").foreign_keys).unwrap();
    let expected = json!([{
        "columns": ["id"], "schema": "public", "table": "customer", "references": ["id"],
        "on_delete": "set_null", "on_update": "cascade",
    }]);
    assert_eq!(peer, expected);
    let trigger = &relation(catalog, "billing").triggers[0];
    assert_eq!(trigger.name, "stamped");
    assert_eq!(trigger.events.iter().collect::<Vec<_>>(), ["delete", "update"]);
    assert_eq!(trigger.function.as_ref().unwrap().name, "stamp");
    assert_eq!(relation(catalog, "ruled").rules[0].name, "redirect");
    let owned = relation(catalog, "owned");
    assert!(owned.row_security && owned.policies[0].using.is_some());
    assert_eq!(relation(catalog, "monthly").kind, RelationKind::MaterializedView);
    assert_eq!(relation(catalog, "customers").kind, RelationKind::View);
    let routine = |name: &str| catalog.routines.iter().find(|routine| routine.name == name).unwrap();
    assert_eq!(routine("volatile_write").volatility, Volatility::Volatile);
    assert!(routine("volatile_write").body.is_none(), "what is never a read need not be shown");
    assert!(routine("step").body.is_some(), "a text in SQL shows what it does");
    assert!(routine("definer_read").security_definer);
    assert_eq!(routine("sneaky_sum").calls[0].name, "step");
    assert!(catalog.casts.iter().any(|cast| cast.function.name == "mood_of"));
}

#[tokio::test]
async fn a_snapshot_that_is_stale_is_told_by_its_differences() {
    let db = prepared("stale").await;
    let before = postgres_snapshot(&db).await;
    assert_eq!(before.differences(&postgres_snapshot(&db).await), []);
    db.client
        .batch_execute(
            "alter function pure(int) volatile; create table fresh (id int); drop view customers; \
             alter table billing disable trigger stamped; alter table secrets enable row level security",
        )
        .await
        .unwrap();
    let after = postgres_snapshot(&db).await;
    let lines: Vec<String> = before.differences(&after).iter().map(ToString::to_string).collect();
    for expected in [
        "~ function public.pure(integer): volatility",
        "+ relation public.fresh",
        "- relation public.customers",
        "~ relation public.billing: triggers -stamped",
        "~ relation public.secrets: row_security null → true",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:?}");
    }
    assert_eq!(lines.len(), 5, "{lines:?}");
}

/// PostgreSQL holds a stable function to its promise only where it writes by itself; calls, aggregates, policies,
/// conversions and views it does not.
#[tokio::test]
async fn a_snapshot_is_never_laxer_than_the_database() {
    let db = prepared("laxer").await;
    // The owner of a table and the superuser are not held to policies.
    let role = format!("countersign_held_{}", std::process::id());
    db.client
        .batch_execute(&format!(
            "create role {role}; grant usage on schema public to {role}; grant all on all tables in schema public to {role}; \
             grant all on all sequences in schema public to {role}"
        ))
        .await
        .unwrap();
    let catalog = Known::new(postgres_snapshot(&db).await.catalog);
    let effect = |sql: &str| explain(Dialect::Postgres, sql, Some(&catalog)).unwrap().effect;
    for sql in [
        "select hidden_write()",
        "select procedural()",
        "select sneaky_sum(id) from customer",
        "select 5::guarded",
        "select '(5)'::holder",
        "select 5::status",
        "select * from owned",
        "select (select count(*) from owned)",
        "select * from shown_owned",
        "select * from sneaky",
        "select i.invoice_purge from invoice i",
        "select json_populate_record(null::holder, '{\"g\": 5}')",
        "select defaulted()",
        "select '{1,2}'::watched",
        "select coalesce(h, '(7)') from held",
        "select takes_guarded(7)",
        "select step(1, 2)",
    ] {
        assert_ne!(effect(sql), Effect::Read, "{sql}");
        // And every one of them does write, when it may.
        let begin = format!("begin; insert into owned values (1, 'x'); set local role {role}");
        db.client.batch_execute(&begin).await.unwrap();
        let before: i64 = written(&db.client).await;
        db.client.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
        let after = written(&db.client).await;
        db.client.batch_execute("rollback").await.unwrap();
        assert!(after > before, "{sql} writes nothing");
    }
    for sql in [
        "select atomic_read(1), returned(1), pure(1), stable_read(), definer_read()",
        "select fair_sum(id) from customer",
        "select undeclared(1), (select count(*) from customer where undeclared(id) > 0)",
        "select '(1,x)'::pair",
        "select * from customers join invoice_totals on customer_id = id",
        "select * from parted",
        "select '{1,2}'::few, array[3]::few",
        "select h from held where id = 5",
        // What is volatile is planned, and not run.
        "explain select * from customer where volatile_write() > id",
    ] {
        assert_eq!(effect(sql), Effect::Read, "{sql}");
        db.client.batch_execute(&format!("begin read only; {sql}; rollback")).await.unwrap();
    }
    // It moves the sequence, under a name and a promise of its own.
    assert_ne!(effect("select numbered_again('numbers')"), Effect::Read);
    let moved = db
        .client
        .query_one("select numbered_again('numbers'), numbered_again('numbers')", &[])
        .await
        .unwrap();
    assert_ne!(moved.get::<_, i64>(0), moved.get::<_, i64>(1));
    let told = explain(Dialect::Postgres, "select definer_read()", Some(&catalog)).unwrap();
    assert!(told.reasons.iter().any(|reason| reason.code == "definer_function"));
    assert!(told.tables.iter().any(|table| table.name == "secrets"), "what it reads is told");
    let through = explain(Dialect::Postgres, "delete from customers where id = 1", Some(&catalog)).unwrap();
    let writes: Vec<String> = through.statements[0].writes.iter().map(ToString::to_string).collect();
    for table in ["public.customer", "public.invoice", "public.billing", "public.peer"] {
        assert!(writes.contains(&table.to_owned()), "{writes:?}");
    }
    assert!(through.reasons.iter().any(|reason| reason.text.contains("trigger `stamped`")));
    db.client.batch_execute(&format!("drop owned by {role}; drop role {role}")).await.unwrap();
}

/// Rows this transaction has written so far, and sequences aside.
async fn written(client: &Client) -> i64 {
    let sql =
        "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_xact_user_tables";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// The comparison of the sql crate once more, with what only a catalog tells: views and attributes that are functions, and
/// functions, aggregates, domains, row types and casts of the user's own, harmless and not.
#[tokio::test]
async fn with_a_snapshot_no_write_is_called_a_read_and_nearly_every_read_is() {
    const STATEMENTS: usize = 2_000;
    let db = prepared("compared").await;
    let catalog = Known::new(postgres_snapshot(&db).await.catalog);
    let mut maker = Maker::new(Dialect::Postgres, 7, true);
    let (mut harmful, mut harmless, mut proved, mut failed, mut wrong) =
        (0_u32, 0_u32, 0_u32, 0_u32, Vec::new());
    for _ in 0..STATEMENTS {
        let sql = maker.statement();
        let explained = explain(Dialect::Postgres, &sql, Some(&catalog)).unwrap();
        let read = explained.effect == Effect::Read;
        match traces(&db.client, &sql).await {
            Ok(traces) if traces.is_empty() => {
                if !maker.armed {
                    harmless += 1;
                    proved += u32::from(read);
                }
            }
            Ok(traces)
                if sql.starts_with("explain ") && traces.split(',').all(|t| t == "RowExclusiveLock") => {}
            Ok(traces) => {
                harmful += 1;
                if read {
                    wrong.push(format!("leaves {traces}: {sql}"));
                }
            }
            Err(_) => failed += 1,
        }
    }
    println!(
        "{STATEMENTS} statements with a catalog: {harmful} change something, {} of them called a read; {harmless} harmless, \
         {proved} of them called a read; {failed} not valid",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(harmful > 500 && harmless > 700 && failed < 200, "{harmful} {harmless} {failed}");
    assert!(proved * 100 >= harmless * 99, "{proved} of {harmless}");
}

/// The corpora, with the catalog of the database they run in: what is called a read leaves no trace, and what one may
/// only read is called so.
#[tokio::test]
async fn with_a_snapshot_the_corpus_holds() {
    let db = prepared("corpus_known").await;
    let catalog = Known::new(postgres_snapshot(&db).await.catalog);
    let (mut reads, mut missed, mut wrong) = (0_u32, Vec::new(), Vec::new());
    let mut heading = "";
    for line in include_str!("../../../sql/tests/corpus/postgres.txt").lines() {
        if let Some(new) = line.strip_prefix("== ") {
            heading = new;
        }
        if line.is_empty() || line.starts_with("# ") || line.starts_with("== ") || line.starts_with("copy") {
            continue;
        }
        let Ok(explained) = explain(Dialect::Postgres, line, Some(&catalog)) else { continue };
        if explained.effect != Effect::Read {
            if heading == "read" {
                missed.push(line);
            }
            continue;
        }
        match traces(&db.client, line).await {
            Ok(traces)
                if traces.is_empty()
                    || line.starts_with("explain") && traces.split(',').all(|t| t == "RowExclusiveLock") =>
            {
                reads += 1;
            }
            Ok(traces) => wrong.push(format!("leaves {traces}: {line}")),
            // Newer than this server, or about objects it does not have.
            Err(_) => {}
        }
    }
    println!(
        "{reads} of the corpus called a read with a catalog and run; {} reads called otherwise",
        missed.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(reads > 150, "only {reads}");
    assert!(missed.is_empty(), "{missed:?}");
}

async fn traces(client: &Client, sql: &str) -> Result<String, tokio_postgres::Error> {
    let ask = "select coalesce(pg_current_xact_id_if_assigned()::text, '') || coalesce((select string_agg(mode, ',') from pg_locks \
               where pid = pg_backend_pid() and locktype in ('relation', 'tuple', 'advisory', 'object') and mode <> 'AccessShareLock'), '') \
               || coalesce((select string_agg(name, ',') from pg_cursors where name <> ''), '') || current_setting('work_mem') || \
               current_setting('search_path')";
    client.batch_execute("begin; set local work_mem = '4MB'; set local search_path = public").await?;
    let answer = async {
        client.simple_query(sql).await?;
        client.simple_query(ask).await
    }
    .await;
    client.batch_execute("rollback").await?;
    let text = answer?.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    let text = text.unwrap_or_default();
    Ok(text.strip_suffix("4MBpublic").unwrap_or(&text).to_owned())
}

/// Listing a view is enough to read it; a function reads only what the tool may.
#[tokio::test]
async fn agents_reach_through_views_and_functions_only_what_the_tool_lists() {
    let db = prepared("scope").await;
    let snapshot = Arc::new(postgres_snapshot(&db).await);
    let tools = vec![from_agent("query", &["customers", "invoice"])];
    let definitions: Vec<_> = tools.into_iter().map(AnyDefinition::Sql).collect();
    let definition = SystemDefinition { catalog: Some(snapshot), ..postgres(SqlLimits::default()) };
    let vault = TestVault::default().with("billing", "url", &db.url);
    let world = World::new(&[definition], vault, &definitions, ALLOW);
    for sql in
        ["select count(*) from customers", "select stable_read(), pure(2)", "select count(*) from invoice"]
    {
        let done = world.done("query", json!({ "sql": sql })).await;
        assert_eq!(done.rows, 1, "{sql}");
    }
    for (sql, word) in [
        ("select * from customer", "`customer` is not one"),
        ("select definer_read()", "`secrets` is not one"),
        ("select hidden_write()", "cannot be seen"),
        ("select * from sneaky", "cannot be seen"),
    ] {
        let answer = world.call("query", json!({ "sql": sql })).await;
        let refusal = crate::harness::refused(answer, countersign_rules::Code::StatementRefused);
        assert!(refusal.message.contains(word), "{sql}: {}", refusal.message);
    }
}

#[tokio::test]
async fn a_snapshot_of_another_database_is_refused() {
    let db = database("other_kind", 0).await;
    let mut snapshot = postgres_snapshot(&db).await;
    let dir = tempfile::tempdir().unwrap();
    let refused = |definition: SystemDefinition, snapshot: &Snapshot| {
        let vault: Arc<dyn Vault> = Arc::new(TestVault::default());
        let definition = SystemDefinition { catalog: Some(Arc::new(snapshot.clone())), ..definition };
        SqlSystem::new(&definition, vault).unwrap_err().to_string()
    };
    let told = refused(sqlite(&dir.path().join("x.db")), &snapshot);
    assert!(told.contains("is of a database of kind `postgres`"), "{told}");
    snapshot.catalog.search_path = vec!["other".into()];
    let told = refused(postgres(SqlLimits::default()), &snapshot);
    assert!(told.contains("search path"), "{told}");
}

#[tokio::test]
async fn sqlite_tells_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(
        "create table customer (id integer primary key autoincrement, name text, loud text generated always as (upper(name)) stored);
         create table invoice (id integer, no integer, customer integer references customer on delete cascade on update set null, primary key (id, no));
         create view customers as select id, name from customer;
         create trigger gone after delete on customer begin delete from invoice where no = old.id; end;
         create trigger \"in stead\" instead of insert on customers begin insert into customer (name) values (new.name); end;
         create virtual table words using fts5 (body);
         create index by_name on customer (name);",
    )
    .unwrap();
    let snapshot = inspected(&sqlite(&path), TestVault::default()).await;
    assert_eq!(Snapshot::parse(&snapshot.text().unwrap()).unwrap(), snapshot);
    let catalog = &snapshot.catalog;
    let customer = relation(catalog, "customer");
    assert_eq!(customer.primary_key, ["id"]);
    assert!(customer.columns[0].identity && customer.columns[2].generated);
    assert_eq!(customer.triggers[0].name, "gone");
    assert_eq!(relation(catalog, "invoice").primary_key, ["id", "no"]);
    assert_eq!(
        serde_json::to_value(&relation(catalog, "invoice").foreign_keys).unwrap(),
        json!([{"columns": ["customer"], "schema": "main", "table": "customer", "on_delete": "cascade", "on_update": "set_null"}])
    );
    let customers = relation(catalog, "customers");
    assert_eq!(customers.kind, RelationKind::View);
    assert!(customers.triggers[0].instead && customers.triggers[0].events.contains("insert"));
    assert_eq!(relation(catalog, "words").kind, RelationKind::VirtualTable);

    let known = Known::new(catalog.clone());
    let told = explain(Dialect::Sqlite, "delete from customer where id = 1", Some(&known)).unwrap();
    assert!(told.reasons.iter().any(|reason| reason.text.contains("`gone`")), "{:?}", told.reasons);
    assert!(told.tables.iter().any(|table| table.name == "invoice"));
    let read = explain(Dialect::Sqlite, "select * from customers", Some(&known)).unwrap();
    assert_eq!(read.effect, Effect::Read);
    assert_eq!(read.statements[0].named.len(), 1, "the view is named, its table is not");
    file.execute_batch("drop trigger gone").unwrap();
    let later = inspected(&sqlite(&path), TestVault::default()).await;
    let lines: Vec<String> = snapshot.differences(&later).iter().map(ToString::to_string).collect();
    assert!(lines.contains(&"~ relation main.customer: triggers -gone".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn sqlite_agents_read_a_view_that_the_tool_lists() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(
        "create table customer (id integer primary key, name text); insert into customer values (1, 'ada');
         create view customers as select id from customer;",
    )
    .unwrap();
    let snapshot = inspected(&sqlite(&path), TestVault::default()).await;
    let definition = SystemDefinition { catalog: Some(Arc::new(snapshot)), ..sqlite(&path) };
    let tools = [
        AnyDefinition::Sql(from_agent("query", &["customers"])),
        AnyDefinition::Sql(fixed(
            "all",
            DeclaredEffect::Read,
            json!({}),
            "select count(*) as n from customers",
        )),
    ];
    let world = World::new(&[definition], TestVault::default(), &tools, ALLOW);
    assert_eq!(world.done("query", json!({ "sql": "select * from customers" })).await.rows, 1);
    assert_eq!(world.done("all", json!({})).await.rows, 1);
    assert_eq!(world.tools["all"].spec().effect.ceiling(), Declared::Read);
    let answer = world.call("query", json!({ "sql": "select * from customer" })).await;
    crate::harness::refused(answer, countersign_rules::Code::StatementRefused);
}

/// A snapshot of a database that has the bundled extensions makes reads of what they bring, and stands in the way of
/// nothing that ran without it.
#[tokio::test]
async fn with_a_snapshot_the_reads_of_extensions_are_reads() {
    let db = database("extensions_known", 0).await;
    db.client.batch_execute("drop schema public cascade; create schema public").await.unwrap();
    db.client.batch_execute(SCHEMA).await.unwrap();
    db.client
        .batch_execute(
            "create type mood as enum ('well', 'ill'); create domain mail as text check (value like '%@%')",
        )
        .await
        .unwrap();
    for extension in countersign_sql::known_extensions() {
        let create = format!("create extension if not exists \"{extension}\" cascade");
        db.client.batch_execute(&create).await.unwrap();
    }
    let shown = postgres_snapshot(&db).await.catalog;
    let standard = || vec!["standard".to_owned()];
    let both = Known::new(Catalog { extensions: standard(), ..shown.clone() });
    let named = Known::new(Catalog { extensions: standard(), ..Catalog::default() });
    let shown = Known::new(shown);
    let (mut reads, mut alone, mut blocked) = (0, 0, Vec::new());
    let corpora = concat!(
        include_str!("../../../sql/tests/corpus/postgres.txt"),
        "\n",
        include_str!("../../../sql/tests/corpus/extensions.txt"),
        "\nselect 'well'::mood\nselect mood 'ill', 'a@b'::mail, '{well}'::mood[]\nselect (5 % 2) * 3, id % 2 from invoice"
    );
    for sql in corpora.lines().filter(|line| line.starts_with("select ")) {
        let told =
            |known| explain(Dialect::Postgres, sql, known).ok().filter(|told| told.effect == Effect::Read);
        let opaque =
            |told: &countersign_sql::Explained| told.categories.contains(&countersign_sql::Category::Opaque);
        let (without, with) = (told(Some(&named)).or_else(|| told(None)), told(Some(&both)));
        if without.is_none() && with.is_none() {
            continue;
        }
        reads += 1;
        alone += usize::from(told(Some(&shown)).is_some());
        match with {
            // What hides behind a view or an attribute no text shows.
            None if sql.contains("sneaky") || sql.contains("purge") => {}
            // Of `intagg`, whose aggregate keeps a state that no catalog looks into: told to be opaque (docs/sql.md).
            Some(with) if opaque(&with) && sql.contains("int_array_aggregate") => {}
            None => blocked.push(sql),
            Some(with) if opaque(&with) && !without.as_ref().is_some_and(opaque) => blocked.push(sql),
            Some(_) => {}
        }
    }
    assert!(blocked.is_empty(), "{blocked:#?}");
    assert!(reads > 300 && alone * 1000 >= reads * 985, "{alone} of {reads}");
}
