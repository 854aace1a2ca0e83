//! A condition that is true for every row, or for nearly every one, bounds nothing. Real databases say of each whether it
//! is: here every column of every row has a value.

use countersign_sql::{Bound, Dialect, Effect, explain};
use rusqlite::Connection;

use crate::chance::Chance;
use crate::postgres_server::servers;

/// Conditions that nearly every row of `person` meets, on both databases.
const NEARLY_TRUE: [&str; 63] = [
    "true",
    "1 = 1",
    "'a' = 'a'",
    "2 > 1",
    "'b' >= 'a'",
    "not (1 = 2)",
    "1 <> 2",
    "1 in (1, 2)",
    "1 between 0 and 2",
    "name is not null",
    "person.name is not null",
    "(name) is not null",
    "not (name is null)",
    "not name is null",
    "not (not (name is not null))",
    "name is not null and id is not null",
    "name is not null or id = 5",
    "id = 5 or id <> 5",
    "id = 5 or not (id = 5)",
    "not (id = 5 and id <> 5)",
    "not (id > 5 and id <= 5)",
    "id > 5 or id < 10",
    "id <> 1 or id <> 2",
    "id < 5 or name = 'x' or id >= 5",
    "id = id",
    "person.id = id",
    "(id) = (id)",
    "id >= id",
    "id <= id",
    "id between id and id",
    "id in (id)",
    "id in (7, id)",
    "id + 0 = id",
    "0 + id = id",
    "id * 1 = id",
    "id * 0 = 0",
    "id - id = 0",
    "id - 0 >= id",
    "name || '' = name",
    "lower(name) = lower(name)",
    "lower(person.name) = lower(name)",
    "coalesce(name, 'x') is not null",
    "coalesce(name, 'x') = name",
    "coalesce(name, 'x') = coalesce(name, 'x')",
    "coalesce(null, name) = name",
    "nullif(name, '') is not null",
    "name <> ''",
    "name > ''",
    "'' <= name",
    "not (name = '')",
    "length(name) >= 0",
    "length(name) > 0",
    "-1 < length(name)",
    "abs(id) >= 0",
    "name like '%'",
    "name like '%%'",
    "name like '_%'",
    "name like name",
    "case when id > 5 then true else true end",
    "case when true then true end",
    "case id when 5 then false else true end or id = 5",
    "exists (select 1)",
    "id in (select id from person)",
];

const POSTGRES: [&str; 46] = [
    "ctid is not null",
    "ctid > '(0,0)'",
    "ctid >= '(0,0)'::tid",
    "xmin is not null",
    "tableoid is not null",
    "tableoid = 'person'::regclass",
    "name is distinct from null",
    "name is not distinct from name",
    "name is distinct from ''",
    "name ilike '%'",
    "name ~~ '%'",
    "name !~~ ''",
    "name like '%' escape '\\'",
    "name similar to '%'",
    "name ~ ''",
    "name ~ '.*'",
    "name ~ '^'",
    "name ~* '.'",
    "name ^@ ''",
    "starts_with(name, '')",
    "textlike(name, '%')",
    "int4eq(id, id)",
    "num_nulls(name) = 0",
    "num_nonnulls(name) > 0",
    "pg_typeof(id) = 'integer'::regtype",
    "id > '-infinity'::float8",
    "id = any (array[id])",
    "id = any (select id from person)",
    "id = any (array(select id from person))",
    "id <> all (array['1'::int]) or id = 1",
    "(id, name) in (select id, name from person)",
    "(id, name) = (id, name)",
    "row(id, name) is not null",
    "(name is null) = false",
    "(name is not null) is true",
    "(id = null) is null",
    "(id = null) is unknown",
    "(id = 5) is not unknown",
    "(id = 5) is not null",
    "id not in (select id from person where false)",
    "id = (select id)",
    "(select true)",
    "exists (select 1 from person p where p.id = person.id)",
    "exists (select from person where true)",
    "id in (select p.id from public.person p where p.name is not null)",
    "id not between id + 1 and id - 1 or id = id",
];

