//! Random schemas, rows and statements: what was measured is touched, and undo restores everything.

use proptest::prelude::*;
use rusqlite::Connection;

use countersign_gate::Limits;

use super::{World, dump, up_to};
use crate::sql::{journal::OnChange, mask::Mask};

/// A stream of numbers from a seed (SplitMix64), so that one number tells the whole case.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }

    fn chance(&mut self, of: u64) -> bool {
        self.roll(of) == 0
    }
}

/// The keys a table may have, with what follows the columns.
const KEYS: [(&str, &str, &str); 6] = [
    ("id integer primary key", "", ""),
    ("id integer primary key autoincrement", "", ""),
    ("id integer not null", ", primary key (id)", "without rowid"),
    ("id text collate nocase primary key not null", "", ""),
    (
        "id integer not null, id2 text collate nocase not null default 'k'",
        ", primary key (id2, id)",
        "without rowid",
    ),
    ("id real not null, id2 integer not null default 7", ", primary key (id, id2)", ""),
];

const ACTIONS: [&str; 4] = ["cascade", "set null", "set default", "no action"];

struct Schema {
    sql: String,
    tables: u64,
}

fn schema(dice: &mut Dice) -> Schema {
    let tables = 1 + dice.roll(4);
    let mut sql = String::new();
    for table in 0..tables {
        let (key, constraint, tail) = KEYS[usize::try_from(dice.roll(6)).unwrap()];
        let unique = dice.pick(&["unique", "unique", "unique on conflict replace"]);
        // Any table may be referred to, the table itself included, by its unique number or pair.
        let refers = |dice: &mut Dice| {
            let to = dice.roll(tables);
            let (delete, update) = (dice.pick(&ACTIONS), dice.pick(&ACTIONS));
            let deferred = if dice.chance(4) { " deferrable initially deferred" } else { "" };
            format!("(u) on delete {delete} on update {update}{deferred}").replacen(
                "(u)",
                &format!("t{to} (u)"),
                1,
            )
        };
        let generated = dice.pick(&["", ", g as (u + 1)", ", g as (coalesce(v, 0) || 'g') stored"]);
        let first = if dice.chance(4) { String::new() } else { format!(" references {}", refers(dice)) };
        let second = if dice.chance(2) { String::new() } else { format!(" references {}", refers(dice)) };
        let pair = if dice.chance(3) {
            format!(
                ", foreign key (p, q) references t{} (a, b) on delete {} on update {}",
                dice.roll(tables),
                dice.pick(&ACTIONS),
                dice.pick(&ACTIONS)
            )
        } else {
            String::new()
        };
        sql += &format!(
            "create table t{table} ({key}, u integer {unique}{generated}, v, r real, f integer default 1{first},
               h integer{second}, a integer, b integer, p integer, q integer, unique (a, b){constraint}{pair}) {tail};\n"
        );
    }
    sql += "create table history (id integer primary key, what);\n";
    if dice.chance(3) {
        let (table, event) = (dice.roll(tables), dice.pick(&["delete", "update", "insert"]));
        let (row, when) = (if event == "delete" { "old" } else { "new" }, dice.pick(&["after", "before"]));
        sql += &format!(
            "create trigger tr {when} {event} on t{table} begin
               insert into history (what) values ({row}.v);
               update t{} set v = 'by trigger' where u = {row}.u + 1;
               delete from t{} where u = {row}.u + 2;
             end;\n",
            dice.roll(tables),
            dice.roll(tables)
        );
    }
    Schema { sql, tables }
}

fn value(dice: &mut Dice) -> String {
    match dice.roll(8) {
        0 => "null".into(),
        1 => "x'00ff10'".into(),
        2 => "'text'".into(),
        3 => "cast(x'ff41' as text)".into(),
        4 => "-0.0".into(),
        5 => "1e300".into(),
        6 => "9223372036854775807".into(),
        _ => format!("{}", dice.roll(9)),
    }
}

fn row(dice: &mut Dice) -> String {
    let small = |dice: &mut Dice| {
        if dice.chance(4) { "null".to_owned() } else { dice.roll(9).to_string() }
    };
    format!(
        "({}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
        dice.roll(40),
        small(dice),
        value(dice),
        dice.pick(&["1", "2.5", "null"]),
        small(dice),
        small(dice),
        small(dice),
        small(dice),
        small(dice),
        small(dice)
    )
}

/// SQLite's own foreign keys let some rows by that refer to nothing, where constraints replace rows.
const BROKEN: &str = "select count(*) from pragma_foreign_key_check";

const COLUMNS: &str = "(id, u, v, r, f, h, a, b, p, q)";

fn fill(connection: &Connection, schema: &Schema, dice: &mut Dice) {
    connection.execute_batch("pragma foreign_keys = on").unwrap();
    for _ in 0..60 {
        let table = dice.roll(schema.tables);
        // Rows that break a constraint are not there.
        drop(connection.execute(&format!("insert into t{table} {COLUMNS} values {}", row(dice)), []));
    }
    connection.execute_batch("pragma foreign_keys = off").unwrap();
}

