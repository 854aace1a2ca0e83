//! `examples/payments`: the folder as it is committed, served by the binary, against its stand-in API.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    thread::JoinHandle,
};

use payments_stand_in::{Behaviour, Payments, serve};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    binary::{Ran, run_in},
    place::{Place, on_either_store},
    served::Served,
};

const TOKEN: &str = "sk-live-0f3a9c51e7";

struct Shop {
    folder: TempDir,
    api: Payments,
    address: SocketAddr,
    serving: Option<JoinHandle<()>>,
    server: Served,
    agent: String,
    /// Everything that anybody was shown.
    seen: String,
    _place: Place,
}

impl Shop {
    fn open(place: Place) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/payments");
        for name in
            ["countersign.toml", "tools/payments.toml", "policies/payments.cedar", "scenarios/payments.toml"]
        {
            let to = folder.path().join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(example.join(name), to).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let main = folder.path().join("countersign.toml");
        let text = fs::read_to_string(&main)
            .unwrap()
            .replace("127.0.0.1:7780", "127.0.0.1:0")
            .replace("127.0.0.1:7790", &address.to_string())
            .replace("[store]\npath = \"countersign.db\"\n", &place.section(folder.path()))
            // An answer that is lost is noticed soon.
            .replace("allow_private = true", "allow_private = true\ntimeout_ms = 1000");
        fs::write(main, text).unwrap();
        assert_eq!(run_in(folder.path(), &["keys", "log", "--create"]).code, 0);
        let agent = new_key(folder.path(), "--agent", "support-bot");
        let people: Vec<String> =
            ["lena", "omar", "yuki"].map(|person| new_key(folder.path(), "--person", person)).into();
        fs::write(folder.path().join("people"), people.join("\n")).unwrap();
        let api = Payments::new(TOKEN, Behaviour::default());
        let server = Served::start(folder.path(), &[("PAYMENTS_TOKEN", TOKEN)]);
        let mut shop =
            Self { folder, api, address, serving: None, server, agent, seen: String::new(), _place: place };
        shop.serve(listener);
        shop
    }

    fn serve(&mut self, listener: TcpListener) {
        let api = self.api.clone();
        self.serving = Some(std::thread::spawn(move || serve(listener, &api).unwrap()));
    }

    fn keep(&mut self, ran: &Ran) -> Value {
        self.seen.push_str(&ran.out);
        self.seen.push_str(&ran.err);
        ran.value()
    }

    fn agent(&mut self, arguments: &[&str]) -> Value {
        let ran = self.server.run(&self.agent, arguments);
        self.keep(&ran)
    }

    fn refund(&mut self, charge: &str) -> Value {
        let arguments = json!({ "charge": charge, "reason": "duplicate" }).to_string();
        self.agent(&["call", "refund", &arguments, "--session", charge, "--reason", "charged twice"])
    }

    fn result(&mut self, approval: &str) -> Value {
        self.agent(&["call", "--result", approval, "--wait-ms", "20000"])
    }

    /// People by their place in `countersign.toml`: lena, omar, yuki.
    fn approve(&mut self, person: usize, approval: &str) -> Value {
        let keys = fs::read_to_string(self.folder.path().join("people")).unwrap();
        let shown = self.server.run(keys.lines().nth(person).unwrap(), &["approvals", "show", approval]);
        self.keep(&shown);
        let ran = self.server.run(keys.lines().nth(person).unwrap(), &["approvals", "approve", approval]);
        self.keep(&ran)
    }

    /// Ends the server and looks for the token wherever somebody could read it.
    fn close(mut self) {
        for arguments in
            [&["audit", "query"][..], &["audit", "query", "--json"], &["check"], &["audit", "verify"]]
        {
            let ran = run_in(self.folder.path(), arguments);
            assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.out, ran.err);
            self.seen.push_str(&ran.out);
            self.seen.push_str(&ran.err);
        }
        let noise = self.server.kill();
        assert!(!noise.is_empty(), "the server wrote no log");
        self.seen.push_str(&noise);
        assert!(!self.seen.contains(TOKEN), "the token was shown: {}", self.seen);
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                let found = bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
                assert!(!found, "the token stands in {}", path.display());
            }
        }
    }
}

fn new_key(folder: &Path, flag: &str, name: &str) -> String {
    let made = run_in(folder, &["keys", "create", flag, name]);
    assert_eq!(made.code, 0, "{}", made.err);
    made.out.trim().to_owned()
}

fn approval(asked: &Value) -> String {
    assert_eq!(asked["status"], "pending", "{asked}");
    asked["approval"].as_str().unwrap().to_owned()
}

#[test]
fn the_rules_are_those_that_the_scenarios_say() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/payments");
    let tested = run_in(&example, &["policy", "test"]);
    assert_eq!(tested.code, 0, "{}{}", tested.out, tested.err);
}

on_either_store!(
    refunds_are_asked_for_made_once_and_bounded,
    a_refund_that_grew_since_it_was_approved_is_not_made,
    a_refund_is_in_doubt_when_the_api_dies_with_it_and_is_never_sent_again,
);

