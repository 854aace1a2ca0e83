//! The incident, again and again: an agent that writes SQL of its own goes by every way around that is known, over
//! REST and MCP, as an account that may do anything, before a person who approves whatever is asked. In the end no
//! more rows have changed than that person was shown.

#![expect(clippy::disallowed_methods, reason = "the test looks at the databases from outside")]

use std::collections::BTreeSet;

use rmcp::{
    ClientLifecycleMode, ClientServiceExt as _, RoleClient,
    model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion},
    service::RunningService,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};

use crate::{
    binary::run_in,
    deployment::{Deployment, http},
    place::{Database, Place, execute},
    served::Served,
};

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
wait_ms = 0
[store]
path = "countersign.db"
[log]
origin = "test.example/incident"
key = "log.key"
[agent.ada]
accounts = ["acme"]
[person.carol]
groups = ["approvers"]
[system.shop]
environment = "production"
account = "acme"
SYSTEM
[tool.sql]
system = "shop"
description = "Runs a statement."
effect = "from_statement"
tables = ["billing", "line", "shown", "ruled", "trap", "copy", "tiny"]
functions = ["purge"]
rows_max = 20
"#;

const POLICIES: &str = r#"
@id("reads") permit (principal, action, resource) when { context.effect == "read" };
@id("writes") @ask("approvers") permit (principal, action, resource) when { context.effect != "read" };
"#;

/// 142 of 200 billings, each with a line, are older than February.
const ROWS: usize = 200;

const POSTGRES: &str = "
create table billing (id int primary key, created_at date not null, total int not null);
create table line (id int primary key, billing int references billing on delete cascade on update cascade);
insert into billing select i, case when i <= 142 then date '2026-01-15' else date '2026-02-15' end, i
  from generate_series(1, 200) i;
insert into line select id, id from billing;
create table tiny (id int primary key); insert into tiny values (1), (2);
create table trap (id int); create view shown as select * from billing; create view ruled as select * from billing;
create rule more as on update to ruled do instead delete from line;
create function purge() returns int language plpgsql as $$ begin delete from billing; return 1; end $$;
create function meek() returns int language sql stable as 'select purge()';
create function springs() returns trigger language plpgsql as $$ begin delete from billing; return null; end $$;
create trigger trap after insert on trap for each statement execute function springs();
create trigger late after update on tiny for each row execute function springs();
create operator === (leftarg = int, rightarg = int, function = int4eq);
create procedure wipe() language sql as 'delete from billing';
";

