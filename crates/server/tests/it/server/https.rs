//! The server behind TLS of its own: who is answered, who is told what, and certificates that are exchanged.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path};

use countersign::{
    config::Config,
    server::{self, StartError},
};
use countersign_rules::PersonId;
use reqwest::{Client, Response, StatusCode, header, tls::TlsInfo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    rig::{MAIN, Rig},
    tls::{Authority, Identity},
};
use crate::{
    binary::run_in,
    deployment::{Deployment, PATIENCE},
    place::Place,
};

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "gate.example.test"];

/// The main file of a server with TLS, and something more in `[server]`.
fn main(more: &str) -> String {
    let listen = "listen = \"127.0.0.1:0\"\n";
    MAIN.replace(listen, &format!("{listen}tls_cert = \"server.pem\"\ntls_key = \"server.key\"\n{more}\n"))
}

async fn rig(identity: &Identity, more: &str) -> Rig {
    let files = [("server.pem", &*identity.certificate_pem()), ("server.key", &*identity.key_pem())];
    Rig::secret_main(Place::sqlite(), &main(more), &files).await
}

fn address(rig: &Rig) -> SocketAddr {
    rig.running().address
}

/// A client that trusts an authority and no other.
fn trusting(authority: &Authority, rig: &Rig) -> reqwest::ClientBuilder {
    let folder = tempfile::tempdir().unwrap();
    let pem = fs::read(authority.file(folder.path(), "ca.pem")).unwrap();
    let root = reqwest::Certificate::from_pem(&pem).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test is a foreign client")]
    let client = Client::builder().no_proxy().tls_certs_only([root]).tls_info(true);
    client.resolve("gate.example.test", address(rig))
}

async fn get(client: &Client, rig: &Rig, host: &str, path: &str) -> Response {
    let url = format!("https://{host}:{}{path}", address(rig).port());
    client.get(url).bearer_auth(rig.key("clerk")).send().await.unwrap()
}

