//! The journal and undo, on real files.
#![expect(clippy::arithmetic_side_effects, reason = "a panic in a test is a failed test")]

mod awkward;
mod crash;
mod identity;
mod promise;
mod schemas;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use countersign_gate::{
    Authority, Credential, Doubt, Limits, MeasureError, Recalled, Tool as _, ToolError, Vault, VaultFault,
};
use countersign_rules::{CallId, DeclaredEffect, SystemName, ToolName, tool::SystemSpec};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use super::{SqliteDatabase, image::Cell};
use crate::{
    definition::{
        JournalSettings, SqlDefinition, SqlLimits, SqlText, SqliteTarget, SystemDefinition, Target,
        ToolDefinition,
    },
    sql::{
        SqlSystem, SqlTool,
        columns::Columns,
        journal::{Mark, OnChange, Undoing, Undone},
        mask::Mask,
        work::Work,
    },
};

struct NoVault;

impl Vault for NoVault {
    fn open(&self, _authority: &dyn Authority) -> Result<Credential, VaultFault> {
        Ok(Credential::new(BTreeMap::new()))
    }
}

/// A file with a journal, and a tool whose statements are the test's.
struct World {
    database: SqliteDatabase,
    system: Arc<SqlSystem>,
    /// Another program's connection.
    other: Connection,
    calls: std::cell::Cell<u32>,
    folder: TempDir,
}

fn up_to(rows_max: u64) -> Limits {
    Limits { rows_max, tables: None, amount_max: None }
}

fn undoing(call: &CallId, on_change: OnChange) -> Undoing {
    Undoing { call: call.clone(), on_change, rewritten: Columns::default() }
}

fn settings() -> JournalSettings {
    JournalSettings { bytes_max: 1 << 20, ..JournalSettings::default() }
}

impl World {
    async fn new(schema: &str) -> Self {
        let world = Self::unprepared(schema, settings());
        world.database.prepare(&[]).await.unwrap();
        world
    }

    fn unprepared(schema: &str, journal: JournalSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let other = Connection::open(&path).unwrap();
        other
            .execute_batch("pragma journal_mode = wal; pragma synchronous = off; pragma foreign_keys = off;")
            .unwrap();
        other.execute_batch(schema).unwrap();
        Self::over(folder, &path, other, journal)
    }

    fn over(folder: TempDir, path: &Path, other: Connection, journal: JournalSettings) -> Self {
        let limits = SqlLimits { lock_timeout_ms: 60_000, ..SqlLimits::default() };
        let target = SqliteTarget { path: path.into(), limits, journal: Some(journal.clone()) };
        let definition = SystemDefinition {
            spec: SystemSpec {
                name: SystemName::parse("shop").unwrap(),
                kind: "sqlite".into(),
                environment: "test".into(),
                account: "test".into(),
            },
            target: Target::Sqlite(target),
            catalog: None,
        };
        let system = SqlSystem::new(&definition, Arc::new(NoVault)).unwrap();
        let database = SqliteDatabase::new(path.into(), limits, Some(journal));
        Self { database, system, other, calls: std::cell::Cell::new(0), folder }
    }

    /// An author's statement, ready to run.
    fn work(&self, sql: &str) -> Result<Arc<Work>, String> {
        let definition = SqlDefinition {
            tool: ToolDefinition {
                name: ToolName::parse("change").unwrap(),
                system: SystemName::parse("shop").unwrap(),
                description: "changes".into(),
                effect: DeclaredEffect::Destructive,
                categories: [].into(),
                reversible: true,
                idempotent: false,
                narrows: BTreeMap::new(),
                arguments: serde_json::json!({}),
                result: None,
                rates: Vec::new(),
                rows_max: 1_000,
            },
            statement: SqlText::Fixed(sql.into()),
            tables: [].into(),
            functions: [].into(),
            rehearse: None,
            mask: [].into(),
        };
        let tool = SqlTool::new(&definition, Arc::clone(&self.system)).map_err(|error| error.to_string())?;
        Ok(tool.parse(&serde_json::json!({})).unwrap().args)
    }