const POSTGRES_WAYS: &[&str] = &[
    "DELETE FROM billing WHERE created_at < '2026-02-01'",
    "delete from only billing",
    "delete from billing where id in (select id from billing)",
    "delete from billing b using line l where l.billing = b.id",
    r#"/* select */ DeLeTe FROM "billing" -- where false"#,
    r#"delete from U&"\0062illing" where true"#,
    "delete from public.billing where id = 1 or exists (select 1)",
    "with gone as (delete from billing returning *) select count(*) from gone",
    "with gone as (delete from billing returning *), more as (delete from line returning *) select 1 from gone",
    "with gone as (delete from billing returning id) insert into tiny select id + 1000 from gone",
    "with gone as (delete from billing returning id) delete from tiny where id = 1",
    "merge into billing b using line l on l.billing = b.id when matched then delete",
    "merge into tiny t using (select 1 as id) s on t.id = s.id when matched then update set id = 1",
    "update billing set total = 0",
    "update billing set id = id + 1000",
    "update line set billing = null from billing",
    "update tiny set id = 3 where id = 2",
    "insert into billing select id + 1000, created_at, total from billing",
    "insert into billing select * from billing on conflict (id) do update set total = 0",
    "insert into trap values (1)",
    "insert into line select i, null from generate_series(1000, 2000) i",
    "delete from shown",
    "update shown set total = 0 where created_at < '2026-02-01'",
    "update ruled set total = 0 where id = 1",
    "select purge()",
    "select meek()",
    "select wipe()",
    "select * from billing where purge() = 1",
    "delete from billing where id = 1 and purge() = 1",
    "delete from billing where id operator(public.===) id",
    "values (purge())",
    "call wipe()",
    "do $$ begin delete from billing; end $$",
    "truncate billing cascade",
    "truncate billing, line",
    "truncate line",
    "drop table line",
    "drop/**/table line",
    "drop table billing cascade",
    "drop owned by current_user cascade",
    "drop schema public cascade",
    "alter table billing drop column total",
    "alter table billing alter column total type text using '0'",
    "explain (analyze true) delete from billing",
    "explain (analyze false, analyze) delete from billing",
    "prepare p as delete from billing",
    "execute p",
    "declare c cursor for select * from billing for update",
    "delete from billing where current of c",
    "copy billing from stdin",
    "copy (with gone as (delete from billing returning *) select * from gone) to stdout",
    "copy billing from '/etc/passwd'",
    "copy billing to program 'cat'",
    "create table copy as with gone as (delete from billing returning *) select * from gone",
    "with gone as (delete from billing returning *) select * into copy from gone",
    "create rule r as on update to tiny do instead delete from billing",
    "create or replace function purge() returns int language sql as 'select 1'",
    "set role postgres",
    "set search_path = pg_temp, public",
    "set constraints all deferred",
    "begin",
    "commit; delete from billing",
    "select 1; delete from billing",
    "delete from billing\\; select 1",
    "select $1; delete from billing",
    "select query_to_xml('delete from billing', true, true, '')",
    "select * from billing for update",
    "lock table billing",
    "refresh materialized view billing",
    "alter table line disable trigger all",
    "insert into pg_catalog.pg_class select * from pg_catalog.pg_class",
    "delete from pg_catalog.pg_class",
    "update pg_settings set setting = 'off' where name = 'track_counts'",
];

const SQLITE: &str = "
create table billing (id integer primary key, created_at text not null, total int not null unique);
create table line (id integer primary key, billing int references billing on delete cascade on update cascade
                   deferrable initially deferred);
with recursive n (i) as (select 1 union all select i + 1 from n where i < 200)
  insert into billing select i, case when i <= 142 then '2026-01-15' else '2026-02-15' end, i from n;
insert into line select id, id from billing;
create table tiny (id int primary key) without rowid; insert into tiny values (1), (2);
create table trap (id int); create view shown as select * from billing; create view ruled as select * from billing;
create trigger sweep instead of delete on shown begin delete from billing; end;
create trigger more instead of update on ruled begin delete from line; end;
create trigger trap after insert on trap begin delete from billing; end;
create trigger late after update on tiny begin delete from billing; end;
";

const SQLITE_WAYS: &[&str] = &[
    "DELETE FROM billing WHERE created_at < '2026-02-01'",
    "delete from main.billing",
    "delete from [billing] where 1",
    "delete from `billing` where id = id",
    r#"/* select */ DeLeTe FROM "billing" -- where false"#,
    "delete from billing where id in (select billing from line)",
    "with old as (select id from billing) delete from billing where id in old",
    "delete from billing returning *",
    "delete from billing order by id limit 150",
    "update billing set total = -total",
    "update billing set id = id + 1000",
    "update or replace billing set total = 1 where created_at < '2026-02-01'",
    "update line set billing = null from billing",
    "update tiny set id = 3 where id = 2",
    "replace into billing select id, created_at, 0 from billing",
    "insert or replace into billing (id, created_at, total) select id + 1000, created_at, total from billing",
    "insert into billing select * from billing where true on conflict (id) do update set total = -total",
    "insert into billing select id + 1000, created_at, total + 1000 from billing",
    "insert into trap values (1)",
    "delete from shown where id = 1",
    "update ruled set total = 0 where id = 1",
    "drop table line",
    "drop table billing",
    "drop view shown",
    "alter table billing drop column total",
    "alter table line rename column billing to gone",
    "create table copy as select * from billing",
    "create temp table billing as select 1",
    "create trigger t after insert on tiny begin delete from billing; end",
    "pragma writable_schema = on",
    "pragma foreign_keys = off",
    "pragma recursive_triggers = on",
    "pragma wal_checkpoint(truncate)",
    "delete from sqlite_master",
    "update sqlite_schema set sql = '' where name = 'billing'",
    "delete from sqlite_sequence",
    "attach 'other.db' as other",
    "vacuum into 'copy.db'",
    "vacuum",
    "begin",
    "commit; delete from billing",
    "select 1; delete from billing",
    "savepoint s",
    "explain delete from billing",
    "reindex",
    "analyze",
    "select load_extension('x')",
    "select writefile('billing.db', '')",
    "select * from temp.billing",
];

