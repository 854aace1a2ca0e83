//! Undo of awkward tables and values: everything comes back bit for bit.

use super::*;

const AWKWARD: &str = "
    create table strict (id integer primary key, i int, r real, t text, b blob, a any, note text as (t || '!') stored, twice int as (i % 7) virtual) strict;
    create table folded (name text collate nocase primary key, n) without rowid;
    create table rid (k text primary key, v);
    create table keyed (a, b, v, primary key (b, a));
    create table parent (id integer primary key, code text unique);
    create table child (id integer primary key, code text references parent (code) on update cascade on delete cascade deferrable initially deferred);
    create table queue (id integer primary key autoincrement, place integer unique, holder text unique check (length(holder) > 0));
    insert into strict (id, i, r, t, b, a) values
      (1, 9007199254740993, -0.0, 'a' || char(0) || 'b', x'00ff00', 1),
      (2, -9223372036854775808, 1e308, '', x'', '1'),
      (3, 9223372036854775807, 9e999, 'ß', zeroblob(65536), 1.0),
      (4, null, -9e999, null, null, x'31'),
      (5, 0, 5e-324, cast(x'ff' as text), x'ff', null);
    insert into folded values ('Ada', 1), ('bob', 2), ('CYD', 3);
    insert into rid (rowid, k, v) values (10, 'ten', 1), (20, 'twenty', 2), (9223372036854775807, 'last', 3);
    insert into keyed values (1, 'x', 1), (1.5, 'x', 2), ('1', 'x', 3), (x'31', 'x', 4);
    insert into parent values (1, 'p'), (2, 'q'); insert into child values (1, 'p'), (2, 'p'), (3, 'q');
    insert into queue values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c');
";

#[tokio::test]
async fn awkward_values_keys_and_tables_come_back_bit_for_bit_again_and_again() {
    let world = World::new(AWKWARD).await;
    for sql in [
        "update strict set i = 1, r = r * 2, t = 'x', b = x'01', a = 'other'",
        "delete from strict",
        "update folded set name = upper(name)",
        "update folded set n = n + 1 where name = 'ADA'",
        "insert into folded values ('ada', 9), ('dee', 4) on conflict (name) do update set n = excluded.n, name = 'ADA'",
        "update rid set v = v + 1, k = k || '!'",
        "delete from rid where v > 1",
        "update keyed set a = a || '' where a = 1.5",
        "update keyed set v = v + 1",
        "delete from keyed where typeof(a) = 'blob'",
        "update parent set code = code || code",
        "delete from parent where id = 1",
        "update queue set place = -place",
        "update queue set place = 4 - place, holder = holder || place where id <> 2 and place = 9",
        "insert or replace into queue values (1, 2, 'c')",
        "insert into queue (place, holder) values (7, 'new')",
        "delete from queue",
        "replace into rid (k, v) values ('ten', 5), ('new', 6)",
    ] {
        let before = dump(&world.other);
        let (call, _) = world.call(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let after = dump(&world.other);
        if after == before {
            continue;
        }
        let mut call = call;
        for turn in 0..5 {
            let (by, _) =
                world.undo(&call, OnChange::Refuse).await.unwrap_or_else(|e| panic!("{sql}: {turn}: {e}"));
            assert_eq!(
                dump(&world.other),
                if turn % 2 == 0 { before.clone() } else { after.clone() },
                "{sql}: {turn}"
            );
            call = by;
        }
    }
}

#[tokio::test]
async fn unique_values_in_other_hands_come_back_with_all_who_refer_to_them() {
    let world = World::new(
        "create table t (id integer primary key, pos integer not null unique);
         create table c (id integer primary key, t integer references t (id) on delete cascade, pos integer references t (pos) on delete cascade);
         insert into t values (1, 1), (2, 2), (3, 3); insert into c values (1, 1, 1), (2, 2, 2), (3, 3, 3);",
    )
    .await;
    let before = dump(&world.other);
    // SQLite looks at each row as it changes: a swap takes two steps, and they are one call.
    let call = world.done("insert or replace into t (id, pos) select id, pos % 3 + 1 from t").await;
    assert_ne!(dump(&world.other), before);
    world.undo(&call, OnChange::Refuse).await.unwrap();
    assert_eq!(dump(&world.other), before);
}

#[tokio::test]
async fn a_table_that_changed_is_left_alone_and_a_rowid_that_others_took_is_not_taken_back() {
    for change in [
        "alter table t add column more",
        "alter table t drop column n",
        "alter table t rename column n to m",
        "alter table t rename to u",
        "drop table t",
    ] {
        let world =
            World::new("create table t (id integer primary key, n); insert into t values (1, 1);").await;
        let call = world.done("update t set n = 2").await;
        world.other.execute_batch(change).unwrap();
        world.failure(world.undo(&call, OnChange::Skip)).await;
    }
    let world =
        World::new("create table t (id integer primary key, n); insert into t values (1, 1), (2, 2);").await;
    let call = world.done("delete from t where id = 2").await;
    // Without AUTOINCREMENT the number is given again.
    world.other.execute_batch("insert into t (n) values (77)").unwrap();
    let said = world.failure(world.undo(&call, OnChange::Refuse)).await;
    assert!(said.contains("changed since"), "{said}");
    assert_eq!(world.count("select n from t where id = 2"), 77);
}
