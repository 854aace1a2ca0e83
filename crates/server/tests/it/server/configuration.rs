//! Every mistake of a configuration is reported where it stands, with what would be right.

use std::{collections::BTreeSet, path::Path};

use countersign::config::{Config, Mistakes, REFERENCE};

use crate::server::rig::MAIN;

fn load(main: &str, more: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("countersign.toml"), main).unwrap();
    for (name, text) in more {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Config::load(folder.path())
}

/// The one mistake of a configuration, as `file:line `text`: message (help)`.
fn mistakes(main: &str, more: &[(&str, &str)]) -> Vec<String> {
    let mistakes = load(main, more).map(|_| ()).unwrap_err().mistakes;
    mistakes
        .iter()
        .map(|p| {
            let text = p.text().unwrap_or_default().lines().next().unwrap_or_default();
            let line = p.line().map(|line| line.to_string()).unwrap_or_default();
            format!("{}:{line} `{text}` {} ({})", p.file, p.message, p.help.as_deref().unwrap_or("-"))
        })
        .collect()
}

#[test]
fn all_mistakes_are_reported_at_once_where_they_stand() {
    let main = r#"
[server]
lsten = "127.0.0.1:1"
wait_ms = "5s"
allowed_origins = ["https://a.example/x"]
[store]
kind = "mysql"
[log]
[system.shop]
kind = "sqlite"
environment = "production"
password = "hunter2"
[system.pg]
kind = "postgres"
url = "postgres://me:secret@db/x"
environment = "production"
account = "acme"
[agent.clerk]
teams = "sales"
accounts = []
[person.clerk]
groups = ["a b"]
[[budget]]
name = "b"
per = "agent"
unit = "money"
limit = -1
halt_at = "120%"
[sytem.x]
"#;
    let found = mistakes(
        main,
        &[("tools/a.toml", "[tool.t]\nsystem = \"shop\"\ndescription = \"x\"\nrate = \"10/week\"\n")],
    );
    let expected = [
        "countersign.toml:4 `\"5s\"` `wait_ms` in `[server]`: must be a whole number, not a text (-)",
        "countersign.toml:5 `[\"https://a.example/x\"]` `allowed_origins` in `[server]`: `https://a.example/x` is no origin (write `https://a.example`)",
        "countersign.toml:3 `lsten` `lsten` is no key of `[server]` (did you mean `listen`?)",
        "countersign.toml:7 `\"mysql\"` `kind` in `[store]`: `mysql` is not known (write one of `sqlite`, `postgres`)",
        "countersign.toml:8 `[log]` `[log]` has no `origin` (name the log as nobody else names theirs, such as `origin = \"acme.example/countersign\"`)",
        "countersign.toml:9 `[system.shop]` `[system.shop]` has no `account` (say which account it belongs to; agents act only in accounts they were given)",
        "countersign.toml:9 `[system.shop]` `[system.shop]` has no `path` (say which file, such as `path = \"billing.db\"`)",
        "countersign.toml:15 `\"postgres://me:secret@db/x\"` `url` in `[system.pg]`: a secret does not stand in the configuration (write `{ env = \"NAME\" }` or `{ file = \"path\" }`, and keep the secret there)",
        "countersign.toml:19 `\"sales\"` `teams` in `[agent.clerk]`: must be a list of texts, not a text (-)",
        "countersign.toml:27 `-1` `limit` in `[[budget]]`: `-1` is out of bounds (write a whole number from 0 to 9007199254740991)",
        "countersign.toml:28 `\"120%\"` `halt_at` in `[[budget]]`: `120%` is no threshold (write an amount such as `80`, or a part of the limit such as `\"80%\"`)",
        "countersign.toml:29 `sytem` `sytem` is no key of `countersign.toml` (did you mean `system`?)",
    ];
    for line in expected {
        assert!(found.iter().any(|f| f == line), "missing: {line}\nfound:\n{}", found.join("\n"));
    }
    let has = |words: &[&str]| found.iter().any(|f| words.iter().all(|word| f.contains(word)));
    assert!(has(&["12", "`password` is no key of `[system.shop]`"]), "{found:#?}");
    assert!(has(&["`groups` in `[person.clerk]`", "may not stand in a name"]), "{found:#?}");
    assert!(has(&["a budget of money has no `currency`"]), "{found:#?}");
    assert!(has(&["tools/a.toml:1", "has no `effect`", "`read`, `write`, `destructive`"]), "{found:#?}");
    assert!(has(&["tools/a.toml:4", "`10/week` is not a rate"]), "{found:#?}");
}