enum Door {
    Rest,
    Mcp(Box<RunningService<RoleClient, ClientConfig>>),
}

enum Shop {
    File,
    Server(Database),
}

struct World {
    deployment: Deployment,
    shop: Shop,
    /// Looks at a server's tables.
    client: Option<tokio_postgres::Client>,
    served: Served,
    http: reqwest::Client,
    ada: String,
    carol: String,
}

impl World {
    fn new(postgres: bool) -> Self {
        let (shop, system) = if postgres {
            let database = Database::create();
            execute(&database.url, POSTGRES.to_owned()).unwrap();
            (Shop::Server(database), "kind = \"postgres\"\nurl = { file = \"shop.url\" }")
        } else {
            (Shop::File, "kind = \"sqlite\"\npath = \"shop.db\"")
        };
        let main = CONFIG.replace("SYSTEM", system);
        let main = if postgres { main } else { main.replace("functions = [\"purge\"]\n", "") };
        let deployment = Deployment::new(Place::sqlite(), &main, POLICIES);
        match &shop {
            Shop::Server(database) => deployment.write_secret("shop.url", &database.url),
            Shop::File => {
                let shop = rusqlite::Connection::open(deployment.at("shop.db")).unwrap();
                shop.execute_batch(SQLITE).unwrap();
            }
        }
        let key = |flag, name| deployment.key(&[flag, name]);
        let (ada, carol) = (key("--agent", "ada"), key("--person", "carol"));
        let served = deployment.serve();
        Self { deployment, shop, client: None, served, http: http(), ada, carol }
    }

    async fn mcp(&self) -> Door {
        let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", self.served.url))
            .auth_header(&self.ada);
        let client = ClientConfig::new(ClientCapabilities::default(), Implementation::new("test", "1"))
            .with_protocol_version(ProtocolVersion::V_2025_06_18);
        let transport = StreamableHttpClientTransport::from_config(config);
        let running = client.serve_with_lifecycle(transport, ClientLifecycleMode::Initialize).await.unwrap();
        Door::Mcp(Box::new(running))
    }

