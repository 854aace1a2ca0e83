//! What undo promises, where rows are odd: they come back bit for bit, or the call is rolled back before its commit.

use serde_json::json;

use super::*;

#[tokio::test]
async fn rows_that_break_a_check_come_back_as_they_were() {
    let world = World::new(
        "create table old_rows (id integer primary key, n int check (n > 0), v text);
         create table typed (id integer primary key, n int check (typeof(n) = 'integer')) strict;
         pragma ignore_check_constraints = on;
         insert into old_rows values (1, -5, 'a'), (2, 5, 'b'); insert into typed values (1, null);
         pragma ignore_check_constraints = off;",
    )
    .await;
    for sql in
        ["delete from old_rows", "update old_rows set n = 3", "delete from typed", "update typed set n = 1"]
    {
        let before = dump(&world.other);
        let call = world.done(sql).await;
        let after = dump(&world.other);
        assert_ne!(after, before, "{sql}");
        let (by, _) = world.undo(&call, OnChange::Refuse).await.unwrap();
        assert_eq!(dump(&world.other), before, "{sql}");
        world.undo(&by, OnChange::Refuse).await.unwrap();
        assert_eq!(dump(&world.other), after, "{sql}");
        world.undo(&call, OnChange::Refuse).await.unwrap();
    }
    // Checks are off for undoing alone.
    assert!(world.call("update old_rows set n = -1 where id = 2").await.is_err());
}

/// Triggers are off while rows go back, so that none has the last word.
#[tokio::test]
async fn columns_that_triggers_write_come_back_as_they_were() {
    let world = World::new(
        "create table stamped (id integer primary key, name text, at text default '2020-01-01', version int default 0);
         insert into stamped (id, name) values (1, 'Ada'), (2, 'bob');
         create trigger touch after update on stamped begin
             update stamped set at = strftime('%f'), version = old.version + 1 where id = new.id; end;
         create trigger fold after insert on stamped begin
             update stamped set name = lower(new.name), at = strftime('%f') where id = new.id; end;",
    )
    .await;
    for sql in [
        "update stamped set name = 'x'",
        "delete from stamped where id = 1",
        "insert into stamped (id, name) values (3, 'CYD')",
        "insert into stamped (id, name) values (1, 'EVE') on conflict do update set name = excluded.name",
    ] {
        let before = dump(&world.other);
        let call = world.done(sql).await;
        let after = dump(&world.other);
        assert_ne!(after, before, "{sql}");
        let (by, _) = world.undo(&call, OnChange::Refuse).await.unwrap();
        assert_eq!(dump(&world.other), before, "{sql}");
        world.undo(&by, OnChange::Refuse).await.unwrap();
        assert_eq!(dump(&world.other), after, "{sql}");
    }
}

#[tokio::test]
async fn undoing_says_which_counters_stay_where_they_are() {
    let world = World::new(
        "create table Counted (id integer primary key autoincrement, v text); create table plain (id integer primary key, v text);
         create table fresh (id integer primary key autoincrement, v text);
         insert into counted (v) values ('a'), ('b'); insert into plain (v) values ('a');",
    )
    .await;
    for (sql, told, word) in [
        (
            "insert into counted (v) values ('x'), ('y')",
            json!({"counted": ["id"]}),
            "goes away, and the counter of `id` stays where it is",
        ),
        (
            "insert into fresh (v) values ('x')",
            json!({"fresh": ["id"]}),
            "goes away, and the counter of `id` stays where it is",
        ),
        ("update counted set v = 'z'", json!({}), "goes back to"),
        ("delete from counted where id = 1", json!({}), "comes back"),
        ("insert into plain (v) values ('x')", json!({}), "goes away"),
    ] {
        let before = dump(&world.other);
        let call = world.done(sql).await;
        let measured =
            world.database.undo_measure(&undoing(&call, OnChange::Refuse), &Mask::default()).await.unwrap();
        let sample = measured.sample.unwrap();
        assert_eq!((sample.columns[0].as_str(), sample.rows[0][0].as_deref()), ("undo", Some(word)), "{sql}");
        let (_, undone) = world.undo(&call, OnChange::Refuse).await.unwrap();
        assert_eq!(undone.reply(&call)["counters"], told, "{sql}");
        assert_eq!(dump(&world.other), before, "{sql}");
    }
    assert_eq!(world.count("select seq from sqlite_sequence where name = 'Counted'"), 4);
}