const SQLITE: [&str; 30] = [
    "1",
    "2.5",
    "'1'",
    "rowid is not null",
    "rowid",
    "rowid > 0",
    "_rowid_ >= 0",
    "oid <> 0",
    "rowid in (select rowid from person)",
    "rowid in (select _rowid_ from person)",
    "name notnull",
    "name not null",
    "not name isnull",
    "name is name",
    "name == name",
    "name is not ''",
    "name glob '*'",
    "glob('*', name)",
    "like('%', name)",
    "name like '%' escape '!'",
    "name not like ''",
    "typeof(name) <> 'null'",
    "ifnull(name, 1) = name",
    "iif(id > 5, 1, 1)",
    "likely(name is not null)",
    "(name is null) = 0",
    "(name is not null) = 1",
    "(id = null) is null",
    "exists (select 1 from person p where p.id = person.id)",
    "id < 9e999",
];

/// Conditions that choose among rows, on both databases.
const CHOOSING: [&str; 34] = [
    "id = 5",
    "id > 5",
    "id > 0",
    "id <> 5",
    "id in (1, 2)",
    "id not in (1, 2)",
    "id between 2 and 4",
    "name = 'n3'",
    "name is null",
    "name like 'n%'",
    "name like '%3'",
    "name like '___'",
    "name is not null and id = 5",
    "name <> '' and id = 5",
    "1 = 1 and id = 5",
    "id = 5 or id = 6",
    "id = 5 or 1 = 2",
    "id > 5 and id < 10",
    "id < 5 or id > 10",
    "not (id = 5 or id = 6)",
    "length(name) > 3",
    "length(name) = 2",
    "abs(id) > 5",
    "id * 2 = 6",
    "id + 1 = 4",
    "id = id + 1 or id = 2",
    "coalesce(name, '') = 'n3'",
    "case when id > 5 then true else false end",
    "case when id > 5 then false else true end",
    "id in (select id from person where id > 5)",
    "exists (select 1 from other o where o.person = person.id)",
    "not exists (select 1 from person p where p.name = person.name and p.id < person.id + 0 and p.id > 3)",
    "id = (select max(id) from person)",
    "name in (select 'n3')",
];

const SCHEMA: &str =
    "create table person (id int primary key, name text); create table other (id int, person int);";

fn bound(dialect: Dialect, sql: &str) -> Bound {
    let explained = explain(dialect, sql, None).unwrap_or_else(|error| panic!("{error}: {sql}"));
    let bound = explained.statements[0].bounded;
    // Where it bounds nothing, that is said.
    assert_eq!(
        explained.reasons.iter().any(|reason| reason.code == "unbounded"),
        bound != Bound::Predicate,
        "{sql}"
    );
    assert!(bound == Bound::Predicate || explained.effect == Effect::Destructive, "{sql}");
    bound
}

fn changes(condition: &str) -> [String; 2] {
    [
        format!("delete from person where {condition}"),
        format!("update person set name = 'x' where {condition}"),
    ]
}

fn sqlite() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    for id in 1..=20 {
        connection.execute("insert into person values (?1, 'n' || ?1)", [id]).unwrap();
    }
    connection.execute("insert into other values (1, 3)", []).unwrap();
    connection
}