fn statement(schema: &Schema, dice: &mut Dice) -> String {
    let table = dice.roll(schema.tables);
    let n = dice.roll(9);
    let clause = match dice.roll(6) {
        0 => String::new(),
        1 => format!(" where u < {n}"),
        2 => format!(" where id % 3 = {}", n % 3),
        3 => format!(" where f = {n} or h is null"),
        4 => format!(" where u in (select f from t{})", dice.roll(schema.tables)),
        _ => format!(" where u = {n}"),
    };
    match dice.roll(12) {
        0..=3 => format!("delete from t{table}{clause}"),
        4 => format!("update t{table} set v = {}{clause}", value(dice)),
        5 => format!("update t{table} set u = u + {n}{clause}"),
        6 => format!("update t{table} set u = -u, a = b, b = a{clause}"),
        7 => format!("update t{table} set id = id + 100, f = null{clause}"),
        8 => format!("update or replace t{table} set u = {n}{clause}"),
        9 => format!("insert or replace into t{table} {COLUMNS} values {}, {}", row(dice), row(dice)),
        10 => format!(
            "insert into t{table} {COLUMNS} values {} on conflict (u) do update set v = 'upsert', r = 9",
            row(dice)
        ),
        _ => format!(
            "insert or ignore into t{table} {COLUMNS} select id + 50, u + 5, v, r, null, null, a + 5, b, null, null from t{}",
            dice.roll(schema.tables)
        ),
    }
}

async fn check(seed: u64) {
    let mut dice = Dice(seed);
    let schema = schema(&mut dice);
    let world = World::new(&schema.sql).await;
    fill(&world.other, &schema, &mut dice);
    for _ in 0..4 {
        let sql = statement(&schema, &mut dice);
        let told = format!("seed {seed}: {sql}\n{}", schema.sql);
        let work = world.work(&sql).unwrap_or_else(|error| panic!("{told}: {error}"));
        let measured = world.database.measure(work, Mask::default()).await;
        let before = dump(&world.other);
        let broken = world.count(BROKEN);
        let Ok((call, touched)) = world.call(&sql).await else {
            assert_eq!(dump(&world.other), before, "a refused statement changed something; {told}");
            continue;
        };
        let after = dump(&world.other);
        let broken = broken + world.count(BROKEN);
        let changed: u64 = before
            .iter()
            .map(|(table, rows)| {
                let now = &after[table];
                let gone = rows.iter().filter(|row| !now.contains(row)).count();
                let come = now.iter().filter(|row| !rows.contains(row)).count();
                gone.max(come) as u64
            })
            .sum();
        assert!(touched >= changed, "{touched} rows were counted and {changed} changed; {told}");
        if let Ok(measured) = measured
            && measured.reach.exact
            && measured.reach.triggers.is_empty()
        {
            assert_eq!(measured.reach.rows, touched, "{:?}; {told}", measured.reach);
        }
        let kept = world.count(&format!("select count(*) from countersign_image where call = '{call}'"));
        if kept == 0 {
            assert_eq!(after, before, "{told}");
            continue;
        }
        let (by, _) = match world.undo(&call, OnChange::Refuse).await {
            Ok(undone) => undone,
            // A row came that others referred to without it being there: gone, they would do so again.
            Err(error) if broken > 0 => {
                assert_eq!(dump(&world.other), after, "{error}; {told}");
                continue;
            }
            Err(error) => panic!("{error}; {told}"),
        };
        assert_eq!(dump(&world.other), before, "undo did not restore; {told}");
        let again = match world.undo(&by, OnChange::Refuse).await {
            Ok((again, _)) => again,
            Err(_) if broken > 0 => continue,
            Err(error) => panic!("{error}; {told}"),
        };
        assert_eq!(dump(&world.other), after, "undoing the undoing did not; {told}");
        if dice.chance(2) && broken == 0 {
            world.undo(&again, OnChange::Refuse).await.unwrap_or_else(|e| panic!("{e}; {told}"));
            assert_eq!(dump(&world.other), before, "nor undoing that; {told}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_measured_is_touched_and_undo_restores_all_of_it(seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(seed));
    }

    /// Another program changes rows between measuring, performing and undoing: never more than was approved is
    /// touched, what others wrote is never overwritten, and the foreign keys hold.
    #[test]
    fn a_concurrent_writer_is_never_overrun(seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(overrun(seed));
    }
}

async fn overrun(seed: u64) {
    let mut dice = Dice(seed);
    let schema = schema(&mut dice);
    let world = World::new(&schema.sql).await;
    fill(&world.other, &schema, &mut dice);
    let sql = statement(&schema, &mut dice);
    let told = format!("seed {seed}: {sql}\n{}", schema.sql);
    let work = world.work(&sql).unwrap();
    let Ok(measured) = world.database.measure(std::sync::Arc::clone(&work), Mask::default()).await else {
        return;
    };
    world.other.execute_batch("pragma foreign_keys = on").unwrap();
    let meddle = |dice: &mut Dice| {
        for _ in 0..3 {
            drop(world.other.execute(&statement(&schema, dice), []));
        }
    };
    meddle(&mut dice);
    let (before, broken) = (dump(&world.other), world.count(BROKEN));
    let mark = world.mark().await;
    let call = mark.call.clone();
    let bounds = Limits { tables: Some(measured.reach.tables.clone()), ..up_to(measured.reach.rows) };
    match world.database.write(work, &bounds, Some(mark)).await {
        Ok(done) => assert!(done.rows <= measured.reach.rows, "{told}"),
        Err(_) => {
            assert_eq!(dump(&world.other), before, "{told}");
            return;
        }
    }
    meddle(&mut dice);
    let (meddled, broken) = (dump(&world.other), broken + world.count(BROKEN));
    match world.undo(&call, OnChange::Skip).await {
        Ok((by, undone)) => {
            assert!(broken > 0 || world.count(BROKEN) == 0, "{undone:?}; {told}");
            if let Err(error) = world.undo(&by, OnChange::Refuse).await {
                assert!(broken > 0, "{error}; {told}");
                return;
            }
            assert_eq!(dump(&world.other), meddled, "what others wrote was touched; {told}");
        }
        Err(_) => assert_eq!(dump(&world.other), meddled, "{told}"),
    }
}
