//! What the console costs: its first page while very much waits, and what many people cost who have it open.
//!
//! A page is what a browser loads that has nothing of it yet, and the page alone. Beside the first page with ten thousand
//! requests stands the one with none.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{StatusCode, header};

use crate::{
    crowd::{REQUESTS, World},
    gateway::run as command,
    load, progress,
    report::{self, Target, median},
};

/// So many people have the console open.
const CONSOLES: u32 = 200;
/// How often a page is loaded, and how often something is asked while all look.
const TURNS: u32 = 21;
/// So long nobody does anything.
const QUIET: Duration = Duration::from_secs(10);
/// Nobody waits longer for a page to hear of something.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse battery staple";

/// A person's browser.
struct Console {
    client: reqwest::Client,
    url: String,
    cookie: String,
}

/// A page as it was loaded.
struct Loaded {
    ms: f64,
    bytes: usize,
    text: String,
}

/// Measures, and prints what was found beside the targets.
pub(crate) async fn measure(binary: &Path) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let world = World::start(binary, folder.path(), CONSOLES)?;
    progress("people …");
    let mut people = Vec::new();
    for n in 0..CONSOLES {
        people.push(Console::of(&world, binary, folder.path(), &format!("p{n}")).await?);
    }
    let first = people.first().context("nobody")?;
    let cold = first.cold().await?;
    let empty = first.pages("/console/").await?;
    progress("open requests …");
    world.ask().await?;
    let full = first.pages("/console/").await?;
    let one = first.pages("/console/waiting").await?;

    progress("nothing happens …");
    let alone = world.quiet().await?;
    progress("open consoles …");
    let before = world.process.memory_mib()?;
    let mut open = Vec::new();
    for person in &people {
        open.push(person.listen().await?);
    }
    let each_kib = (world.process.memory_mib()? - before) * 1024.0 / f64::from(CONSOLES);
    let idle = world.quiet().await?;
    let mut noise = 0_u32;
    for events in &mut open {
        while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(1), next(events)).await {
            noise = noise.saturating_add(1);
        }
    }

    progress("requests while all look …");
    let client = load::client()?;
    let (mut told, mut seen, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..TURNS {
        let used = world.process.cpu_us()?;
        let began = Instant::now();
        let asked = world.call(&client, REQUESTS.saturating_add(n), 0).send().await?;
        // Those who have asked so much are refused by now, or not: an event comes either way.
        ensure!(asked.status().is_success() || asked.status().is_client_error(), "{}", asked.status());
        let heard = stream::iter(&mut open)
            .map(|events| async {
                let heard = tokio::time::timeout(PATIENCE, next(events)).await;
                heard.context("nothing was heard")??;
                anyhow::Ok(began.elapsed().as_secs_f64() * 1e3)
            })
            .buffer_unordered(usize::try_from(CONSOLES)?);
        let heard: Vec<f64> = heard.try_collect().await?;
        told.push(heard.iter().copied().fold(0.0, f64::max));
        first.load("/console/waiting").await?;
        seen.push(began.elapsed().as_secs_f64() * 1e3);
        cpu.push((world.process.cpu_us()? - used) / 1e3 / f64::from(CONSOLES));
    }

    let mut text = String::from("| page | median ms | slowest ms | KiB |\n|---|---|---|---|\n");
    let mut row = |what: &str, pages: &[Loaded]| {
        let times: Vec<f64> = pages.iter().map(|page| page.ms).collect();
        let slowest = times.iter().copied().fold(0.0, f64::max);
        let kib = pages.first().map_or(f64::NAN, |page| kib(page.bytes));
        text.push_str(&format!("| {what} | {:.1} | {slowest:.1} | {kib:.0} |\n", median(times)));
    };
    row("inbox, nothing waits", &empty);
    row(&format!("inbox, {REQUESTS} wait"), &full);
    row(&format!("its list alone, {REQUESTS} wait"), &one);
    text.push_str(&format!(
        "\nA cold load of the inbox in which nothing waits: {:.0} KiB in {} files. {CONSOLES} open consoles: {each_kib:.0} KiB of memory \
         each, {idle:.1} % of one core while nothing happens ({alone:.1} % without them), in which they heard {noise} events. From a request to the last of them that heard of it {:.0} ms (median), to \
         the list with it {:.0} ms; {:.2} ms of processor time for each console, and the request.\n\n",
        kib(cold.0),
        cold.1,
        median(told.clone()),
        median(seen),
        median(cpu),
    ));
    text.push_str(&report::targets(&[
        Target {
            what: format!("first page beside {REQUESTS} that wait, ms (median)"),
            measured: median(full.iter().map(|page| page.ms).collect()),
            acceptable: 100.0,
            excellent: 50.0,
            more: false,
        },
        Target {
            what: "cold load, KiB".into(),
            measured: kib(cold.0),
            acceptable: 200.0,
            excellent: 100.0,
            more: false,
        },
    ]));
    Ok(text)
}