/// The certificate that was shown for an answer.
fn shown(answer: &Response) -> Vec<u8> {
    answer.extensions().get::<TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_is_behind_tls_for_whom_trusts_the_authority() {
    let authority = Authority::new();
    let rig = rig(&authority.identity(&NAMES), "allowed_hosts = [\"gate.example.test\"]").await;
    assert!(rig.running().public.starts_with("https://"), "{}", rig.running().public);
    let client = trusting(&authority, &rig).build().unwrap();
    let strict = |answer: &Response| answer.headers().contains_key(header::STRICT_TRANSPORT_SECURITY);
    for (path, status) in [
        ("/healthz", StatusCode::OK),
        ("/v1/tools", StatusCode::OK),
        ("/console/sign-in", StatusCode::OK),
        ("/nowhere", StatusCode::NOT_FOUND),
    ] {
        let named = get(&client, &rig, "gate.example.test", path).await;
        assert_eq!((named.status(), strict(&named)), (status, true), "{path}");
        // What a browser keeps of `localhost` would hold for every port there.
        let local = get(&client, &rig, "localhost", path).await;
        assert_eq!((local.status(), strict(&local)), (status, false), "{path}");
    }
    let mcp = client.post(format!("https://localhost:{}/mcp", address(&rig).port()));
    assert_eq!(mcp.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let version = reqwest::tls::Version::TLS_1_2;
    let old = trusting(&authority, &rig).max_tls_version(version).build().unwrap();
    assert_eq!(get(&old, &rig, "localhost", "/healthz").await.status(), StatusCode::OK);
    let stranger = trusting(&Authority::new(), &rig).build().unwrap();
    let url = format!("https://localhost:{}/healthz", address(&rig).port());
    assert!(stranger.get(url).send().await.unwrap_err().is_connect());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_told_so_and_who_says_nothing_is_not_waited_for() {
    let authority = Authority::new();
    let mut rig = rig(&authority.identity(&NAMES), "header_timeout_ms = 500").await;
    let plain = crate::deployment::http();
    for body in ["", "a body", &"x".repeat(200_000)] {
        let answer = plain.post(rig.url("/v1/calls")).bearer_auth(rig.key("clerk")).body(body.to_owned());
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(answer.text().await.unwrap().contains("https://"));
    }
    // Nothing, a part of a request, a part of a handshake, and what is neither.
    for said in
        [&b""[..], b"GET / HT", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00", b"\x80\x2e\x01\x00\x02", b"\0\0\0"]
    {
        let mut stream = TcpStream::connect(address(&rig)).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut told = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut told)).await;
        // It may be told nothing, and may be cut off.
        drop(ended.expect("it ends"));
    }
    // Many of them keep nobody out, and do not keep the server from stopping.
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(address(&rig)).await.unwrap());
    }
    let client = trusting(&authority, &rig).build().unwrap();
    assert_eq!(get(&client, &rig, "localhost", "/healthz").await.status(), StatusCode::OK);
    drop(client);
    timeout(PATIENCE, rig.stop()).await.unwrap();
    drop(held);
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    // As those who renew certificates do: whole, under another name, and then moved.
    let new = folder.join("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(new, folder.join(name)).unwrap();
}

/// What the server says of the files, once it says something that fits.
async fn fault(rig: &Rig, fits: impl Fn(Option<&str>) -> bool) -> Option<String> {
    let state = rig.running().app.settings().certificate.clone().unwrap();
    let found = async {
        loop {
            let fault = state.fault();
            if fits(fault.as_deref()) {
                return fault;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, found).await.unwrap()
}

/// What a person who has just set up an account sees of the server's health.
async fn health(client: &Client, rig: &Rig) -> String {
    let bob = PersonId::parse("bob").unwrap();
    let token = rig.running().app.accounts().invite(&bob, "cli", 60_000).await.unwrap();
    let base = format!("https://localhost:{}/console", address(rig).port());
    let form = format!("token={token}&password=correct+horse+battery&again=correct+horse+battery");
    let post = client.post(format!("{base}/link/set-up")).body(form);
    let post = post.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let signed = post.send().await.unwrap();
    let cookie = signed.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-countersign="), "{cookie}");
    let page = client.get(format!("{base}/health")).header(header::COOKIE, cookie).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    page.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart_and_a_bad_one_is_not() {
    let authority = Authority::new();
    let (first, second) = (authority.identity(&NAMES), authority.identity(&NAMES));
    let rig = rig(&first, "").await;
    let folder = rig.deployment.path().to_owned();
    let fresh = || trusting(&authority, &rig).build().unwrap();
    let kept = fresh();
    assert_eq!(shown(&get(&kept, &rig, "localhost", "/healthz").await), first.der());

    // The certificate is exchanged, and its key is not yet.
    write(&folder, "server.pem", &second.certificate_pem(), 0o644);
    let why = fault(&rig, |fault| fault.is_some()).await.unwrap();
    assert!(why.contains("server.pem") && why.contains("server.key"), "{why}");
    assert_eq!(shown(&get(&fresh(), &rig, "localhost", "/healthz").await), first.der());
    // A key that others may read is none.
    write(&folder, "server.key", &second.key_pem(), 0o644);
    let why = fault(&rig, |fault| fault.is_some_and(|why| why.contains("644"))).await.unwrap();
    assert!(!why.contains("PRIVATE"), "{why}");
    write(&folder, "server.key", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", 0o600);
    let why = fault(&rig, |fault| fault.is_some_and(|why| !why.contains("644"))).await.unwrap();
    assert!(!why.contains("c2VjcmV0"), "{why}");
    assert_eq!(shown(&get(&fresh(), &rig, "localhost", "/healthz").await), first.der());

    assert!(health(&kept, &rig).await.contains("The new certificate of this server cannot be used"));

    write(&folder, "server.key", &second.key_pem(), 0o600);
    fault(&rig, |fault| fault.is_none()).await;
    assert!(!health(&kept, &rig).await.contains("certificate"));
    assert_eq!(shown(&get(&fresh(), &rig, "localhost", "/healthz").await), second.der());
    // A connection that was open goes on as it began.
    assert_eq!(shown(&get(&kept, &rig, "localhost", "/healthz").await), first.der());
    // Files that are gone are no reason to stop either.
    fs::remove_file(folder.join("server.key")).unwrap();
    fault(&rig, |fault| fault.is_some()).await;
    assert_eq!(shown(&get(&fresh(), &rig, "localhost", "/healthz").await), second.der());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_with_a_certificate_that_nobody_could_trust_it_by() {
    let authority = Authority::new();
    let (one, other) = (authority.identity(&NAMES), authority.identity(&NAMES));
    let deployment = Deployment::new(Place::sqlite(), &main(""), "");
    let (pem, key) = (one.certificate_pem(), one.key_pem());
    for (cert, key, mode, told) in [
        (pem.as_str(), key.as_str(), 0o644, "can be read or changed by others"),
        (&pem, &other.key_pem(), 0o600, "server.key"),
        (&pem, "", 0o600, "no private key"),
        (&pem, &pem, 0o600, "no private key"),
        ("", &key, 0o600, "no certificate"),
        (&key, &key, 0o600, "no certificate"),
    ] {
        write(deployment.path(), "server.pem", cert, 0o644);
        write(deployment.path(), "server.key", key, mode);
        let why = match server::start(deployment.config()).await {
            Err(StartError::Tls(why)) => why,
            other => panic!("{told}: {:?}", other.map(|_running| ())),
        };
        assert!(why.contains(told), "{told}: {why}");
        // Who only looks is told the same.
        let checked = run_in(deployment.path(), &["check"]);
        assert!(
            checked.out.contains("the server would not start") && checked.out.contains(told),
            "{}",
            checked.out
        );
        let looked = run_in(deployment.path(), &["check", "--live", "--json"]);
        assert!(looked.code == 1 && looked.out.contains(told), "{}", looked.out);
    }
    fs::remove_file(deployment.at("server.pem")).unwrap();
    assert!(matches!(server::start(deployment.config()).await, Err(StartError::Tls(_))));
    for half in ["tls_cert = \"server.pem\"\n", "tls_key = \"server.key\"\n"] {
        deployment.write("countersign.toml", &main("").replace(half, ""));
        let mistakes = Config::load(deployment.path()).unwrap_err();
        assert!(mistakes.mistakes[0].message.contains("both `tls_cert` and `tls_key`"), "{mistakes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_trusts_the_authority_that_it_is_told() {
    let authority = Authority::new();
    let rig = rig(&authority.identity(&NAMES), "").await;
    let ca = authority.file(rig.deployment.path(), "ca.pem");
    let other = Authority::new().file(rig.deployment.path(), "other.pem");
    let server = format!("https://localhost:{}", address(&rig).port());
    let run = async |more: &[&str]| {
        let arguments = [&["approvals", "list", "--server", &server], more].concat();
        let mut command = rig.deployment.command(&arguments);
        let ran = command.env("COUNTERSIGN_KEY", rig.key("alice")).output().await.unwrap();
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    assert_eq!(run(&["--ca", ca.to_str().unwrap()]).await, (Some(0), String::new()));
    for (more, what) in [(vec![], "the machine's"), (vec!["--ca", other.to_str().unwrap()], "another's")] {
        let (code, said) = run(&more).await;
        assert_eq!(code, Some(2), "{what}: {said}");
    }
    let (code, said) = run(&["--ca", "server.key"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("server.key") && !said.contains("PRIVATE"), "{said}");
}