fn counted(connection: &Connection, condition: &str) -> i64 {
    let sql = format!("select count(*) from person where {condition}");
    connection.query_row(&sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{error}: {sql}"))
}

#[test]
fn a_condition_that_nearly_every_row_meets_bounds_nothing() {
    let connection = sqlite();
    for (dialect, more) in [(Dialect::Postgres, POSTGRES.as_slice()), (Dialect::Sqlite, SQLITE.as_slice())] {
        for condition in NEARLY_TRUE.iter().chain(more) {
            for sql in changes(condition) {
                assert_eq!(bound(dialect, &sql), Bound::Tautology, "{dialect}: {sql}");
            }
            if dialect == Dialect::Sqlite {
                assert_eq!(counted(&connection, condition), 20, "{condition}");
            }
        }
        for condition in CHOOSING {
            for sql in changes(condition) {
                assert_eq!(bound(dialect, &sql), Bound::Predicate, "{dialect}: {sql}");
            }
        }
    }
}

#[test]
fn a_join_that_says_nothing_of_the_target_bounds_nothing() {
    for sql in [
        "delete from person using other where true",
        "delete from person using other o where o.id = 5",
        "delete from person using other where other.id is not null",
        "delete from person using other o where person.name is not null",
        "delete from person p using person q where p.id = q.id",
        "delete from person p using public.person q where q.id = p.id and p.name is not null",
        "delete from person using (select id from person) s where s.id = person.id",
        "with a as (select id from person) delete from person where id in (select id from a)",
        "with a as (select * from person where name is not null) delete from person using a where a.id = person.id",
        "update person set name = 'x' from other o where o.id > 5 and o.person < 3",
        "update person set name = 'x' from (values (1)) v (n) where v.n = 1",
        "update person p set name = 'x' from person q join other o on true where p.id = q.id",
        "update person set name = 'x' from generate_series(1, 2) g where g = 1 or person.id = person.id",
        "merge into person p using person q on p.id = q.id when matched then update set name = 'x'",
        "merge into person p using other o on o.id = 5 when matched then update set name = 'x'",
        "merge into person p using other o on p.id is not null when matched then delete",
    ] {
        let explained = explain(Dialect::Postgres, sql, None).unwrap();
        assert_eq!(explained.statements[0].bounded, Bound::Tautology, "{sql}");
    }
    for sql in [
        "delete from person using other o where o.person = person.id",
        "delete from person p using person q where p.id < q.id and p.name = q.name",
        "delete from person using other o where o.id = 5 and person.id = o.person",
        "update person set name = 'x' from other where other.person = id",
        "with a as (select id from person where id > 5) delete from person where id in (select id from a)",
        "with a as (select id from person limit 5) delete from person where id in (select id from a)",
        "delete from person where id in (select id from person order by id limit 5)",
        "merge into person p using other o on p.id = o.person when matched then update set name = 'x'",
    ] {
        let explained = explain(Dialect::Postgres, sql, None).unwrap();
        assert_eq!(explained.statements[0].bounded, Bound::Predicate, "{sql}");
    }
    for (sql, bound) in [
        ("update person set name = 'x' from other o where o.id = 5", Bound::Tautology),
        ("update person set name = 'x' from other where other.id is not null", Bound::Tautology),
        ("update person as p set name = 'x' from person q where p.id = q.id", Bound::Tautology),
        ("update person set name = 'x' from other o where o.person = person.id", Bound::Predicate),
        (
            "update person as p set name = 'x' from other o where o.person = p.id and o.id = 5",
            Bound::Predicate,
        ),
    ] {
        assert_eq!(explain(Dialect::Sqlite, sql, None).unwrap().statements[0].bounded, bound, "{sql}");
    }
}

/// Conditions at random: those that are made to be met by nearly every row, and others.
struct Maker {
    chance: Chance,
    own: &'static [&'static str],
}

impl Maker {
    fn any(&mut self, depth: usize) -> String {
        match self.chance.below(3) {
            0 => self.met(depth),
            1 => self.refused(depth),
            _ => self.chance.pick(&CHOOSING).to_owned(),
        }
    }

    /// Nearly every row meets it.
    fn met(&mut self, depth: usize) -> String {
        let deeper = depth.saturating_sub(1);
        match if depth == 0 { 0 } else { self.chance.below(7) } {
            1 => format!("({} and {})", self.met(deeper), self.met(deeper)),
            2 => format!("({} or {})", self.met(deeper), self.any(deeper)),
            3 => format!("({} or {})", self.any(deeper), self.met(deeper)),
            4 => format!("not {}", self.refused(deeper)),
            5 => {
                let one = self.chance.pick(&CHOOSING).to_owned();
                format!("(({one}) or {} or not ({one}))", self.any(deeper))
            }
            6 => format!("case when {} then {} else {} end", self.any(deeper), self.met(0), self.met(0)),
            _ => {
                let own = self.own;
                let pool = if self.chance.below(2) == 0 { &NEARLY_TRUE[..] } else { own };
                format!("({})", self.chance.pick(pool))
            }
        }
    }

