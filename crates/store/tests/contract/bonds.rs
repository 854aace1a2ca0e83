//! The keys of an agent are counted when they come and when they are forgotten, and not when somebody asks.

use countersign_gate::ledger::{Bond, Ledger, LedgerFault, NotIssued, NotParked};
use countersign_rules::{AgentId, IdempotencyKey};
use countersign_store::Store;
use futures::future::join_all;
use proptest::prelude::*;

use crate::{
    make::{NOW, intent_of, parking, requester, stored},
    place::{Place, contract},
    schema::go_back,
    visits::{listened, visits},
};

const DAY: i64 = 86_400_000;

/// The schema before counts were kept.
const UNCOUNTED: usize = 11;

#[derive(Debug, Clone)]
enum Event {
    /// Keys come, all at once, each with an operation, an agent and a name of its own.
    Keys(Vec<(How, u8, u8)>),
    /// A day goes by, and what is over is forgotten.
    Day,
    Restart,
    /// An older program has had the ledger, and this one has it again.
    Upgrade,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Issue,
    Park,
    Bind,
}

fn event() -> impl Strategy<Value = Event> {
    let how = prop::sample::select(&[How::Issue, How::Park, How::Bind]);
    prop_oneof![
        8 => prop::collection::vec((how, 0..3_u8, 0..20_u8), 1..12).prop_map(Event::Keys),
        4 => Just(Event::Day),
        1 => Just(Event::Restart),
        1 => Just(Event::Upgrade),
    ]
}

fn agent(n: u8) -> AgentId {
    AgentId::parse(&format!("agent{n}")).unwrap()
}

/// One key comes. Another call may have it already.
async fn come(
    ledger: &Store,
    (how, agent, name): (How, u8, u8),
    id: &str,
    now_ms: i64,
) -> Result<(), LedgerFault> {
    let mut call = stored(id, &requester(&format!("agent{agent}"), "s"), id);
    call.key = Some(IdempotencyKey::parse(&format!("k{name}")).unwrap());
    match how {
        How::Issue => {
            let mut intent = intent_of(call);
            intent.now_ms = now_ms;
            match ledger.issue(intent).await {
                Err(NotIssued::Fault(why)) => Err(why),
                Ok(_) | Err(_) => Ok(()),
            }
        }
        How::Park => {
            let mut parking = parking(&format!("a{id}"), call);
            parking.request.asked_ms = now_ms;
            match ledger.park(parking).await {
                Err(NotParked::Fault(why)) => Err(why),
                Ok(_) | Err(_) => Ok(()),
            }
        }
        How::Bind => ledger.bind(Bond::of(&call, None, now_ms).unwrap(), None, Vec::new()).await.map(drop),
    }
}

/// Checks the count of every agent against what is there.
async fn check(place: &Place, event: &Event) {
    let wrong = "SELECT (SELECT count(*) FROM bond_count c \
                  WHERE c.bonds <> (SELECT count(*) FROM bond b WHERE b.agent = c.agent)) \
                 + (SELECT count(*) FROM bond b WHERE NOT EXISTS (SELECT 1 FROM bond_count c WHERE c.agent = b.agent))";
    assert_eq!(place.number(wrong).await, 0, "after {event:?}");
}

async fn live(place: Place, events: &[Event]) {
    let (mut ledger, mut day) = (place.open().await, 0);
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Keys(keys) => {
                let come = keys.iter().enumerate().map(async |(n, key)| {
                    come(&ledger, *key, &format!("{number}-{n}"), NOW + day * DAY).await.unwrap();
                });
                drop(join_all(come).await);
            }
            Event::Day => {
                day += 1;
                ledger.prune(NOW + day * DAY).await.unwrap();
            }
            Event::Restart | Event::Upgrade => {
                Store::close(&ledger).await;
                drop(ledger);
                if matches!(event, Event::Upgrade) {
                    go_back(&place, UNCOUNTED).await;
                }
                ledger = place.open().await;
            }
        }
        check(&place, event).await;
    }
    Store::close(&ledger).await;
}

