//! What a real server runs that no text asks for: the conversions of literals, and what planning works out. A statement that
//! writes through one of them is never called a read with the catalog of its database.

use countersign_sql::{Dialect, Effect, Known, explain};
use tokio_postgres::Client;

use crate::inspect::postgres_snapshot;
use crate::postgres::{SERVERS, database_on};

/// Domains whose condition writes, in tables and beside them; and functions that promise to be immutable until there is
/// something that keeps a call of them.
const SCHEMA: &str = "
    drop schema public cascade; create schema public;
    create table log (n int);
    create function w() returns int language plpgsql as 'begin insert into log values (1); return 1; end';
    create function liar(int) returns int language plpgsql immutable as 'begin return 0; end';
    create domain gd as int check (w() > 0);
    create domain gt as text check (w() > 0);
    create domain calm as int check (value > 0);
    create domain lying as int default liar(1);
    create table t (a gd, b gt, n int);
    insert into t values (1, 'x', 2);
    create view vt as select a, b from t;
    create materialized view mt as select * from t;
    create table heir () inherits (t);
    create table peaceful (a calm, b text, n int);
    insert into peaceful values (1, 'x', 2);
    create function f_row() returns setof t language sql stable as 'select * from t';
    create function same(anyelement, anyelement) returns bool language sql immutable as 'select $1 is not null and $2 is not null';
    create function alike(anycompatible, anycompatible) returns bool language sql immutable as 'select $1 is not null and $2 is not null';
    create function several(variadic anyarray) returns int language sql immutable as 'select cardinality($1)';
    create operator ==== (leftarg = anyelement, rightarg = anyelement, function = same);
    create table defaulted (id int, v int default liar(1), d lying);
    create view shown as select id, v from defaulted;
    create table ruled (id int);
    create rule also as on insert to ruled do also insert into log select liar(1);
    create table secured (id int);
    alter table secured enable row level security;
    create policy p on secured for insert with check (liar(1) >= 0);
    create table indexed (id int, v int);
    create index on indexed ((v + liar(1)));
    create table partial (id int, v int);
    create index on partial (id) where v > liar(1);
    create table checked (id int, v int check (v > liar(1)));
    create table checked_low () inherits (checked);
    create table counted (id int, v int);
    create statistics s on (v + liar(1)), id from counted;
    create table parted (id int) partition by range ((id + liar(1)));
    create table parted_low partition of parted for values from (0) to (10);
    create table varying (id int, v int check (liar(v) >= 0));
    create index on varying (liar(id));
    create or replace function liar(int) returns int language plpgsql immutable as 'begin return w(); end';
    insert into varying values (1, 1);
";

const WRITING: [&str; 68] = [
    // A text beside a whole row.
    "select coalesce(t, '(1,x,2)') from t",
    "select coalesce(x, '(1,x,2)') from t x",
    "select coalesce(t.*, '(1,x,2)') from t",
    "select case when t.n = 2 then '(1,x,2)' else t end from t",
    "select array[t, '(1,x,2)'] from t",
    "select t from t union select '(1,x,2)'",
    "select '(1,x,2)' union all select t from t",
    "values ((select t from t)), ('(1,x,2)')",
    "select greatest(t, '(1,x,2)') from t",
    "select same(t, '(1,x,2)') from t",
    "select alike(t, '(1,x,2)') from t",
    "select lag(t, 1, '(1,x,2)') over (order by n) from t",
    "select array_append(array_agg(t), '(1,x,2)') from t",
    "select array_agg(t) || '{\"(1,x,2)\"}' from t",
    "select coalesce(array_agg(t), '{\"(1,x,2)\"}') from t",
    "select array(select t from t) = '{\"(1,x,2)\"}'",
    "select coalesce(vt, '(1,x)') from vt",
    "select coalesce(mt, '(1,x,2)') from mt",
    "select coalesce(h, '(1,x,2)') from heir h",
    "select coalesce(f, '(1,x,2)') from f_row() f",
    "select coalesce(s.r, '(1,x,2)') from (select t as r from t) s",
    "with c as (select t as z from t) select coalesce(z, '(1,x,2)') from c",
    "select coalesce((select x from t as x limit 1), '(1,x,2)')",
    "select coalesce(u, '(1,x,2)') from unnest((select array_agg(t) from t)) u",
    "select coalesce(l.t, '(1,x,2)') from t left join lateral (select t) l on true",
    "select coalesce(q, '(1,x,2)') from (t as q cross join defaulted)",
    "explain select coalesce(t, '(1,x,2)') from t",
    "explain create table made as select coalesce(t, '(1,x,2)') from t",
    "explain update t set n = (coalesce(t, '(1,x,2)')).n",
    "explain delete from t as q where coalesce(q, '(1,x,2)') is null",
    "explain insert into t as q values (1, 'x', 2) returning coalesce(q, '(1,x,2)')",
    "explain merge into t as q using defaulted d on (coalesce(q, '(1,x,2)')).n = d.id when matched then do nothing",
    // A text or nothing beside a domain, where it is an element, or an argument of any type.
    "select same(a, '1') from t",
    "select same(a, null) from t",
    "select alike(a, '1') from t",
    "select a ==== '1' from t",
    "select several(a, '1') from t",
    "select lag(a, 1, '1') over () from t",
    "select lead(a, 1, null) over () from t",
    "select array_append(array[a], '1') from t",
    "select array_append(array_agg(a), null) from t",
    "select array_append('{1}', a) from t",
    "select array_position('{1}', a) from t",
    "select array_fill(a, array[2]) = '{1}' from t",
    "select array_replace(array_agg(a), '1', '2') from t",
    "select array_agg(a) || '{1}' from t",
    "select array[a] || '{1}' from t",
    "select array[array[a], '{1}'] from t",
    "select (array_agg(a))[1:1] = '{1}' from t",
    "select array(select a from t) = '{1}'",
    "select percentile_disc(array[0.5]) within group (order by a) = '{1}' from t",
    "select width_bucket(a, '{1,2}') from t",
    // What a change would take that is only planned.
    "explain insert into defaulted (id) values (1)",
    "explain insert into defaulted (v) values (1)",
    "explain insert into defaulted values (1, default)",
    "explain insert into shown (id) values (1)",
    "explain update defaulted set v = default",
    "explain merge into defaulted d using t on d.id = t.n when not matched then insert (id) values (1)",
    "explain insert into ruled values (1)",
    "explain insert into secured values (1)",
    // What planning works out of a relation that is read.
    "select * from indexed",
    "select * from partial",
    "select count(*) from checked where v = 3",
    "select * from counted where v = 3",
    "select * from parted",
    "explain select * from indexed i join t on i.id = t.n",
    "select (select count(*) from partial)",
    "select * from parted p where id = 3",
];

