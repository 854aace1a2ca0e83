//! A PostgreSQL server that takes nothing but TLS, with certificates of an authority of our own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use countersign::{config::Config, log_key, server};
use reqwest::StatusCode;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    server::rig::{MAIN, Rig},
    server::tls::Authority,
};

/// A private cluster; stopped and removed when dropped.
struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    user: String,
    port: u16,
}

impl Cluster {
    /// Starts one that serves `localhost` with a certificate of this authority, and plain connections not at all.
    fn start(authority: &Authority) -> Self {
        let folder = tempfile::Builder::new().prefix("countersign-tls.").tempdir().unwrap();
        let mut cluster = Self {
            programs: PathBuf::from(given("COUNTERSIGN_TEST_POSTGRES_BIN")),
            user: given("COUNTERSIGN_TEST_POSTGRES_USER"),
            folder,
            port: 0,
        };
        let identity = authority.identity(&["localhost"]);
        cluster.write("password", "secret\n");
        cluster.write("server.crt", &identity.certificate_pem());
        cluster.write("server.key", &identity.key_pem());
        cluster.own();
        let data = cluster.at("data");
        let password = format!("--pwfile={}", cluster.at("password"));
        cluster
            .run("initdb", &["-D", &data, "-U", "postgres", "--auth=scram-sha-256", &password, "--no-sync"]);
        cluster.write("data/pg_hba.conf", "hostssl all all 127.0.0.1/32 scram-sha-256\n");
        let folder = cluster.folder.path().display();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\nssl = on\n\
             ssl_cert_file = '{folder}/server.crt'\nssl_key_file = '{folder}/server.key'\n"
        );
        cluster.write("data/postgresql.auto.conf", &settings);
        cluster.own();
        // A port taken in the meantime costs another attempt.
        for _ in 0..5 {
            cluster.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let port = format!("-p {}", cluster.port);
            let log = cluster.at("server.log");
            if cluster
                .command("pg_ctl", &["start", "-w", "-D", &data, "-l", &log, "-o", &port])
                .status()
                .unwrap()
                .success()
            {
                return cluster;
            }
        }
        panic!("{}", fs::read_to_string(cluster.at("server.log")).unwrap_or_default());
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.at(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Gives everything to the server's user: the server refuses to run as root.
    fn own(&self) {
        if !self.user.is_empty() {
            let folder = self.folder.path().to_str().unwrap();
            assert!(Command::new("chown").args(["-R", &self.user, folder]).status().unwrap().success());
        }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let program = self.programs.join(program);
        let mut command = if self.user.is_empty() {
            Command::new(program)
        } else {
            let mut command = Command::new("runuser");
            command.args(["-u", &self.user, "--"]).arg(program);
            command
        };
        let quiet = || Stdio::from(fs::File::create("/dev/null").unwrap());
        command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(quiet()).stderr(quiet());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        assert!(self.command(program, arguments).status().unwrap().success(), "{program} {arguments:?}");
    }

    /// A connection string, in a file that only we read.
    fn url(&self, folder: &Path, host: &str, query: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let file = folder.join(format!("{host}{query}.url").replace(['?', '='], "-"));
        fs::write(&file, format!("postgres://postgres:secret@{host}:{}/postgres{query}", self.port)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        format!("url = {{ file = '{}' }}", file.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stop = ["stop", "-m", "immediate", "-D", &self.at("data")];
        drop(self.command("pg_ctl", &stop).status());
    }
}

fn given(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests by ./test"))
}

/// A folder whose ledger is on the cluster, started and stopped again; what went wrong.
async fn start(store: &str, key: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    let main = format!(
        "[server]\nlisten = '127.0.0.1:0'\n[log]\norigin = 'test.example/tls'\nkey = '{}'\n",
        key.display()
    );
    let main = format!("{main}[store]\nkind = 'postgres'\ntimeout_ms = 3000\n{store}\n");
    fs::write(folder.path().join("countersign.toml"), main).unwrap();
    let config = Config::load(folder.path()).map_err(|why| format!("{why:?}"))?;
    match server::start(config).await {
        Ok(running) => {
            assert!(running.stop().await);
            Ok(())
        }
        Err(why) => {
            let mut said = why.to_string();
            let mut source = std::error::Error::source(&why);
            while let Some(cause) = source {
                said.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            Err(said)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_over_tls_is_whom_the_configured_authority_vouches_for() {
    let (trusted, stranger) = (Authority::new(), Authority::new());
    let cluster = Cluster::start(&trusted);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ca = |authority: &Authority, name: &str| format!("ca = '{}'", authority.file(at, name).display());
    let (ours, theirs) = (ca(&trusted, "trusted.pem"), ca(&stranger, "stranger.pem"));
    let (local, by_address) = (cluster.url(at, "localhost", ""), cluster.url(at, "127.0.0.1", ""));
    let require = cluster.url(at, "localhost", "?sslmode=require");
    let full = cluster.url(at, "localhost", "?sslmode=verify-full");
    let disable = cluster.url(at, "localhost", "?sslmode=disable");
    let cases = [
        ("the authority is trusted", format!("{local}\n{ours}"), true),
        ("in the words of libpq", format!("{full}\n{ours}"), true),
        ("another authority is trusted", format!("{local}\n{theirs}"), false),
        ("only the machine's are trusted", require.clone(), false),
        ("the certificate is not for this address", format!("{by_address}\n{ours}"), false),
        ("the server takes nothing plain", disable, false),
    ];

    // As a system that a tool acts on.
    for (what, system, good) in &cases {
        let main = format!(
            "{MAIN}[system.books]\nkind = 'postgres'\nenvironment = 'production'\naccount = 'acme'\n\
             connect_timeout_ms = 3000\n{system}\n[tool.one]\nsystem = 'books'\ndescription = 'One.'\n\
             effect = 'read'\nsql = 'select 1 as one'\n"
        );
        let (status, body) = Rig::with(&main).await.call("one", json!({})).await;
        if *good {
            assert_eq!(status, StatusCode::OK, "{what}: {body}");
            assert_eq!(body["result"]["rows"][0]["one"], json!(1), "{what}: {body}");
        } else {
            assert_eq!((status, &body["code"]), (StatusCode::BAD_GATEWAY, &json!("F002")), "{what}: {body}");
            assert!(!body.to_string().contains("secret"), "{body}");
        }
    }

    // As the ledger's store; after that no tool uses this database.
    let key = at.join("log.key");
    log_key::create(&key, "test.example/tls").unwrap();
    for (what, store, good) in &cases {
        let started = start(store, &key).await;
        assert_eq!(started.is_ok(), *good, "{what}: {started:?}");
        assert!(!started.err().unwrap_or_default().contains("secret"), "{what}");
    }
}
