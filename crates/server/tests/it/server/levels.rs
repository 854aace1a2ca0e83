//! Service levels over REST, in the command line and in the metrics; the console has them in `console.rs`.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    place::{Place, on_either_store},
    server::rig::Rig,
};

on_either_store!(async what_people_answered_and_what_expired_is_told_by_group_tool_and_person);

/// Notes are asked about, too, of a group that has little time.
const SLOW: &str = r#"
@id("slow") @ask("auditors") @deadline("1s") permit (principal, action == Action::"add_note", resource);
"#;

async fn what_people_answered_and_what_expired_is_told_by_group_tool_and_person(place: Place) {
    let rig = Rig::more(place, "", SLOW).await;
    let mut asked = Vec::new();
    for name in ["quince", "medlar", "sloe", "rowan"] {
        asked.push(rig.ask("add_item", json!({ "name": name })).await);
    }
    for (at, who, what) in [(0, "alice", "approve"), (1, "alice", "refuse"), (2, "alice", "approve")] {
        let body = if what == "refuse" { json!({ "reason": "no" }) } else { json!({}) };
        let (status, body) = rig.post(who, &format!("/v1/approvals/{}/{what}", asked[at]), body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    // Nobody answers this one, and its agent hears of it.
    let late = rig.ask("add_note", json!({ "text": "late" })).await;
    let (status, body) = rig.result(&late).await;
    assert_eq!((status, &body["status"]), (StatusCode::GONE, &json!("expired")), "{body}");

    let (status, body) = rig.get("alice", "/v1/service-levels").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!((&body["days"], &body["cut"], &body["superseded"]), (&json!(30), &json!(false), &json!(0)));
    let figures = |level: &Value| {
        ["asked", "answered", "expired", "waiting", "timed"].map(|name| level[name].as_u64().unwrap())
    };
    assert_eq!(figures(&body["all"]), [5, 3, 1, 1, 3]);
    assert_eq!(body["all"]["within_deadline"], 0.75);
    let named = |list: &str, key: &str| {
        let found = body[list].as_array().unwrap().iter();
        found.map(|of| (of[key].as_str().unwrap().to_owned(), figures(of))).collect::<Vec<_>>()
    };
    let (items, notes) = ([4, 3, 0, 1, 3], [1, 0, 1, 0, 0]);
    assert_eq!(named("groups", "group"), [("approvers".into(), items), ("auditors".into(), notes)]);
    assert_eq!(named("tools", "tool"), [("add_item".into(), items), ("add_note".into(), notes)]);
    assert!(body["groups"][0]["median_ms"].is_u64() && body["groups"][1]["median_ms"].is_null(), "{body}");

    // A person sees their own answers; an operator, those of all.
    let (_, owner) = rig.get("owner", "/v1/service-levels?days=1").await;
    let (_, bob) = rig.get("bob", "/v1/service-levels?days=90").await;
    assert_eq!(owner["reviewers"], body["reviewers"]);
    assert_eq!((&bob["reviewers"], &bob["groups"]), (&json!([]), &body["groups"]));
    let alice = &body["reviewers"][0];
    assert_eq!(
        [&alice["person"], &alice["tool"], &alice["effect"], &alice["answered"], &alice["approved"]],
        [&json!("alice"), &json!("add_item"), &json!("write"), &json!(3), &json!(2)]
    );
    assert_eq!(alice["approved_share"], 0.666);

    for who in ["clerk", "other"] {
        assert_eq!(rig.get(who, "/v1/service-levels").await.0, StatusCode::FORBIDDEN, "{who}");
    }
    assert_eq!(rig.get("", "/v1/service-levels").await.0, StatusCode::UNAUTHORIZED);
    for bad in ["days=0", "days=91", "days=-1", "days=x", "days=4294967296", "person=alice"] {
        let (status, body) = rig.get("alice", &format!("/v1/service-levels?{bad}")).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("R020")), "{bad}: {body}");
    }
    printed(&rig, &body).await;
    counted(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_requests_than_are_looked_at_the_newest_count_and_that_is_said() {
    let mut rig = Rig::new().await;
    let asked = rig.ask("add_item", json!({ "name": "quince" })).await;
    rig.post("alice", &format!("/v1/approvals/{asked}/refuse"), json!({ "reason": "no" })).await;
    rig.stop().await;
    let ledger = rig.deployment.at("countersign.db");
    let multiply = |from: u32, to: u32, asked_ms: &str| {
        let ledger = rusqlite::Connection::open(&ledger).unwrap();
        let sql = format!(
            "INSERT INTO approval (id, place, agent, session, digest, state, effect, delivered, request, answers, code, tool, \
             until_ms, normal, shape) WITH RECURSIVE s (n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM s WHERE n < {to}) \
             SELECT id || '-' || n, place + 1000 * n, agent, session, digest, state, effect, delivered, \
             json_set(request, '$.asked_ms', {asked_ms}), answers, code, tool, until_ms, normal, shape FROM approval, s WHERE \
             id = '{asked}'"
        );
        ledger.execute(&sql, []).unwrap();
    };
    // Newest in the log, and of a day before the window: the clock was set back for a while.
    multiply(1, 9_949, "json_extract(request, '$.asked_ms')");
    multiply(9_950, 9_999, "json_extract(request, '$.asked_ms') - 40 * 86400000");
    rig.start().await;
    let (_, body) = rig.get("alice", "/v1/service-levels").await;
    assert_eq!((&body["all"]["asked"], &body["cut"]), (&json!(9_950), &json!(false)), "{body}");
    rig.stop().await;
    multiply(20_000, 20_099, "json_extract(request, '$.asked_ms')");
    rig.start().await;
    let (_, body) = rig.get("alice", "/v1/service-levels").await;
    // Those that do not count are looked at, too.
    assert_eq!((&body["all"]["asked"], &body["cut"]), (&json!(9_950), &json!(true)), "{body}");
    let (_, other) = rig.get("owner", "/v1/service-levels?days=90").await;
    assert_eq!((&other["all"]["asked"], &other["cut"]), (&json!(10_000), &json!(true)), "{other}");
}

/// The command line says the same.
async fn printed(rig: &Rig, body: &Value) {
    let run = async |arguments: &[&str]| {
        let url = rig.url("");
        let arguments = [&["approvals", "levels", "--server", &url], arguments].concat();
        let ran = rig.deployment.command(&arguments).env("COUNTERSIGN_KEY", rig.key("alice")).output().await;
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    let mut json: Value = serde_json::from_str(&run(&["--json"]).await).unwrap();
    for time in ["since", "until"] {
        json[time] = body[time].clone();
    }
    assert_eq!(json, *body);
    let text = run(&["--days", "7"]).await;
    for part in ["all requests", "group auditors", "tool add_item", "75.0 %", "66.6 %", "0 superseded"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// The metrics count what this process has seen, by tool and by group, and name nobody.
async fn counted(rig: &Rig) {
    let text = rig.request("", Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "countersign_approval_tool_seconds_count{tool=\"add_item\"} 3",
        "countersign_approval_tool_seconds_bucket{le=\"+Inf\",tool=\"add_item\"} 3",
        "countersign_approval_group_seconds_count{group=\"approvers\"} 3",
        "countersign_approval_tool_expired_total{tool=\"add_note\"} 1",
        "countersign_approval_group_expired_total{group=\"auditors\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("alice") && !text.contains("clerk"), "{text}");
}