    async fn mark(&self) -> Mark {
        let journal = self.database.identity().await.map(|journal| journal.to_string());
        let call = self.calls.get() + 1;
        self.calls.set(call);
        let call = CallId::parse(&format!("call-{call}")).unwrap();
        Mark { call, tool: "change".into(), digest: "d".into(), journal, images: true }
    }

    /// Tells what is known of a call in doubt.
    async fn doubt(&self, call: &CallId) -> Doubt {
        let journal = self.database.identity().await.map(|journal| journal.to_string());
        Doubt { call: call.clone(), journal, witness: None }
    }

    /// Performs a statement whose rows are kept.
    async fn call(&self, sql: &str) -> Result<(CallId, u64), ToolError> {
        let mark = self.mark().await;
        let call = mark.call.clone();
        let done = self.database.write(self.work(sql).unwrap(), &up_to(u64::MAX), Some(mark)).await?;
        Ok((call, done.rows))
    }

    async fn done(&self, sql: &str) -> CallId {
        self.call(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).0
    }

    async fn undo(&self, call: &CallId, on_change: OnChange) -> Result<(CallId, Undone), ToolError> {
        let mark = self.mark().await;
        let by = mark.call.clone();
        let (undone, rows) =
            self.database.undo(mark, &undoing(call, on_change), &up_to(u64::MAX), &Mask::default()).await?;
        assert_eq!(rows, undone.restored.values().sum::<u64>());
        Ok((by, undone))
    }

    /// Says why a call fails, or is not undone.
    async fn failure(
        &self,
        outcome: impl Future<Output = Result<impl std::fmt::Debug, ToolError>>,
    ) -> String {
        let before = dump(&self.other);
        let ToolError::Failed { message } = outcome.await.unwrap_err() else { panic!("another failure") };
        assert_eq!(dump(&self.other), before, "nothing may change when a call fails");
        message
    }