#[test]
fn a_call_is_not_said_to_be_held_longer_than_it_waits() {
    let with = |keys: &str| load(&MAIN.replacen("wait_ms = 5000", keys, 1), &[]);
    let found = mistakes(&MAIN.replacen("wait_ms = 5000", "wait_ms = 5000\nhold_ms = 5001", 1), &[]);
    assert!(found[0].contains("`5001` `hold_ms` is longer than `wait_ms`"), "{found:#?}");
    let held = |keys: &str| with(keys).unwrap().server.hold.as_millis();
    assert_eq!(
        (held("wait_ms = 5000\nhold_ms = 5000"), held("wait_ms = 200"), held("")),
        (5_000, 200, 3_000)
    );
}

#[test]
fn syntax_is_reported_where_it_breaks() {
    let found = mistakes("[server\nlisten = 1", &[]);
    assert!(found[0].starts_with("countersign.toml:1"), "{found:?}");
    let found = mistakes(MAIN, &[("tools/a.toml", "[tool.a]\nsystem = \"x\nkind = 1")]);
    assert!(found[0].starts_with("tools/a.toml:2"), "{found:?}");
}

#[test]
fn the_names_of_the_programs_own_tools_are_taken() {
    for name in ["countersign_await", "countersign_x", "Countersign_Await"] {
        let tool = format!(
            "[tool.{name}]\nsystem = \"shop\"\ndescription = \"x\"\neffect = \"read\"\nsql = \"select 1\""
        );
        let found = mistakes(MAIN, &[("tools/a.toml", &tool)]);
        assert!(
            found[0].starts_with("tools/a.toml:1") && found[0].contains("the program's own"),
            "{found:#?}"
        );
    }
}

#[test]
fn an_agent_and_a_person_cannot_share_a_name() {
    let found = mistakes(&MAIN.replace("[person.alice]", "[person.other]"), &[]);
    assert!(found[0].contains("`other` is the name of an agent and of a person"), "{found:?}");
}

#[test]
fn names_that_nobody_can_tell_apart_are_mistakes() {
    let with = |more: &str| mistakes(&format!("{MAIN}\n{more}"), &[]);
    for more in [
        "[person.Alice]\ngroups = [\"approvers\"]",
        "[person.a1ice]\ngroups = [\"approvers\"]",
        "[person.aIice]\ngroups = [\"approvers\"]",
        "[person.b0b]\ngroups = [\"approvers\"]",
        "[agent.ALICE]\naccounts = []",
    ] {
        let found = with(more);
        assert!(found.iter().any(|told| told.contains("look alike")), "{more}: {found:#?}");
    }
    for name in ["alcie", "ALICE", "nobody"] {
        let found = with(&format!("[agent.second]\naccounts = []\non_behalf_of = \"{name}\""));
        assert!(found[0].contains("there is no such person"), "{found:#?}");
        assert!(name == "nobody" || found[0].contains("did you mean `alice`?"), "{found:#?}");
    }
}

#[test]
fn a_file_that_looks_like_a_policy_and_would_not_be_read_is_a_mistake() {
    for name in [
        "policies/team/x.cedar",
        "policies/x.cedar.bak",
        "policies/x.ceder",
        "policies/x.cedar.txt",
        "policies/x.cedar.md",
        "policies/x",
        "tools/t.yaml",
        "scenarios/s.json",
        "policies/x.cedar~",
        "policies/X.CEDAR",
        "policies/.x.cedar",
        "policies/.x.cedar.swp",
        "tools/more/t.toml",
        "tools/t.toml.disabled",
        "scenarios/old/s.toml",
        "policy/x.cedar",
        "Policies/x.cedar",
        "extra.cedar",
        "tool/t.toml",
    ] {
        let found = mistakes(MAIN, &[(name, "forbid (principal, action, resource);")]);
        assert!(found[0].contains("would not be read"), "{name}: {found:#?}");
    }
    for name in ["policies/README.md", "policies/matrix.snap", "policies/.gitkeep", "notes.toml", "docs/x.md"]
    {
        assert!(load(MAIN, &[(name, "x")]).is_ok(), "{name}");
    }
}

