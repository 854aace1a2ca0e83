//! The gateway under measurement: the ordinary server, from a folder written for it, with an agent's key.

use std::path::Path;

use anyhow::Context as _;

use crate::process::{self, Process};

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) url: String,
    pub(crate) key: String,
}

const POLICIES: &str = r#"
@id("reads") permit (principal, action, resource) when { context.effect == "read" };
@id("writes") permit (principal, action == Action::"write", resource);
"#;

/// Starts a gateway in front of `upstream`. `store` is the `[store]` table.
pub(crate) fn start(binary: &Path, folder: &Path, upstream: &str, store: &str) -> anyhow::Result<Gateway> {
    start_under(&[], binary, folder, upstream, store)
}

/// The same, as the last argument of another program, which runs it.
pub(crate) fn start_under(
    under: &[&str],
    binary: &Path,
    folder: &Path,
    upstream: &str,
    store: &str,
) -> anyhow::Result<Gateway> {
    std::fs::create_dir_all(folder.join("tools"))?;
    std::fs::create_dir_all(folder.join("policies"))?;
    std::fs::write(folder.join("policies/bench.cedar"), POLICIES)?;
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n\n[store]\n{store}\n\n[log]\norigin = \"bench.example/log\"\nkey = \"log.key\"\n\n\
         [telemetry]\nlevel = \"error\"\n\n[agent.bench]\naccounts = [\"acme\"]\n\n\
         [system.upstream]\nkind = \"mcp\"\nenvironment = \"production\"\naccount = \"acme\"\nurl = \"{upstream}\"\nallow_private = true\nconnect_timeout_ms = 60000\n"
    );
    std::fs::write(folder.join("countersign.toml"), config)?;
    run(binary, folder, &["keys", "log", "--create"])?;
    let digests = run(binary, folder, &["tools", "digest", "upstream", "--json"])?;
    let digests: serde_json::Value = serde_json::from_str(&digests).context("the digests")?;
    let mut tools = String::new();
    for name in ["read", "write"] {
        let digest = digests
            .as_array()
            .and_then(|all| all.iter().find(|tool| tool.get("name").is_some_and(|n| n == name)))
            .and_then(|tool| tool.get("digest"))
            .and_then(|digest| digest.as_str())
            .with_context(|| format!("no digest of {name} in {digests}"))?;
        let arguments = crate::toml::inline(&crate::upstream::schema());
        tools.push_str(&format!(
            "[tool.{name}]\nsystem = \"upstream\"\ndescription = \"Billing total of one customer.\"\neffect = \"{name}\"\n\
             upstream = \"{name}\"\ndigest = \"{digest}\"\narguments = {arguments}\n\n"
        ));
    }
    std::fs::write(folder.join("tools/upstream.toml"), tools)?;
    let key = run(binary, folder, &["keys", "create", "--agent", "bench"])?;
    let key = key.split_whitespace().find(|word| word.starts_with("csk_")).context("no key")?.to_owned();
    let (place, program) = (folder.to_string_lossy(), binary.to_string_lossy());
    let mut words = under.to_vec();
    words.extend([&*program, "serve", &place, "--print-url"]);
    let (program, arguments) = words.split_first().context("no program")?;
    let (process, line) = process::start(Path::new(program), arguments)?;
    Ok(Gateway { process, url: format!("{}/mcp", line.trim_end_matches('/')), key })
}

pub(crate) fn run(binary: &Path, folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
    let output = std::process::Command::new(binary).args(arguments).current_dir(folder).output()?;
    anyhow::ensure!(
        output.status.success(),
        "{arguments:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