    /// Hardly any row meets it.
    fn refused(&mut self, depth: usize) -> String {
        const NEVER: [&str; 9] = [
            "false",
            "1 = 2",
            "name is null",
            "id < id",
            "id <> id",
            "name = ''",
            "length(name) < 0",
            "not (id = id)",
            "id = null and 1 = 2",
        ];
        let deeper = depth.saturating_sub(1);
        match if depth == 0 { 0 } else { self.chance.below(4) } {
            1 => format!("not {}", self.met(deeper)),
            2 => format!("({} or {})", self.refused(deeper), self.refused(deeper)),
            3 => format!("({} and {})", self.met(deeper), self.refused(deeper)),
            _ => format!("({})", self.chance.pick(&NEVER)),
        }
    }
}

const RANDOM: usize = 1_500;

/// What came of it: `all` and `none` are what the database says.
#[derive(Default)]
struct Tally {
    unbounded: usize,
    chosen: usize,
}

impl Tally {
    fn judge(&mut self, dialect: Dialect, condition: &str, met: bool, rows: i64) {
        let [sql, _] = changes(condition);
        let bound = bound(dialect, &sql);
        if met {
            assert_eq!(rows, 20, "the test is wrong: {condition}");
            assert_eq!(bound, Bound::Tautology, "{dialect}: {condition}");
        }
        // Never of a condition that chooses: with a value in every column it holds for all rows or for none.
        if bound == Bound::Tautology {
            self.unbounded += 1;
            assert!(rows == 20 || rows == 0, "{dialect}: called unbounded, and meets {rows}: {condition}");
        } else {
            self.chosen += usize::from(rows > 0 && rows < 20);
        }
    }
}

#[test]
fn random_conditions_are_told_apart_as_sqlite_does() {
    let connection = sqlite();
    let mut maker = Maker { chance: Chance::new(0x0b0d), own: &SQLITE };
    let mut tally = Tally::default();
    for round in 0..RANDOM {
        let met = round % 2 == 0;
        let condition = if met { maker.met(3) } else { maker.any(3) };
        let rows = counted(&connection, &condition);
        tally.judge(Dialect::Sqlite, &condition, met, rows);
    }
    assert!(
        tally.unbounded > RANDOM / 2 && tally.chosen > 50,
        "{} unbounded, {} chosen",
        tally.unbounded,
        tally.chosen
    );
}

#[tokio::test]
async fn random_conditions_are_told_apart_as_postgres_does() {
    for client in servers().await {
        client
            .batch_execute(
                "begin; create schema bounds; set local search_path = bounds, public;
                 create table bounds.person (id int primary key, name text); create table bounds.other (id int, person int);
                 insert into person select i, 'n' || i from generate_series(1, 20) i; insert into other values (1, 3)",
            )
            .await
            .unwrap();
        for condition in NEARLY_TRUE.iter().chain(&POSTGRES) {
            let sql =
                format!("select count(*) from person where {}", condition.replace("public.", "bounds."));
            let rows: i64 =
                client.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{error:?}: {sql}")).get(0);
            assert_eq!(rows, 20, "{condition}");
        }
        let mut maker = Maker { chance: Chance::new(0x0b0d), own: &POSTGRES };
        let mut tally = Tally::default();
        for round in 0..RANDOM {
            let met = round % 2 == 0;
            let condition = if met { maker.met(3) } else { maker.any(3) };
            let sql =
                format!("select count(*) from person where {}", condition.replace("public.", "bounds."));
            let rows: i64 =
                client.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{error:?}: {sql}")).get(0);
            tally.judge(Dialect::Postgres, &condition, met, rows);
        }
        client.batch_execute("rollback").await.unwrap();
        assert!(
            tally.unbounded > RANDOM / 2 && tally.chosen > 50,
            "{} unbounded, {} chosen",
            tally.unbounded,
            tally.chosen
        );
    }
}