#[test]
fn an_amount_with_a_fraction_says_how_many_places_it_has() {
    use countersign::{bundle::Bundle, vault::ConfigVault};
    let main = format!(
        "{MAIN}\n[system.pay]\nkind = \"http\"\nbase_url = \"http://127.0.0.1:1\"\nenvironment = \"production\"\naccount = \"acme\"\nallow_private = true"
    );
    let mistakes = |kind: &str, scale: &str| {
        let tool = format!(
            "[tool.t]\nsystem = \"pay\"\ndescription = \"x\"\neffect = \"write\"\narguments = {{ amount = {{ type = \"{kind}\" }} }}\n\
             request = {{ method = \"POST\", path = \"/x\", body = {{ a = \"$amount\" }} }}\n\
             amount = {{ minor = \"$amount\", currency = \"EUR\"{scale} }}"
        );
        let config = load(&main, &[("tools/a.toml", &tool)]).unwrap();
        let vault: std::sync::Arc<dyn countersign_gate::Vault> =
            std::sync::Arc::new(ConfigVault::new(&config));
        Bundle::new(&config, &vault).err().map(|found| found.mistakes[0].message.clone())
    };
    let fraction = mistakes("number", "").unwrap();
    assert!(fraction.contains("may have a fraction"), "{fraction}");
    assert_eq!(mistakes("number", ", scale = 2"), None);
    assert_eq!(mistakes("integer", ""), None);
}

#[test]
fn a_tool_acts_in_one_way_and_has_a_class() {
    let tool = |more: &str| format!("[tool.t]\nsystem = \"shop\"\ndescription = \"x\"\n{more}");
    for (more, words) in [
        ("sql = \"select 1\"", "has no `effect`"),
        ("effect = \"harmless\"\nsql = \"select 1\"", "`harmless` is not known"),
        ("effect = \"read\"", "does not say how it acts"),
        ("effect = \"read\"\nsql = \"select 1\"\nupstream = \"x\"", "acts in one way"),
        ("effect = \"from_statement\"\nsql = \"select 1\"", "has none of its own"),
        (
            "effect = \"read\"\nupstream = \"x\"\ndigest = \"sha256:00\"",
            "says which arguments agents may give",
        ),
    ] {
        let found = mistakes(MAIN, &[("tools/a.toml", &tool(more))]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(words), "{words}: {found:#?}");
    }
}

#[test]
fn what_does_not_fit_its_system_or_the_tools_is_reported_where_it_stands() {
    use countersign::{bundle::Bundle, vault::ConfigVault};
    let bundle = |tools: &str, policies: &str| {
        let config = load(MAIN, &[("tools/a.toml", tools), ("policies/p.cedar", policies)]).unwrap();
        let vault: std::sync::Arc<dyn countersign_gate::Vault> =
            std::sync::Arc::new(ConfigVault::new(&config));
        Bundle::new(&config, &vault).map(|_| ()).unwrap_err().mistakes
    };
    let tools = "[tool.t]\nsystem = \"shop\"\ndescription = \"x\"\neffect = \"read\"\nsql = \"delete from item where id = 1\"\n\
                 [tool.u]\nsystem = \"nowhere\"\ndescription = \"x\"\neffect = \"read\"\nsql = \"select 1\"";
    let found = bundle(tools, "");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!((found[0].line(), found[0].text()), (Some(4), Some("\"read\"")), "{found:#?}");
    assert_eq!((found[1].line(), found[1].text()), (Some(7), Some("\"nowhere\"")), "{found:#?}");

    let good =
        "[tool.t]\nsystem = \"shop\"\ndescription = \"x\"\neffect = \"read\"\nsql = \"select 1 as one\"";
    let found = bundle(good, "permit (principal, action, resource)\nwhen { context.nothing == 1 };");
    assert_eq!(found[0].file, "policies/p.cedar");
    assert!(found[0].line().is_some_and(|line| line <= 2), "{found:#?}");
}

