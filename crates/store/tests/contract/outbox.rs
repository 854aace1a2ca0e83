//! What channels are told of requests: once what happened is durable, in order, and whatever becomes of those who tell.

use std::{sync::Arc, time::Duration};

use countersign_gate::ledger::{CallOutcome, Ledger, Wait};
use countersign_rules::{ApprovalState, ChannelName, GroupName, settlement::Settlement};
use countersign_store::{Event, Listener, Options, Store, Telling, Turn};

use crate::{
    make::{
        NOW, approval_id, call_id, closing, done, intent_of, note, parking, requester, signature, stored,
    },
    place::{Place, contract},
};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const LEASE: Duration = Duration::from_secs(60);
const CHANCE: [u8; 16] = [0; 16];

fn name(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn listener(channel: &str, groups: &[&str], escalations: bool) -> Listener {
    let groups = groups.iter().map(|group| GroupName::parse(group).unwrap()).collect();
    Listener { name: name(channel), groups, escalations }
}

/// A ledger that tells these channels, reminds after five minutes and escalates after ten.
async fn open(place: &Place, channels: &[Listener]) -> Arc<Store> {
    let telling = Telling {
        channels: channels.to_vec(),
        remind: Some(Duration::from_secs(300)),
        escalate: Some(Duration::from_secs(600)),
    };
    place.open_with(Options { telling, ..Options::default() }).await.unwrap()
}

async fn ops(place: &Place) -> Arc<Store> {
    open(place, &[listener("ops", &[], false)]).await
}

async fn ask(ledger: &Store, id: &str) {
    ledger.park(parking(id, stored(&format!("c-{id}"), &requester("bot", "s1"), id))).await.unwrap();
}

async fn answer(ledger: &Store, id: &str, approved: bool) -> ApprovalState {
    let entry = note("answered", &call_id(&format!("c-{id}")));
    ledger.answer(&approval_id(id), signature("lea", approved), entry).await.unwrap().state
}

async fn end(ledger: &Store, id: &str, state: ApprovalState) {
    let entry = note("request_ended", &call_id(&format!("c-{id}")));
    assert!(ledger.end(&approval_id(id), state, None, "so it is", vec![entry]).await.unwrap());
}

async fn take(ledger: &Store, id: &str, channel: &str, now_ms: i64) -> Option<Turn> {
    ledger.take_turn(&approval_id(id), &name(channel), now_ms, LEASE).await.unwrap()
}

/// Tells a channel all there is to tell at a time, and answers what that was.
async fn tell(ledger: &Store, id: &str, channel: &str, now_ms: i64) -> Vec<(Event, ApprovalState)> {
    let mut told = Vec::new();
    while let Some(turn) = take(ledger, id, channel, now_ms).await {
        assert!(usize::try_from(turn.notice.answers).unwrap() <= turn.record.signatures.len());
        told.push((turn.notice.event, turn.notice.state));
        assert!(ledger.end_turn(&turn, None, now_ms).await.unwrap());
    }
    told
}

async fn due(ledger: &Store, channel: &str, now_ms: i64) -> Vec<String> {
    ledger.due(&name(channel), now_ms, 100).await.unwrap().iter().map(ToString::to_string).collect()
}

contract! {
    async fn without_channels_nothing_is_written(place) {
        let ledger = place.open().await;
        ask(&ledger, "a1").await;
        answer(&ledger, "a1", true).await;
        assert_eq!(place.try_change("DELETE FROM outbox").await, 0);
    }

    async fn a_channel_is_told_what_happens_in_order_and_once(place) {
        let ledger = ops(&place).await;
        ask(&ledger, "a1").await;
        assert_eq!(due(&ledger, "ops", NOW).await, ["a1"]);
        let asked = take(&ledger, "a1", "ops", NOW).await.unwrap();
        assert_eq!((asked.id().as_str(), asked.notice.event), ("a1:ops:0", Event::Asked));
        assert_eq!(asked.notice.at_ms, NOW);
        // What happens later waits for what was before, however long that takes.
        assert_eq!(answer(&ledger, "a1", true).await, ApprovalState::Approved);
        assert_eq!(take(&ledger, "a1", "ops", NOW + SECOND).await, None, "somebody has the turn");
        assert!(ledger.fail_turn(&asked, "503", None, CHANCE, NOW + SECOND).await.unwrap());
        assert_eq!(take(&ledger, "a1", "ops", NOW + SECOND).await, None);
        let asked = take(&ledger, "a1", "ops", NOW + 3 * SECOND).await.unwrap();
        assert_eq!((asked.id().as_str(), asked.failures), ("a1:ops:0", 1), "it is the same message");
        assert!(ledger.end_turn(&asked, Some("ts-1".into()), NOW + 3 * SECOND).await.unwrap());
        assert!(!ledger.end_turn(&asked, None, NOW + 3 * SECOND).await.unwrap(), "said twice, counted once");
        let answered = take(&ledger, "a1", "ops", NOW + 3 * SECOND).await.unwrap();
        assert_eq!((answered.notice.event, answered.notice.state, answered.notice.answers), (Event::Answered, ApprovalState::Approved, 1));
        assert_eq!(answered.handle.as_deref(), Some("ts-1"));
        assert!(ledger.end_turn(&answered, None, NOW + 3 * SECOND).await.unwrap());

        let mut intent = intent_of(stored("c-a1", &requester("bot", "s1"), "a1"));
        intent.approval = Some(approval_id("a1"));
        ledger.issue(intent).await.unwrap();
        Ledger::close(&*ledger, done("c-a1", 1), Wait::Durable).await.unwrap();
        ledger.deliver(&approval_id("a1")).await.unwrap();
        assert_eq!(tell(&ledger, "a1", "ops", NOW + 4 * SECOND).await, [(Event::Ended, ApprovalState::Done)]);
        assert_eq!(due(&ledger, "ops", NOW + HOUR).await, Vec::<String>::new());
    }

    async fn every_end_is_told(place) {
        let ledger = ops(&place).await;
        let ends = [ApprovalState::Expired, ApprovalState::Superseded, ApprovalState::Blocked];
        for (n, state) in ends.into_iter().enumerate() {
            let id = format!("a{n}");
            ask(&ledger, &id).await;
            end(&ledger, &id, state).await;
            let told = tell(&ledger, &id, "ops", NOW + SECOND).await;
            assert_eq!(told, [(Event::Asked, ApprovalState::Waiting), (Event::Ended, state)]);
        }
        ask(&ledger, "no").await;
        answer(&ledger, "no", false).await;
        let told = tell(&ledger, "no", "ops", NOW + SECOND).await;
        assert_eq!(told, [(Event::Asked, ApprovalState::Waiting), (Event::Ended, ApprovalState::Refused)]);
        // What is in doubt is over until a person finds out.
        ask(&ledger, "lost").await;
        answer(&ledger, "lost", true).await;
        let mut intent = intent_of(stored("c-lost", &requester("bot", "s1"), "lost"));
        intent.approval = Some(approval_id("lost"));
        ledger.issue(intent).await.unwrap();
        let lost = CallOutcome::InDoubt { message: "lost".into() };
        Ledger::close(&*ledger, closing("c-lost", lost, Settlement::Reserved), Wait::Durable).await.unwrap();
        let found = CallOutcome::DoneWithoutResult { message: "seen".into() };
        let entry = note("resolved", &call_id("c-lost"));
        assert!(ledger.resolve(&call_id("c-lost"), found, Settlement::Kept, NOW, vec![entry]).await.unwrap());
        let told = tell(&ledger, "lost", "ops", NOW + SECOND).await;
        let ends: Vec<_> = told.iter().filter(|(event, _)| *event == Event::Ended).map(|(_, state)| *state).collect();
        assert_eq!(ends, [ApprovalState::InDoubt, ApprovalState::Done]);
    }

    async fn a_channel_hears_of_its_groups_alone(place) {
        let channels = [listener("leads", &["leads", "others"], false), listener("dba", &["dba"], false)];
        let ledger = open(&place, &channels).await;
        ask(&ledger, "a1").await;
        assert_eq!(due(&ledger, "leads", NOW).await, ["a1"]);
        end(&ledger, "a1", ApprovalState::Expired).await;
        assert_eq!(due(&ledger, "dba", NOW + HOUR).await, Vec::<String>::new());
        assert_eq!(tell(&ledger, "a1", "leads", NOW + HOUR).await.len(), 2);
    }

    async fn what_waits_is_reminded_of_and_escalated_once_whoever_is_started_again(place) {
        let channels = [listener("ops", &["leads"], false), listener("boss", &["bosses"], true), listener("dba", &["dba"], false)];
        let mut ledger = open(&place, &channels).await;
        ask(&ledger, "a1").await;
        assert_eq!(tell(&ledger, "a1", "ops", NOW).await, [(Event::Asked, ApprovalState::Waiting)]);
        let mut told = Vec::new();
        for minute in 1..=14 {
            let now = NOW + minute * MINUTE;
            for channel in ["ops", "boss", "dba"] {
                for id in due(&ledger, channel, now).await {
                    for (event, _) in tell(&ledger, &id, channel, now).await {
                        told.push((minute, channel, event));
                    }
                }
            }
            ledger.close().await;
            drop(ledger);
            ledger = open(&place, &channels).await;
        }
        let expected = [(5, "ops", Event::Reminded), (10, "ops", Event::Escalated), (10, "boss", Event::Escalated)];
        assert_eq!(told, expected);
        // Who has heard of it hears of its end.
        end(&ledger, "a1", ApprovalState::Expired).await;
        for channel in ["ops", "boss"] {
            assert_eq!(tell(&ledger, "a1", channel, NOW + HOUR).await, [(Event::Ended, ApprovalState::Expired)]);
        }
    }

    async fn nobody_is_reminded_of_what_is_over_or_about_to_be(place) {
        let channels = [listener("ops", &["leads"], false), listener("boss", &["bosses"], true)];
        let ledger = open(&place, &channels).await;
        for id in ["answered", "late", "overdue"] {
            ask(&ledger, id).await;
            tell(&ledger, id, "ops", NOW).await;
        }
        answer(&ledger, "answered", true).await;
        assert_eq!(tell(&ledger, "answered", "ops", NOW + 11 * MINUTE).await, [(Event::Answered, ApprovalState::Approved)]);
        assert_eq!(tell(&ledger, "answered", "boss", NOW + 11 * MINUTE).await, [], "it has heard nothing of it");
        // A server that was away says what matters, once.
        assert_eq!(tell(&ledger, "late", "ops", NOW + 12 * MINUTE).await, [(Event::Escalated, ApprovalState::Waiting)]);
        assert_eq!(tell(&ledger, "overdue", "ops", NOW + 16 * MINUTE).await, []);
        assert_eq!(due(&ledger, "ops", NOW + HOUR).await, Vec::<String>::new());
        let mut short = parking("short", stored("c-short", &requester("bot", "s1"), "short"));
        short.request.expires_ms = NOW + 2 * MINUTE;
        ledger.park(short).await.unwrap();
        assert_eq!(tell(&ledger, "short", "ops", NOW).await.len(), 1);
        assert_eq!(due(&ledger, "ops", NOW + HOUR).await, Vec::<String>::new());
    }

    async fn a_channel_that_is_down_for_hours_is_told_all_when_it_is_back(place) {
        let ledger = ops(&place).await;
        ask(&ledger, "a1").await;
        end(&ledger, "a1", ApprovalState::Expired).await;
        let (mut now, mut tries, mut longest) = (NOW, 0, 0);
        while now < NOW + 5 * HOUR {
            match take(&ledger, "a1", "ops", now).await {
                Some(turn) => {
                    tries += 1;
                    assert_eq!(turn.notice.number, 0, "nothing overtakes it");
                    assert!(ledger.fail_turn(&turn, "connection refused", None, [u8::try_from(tries).unwrap(); 16], now).await.unwrap());
                }
                None => {
                    assert!(now <= NOW + 10 * SECOND || due(&ledger, "ops", now - SECOND).await.is_empty());
                    now += 10 * SECOND;
                    longest += 10;
                    continue;
                }
            }
            assert!(longest <= 610, "{longest} s between two tries");
            longest = 0;
        }
        // Doubling to ten minutes: about nine tries, and then some six to twelve an hour.
        assert!((30..80).contains(&tries), "{tries}");
        let told = tell(&ledger, "a1", "ops", now + 10 * MINUTE).await;
        assert_eq!(told, [(Event::Asked, ApprovalState::Waiting), (Event::Ended, ApprovalState::Expired)]);
    }

    async fn what_fails_for_a_day_is_given_up_seen_and_tried_again_on_demand(place) {
        let ledger = ops(&place).await;
        ask(&ledger, "a1").await;
        end(&ledger, "a1", ApprovalState::Expired).await;
        let turn = take(&ledger, "a1", "ops", NOW).await.unwrap();
        // It asks for more than a day, and is asked once more when that is over.
        assert!(ledger.fail_turn(&turn, "429", Some(Duration::from_secs(90_000)), CHANCE, NOW).await.unwrap());
        assert_eq!(due(&ledger, "ops", NOW + 24 * HOUR - 1).await, Vec::<String>::new());
        assert_eq!(ledger.given_up(&name("ops"), 10).await.unwrap(), []);
        let turn = take(&ledger, "a1", "ops", NOW + 24 * HOUR).await.unwrap();
        assert!(ledger.fail_turn(&turn, "still 429", None, CHANCE, NOW + 24 * HOUR).await.unwrap());
        let dead = ledger.given_up(&name("ops"), 10).await.unwrap();
        assert_eq!(dead.len(), 1);
        assert_eq!((dead[0].why.as_str(), dead[0].notices.len()), ("still 429", 2));
        assert_eq!(dead[0].approval, approval_id("a1"));
        assert_eq!(take(&ledger, "a1", "ops", NOW + 100 * HOUR).await, None);
        assert!(ledger.try_again(&approval_id("a1"), &name("ops"), NOW + 100 * HOUR).await.unwrap());
        assert!(!ledger.try_again(&approval_id("a1"), &name("ops"), NOW + 100 * HOUR).await.unwrap());
        assert_eq!(ledger.given_up(&name("ops"), 10).await.unwrap(), []);
        assert_eq!(tell(&ledger, "a1", "ops", NOW + 100 * HOUR).await.len(), 2);
    }

    async fn what_a_channel_never_takes_is_given_up_at_once_and_a_failure_is_seen_while_it_lasts(place) {
        let ledger = ops(&place).await;
        for id in ["a1", "a2", "a3"] {
            ask(&ledger, id).await;
        }
        assert_eq!(ledger.failing(&name("ops"), 10).await.unwrap(), (0, None));
        for (id, at_ms) in [("a1", NOW), ("a2", NOW + SECOND)] {
            let turn = take(&ledger, id, "ops", at_ms).await.unwrap();
            assert!(ledger.fail_turn(&turn, &format!("{id} away"), None, CHANCE, at_ms).await.unwrap());
        }
        assert_eq!(ledger.failing(&name("ops"), 10).await.unwrap(), (2, Some("a2 away".into())));
        assert_eq!(ledger.failing(&name("other"), 10).await.unwrap(), (0, None));
        let turn = take(&ledger, "a2", "ops", NOW + MINUTE).await.unwrap();
        assert!(ledger.give_up_turn(&turn, "550 unknown", NOW + MINUTE).await.unwrap());
        assert!(!ledger.give_up_turn(&turn, "550 unknown", NOW + MINUTE).await.unwrap(), "said twice, counted once");
        let dead = ledger.given_up(&name("ops"), 10).await.unwrap();
        assert_eq!((dead.len(), dead[0].why.as_str()), (1, "550 unknown"));
        assert_eq!(take(&ledger, "a2", "ops", NOW + HOUR).await, None);
        assert_eq!(tell(&ledger, "a1", "ops", NOW + MINUTE).await, [(Event::Asked, ApprovalState::Waiting)]);
        assert_eq!(ledger.failing(&name("ops"), 10).await.unwrap(), (0, None));
    }

    async fn a_channel_is_not_asked_again_before_it_said(place) {
        let ledger = ops(&place).await;
        ask(&ledger, "a1").await;
        let turn = take(&ledger, "a1", "ops", NOW).await.unwrap();
        assert!(ledger.fail_turn(&turn, "429", Some(Duration::from_secs(120)), CHANCE, NOW).await.unwrap());
        assert_eq!(due(&ledger, "ops", NOW + 2 * MINUTE - 1).await, Vec::<String>::new());
        assert_eq!(due(&ledger, "ops", NOW + 2 * MINUTE).await, ["a1"]);
    }

    async fn a_turn_that_was_not_ended_is_taken_over_and_counts_no_more(place) {
        let ledger = ops(&place).await;
        // On PostgreSQL by another process.
        let beside = match &place {
            Place::Sqlite(_) => Arc::clone(&ledger),
            Place::Postgres(_) => ops(&place).await,
        };
        ask(&ledger, "a1").await;
        let first = take(&ledger, "a1", "ops", NOW).await.unwrap();
        assert_eq!(take(&beside, "a1", "ops", NOW + MINUTE - 1).await, None);
        let second = take(&beside, "a1", "ops", NOW + MINUTE).await.unwrap();
        assert_eq!(second.id(), first.id());
        assert!(!ledger.end_turn(&first, Some("first".into()), NOW + MINUTE).await.unwrap());
        assert!(!ledger.fail_turn(&first, "late", None, CHANCE, NOW + MINUTE).await.unwrap());
        assert!(beside.end_turn(&second, Some("second".into()), NOW + MINUTE).await.unwrap());
        answer(&ledger, "a1", true).await;
        assert_eq!(take(&ledger, "a1", "ops", NOW + MINUTE).await.unwrap().handle.as_deref(), Some("second"));
    }

    async fn two_who_tell_at_once_take_one_turn(place) {
        let ledger = ops(&place).await;
        ask(&ledger, "a1").await;
        let taken = futures::future::join_all((0..8).map(|_| take(&ledger, "a1", "ops", NOW))).await;
        assert_eq!(taken.iter().flatten().count(), 1);
    }

    async fn a_damaged_thread_keeps_nobody_from_answering(place) {
        let ledger = ops(&place).await;
        ask(&ledger, "a1").await;
        place.change("UPDATE outbox SET body = '{}'").await;
        assert_eq!(answer(&ledger, "a1", true).await, ApprovalState::Approved);
        assert!(ledger.take_turn(&approval_id("a1"), &name("ops"), NOW, LEASE).await.is_err());
    }

    async fn what_was_told_is_forgotten_after_its_days(place) {
        let ledger = ops(&place).await;
        ask(&ledger, "a1").await;
        tell(&ledger, "a1", "ops", NOW).await;
        let day = 24 * HOUR;
        for n in 0..30 {
            ledger.prune(NOW + n * day).await.unwrap();
        }
        assert_eq!(place.try_change("UPDATE outbox SET dead = dead").await, 1);
        for n in 30..33 {
            ledger.prune(NOW + n * day).await.unwrap();
        }
        assert_eq!(place.try_change("UPDATE outbox SET dead = dead").await, 0);
    }
}