fn run(place: impl Future<Output = Place>, events: &[Event]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { live(place.await, events).await });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_kept_count_on_sqlite_is_what_is_there(events in prop::collection::vec(event(), 1..40)) {
        run(async { Place::sqlite() }, &events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, max_shrink_iters: 30, ..ProptestConfig::default() })]
    #[test]
    fn the_kept_count_on_postgres_is_what_is_there(events in prop::collection::vec(event(), 20..30)) {
        run(Place::postgres(), &events);
    }
}

/// Gives an agent many keys, as an older program left them.
async fn many(place: &Place, agent: &AgentId, keys: u32) {
    let series = match place {
        Place::Sqlite(_) => format!(
            "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {keys}) SELECT n FROM s) s"
        ),
        Place::Postgres(_) => format!("generate_series(1, {keys}) s (n)"),
    };
    place
        .execute(&format!(
            "INSERT INTO bond (agent, name, digest, call, at_ms, day) \
             SELECT '{agent}', 'k' || s.n, b.digest, b.call, {NOW}, 0 FROM bond b, {series} WHERE b.agent = 'one'"
        ))
        .await;
}

contract! {
    async fn what_is_taken_from_a_count_is_what_is_forgotten(place) {
        let ledger = place.open().await;
        let mut call = stored("c", &requester("one", "s"), "c");
        call.key = Some(IdempotencyKey::parse("key").unwrap());
        ledger.bind(Bond::of(&call, None, NOW).unwrap(), None, Vec::new()).await.unwrap();
        Store::close(&ledger).await;
        drop(ledger);
        go_back(&place, UNCOUNTED).await;
        // All at the same moment, and more than are forgotten in one transaction.
        for n in 0..3 {
            many(&place, &agent(n), 900).await;
        }
        let ledger = place.open().await;
        check(&place, &Event::Upgrade).await;
        for day in 0..4 {
            ledger.prune(NOW + day * DAY).await.unwrap();
            check(&place, &Event::Day).await;
        }
        assert_eq!(place.number("SELECT count(*) FROM bond").await, 0);
        assert_eq!(place.number("SELECT count(*) FROM bond_count WHERE bonds <> 0").await, 0);
    }

    async fn a_new_key_costs_the_same_however_many_there_are(place) {
        let ledger = place.open().await;
        let keyed = |who: &AgentId, id: &str| {
            let mut call = stored(id, &requester(who.as_str(), "s"), id);
            call.key = Some(IdempotencyKey::parse(id).unwrap());
            call
        };
        let bond = |who: &AgentId, id: &str| Bond::of(&keyed(who, id), None, NOW).unwrap();
        ledger.bind(bond(&AgentId::parse("one").unwrap(), "key"), None, Vec::new()).await.unwrap();
        Store::close(&ledger).await;
        drop(ledger);
        go_back(&place, UNCOUNTED).await;
        many(&place, &agent(0), 10).await;
        many(&place, &agent(1), 100_000).await;
        let (asked, options) = listened();
        let ledger = place.open_with(options).await.unwrap();
        place.execute("ANALYZE").await;
        let mut costs = Vec::new();
        for (who, keys) in [(agent(0), 10), (agent(1), 100_000)] {
            asked.lock().unwrap().clear();
            // As the gate does.
            assert_eq!(ledger.bond(&who, &IdempotencyKey::parse("new").unwrap()).await.unwrap(), None);
            assert_eq!(ledger.bonds(&who).await.unwrap(), keys);
            ledger.bind(bond(&who, "new"), None, Vec::new()).await.unwrap();
            assert_eq!(ledger.bonds(&who).await.unwrap(), keys + 1);
            let asked = asked.lock().unwrap().clone();
            let mut cost = Vec::new();
            for (sql, params) in asked.iter().filter(|(sql, _params)| sql.contains("bond")) {
                // It is there by now.
                if !sql.starts_with("INSERT INTO bond (") {
                    cost.push((*sql, visits(&place, sql, params).await));
                }
            }
            costs.push(cost);
        }
        assert_eq!(costs[0].len(), 5);
        assert_eq!(costs[0], costs[1]);
    }
}