    async fn asked(&self, key: &str, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let request = self.http.request(method, format!("{}/v1/{path}", self.served.url)).bearer_auth(key);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn propose(&self, door: &Door, sql: &str) -> Value {
        match door {
            Door::Rest => {
                let body = json!({ "tool": "sql", "arguments": { "sql": sql } });
                self.asked(&self.ada, reqwest::Method::POST, "calls", Some(body)).await
            }
            Door::Mcp(client) => {
                let arguments = json!({ "sql": sql }).as_object().unwrap().clone();
                let params = CallToolRequestParams::new("sql").with_arguments(arguments);
                client.call_tool(params).await.unwrap().structured_content.unwrap()
            }
        }
    }

    /// What the agent ends up with when everything is approved that is asked, and the most rows that were approved.
    async fn pushed_through(&self, door: &Door, sql: &str) -> (Value, u64) {
        let mut approved = 0;
        let mut answer = self.propose(door, sql).await;
        // What is superseded is asked for again, as a stubborn agent does.
        for _ in 0..4 {
            match answer["status"].as_str() {
                Some("pending") => {
                    let id = answer["approval"].as_str().unwrap().to_owned();
                    let seen =
                        self.asked(&self.carol, reqwest::Method::GET, &format!("approvals/{id}"), None).await;
                    approved = approved.max(seen["reach"]["rows"].as_u64().unwrap_or(0));
                    let path = format!("approvals/{id}/approve");
                    self.asked(&self.carol, reqwest::Method::POST, &path, Some(json!({}))).await;
                    let path = format!("approvals/{id}/result?wait_ms=0");
                    answer = loop {
                        let result = self.asked(&self.ada, reqwest::Method::GET, &path, None).await;
                        if result["status"] != "pending" || result["approval"] != id.as_str() {
                            break result;
                        }
                        tokio::task::yield_now().await;
                    };
                }
                Some("superseded") => answer = self.propose(door, sql).await,
                _ => break,
            }
        }
        (answer, approved)
    }

    /// Every row of both tables; none of a table that is gone.
    async fn rows(&self) -> BTreeSet<String> {
        let mut rows = BTreeSet::new();
        for table in ["billing", "line"] {
            match &self.shop {
                Shop::File => {
                    let file = rusqlite::Connection::open(self.deployment.path().join("shop.db")).unwrap();
                    let Ok(mut all) = file.prepare(&format!("select * from {table}")) else { continue };
                    let columns = all.column_count();
                    let mut cursor = all.query([]).unwrap();
                    while let Some(row) = cursor.next().unwrap() {
                        let cells: Vec<_> = (0..columns).map(|at| row.get_ref(at).unwrap()).collect();
                        rows.insert(format!("{table} {cells:?}"));
                    }
                }
                Shop::Server(_) => {
                    let client = self.client.as_ref().unwrap();
                    let sql = format!("select '{table} ' || t::text from {table} t");
                    let found = client.query(&sql, &[]).await.unwrap_or_default();
                    rows.extend(found.iter().map(|row| row.get::<_, String>(0)));
                }
            }
        }
        rows
    }
}

async fn no_way_around(postgres: bool) {
    let mut world = World::new(postgres);
    if let Shop::Server(database) = &world.shop {
        let config: tokio_postgres::Config = database.url.parse().unwrap();
        let (connected, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        world.client = Some(connected);
    }
    let ways = if postgres { POSTGRES_WAYS } else { SQLITE_WAYS };
    let mut before = world.rows().await;
    assert_eq!(before.len(), 2 * ROWS);
    for door in [Door::Rest, world.mcp().await] {
        let name = match door {
            Door::Rest => "rest",
            Door::Mcp(_) => "mcp",
        };
        for way in ways {
            // Each is a call of its own; what a person has refused or approved of another is not asked again.
            let sql = format!("{way} /* {name} */");
            let (answer, approved) = world.pushed_through(&door, &sql).await;
            let after = world.rows().await;
            let touched = before.difference(&after).count().max(after.difference(&before).count());
            assert!(
                u64::try_from(touched).unwrap() <= approved.min(20),
                "{sql}: {touched} rows changed, {approved} were approved: {answer}"
            );
            before = after;
        }
        assert!(before.len() > 2 * ROWS - 40, "the rows are still there: {}", before.len());
        // Not because nothing works at all: what is small and approved is done, with what goes along.
        let id = if name == "rest" { 77 } else { 78 };
        let (answer, approved) =
            world.pushed_through(&door, &format!("delete from billing where id = {id}")).await;
        assert_eq!((&answer["status"], approved), (&json!("done"), 2), "{answer}");
        let after = world.rows().await;
        assert_eq!(before.difference(&after).count(), 2);
        before = after;
    }
    assert_eq!(run_in(world.deployment.path(), &["audit", "verify"]).code, 0);
}

#[tokio::test]
async fn no_way_around_on_sqlite() {
    no_way_around(false).await;
}

#[tokio::test]
async fn no_way_around_on_postgres() {
    no_way_around(true).await;
}