#[test]
fn a_provider_by_which_nobody_could_sign_in_as_meant_is_refused() {
    let with = |server: &str, subject: &str, provider: &str, more: &str| {
        let main = MAIN.replace("[server]\n", &format!("[server]\n{server}\n"));
        let main = main.replace("[person.alice]\n", &format!("[person.alice]\n{subject}\n"));
        format!("{main}\n[provider.corp]\n{provider}\n{more}\n")
    };
    let public = "public_url = \"https://gate.example\"";
    let subject = "subject = { corp = \"0042\" }";
    let corp = "issuer = \"https://idp.example\"\nclient_id = \"gate\"";
    let groups = "groups_claim = \"groups\"\ngroups = { \"DBAs\" = [\"approvers\"] }";
    let good = load(&with(public, subject, corp, groups), &[]).unwrap();
    let corp_is = &good.providers.values().next().unwrap().provider;
    assert_eq!(corp_is.redirect_uri, "https://gate.example/console/sign-in/corp/return");
    assert_eq!((corp_is.title.as_str(), corp_is.person_claim.as_str()), ("corp", "sub"));
    let nobody = subject.replace("0042", "");
    let other = "[person.dora]\ngroups = [\"auditors\"]\nsubject = { corp = \"OO42\" }";
    let same = other.replace("OO42", "0042");
    let confused =
        format!("{corp}\n[oauth]\nissuer = \"https://idp.example\"\naudience = \"gate\"\njwks_file = \"j\"");
    for (server, subject, provider, more, words) in [
        ("", subject, corp, "", "`[server]` has no `public_url`"),
        ("public_url = \"http://gate.example\"", subject, corp, "", "`public_url` is not encrypted"),
        (public, "", corp, "", "nobody can sign in by"),
        (public, &nobody, corp, "", "is no subject of a provider"),
        (public, "subject = { corp = \"\u{660}42\" }", corp, "", "is no subject of a provider"),
        (public, "subject = { corp = \"1\", crop = \"2\" }", corp, "", "there is no such provider"),
        (public, "subject = \"0042\"", corp, "", "must be a table by provider"),
        (public, subject, corp, &same, "are the same or look alike"),
        (public, subject, corp, other, "are the same or look alike"),
        (public, subject, "issuer = \"http://idp.example\"\nclient_id = \"gate\"", "", "is not encrypted"),
        (public, subject, "issuer = \"https://idp.example?x\"\nclient_id = \"gate\"", "", "has a query"),
        (public, subject, "issuer = \"https://idp.example\"", "", "has no `client_id`"),
        (public, subject, corp, "client_secret = \"hunter2\"", "does not stand in the configuration"),
        (public, subject, corp, "scopes = [\"profile\"]", "lacks `openid`"),
        (public, subject, corp, "person_claim = \"email\"", "names nobody"),
        (public, subject, corp, "person_claim = \"Preferred_Username\"", "names nobody"),
        (public, subject, corp, "groups_claim = \"groups\"", "none of its groups counts"),
        (public, subject, corp, "groups = { DBAs = [\"approvers\"] }", "no claim has them"),
        (public, subject, corp, "groups_claim = \"groups\"\ngroups = { DBAs = [] }", "stands for no group"),
        (public, subject, &confused, "", "would pass for an agent"),
    ] {
        let found = mistakes(&with(server, subject, provider, more), &[]);
        assert!(found.iter().any(|mistake| mistake.contains(words)), "{words}: {found:#?}");
    }
}

#[test]
fn the_reference_is_a_configuration_itself() {
    let config = load(REFERENCE, &[]).unwrap();
    assert_eq!(config.systems.len(), 4);
    assert_eq!(config.tools.len(), 1);
    assert!(config.oauth.is_some());
}

/// Every key that the reader asks for stands in the reference file and in the documentation.
#[test]
fn every_key_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut keys = BTreeSet::new();
    for file in std::fs::read_dir(root.join("src/config")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for verb in
            [".optional(", ".required(", ".defaulted(", ".section(", "size(section, ", "names(section, "]
        {
            for after in text.split(verb).skip(1) {
                let key = after.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                keys.extend(key.map(|(key, _)| key.to_owned()));
            }
        }
    }
    assert!(keys.len() > 60, "{}", keys.len());
    let manual = std::fs::read_to_string(root.join("../../docs/configuration.md")).unwrap();
    for key in keys {
        assert!(REFERENCE.contains(&key), "`{key}` is not in the reference file");
        assert!(manual.contains(&format!("`{key}`")), "`{key}` is not in docs/configuration.md");
    }
}

#[test]
fn certificates_that_cannot_be_read_are_reported_where_they_are_named() {
    let http = format!(
        "{MAIN}[system.api]\nkind = \"http\"\nenvironment = \"e\"\naccount = \"a\"\nbase_url = \"https://api.test\"\nca = \"ca.pem\"\n"
    );
    assert!(
        mistakes(&http, &[])[0].contains("the certificates cannot be read"),
        "{:?}",
        mistakes(&http, &[])
    );
    for (text, words) in [
        ("", "there is no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ] {
        let found = mistakes(&http, &[("ca.pem", text)]);
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
    }
}