#[tokio::test]
async fn what_could_not_be_put_in_again_is_not_taken_out() {
    let world = World::new(
        "create table late (id integer primary key, v text); insert into late values (1, null), (2, 'b');
         create table made (id integer primary key, a int, g int as (a * 2) stored unique);
         create table refers (id integer primary key, g int references made (g));
         insert into made (id, a) values (1, 1);
         pragma writable_schema = on;
         update sqlite_schema set sql = 'create table late (id integer primary key, v text not null)' where name = 'late';
         pragma writable_schema = reset;",
    )
    .await;
    for (sql, why) in [
        ("delete from late where id = 1", "has NULL where its table allows none any more"),
        ("update late set v = 'x'", "has NULL where its table allows none any more"),
        ("insert into made (id, a) values (2, 2)", "refers to a generated column of `made`"),
        ("update made set a = 3", "refers to a generated column of `made`"),
    ] {
        let said = world.failure(world.call(sql)).await;
        assert!(said.contains(why), "{sql}: {said}");
        assert_eq!(world.count("select count(*) from countersign_call"), 0, "{sql}");
    }
    for sql in ["delete from late where id = 2", "delete from made"] {
        let before = dump(&world.other);
        let call = world.done(sql).await;
        world.undo(&call, OnChange::Refuse).await.unwrap();
        assert_eq!(dump(&world.other), before, "{sql}");
    }
}

#[tokio::test]
async fn keys_that_are_equal_and_not_the_same_come_back() {
    let world = World::new(
        "create table folded (k text, v, primary key (k collate nocase)) without rowid;
         create table trimmed (k text, part text collate nocase, v, primary key (part, k collate rtrim)) without rowid;
         create table indexed (k text, v, primary key (k collate nocase));
         create table loose (k primary key, v) without rowid; create table loose_too (k primary key, v);
         create table number (k numeric primary key, v); create table whole (k real primary key, v) without rowid;
         insert into folded values ('Ada', 1), ('bob', 2); insert into trimmed values ('a ', 'X', 1), ('b', 'x', 2);
         insert into indexed values ('Ada', 1), ('bob', 2); insert into loose values (1, 'a'), ('1', 'b'), (x'31', 'c'), (0, 'z');
         insert into loose_too values (1, 'a'), ('1', 'b'), (2.5, 'c'); insert into number values (1, 'a'), (2.5, 'b');
         insert into whole values (1, 'a'), (0.0, 'z');",
    )
    .await;
    for sql in [
        "update folded set k = upper(k)",
        "update folded set k = lower(k), v = v + 1 where k = 'Ada'",
        "delete from folded where k = 'bob'",
        "insert into folded values ('ADA', 7) on conflict do update set k = excluded.k, v = excluded.v",
        "replace into folded values ('aDa', 8)",
        "update trimmed set k = rtrim(k), part = upper(part)",
        "update trimmed set k = k || '  '",
        "update indexed set k = upper(k)",
        "replace into indexed values ('aDA', 8)",
        "update loose set k = 1.0 where v = 'a'",
        "update loose set k = -0.0 where v = 'z'",
        "replace into loose values (1.0, 'r')",
        "update loose_too set k = k + 0.0 where v <> 'b'",
        "replace into loose_too values (1.0, 'r')",
        "update number set k = k * 1.0",
        "update whole set k = -k where v = 'z'",
    ] {
        let before = dump(&world.other);
        let call = world.done(sql).await;
        let after = dump(&world.other);
        let mut last = call;
        if after == before {
            continue;
        }
        for expected in [&before, &after, &before] {
            let (by, _) =
                world.undo(&last, OnChange::Refuse).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(&dump(&world.other), expected, "{sql}");
            last = by;
        }
    }
}

#[tokio::test]
async fn views_and_virtual_tables_are_left_out_of_preparing() {
    let world = World::new(
        "create table doc (id integer primary key, body text); create view seen as select * from doc;
         create virtual table doc_fts using fts5(body, content = 'doc', content_rowid = 'id');",
    )
    .await;
    let named = ["doc", "seen", "doc_fts", "doc_fts_data"].map(ToOwned::to_owned);
    assert_eq!(
        world.database.prepare(&named).await.unwrap(),
        [
            "keeps rows of doc",
            "leaves out seen, a view: the tables behind it are named by themselves",
            "leaves out doc_fts, of a virtual table: its module alone can write its rows",
            "leaves out doc_fts_data, of a virtual table: its module alone can write its rows",
        ]
    );
}

/// Random numbers from a seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.below(from.len())]
    }
}

