use std::{collections::BTreeSet, slice::from_ref};

use countersign_rules::PolicyId;

use super::*;
use crate::role::{Role, Roles};

const MIN: i64 = 60_000;

fn ask(group: &str, quorum: u32) -> AskOf {
    AskOf {
        group: GroupName::parse(group).unwrap(),
        quorum,
        deadline_ms: 900_000,
        because: None,
        policy: PolicyId::parse("p:1").unwrap(),
        rehearse: false,
        step_up: None,
        shared: false,
        grant: None,
    }
}

fn said(person: &str, groups: &[&str], approved: bool, at_ms: i64) -> Signature {
    Signature {
        person: PersonId::parse(person).unwrap(),
        groups: groups.iter().map(|group| GroupName::parse(group).unwrap()).collect(),
        approved,
        comment: None,
        at_ms,
        channel: "cli".into(),
        grant: None,
        passkey: None,
    }
}

/// A request that was made at 0 and expires after a quarter of an hour.
fn times(state: ApprovalState, of: &[AskOf], signatures: &[Signature]) -> RequestTimes {
    RequestTimes {
        place: 1,
        tool: ToolName::parse("refund").unwrap(),
        effect: Effect::Write,
        state,
        of: of.to_vec(),
        asked_ms: 0,
        expires_ms: 15 * MIN,
        signatures: signatures.to_vec(),
    }
}

fn person(id: &str, role: Role) -> Person {
    Person {
        id: PersonId::parse(id).unwrap(),
        groups: BTreeSet::new(),
        roles: Roles::from_iter([role]),
        credential: String::new(),
    }
}

fn body(requests: &[RequestTimes], who: &Person, now_ms: i64) -> LevelsBody {
    let mut counted = Counted::default();
    for request in requests {
        counted.take(request, now_ms);
    }
    counted.body(who, Window { days: 30, since_ms: 0, until_ms: now_ms, cut: false })
}

/// The fates of `a` and `b`, which are both asked.
fn both(state: ApprovalState, signatures: &[Signature]) -> [Fate; 2] {
    let request = times(state, &[ask("a", 1), ask("b", 1)], signatures);
    let fates = Seen::from(&request).fates(20 * MIN);
    ["a", "b"].map(|group| fates[&GroupName::parse(group).unwrap()])
}

#[test]
fn each_group_that_is_asked_answers_for_itself() {
    use ApprovalState::{Approved, Blocked, Expired, Refused, Waiting};
    use Fate::{Answered, Otherwise};
    let (ann, ben) = (said("ann", &["a"], true, MIN), said("ben", &["b"], true, 9 * MIN));
    let no = said("ben", &["b"], false, 2 * MIN);
    let dual = said("dan", &["a", "b"], true, MIN);
    for (state, signatures, fates) in [
        (Approved, &[ann.clone(), ben][..], [Answered(MIN), Answered(9 * MIN)]),
        // Who had answered is not late because another is.
        (Expired, from_ref(&ann), [Answered(MIN), Fate::Expired]),
        (Expired, &[], [Fate::Expired; 2]),
        // It is overdue, and nobody has ended it.
        (Waiting, from_ref(&ann), [Answered(MIN), Fate::Expired]),
        // One refused: that is an answer, and the other was spared.
        (Refused, from_ref(&no), [Otherwise, Answered(2 * MIN)]),
        (Refused, &[ann.clone(), no.clone()], [Answered(MIN), Answered(2 * MIN)]),
        // It was stopped before anybody answered.
        (Blocked, &[], [Otherwise; 2]),
        // One person is not two, and nobody knows for which group they stood.
        (Expired, &[dual], [Fate::Expired; 2]),
    ] {
        assert_eq!(both(state, signatures), fates, "{state:?} {signatures:?}");
    }
}

#[test]
fn a_quorum_is_answered_by_who_completes_it() {
    let ann = said("ann", &["a"], true, MIN);
    let ben = said("ben", &["a"], true, 4 * MIN);
    let request = times(ApprovalState::Done, &[ask("a", 2)], &[ann.clone(), ben.clone()]);
    let seen = Seen::from(&request);
    assert_eq!(seen.fate(0), Fate::Answered(4 * MIN));
    assert_eq!(seen.fates(0).into_values().collect::<Vec<_>>(), [Fate::Answered(4 * MIN)]);
    let before = seen.before_last();
    assert_eq!(before.fate(5 * MIN), Fate::Waiting);
    // Granted in time and not performed in time: people were not late.
    let late = times(ApprovalState::Expired, &[ask("a", 2)], &[ann, ben]);
    assert_eq!(Seen::from(&late).fate(99 * MIN), Fate::Answered(4 * MIN));
}