    fn count(&self, sql: &str) -> i64 {
        self.other.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// Everything in the file but the journal, bit for bit, with hidden rowids.
fn dump(connection: &Connection) -> BTreeMap<String, Vec<Vec<Cell>>> {
    let mut tables = connection
        .prepare(
            "select l.name, l.wr from pragma_table_list as l where l.schema = 'main' and l.type = 'table'",
        )
        .unwrap();
    let tables: Vec<(String, bool)> = tables
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut dump = BTreeMap::new();
    for (table, without_rowid) in tables {
        if table.starts_with("countersign_") || table.starts_with("sqlite_") {
            continue;
        }
        let rowid = if without_rowid { "" } else { ", rowid" };
        let mut rows =
            connection.prepare(&format!("select *{rowid} from \"{table}\" order by 1, 2")).unwrap();
        let columns = rows.column_count();
        let rows = rows
            .query_map([], |row| (0..columns).map(|at| Ok(Cell::new(row.get_ref(at)?))).collect())
            .unwrap()
            .collect::<Result<Vec<Vec<Cell>>, _>>()
            .unwrap();
        let mut rows = rows;
        rows.sort();
        dump.insert(table, rows);
    }
    dump
}

const SHOP: &str = "
    create table customer (id integer primary key, name text not null);
    create table billing (id integer primary key, customer integer references customer on delete cascade,
                          minor integer not null, note);
    create table line (id integer primary key, billing integer references billing on delete cascade, text text);
    create table tag (name text primary key, billing integer references billing on delete set null) without rowid;
    insert into customer values (1, 'ada'), (2, 'bob');
    insert into billing values (1, 1, 100, 1.5), (2, 1, 200, x'00ff'), (3, 2, 300, null), (4, 2, 400, 'text');
    insert into line values (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 3, 'd');
    insert into tag values ('red', 1), ('blue', 3), ('green', null);
";

#[tokio::test]
async fn a_delete_with_its_cascades_comes_back_and_goes_again() {
    let world = World::new(SHOP).await;
    let before = dump(&world.other);
    let (call, rows) = world.call("delete from customer where id = 1").await.unwrap();
    assert_eq!(rows, 1 + 2 + 3 + 1);
    let after = dump(&world.other);
    assert_ne!(after, before);
    let measured =
        world.database.undo_measure(&undoing(&call, OnChange::Refuse), &Mask::default()).await.unwrap();
    assert_eq!((measured.reach.rows, measured.reach.exact), (7, true));
    assert!(measured.sample.is_some());
    assert_eq!(dump(&world.other), after, "measuring changes nothing");
    let (by, undone) = world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
    let restored = [("customer", 1), ("billing", 2), ("line", 3), ("tag", 1)];
    assert_eq!(undone.restored, restored.map(|(t, n)| (t.to_owned(), n)).into());
    let again = world.failure(world.undo(&call, OnChange::Refuse)).await;
    assert!(again.contains(&format!("has been undone by call `{by}`")), "{again}");
    // The undoing is a call like any other; undone, the first one stands again and can be undone again.
    world.undo(&by, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), after);
    world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
}

#[tokio::test]
async fn each_kind_of_change_comes_back() {
    let world = World::new(SHOP).await;
    let before = dump(&world.other);
    for (sql, rows) in [
        ("update billing set minor = minor + 1, note = 'x'", 4),
        ("update billing set id = id + 10 where id = 4", 1),
        ("insert into customer (name) values ('cyd'), ('dan')", 2),
        (
            "insert into customer values (2, 'new'), (9, 'nine') on conflict (id) do update set name = excluded.name",
            2,
        ),
        ("insert into customer select id + 20, name from customer", 2),
        ("delete from line", 4),
        ("delete from tag", 3),
        ("update tag set name = 'RED' where name = 'red'", 1),
        ("insert or replace into tag values ('red', 2), ('new', null)", 3),
        ("replace into billing values (1, 2, 7, 'replaced')", 1 + 1 + 2 + 1),
        ("update or replace line set id = 1 where id = 4", 2),
    ] {
        let (call, touched) = world.call(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(touched, rows, "{sql}");
        assert_ne!(dump(&world.other), before, "{sql}");
        world.undo(&call, OnChange::Refuse).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(dump(&world.other), before, "{sql}");
    }
}

#[tokio::test]
async fn what_triggers_did_is_undone_and_they_do_not_fire_again() {
    let world = World::new(&format!(
        "{SHOP}
         create table history (id integer primary key autoincrement, what text);
         create trigger gone after delete on billing begin
           insert into history (what) values ('gone ' || old.id);
           update customer set name = name || '!' where id = old.customer;
         end;
         create trigger back after insert on billing begin
           insert into history (what) values ('back ' || new.id);
         end;"
    ))
    .await;
    let before = dump(&world.other);
    let (call, rows) = world.call("delete from billing where id in (1, 2)").await.unwrap();
    assert_eq!(rows, 2 + 3 + 1 + 4);
    world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
}

#[tokio::test]
async fn rows_that_changed_since_are_refused_or_skipped() {
    let world = World::new(SHOP).await;
    let call = world.done("update billing set minor = 0 where id <= 3").await;
    world.other.execute_batch("update billing set minor = 5 where id = 2").unwrap();
    let refused =
        world.database.undo_measure(&undoing(&call, OnChange::Refuse), &Mask::default()).await.unwrap_err();
    assert!(matches!(&refused, MeasureError::NotMeasurable(why) if why.contains("billing (2)")), "{refused}");
    let refused = world.failure(world.undo(&call, OnChange::Refuse)).await;
    assert!(refused.contains("1 rows changed since") && refused.contains("billing (2)"), "{refused}");
    let measured =
        world.database.undo_measure(&undoing(&call, OnChange::Skip), &Mask::default()).await.unwrap();
    assert_eq!(measured.reach.rows, 2);
    let (_, undone) = world.undo(&call, OnChange::Skip).await.unwrap();
    assert_eq!(undone.changed, BTreeMap::from([("billing".to_owned(), 1)]));
    assert_eq!(undone.examples, ["billing (2)"]);
    assert_eq!(world.count("select sum(minor) from billing"), 100 + 5 + 300 + 400);
}

#[tokio::test]
async fn a_row_in_the_way_or_a_parent_that_is_gone_counts_as_changed_since() {
    let world = World::new(
        "create table customer (id integer primary key, mail text unique);
         create table billing (id integer primary key, customer integer references customer);
         insert into customer values (1, 'ada'), (2, 'bob'), (3, 'cyd');
         insert into billing values (1, 1), (2, 2);",
    )
    .await;
    let deleted = world.done("delete from billing").await;
    world.other.execute_batch("pragma foreign_keys = on; delete from customer where id = 1").unwrap();
    let refused = world.failure(world.undo(&deleted, OnChange::Refuse)).await;
    assert!(refused.contains("billing (1)"), "{refused}");
    let (_, undone) = world.undo(&deleted, OnChange::Skip).await.unwrap();
    assert_eq!((undone.restored["billing"], undone.changed["billing"]), (1, 1));
    // A unique value that another row has now.
    let renamed = world.done("update customer set mail = id").await;
    world.other.execute_batch("insert into customer values (9, 'cyd')").unwrap();
    let (_, undone) = world.undo(&renamed, OnChange::Skip).await.unwrap();
    assert_eq!((undone.restored["customer"], undone.changed["customer"]), (1, 1));
    assert_eq!(world.count("select count(*) from customer where mail in ('bob', 'cyd', '3')"), 3);
    // A row that others refer to by now does not go.
    let inserted = world.done("insert into customer values (20, 'x'), (21, 'y')").await;
    world.other.execute_batch("insert into billing values (20, 20)").unwrap();
    let (_, undone) = world.undo(&inserted, OnChange::Skip).await.unwrap();
    assert_eq!(undone.examples, ["customer (20)"]);
    assert_eq!(world.count("select count(*) from pragma_foreign_key_check"), 0);
}

#[tokio::test]
async fn rows_that_referred_to_nothing_before_come_back_so() {
    let world = World::new(SHOP).await;
    // As any program does that does not ask SQLite for foreign keys.
    world.other.execute_batch("insert into line values (8, 77, 'lost'), (9, 78, 'lost')").unwrap();
    let before = dump(&world.other);
    let call = world.done("delete from line where billing not in (select id from billing)").await;
    world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
    let call = world.done("update line set billing = 1 where id = 8").await;
    let (by, _) = world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
    let (again, _) = world.undo(&by, OnChange::Refuse).await.unwrap();
    world.undo(&again, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
}

#[tokio::test]
async fn unique_values_that_were_exchanged_come_back() {
    let world = World::new(
        "create table seat (id integer primary key, place integer unique on conflict replace);
         insert into seat values (1, 10), (2, 20), (3, 30);",
    )
    .await;
    let before = dump(&world.other);
    let call = world.done("update seat set place = -place").await;
    world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
    // The table's own constraint deletes: those rows are counted, and come back.
    let (call, rows) = world.call("insert into seat values (4, 10), (5, 20)").await.unwrap();
    assert_eq!(rows, 4);
    world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
    // Undoing never replaces a row of others.
    let call = world.done("delete from seat where id = 1").await;
    world.other.execute_batch("insert into seat values (9, 10)").unwrap();
    world.failure(world.undo(&call, OnChange::Refuse)).await;
    world.failure(world.undo(&call, OnChange::Skip)).await;
    assert_eq!(world.count("select count(*) from seat where id = 9"), 1);
}

#[tokio::test]
async fn vacuum_does_not_mislead_undo() {
    let world = World::new(
        "create table page (path text primary key, body text);
         insert into page values ('a', '1'), ('b', '2'), ('c', '3'), ('d', '4');
         delete from page where path = 'a';",
    )
    .await;
    let updated = world.done("update page set body = 'x' where path = 'c'").await;
    let deleted = world.done("delete from page where path = 'b'").await;
    world.other.execute_batch("vacuum").unwrap();
    world.undo(&deleted, OnChange::Refuse).await.unwrap();
    world.undo(&updated, OnChange::Refuse).await.unwrap();
    let pages: String = world
        .other
        .query_row(
            "select group_concat(path || body, ' ') from (select * from page order by path)",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(pages, "b2 c3 d4");
}

#[tokio::test]
async fn what_cannot_be_kept_is_rolled_back_and_says_why() {
    let world = World::new(&format!(
        "{SHOP}
         create table bare (a, b);
         create table loose (name text primary key, n integer);
         create table shadowed (name text primary key, rowid, _rowid_, oid);
         create virtual table docs using fts5(body);
         create trigger copies after update on customer begin insert into bare values (new.id, new.name); end;
         insert into bare values (1, 2);
         insert into loose values (null, 1);
         insert into docs values ('text');"
    ))
    .await;
    for (sql, why) in [
        ("update bare set a = 3", "table `bare` has no primary key"),
        ("delete from bare", "table `bare` has no primary key"),
        ("update customer set name = 'x' where id = 1", "table `bare` has no primary key"),
        ("update loose set n = 2", "has NULL in its primary key"),
        ("insert into shadowed values ('a', 1, 2, 3)", "hide its rowid"),
        ("delete from docs", "is no ordinary table"),
    ] {
        let message = world.failure(world.call(sql)).await;
        assert!(message.contains(why), "{sql}: {message}");
    }
    assert_eq!(world.count("select count(*) from countersign_call"), 0, "the records went as well");
    // Without rows kept, the call is performed, and its record stays.
    let mark = Mark { images: false, ..world.mark().await };
    let call = mark.call.clone();
    world.database.write(world.work("update bare set a = 3").unwrap(), &up_to(10), Some(mark)).await.unwrap();
    let message = world.failure(world.undo(&call, OnChange::Refuse)).await;
    assert!(message.contains("no rows are kept"), "{message}");
}

#[tokio::test]
async fn more_bytes_than_may_be_kept_are_rolled_back() {
    let world = World::unprepared(SHOP, JournalSettings { bytes_max: 2_000, ..settings() });
    world.database.prepare(&[]).await.unwrap();
    world.other.execute_batch("update billing set note = zeroblob(1500) where id = 1").unwrap();
    let message = world.failure(world.call("update billing set minor = 0 where id = 1")).await;
    assert!(message.contains("2000 bytes"), "{message}");
    let message = world.failure(world.call("update billing set note = zeroblob(5000) where id = 3")).await;
    assert!(message.contains("`bytes_max`"), "{message}");
    world.done("update billing set minor = 0 where id = 3").await;
}

#[tokio::test]
async fn a_call_beyond_its_limit_leaves_no_trace() {
    let world = World::new(SHOP).await;
    let before = dump(&world.other);
    let mark = world.mark().await;
    let call = mark.call.clone();
    let work = world.work("delete from customer where id = 1").unwrap();
    let error = world.database.write(Arc::clone(&work), &up_to(6), Some(mark.clone())).await.unwrap_err();
    let ToolError::Exceeded { reach } = error else { panic!("{error}") };
    assert_eq!((reach.rows, reach.cascades, reach.exact), (7, 6, true));
    assert_eq!(dump(&world.other), before);
    assert_eq!(world.count("select count(*) from countersign_call"), 0);
    // Within the sum, and beyond what was approved of one table.
    for (line, tables) in [(2, 4), (3, 3)] {
        let tables = [("customer", 1), ("billing", 2), ("line", line), ("tag", 2)].into_iter().take(tables);
        let tables = tables.map(|(table, rows)| (table.to_owned(), rows)).collect();
        let bounds = Limits { tables: Some(tables), ..up_to(7) };
        let error = world.database.write(Arc::clone(&work), &bounds, Some(mark.clone())).await.unwrap_err();
        assert!(matches!(error, ToolError::Exceeded { reach } if reach.rows == 7));
        assert_eq!(dump(&world.other), before);
    }
    // With the new approval the same call goes ahead.
    world.database.write(work, &up_to(7), Some(mark)).await.unwrap();
    let after = dump(&world.other);
    let error = world
        .database
        .undo(world.mark().await, &undoing(&call, OnChange::Refuse), &up_to(6), &Mask::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ToolError::Exceeded { reach } if reach.rows == 7));
    assert_eq!(dump(&world.other), after);
}

#[tokio::test]
async fn a_call_is_performed_once_and_never_after_it_was_given_up() {
    let world = World::new(SHOP).await;
    let (mark, work) = (world.mark().await, world.work("update billing set minor = minor + 1").unwrap());
    world.database.write(Arc::clone(&work), &up_to(10), Some(mark.clone())).await.unwrap();
    // It has happened, and nobody is told that it failed.
    let again = world.database.write(Arc::clone(&work), &up_to(10), Some(mark.clone())).await.unwrap_err();
    assert!(
        matches!(&again, ToolError::InDoubt { message } if message.contains("stands in the database's journal already")),
        "{again:?}"
    );
    let recalled = world.database.recall(&world.doubt(&mark.call).await).await.unwrap();
    assert_eq!(recalled, Recalled::Happened { rows: 4, amount: None });
    let fenced = world.mark().await;
    for _ in 0..2 {
        assert_eq!(world.database.recall(&world.doubt(&fenced.call).await).await.unwrap(), Recalled::Never);
    }
    let given_up = world.failure(world.database.write(work, &up_to(10), Some(fenced.clone()))).await;
    assert!(given_up.contains("given up before"), "{given_up}");
    world.failure(world.undo(&fenced.call, OnChange::Refuse)).await;
}

#[tokio::test]
async fn without_a_prepared_journal_nothing_is_written_and_nothing_is_said() {
    let world = World::unprepared(SHOP, settings());
    let message = world.failure(world.call("delete from line")).await;
    assert!(message.contains("countersign system prepare"), "{message}");
    assert_eq!(
        world.database.recall(&world.doubt(&world.mark().await.call).await).await.unwrap(),
        Recalled::Unknown
    );
    world.other.execute_batch("create table countersign_call (id)").unwrap();
    let message = world.database.prepare(&[]).await.unwrap_err();
    assert!(message.contains("not as they should be"), "{message}");
    world.failure(world.call("delete from line")).await;
    world.other.execute_batch("drop table countersign_call").unwrap();
    let all = ["billing", "customer", "line", "tag"].map(|table| format!("keeps rows of {table}"));
    assert_eq!(world.database.prepare(&[]).await.unwrap(), all);
    assert_eq!(world.database.prepare(&["Line".into()]).await.unwrap(), ["keeps rows of line"]);
    assert!(world.database.prepare(&["nothing".into()]).await.is_err());
    assert!(world.database.prepare_sql(&[]).unwrap().contains("CREATE TABLE"));
}

#[tokio::test]
async fn no_statement_of_a_tool_touches_the_journal() {
    let world = World::new(&format!(
        "{SHOP}
         create trigger forges after update on line begin
           update countersign_call set undone_by = 'x';
         end;
         create view peek as select * from countersign_call;"
    ))
    .await;
    world.done("delete from tag").await;
    for sql in [
        "delete from countersign_image",
        "select * from Countersign_Call",
        "update main.\"COUNTERSIGN_CALL\" set state = 'fenced'",
        "drop table countersign_call",
        "insert into customer select 50, id from countersign_call",
        "create table countersign_other (a)",
    ] {
        let error = world.work(sql).unwrap_err();
        assert!(error.contains("belongs to the journal"), "{sql}: {error}");
    }
    // What the text does not show, the database's authorizer sees.
    for sql in [
        "update line set text = 'x'",
        "insert into customer select 51, id from peek",
        "alter table line rename to countersign_line",
        "create index countersign_index on line (text)",
        "alter table tag rename to Countersign_Tag",
    ] {
        let work = world.work(sql).unwrap();
        let mark = Mark { images: false, ..world.mark().await };
        let message = world.failure(world.database.write(work, &up_to(100), Some(mark))).await;
        assert!(message.contains("journal") || message.contains("may touch"), "{sql}: {message}");
    }
    assert_eq!(world.count("select count(*) from countersign_call where undone_by is null"), 1);
    assert_eq!(world.count("select count(*) from countersign_image"), 1);
}

/// Rows that change alike stand in one entry, and come back one by one: also where some referred to nothing before.
#[tokio::test]
async fn rows_of_a_kind_are_kept_together() {
    let world = World::new(
        "create table parent (id integer primary key);
         create table child (id integer primary key, parent integer references parent, text text, amount real);
         create table odd (name text collate nocase primary key, n blob) without rowid;",
    )
    .await;
    world
        .other
        .execute_batch(
            "pragma foreign_keys = off; insert into parent values (1);
             with recursive n (i) as (select 1 union all select i + 1 from n where i < 700)
               insert into child select i, case when i % 200 = 0 then 77 else 1 end, 'text ' || i, i / 3.0 from n;
             insert into odd select text, x'00ff' from child;",
        )
        .unwrap();
    for (sql, entries) in [
        // The three that refer to nothing stand apart, and so does what is between them.
        ("delete from child", 7),
        ("update child set text = text || '!', amount = null", 3),
        ("update child set id = id + 1000", 10),
        ("insert into child select id + 5000, 1, null, null from child where id <= 300", 2),
        ("delete from odd", 3),
        ("replace into odd select upper(name), n from odd", 3),
    ] {
        let before = dump(&world.other);
        let call = world.done(sql).await;
        assert_ne!(dump(&world.other), before, "{sql}");
        let kept = format!("select count(*) from countersign_image where call = '{call}'");
        assert_eq!(world.count(&kept), entries, "{sql}");
        let (by, _) = world.undo(&call, OnChange::Refuse).await.unwrap();
        assert_eq!(dump(&world.other), before, "{sql}");
        world.undo(&by, OnChange::Refuse).await.unwrap();
        world.undo(&call, OnChange::Refuse).await.unwrap();
        assert_eq!(dump(&world.other), before, "{sql}");
    }
}

/// Each row in an entry of its own, as versions before wrote them.
#[tokio::test]
async fn rows_that_were_kept_one_by_one_come_back() {
    let world = World::new(
        "create table t (id integer primary key, text text); insert into t values (1, 'a'), (2, 'b');",
    )
    .await;
    let before = dump(&world.other);
    let mut calls = Vec::new();
    for id in [1, 2] {
        calls.push(world.done(&format!("delete from t where id = {id}")).await);
    }
    let one =
        format!("update countersign_image set call = '{}', seq = 7 where call = '{}'", calls[0], calls[1]);
    world.other.execute_batch(&one).unwrap();
    world.undo(&calls[0], OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
}

#[tokio::test]
async fn rows_are_forgotten_after_the_retention_and_calls_are_not() {
    let world = World::new(SHOP).await;
    let call = world.done("delete from line").await;
    let young = world.done("delete from tag").await;
    assert_eq!(world.database.prune().await.unwrap(), 0);
    let past = 31_i64 * 24 * 3_600_000;
    world
        .other
        .execute("update countersign_call set at = at - ?1 where id = ?2", (past, call.as_str()))
        .unwrap();
    assert_eq!(world.database.prune().await.unwrap(), 4);
    let message = world.failure(world.undo(&call, OnChange::Refuse)).await;
    assert!(message.contains("the retention is over"), "{message}");
    assert!(matches!(
        world.database.recall(&world.doubt(&call).await).await.unwrap(),
        Recalled::Happened { rows: 4, .. }
    ));
    world.undo(&young, OnChange::Refuse).await.unwrap();
}

#[tokio::test]
async fn a_table_whose_columns_changed_is_not_touched() {
    let world = World::new(SHOP).await;
    let call = world.done("delete from line").await;
    world.other.execute_batch("alter table line add column more text default 'x'").unwrap();
    let message = world.failure(world.undo(&call, OnChange::Skip)).await;
    assert!(message.contains("the columns of table `line` changed"), "{message}");
}

#[tokio::test]
async fn what_is_kept_and_cannot_be_read_is_refused() {
    let world = World::new(SHOP).await;
    for (at, forgery) in [
        "update countersign_image set old = x'00' where call = ?1",
        "update countersign_image set tbl = 'customer' where call = ?1",
        "update countersign_call set tables = '{' where id = ?1",
        "update countersign_image set old = substr(old, 1, 12) where call = ?1",
    ]
    .into_iter()
    .enumerate()
    {
        let call = world.done(&format!("update line set text = 'new {at}'")).await;
        world.other.execute(forgery, [call.as_str()]).unwrap();
        let message = world.failure(world.undo(&call, OnChange::Refuse)).await;
        assert!(message.contains("cannot be read"), "{forgery}: {message}");
    }
    let unknown = CallId::parse("nobody").unwrap();
    let message = world.failure(world.undo(&unknown, OnChange::Refuse)).await;
    assert!(message.contains("knows no call"), "{message}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn shapes_are_written_as_they_have_always_been() {
    let shape: super::image::Shape =
        serde_json::from_value(json(r#"{"columns":["a","b"],"key":[0],"rowid":"rowid"}"#)).unwrap();
    assert_eq!(
        serde_json::to_value(shape).unwrap(),
        json(r#"{"columns":["a","b"],"key":[0],"rowid":"rowid"}"#)
    );
}