impl World {
    /// How much of one core is used while nobody does anything, in percent.
    async fn quiet(&self) -> anyhow::Result<f64> {
        let (began, used) = (Instant::now(), self.process.cpu_us()?);
        tokio::time::sleep(QUIET).await;
        Ok((self.process.cpu_us()? - used) / began.elapsed().as_secs_f64() / 1e4)
    }
}

#[expect(clippy::cast_precision_loss, reason = "pages are no terabytes")]
fn kib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}

/// Waits for the next event of a stream.
async fn next(events: &mut reqwest::Response) -> anyhow::Result<()> {
    loop {
        let chunk = events.chunk().await?.context("the stream ended")?;
        if chunk.windows(7).any(|part| part == b"changed") {
            return Ok(());
        }
    }
}

impl Console {
    /// Signs a person in, by a link.
    async fn of(world: &World, binary: &Path, folder: &Path, person: &str) -> anyhow::Result<Self> {
        let link = command(binary, folder, &["people", "link", person])?;
        let token = link.split_whitespace().find_map(|word| word.split_once("/console/link#"));
        let (_, token) = token.with_context(|| format!("no link: {link}"))?;
        let client = load::client()?;
        let form = format!("token={token}&password={0}&again={0}", PASSWORD.replace(' ', "+"));
        let made = client
            .post(format!("{}/console/link/set-up", world.url))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await?;
        let cookie = made.headers().get(header::SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        let cookie = cookie.with_context(|| format!("{person} was not signed in: {}", made.status()))?;
        Ok(Self { client, url: world.url.clone(), cookie })
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.url)).header(header::COOKIE, &self.cookie)
    }

    async fn load(&self, path: &str) -> anyhow::Result<Loaded> {
        let began = Instant::now();
        let page = self.get(path).send().await?;
        ensure!(page.status() == StatusCode::OK, "{path}: {}", page.status());
        let text = page.text().await?;
        Ok(Loaded { ms: began.elapsed().as_secs_f64() * 1e3, bytes: text.len(), text })
    }

    async fn pages(&self, path: &str) -> anyhow::Result<Vec<Loaded>> {
        stream::iter(0..TURNS).then(|_turn| self.load(path)).try_collect().await
    }

    /// The inbox and all that it names, in bytes and files.
    async fn cold(&self) -> anyhow::Result<(usize, usize)> {
        let page = self.load("/console/").await?;
        let named: BTreeSet<&str> =
            page.text.split('"').filter(|part| part.starts_with("/console/assets/")).collect();
        ensure!(!named.is_empty(), "the page names nothing of its own");
        let mut bytes = page.bytes;
        for path in &named {
            let asset = self.get(path).send().await?;
            ensure!(asset.status() == StatusCode::OK, "{path}: {}", asset.status());
            bytes = bytes.saturating_add(asset.bytes().await?.len());
        }
        Ok((bytes, named.len().saturating_add(1)))
    }

    /// Opens the stream of events that a page has.
    async fn listen(&self) -> anyhow::Result<reqwest::Response> {
        let events = self.get("/console/events").send().await?;
        ensure!(events.status() == StatusCode::OK, "events: {}", events.status());
        Ok(events)
    }
}