const HARMLESS: [&str; 26] = [
    "select a from t where n = 2",
    "select t.* from t where b = 'x'",
    "select q.a, n from t q where b in ('x', 'y') order by a",
    "select coalesce(a, '1'), coalesce(a, null), nullif(a, '1'), greatest(a, '2') from t",
    "select case a when '1' then 2 end, a between '1' and '2', a is distinct from '1' from t",
    "select a from t union select '1'",
    "select a = any ('{1}'), (a, b) in (('1', 'x')) from t",
    "select b || ', ' || b, upper(b) from t",
    "select array_agg(a), array_agg(t), count(t) from t",
    "select array_append(array_agg(a), 1), array_agg(a) || 1 from t",
    "select row_to_json(t), t is null from t",
    "select sum(n) over (order by a range between '1' preceding and '1' following) from t limit '1' offset '0'",
    "explain insert into t values ('1', 'x', 2)",
    "explain update t set a = '1' where n = 2",
    "select coalesce(p, '(1,x,2)'), array_append(array_agg(p.a), '1') from peaceful p group by p",
    "select same(p, '(1,x,2)'), same(p.a, '1'), lag(p.a, 1, '1') over () from peaceful p",
    "select p from peaceful p where b = 'x' union select '(1,x,2)'",
    "explain insert into peaceful values ('1', 'x', '2')",
    "explain insert into log values (1)",
    "explain delete from defaulted where id = 1",
    "explain delete from ruled",
    "select id from defaulted where v = 1",
    "select * from ruled where id = '1'",
    // A call with a column is not worked out in advance.
    "select * from varying where id = '1'",
    "select id, count(*) from varying group by id",
    "select * from varying v join peaceful p on p.n = v.id",
];

#[tokio::test]
async fn no_conversion_and_no_plan_that_writes_is_called_a_read() {
    for server in SERVERS {
        let db = database_on(server, "conversions", 0).await;
        db.client.batch_execute(SCHEMA).await.unwrap();
        let role = format!("countersign_plans_{}", std::process::id());
        // Whoever owns a table is not held to its policies.
        let grants = format!(
            "drop role if exists {role}; create role {role}; grant usage on schema public to {role};
             grant all on all tables in schema public to {role}; grant select on all tables in schema pg_catalog to {role}"
        );
        db.client.batch_execute(&grants).await.unwrap();
        let known = Known::new(postgres_snapshot(&db).await.catalog);
        for (statements, writes) in [(WRITING.as_slice(), true), (HARMLESS.as_slice(), false)] {
            for sql in statements {
                let told = explain(Dialect::Postgres, sql, Some(&known)).unwrap();
                assert_eq!(told.effect == Effect::Read, !writes, "{sql}: {:?}", told.reasons);
                // What is kept of a relation's indexes is worked out once in each session.
                let session = crate::postgres::connect(&db.url).await;
                session.batch_execute(&format!("begin; set local role {role}")).await.unwrap();
                session.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
                assert_eq!(has_written(&session).await, writes, "{server}: {sql}");
                session.batch_execute("rollback").await.unwrap();
            }
        }
        db.client.batch_execute(&format!("drop owned by {role}; drop role {role}")).await.unwrap();
    }
}

async fn has_written(client: &Client) -> bool {
    let sql = "select pg_current_xact_id_if_assigned() is not null";
    client.query_one(sql, &[]).await.unwrap().get(0)
}