fn refunds_are_asked_for_made_once_and_bounded(place: Place) {
    let mut shop = Shop::open(place);
    let charge = shop.agent(&["call", "get_charge", r#"{"charge": "ch_1001"}"#]);
    assert_eq!(
        (&charge["status"], &charge["result"]["refundable"]),
        (&json!("done"), &json!(1900)),
        "{charge}"
    );

    // A small one: asked, found again by the same call, approved, made once.
    let asked = shop.refund("ch_1001");
    let request = approval(&asked);
    assert_eq!(asked["reach"]["amount"], json!({ "currency": "EUR", "minor": 1900 }));
    assert_eq!(approval(&shop.refund("ch_1001")), request);
    assert!(shop.api.refunds().is_empty());
    assert_eq!(shop.approve(1, &request)["error"]["code"], "R018", "finance is not asked");
    shop.approve(0, &request);
    let done = shop.result(&request);
    assert_eq!((&done["status"], &done["result"]["amount"]), (&json!("done"), &json!(1900)), "{done}");
    assert_eq!(shop.result(&request)["call"], done["call"]);
    assert_eq!(shop.api.refunds().len(), 1);

    // A large one: two people of finance.
    let request = approval(&shop.refund("ch_1002"));
    assert_eq!(shop.approve(1, &request)["state"], "waiting");
    assert_eq!(shop.api.refunds().len(), 1);
    shop.approve(2, &request);
    assert_eq!(shop.result(&request)["status"], "done");

    // Too large, and in a currency that nothing permits.
    for charge in ["ch_1003", "ch_1005"] {
        let denied = shop.refund(charge);
        assert_eq!((&denied["status"], &denied["code"]), (&json!("blocked"), &json!("R004")), "{denied}");
    }

    // The answer is lost: the same key finds the refund that was made.
    shop.api.behave(Behaviour { lose_answers: 1, crash_at_refund: false });
    let request = approval(&shop.refund("ch_1004"));
    shop.approve(0, &request);
    let done = shop.result(&request);
    assert_eq!((&done["status"], &done["result"]["charge"]), (&json!("done"), &json!("ch_1004")), "{done}");

    // 19 + 125 + 45 EUR are spent of 200.
    let exhausted = shop.refund("ch_1006");
    assert_eq!(
        (&exhausted["status"], &exhausted["code"], &exhausted["approval"]),
        (&json!("budget_exhausted"), &json!("R008"), &Value::Null),
        "nobody is asked: {exhausted}"
    );
    let message = exhausted["message"].as_str().unwrap();
    assert!(message.contains("`refunds a day` has 1100 of 20000 EUR"), "{exhausted}");

    let charges: Vec<String> = shop.api.refunds().into_iter().map(|refund| refund.charge).collect();
    assert_eq!(charges, ["ch_1001", "ch_1002", "ch_1004"]);
    shop.close();
}

fn a_refund_that_grew_since_it_was_approved_is_not_made(place: Place) {
    let mut shop = Shop::open(place);
    let request = approval(&shop.refund("ch_1001"));
    // Somebody else charges more when the refund has been decided again, just before it is sent.
    shop.api.raise("ch_1001", 1, 1_000);
    shop.approve(0, &request);
    let told = shop.result(&request);
    assert_eq!((&told["status"], &told["code"]), (&json!("superseded"), &json!("R011")), "{told}");
    assert!(shop.api.refunds().is_empty());

    // It is asked about anew, with what it would move now.
    let asked = shop.refund("ch_1001");
    assert_eq!(asked["reach"]["amount"], json!({ "currency": "EUR", "minor": 2900 }), "{asked}");
    let anew = approval(&asked);
    assert_ne!(anew, request);
    shop.approve(0, &anew);
    assert_eq!(shop.result(&anew)["status"], "done");
    let made: Vec<u64> = shop.api.refunds().into_iter().map(|refund| refund.amount).collect();
    assert_eq!(made, [2_900]);
    shop.close();
}

fn a_refund_is_in_doubt_when_the_api_dies_with_it_and_is_never_sent_again(place: Place) {
    let mut shop = Shop::open(place);
    shop.api.behave(Behaviour { lose_answers: 0, crash_at_refund: true });
    let request = approval(&shop.refund("ch_1001"));
    shop.approve(0, &request);
    let doubt = shop.result(&request);
    assert_eq!((&doubt["status"], &doubt["code"]), (&json!("in_doubt"), &json!("F003")), "{doubt}");
    assert_eq!(shop.api.refunds().len(), 1);

    // The API is back, and nothing goes to it by itself; nor is the agent asked to try again.
    shop.serving.take().unwrap().join().unwrap();
    shop.serve(TcpListener::bind(shop.address).unwrap());
    assert_eq!(shop.result(&request)["status"], "in_doubt");
    let charge = shop.agent(&["call", "get_charge", r#"{"charge": "ch_1001"}"#]);
    assert_eq!(charge["result"]["refundable"], 0);
    assert_eq!(shop.api.refunds().len(), 1);

    let call = doubt["call"].as_str().unwrap();
    let keys = fs::read_to_string(shop.folder.path().join("people")).unwrap();
    let settle = ["calls", "resolve", call, "--happened", "--comment", "seen in the API"];
    let refused = shop.server.run(keys.lines().nth(1).unwrap(), &settle);
    assert_eq!(refused.code, 1, "omar is no operator: {}", refused.out);
    let settled = shop.server.run(keys.lines().next().unwrap(), &settle);
    assert_eq!(settled.code, 0, "{}{}", settled.out, settled.err);
    shop.keep(&settled);
    assert_eq!(shop.api.refunds().len(), 1);
    shop.close();
}