const VALUES: [&str; 14] = [
    "1",
    "1.0",
    "-0.0",
    "0",
    "'a'",
    "'A'",
    "'a '",
    "x'61'",
    "'1'",
    "2.5",
    "9007199254740993",
    "''",
    "null",
    "1e300",
];

/// A table with an odd key.
fn table(chance: &mut Chance) -> String {
    let strict = chance.below(5) == 0;
    let kind = if strict {
        chance.pick(&["any", "real", "text", "int", "blob"])
    } else {
        chance.pick(&["", "text", "numeric", "real", "int", "blob"])
    };
    let collation = chance.pick(&["", " collate nocase", " collate rtrim"]);
    let key_collation = chance.pick(&["", "", " collate nocase"]);
    let more =
        chance.pick(&["", ", g as (coalesce(n, 0) + 1)", ", g as (coalesce(n, 0) * 2) stored", ", u unique"]);
    let more = if strict {
        more.replace("g as", "g any as").replace("u unique", "u any unique")
    } else {
        more.to_owned()
    };
    let n = if strict { "n int" } else { "n" };
    let (key, columns) = match chance.below(4) {
        0 => (String::new(), format!("k integer primary key autoincrement, {n}, v any")),
        1 => (
            format!(", primary key (k{key_collation}, part)"),
            format!("k {kind}{collation}, {n}, v any, part int not null default 1"),
        ),
        _ => (format!(", primary key (k{key_collation})"), format!("k {kind}{collation}, {n}, v any")),
    };
    let without = if !key.is_empty() && chance.below(2) == 0 { "without rowid" } else { "" };
    let options = [without, if strict { "strict" } else { "" }];
    let options: Vec<&str> = options.into_iter().filter(|option| !option.is_empty()).collect();
    format!("create table t ({columns}{more}{key}) {}", options.join(", "))
}

fn statement(chance: &mut Chance) -> String {
    let (a, b) = (chance.pick(&VALUES), chance.pick(&VALUES));
    let wh = chance.pick(&["", " where n < 3", " where k > 'A'", " where n % 2 = 0", " where v is null"]);
    match chance.below(10) {
        0 => format!("update t set k = {a}{wh}"),
        1 => format!("update t set k = upper(k){wh}"),
        2 => format!("update t set k = k + 0.0{wh}"),
        3 => format!("update or replace t set k = {a}, v = {b}{wh}"),
        4 => format!("delete from t{wh}"),
        5 => format!("replace into t (k, n, v) values ({a}, 7, {b})"),
        6 => format!(
            "insert into t (k, n, v) values ({a}, 8, {b}) on conflict do update set k = excluded.k, n = 9"
        ),
        7 => format!("insert or ignore into t (k, n, v) values ({a}, 1, {b}), ({b}, 2, {a})"),
        8 => format!("update t set v = {a}, n = n + 1{wh}"),
        _ => format!("insert into t (n, v) values (5, {a})"),
    }
}

#[tokio::test]
async fn random_writes_to_odd_tables_come_back_bit_for_bit_or_do_not_happen() {
    let mut chance = Chance(20_261_129);
    let (mut back, mut refused) = (0, 0);
    for _table in 0..60 {
        let schema = table(&mut chance);
        let world = World::new(&schema).await;
        for _row in 0..6 {
            let (k, n, v) = (chance.pick(&VALUES), chance.below(6), chance.pick(&VALUES));
            // What the table does not take, it does not take.
            let _taken = world.other.execute(&format!("insert into t (k, n, v) values ({k}, {n}, {v})"), []);
        }
        // A column that older rows do not have on the disk.
        if chance.below(3) == 0 {
            world.other.execute_batch("alter table t add column late any default 'd'").unwrap();
        }
        for _statement in 0..6 {
            let sql = statement(&mut chance);
            let before = dump(&world.other);
            let Ok((call, _)) = world.call(&sql).await else {
                assert_eq!(dump(&world.other), before, "{schema}; {sql}");
                refused += 1;
                continue;
            };
            let after = dump(&world.other);
            if after == before {
                continue;
            }
            let (by, _) = world
                .undo(&call, OnChange::Refuse)
                .await
                .unwrap_or_else(|error| panic!("{schema}; {sql}: {error}"));
            assert_eq!(dump(&world.other), before, "{schema}; {sql}");
            world
                .undo(&by, OnChange::Refuse)
                .await
                .unwrap_or_else(|error| panic!("{schema}; {sql}: {error}"));
            assert_eq!(dump(&world.other), after, "{schema}; {sql}");
            back += 1;
        }
    }
    assert!(back > 100, "{back} came back, {refused} were refused: the cases say little");
}