#[test]
fn what_expired_is_outside_the_deadline_and_what_was_superseded_is_not_counted() {
    let yes = |at_ms| times(ApprovalState::Done, &[ask("a", 1)], &[said("ann", &["a"], true, at_ms)]);
    let superseded = times(ApprovalState::Superseded, &[ask("a", 1)], &[said("ann", &["a"], true, 7 * MIN)]);
    let requests = [
        yes(MIN),
        yes(2 * MIN),
        times(ApprovalState::Expired, &[ask("a", 1)], &[]),
        times(ApprovalState::Waiting, &[ask("a", 1)], &[]),
        superseded,
    ];
    let body = body(&requests, &person("ann", Role::Approver), 5 * MIN);
    let level = &body.all;
    assert_eq!((level.asked, level.answered, level.expired, level.waiting), (4, 2, 1, 1));
    assert_eq!((level.within_deadline, level.timed), (Some(0.666), 2));
    assert_eq!((level.median_ms, level.p95_ms), (Some(60_000), Some(120_000)));
    assert_eq!((&body.groups[0].level, &body.tools[0].level, body.superseded), (level, level, 1));
    // What somebody answered they have answered, whatever changed afterwards.
    assert_eq!((body.reviewers[0].answered, body.reviewers[0].median_ms), (3, Some(120_000)));
    let level = &self::body(&[], &person("ann", Role::Operator), 0).all;
    assert_eq!((level.within_deadline, level.median_ms, level.timed), (None, None, 0));
}

#[test]
fn an_answer_before_its_question_has_no_time_and_overflows_nothing() {
    for at_ms in [-MIN, i64::MIN] {
        let odd = times(ApprovalState::Done, &[ask("a", 1)], &[said("ann", &["a"], true, at_ms)]);
        let body = body(&[odd], &person("ann", Role::Approver), 0);
        assert_eq!((body.all.answered, body.all.timed, body.all.median_ms), (1, 0, None));
        assert_eq!((body.reviewers[0].timed, body.reviewers[0].median_ms), (0, None));
    }
    let mut far = times(ApprovalState::Done, &[ask("a", u32::MAX)], &[said("ann", &["a"], true, i64::MAX)]);
    far.asked_ms = i64::MIN;
    assert_eq!(body(&[far], &person("ann", Role::Approver), 0).all.answered, 1);
}

#[test]
fn a_reviewer_sees_their_own_answers_and_an_operator_those_of_all() {
    let of = [ask("a", 2)];
    let signatures = [said("ann", &["a"], true, MIN), said("ben", &["a"], false, 2 * MIN)];
    let mut other = times(ApprovalState::Refused, &of, &signatures);
    let mut requests = vec![other.clone()];
    other.effect = Effect::Destructive;
    other.signatures.remove(0);
    requests.push(other);
    let names = |who: &Person| {
        let body = body(&requests, who, 0);
        body.reviewers
            .iter()
            .map(|of| (of.person.clone(), of.effect, of.answered, of.approved))
            .collect::<Vec<_>>()
    };
    let ann = ("ann".to_owned(), Effect::Write, 1, 1);
    let ben = [("ben".to_owned(), Effect::Write, 1, 0), ("ben".to_owned(), Effect::Destructive, 1, 0)];
    assert_eq!(names(&person("ann", Role::Approver)), from_ref(&ann));
    assert_eq!(names(&person("ben", Role::Approver)), ben);
    assert_eq!(names(&person("eve", Role::Approver)), []);
    assert_eq!(names(&person("eve", Role::Operator)), [from_ref(&ann), &ben].concat());
    assert_eq!(names(&person("eve", Role::Auditor)), [&[ann], &ben[..]].concat());
}

#[test]
fn percentiles_are_answers_that_somebody_gave() {
    let hundred: Vec<u64> = (1..=100).collect();
    for (of, median, p95) in [
        (&hundred[..], Some(50), Some(95)),
        (&hundred[..1], Some(1), Some(1)),
        (&hundred[..2], Some(1), Some(2)),
        (&hundred[..20], Some(10), Some(19)),
        (&[], None, None),
    ] {
        assert_eq!((percentile(of, 50), percentile(of, 95)), (median, p95), "{}", of.len());
    }
    // Not all is never told as all.
    assert_eq!(share(99_999, 100_000), Some(0.999));
}
