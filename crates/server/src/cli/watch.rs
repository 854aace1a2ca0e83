//! `countersign approvals watch`: what waits, as it comes. At a terminal a person stays in it and answers there.
//!
//! Nothing is approved that was not shown: the digest of what was on the screen goes with the approval, so that a call that has
//! become another one meanwhile is not approved.

use std::{collections::BTreeSet, io::IsTerminal as _};

use countersign_api::{Approve, Refuse, RequestsBody};
use countersign_app::{
    request::{RequestBody, RequestDetail},
    text::{grouped, one_line},
};
use countersign_rules::ApprovalState;
use tokio::sync::mpsc;

use super::{
    Failure, Outcome, Output,
    approvals::{answer, groups, segment},
    client::{Client, Connect, cell},
    request::{detail, earlier},
};

/// How often a watch looks.
const LOOK: std::time::Duration = std::time::Duration::from_millis(700);

/// What can be said to the watch.
const HELP: &str = "\
   N            show request number N: arguments, reach, sample rows, who asks and why
   a N [WORDS]  approve it, as it was shown; the words are for the record
   r N WORDS    refuse it; the agent is told the words
   l N          look closer: run the call, roll it back, and show all that it touches
   w            what waits
   q            stop watching";

/// `countersign approvals watch`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "At a terminal, requests are numbered and can be answered here: `?` says how. A request is approved as it was shown, and \
                  no other way. Where something else reads, each request is two lines, or with `--json` one line."
)]
pub(super) struct Watch {
    /// Ring the terminal's bell for each request that comes
    #[arg(long)]
    bell: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Watch {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let client = self.connect.client()?;
        let inbox = (out.terminal() && !out.json() && std::io::stdin().is_terminal()).then(Inbox::default);
        let mut said = match &inbox {
            Some(_) => {
                out.note("watching; type the number of a request to see it, `?` for help, `q` to stop");
                listen()
            }
            // Nobody says anything.
            None => mpsc::unbounded_channel().1,
        };
        let mut watching = Watching { client, connect: &self.connect, out, bell: self.bell, inbox };
        let mut seen = BTreeSet::new();
        let mut away = false;
        loop {
            match waiting(&watching.client).await {
                Ok(requests) => {
                    if std::mem::take(&mut away) && !out.json() {
                        out.note("the server is back");
                    }
                    watching.news(&requests, &mut seen).await;
                }
                // A server that restarts comes back; whoever was told no stays told.
                Err(Failure::Failed(why)) => {
                    if !std::mem::replace(&mut away, true) {
                        out.note(format!("{}; still watching", one_line(&format!("{why:#}"))));
                    }
                }
                Err(why) => return Err(why),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Some(line) = said.recv(), if watching.inbox.is_some() => {
                    if !watching.heed(&line).await {
                        return Ok(());
                    }
                }
                interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            }
        }
    }
}

/// Lines that are typed. By a thread of its own, which nobody waits for: a runtime would wait for the next line before it ends.
fn listen() -> mpsc::UnboundedReceiver<String> {
    let (say, said) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if say.send(line).is_err() {
                return;
            }
        }
        // The end of what is typed (Ctrl-D) ends the watch.
        drop(say.send("q".into()));
    });
    said
}

/// Everything that waits for the person, however many pages it takes.
async fn waiting(client: &Client) -> Result<Vec<RequestBody>, Failure> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let body: RequestsBody = client.get(&format!("/v1/approvals?mine=true&limit=1000{after}")).await?;
        all.extend(body.approvals);
        match body.next {
            Some(next) => after = format!("&after={}", segment(&next)),
            None => return Ok(all),
        }
    }
}

struct Watching<'a> {
    client: Client,
    connect: &'a Connect,
    out: &'a Output,
    bell: bool,
    /// What a person at a terminal has been told of, by number.
    inbox: Option<Inbox>,
}

/// What was told, by number: the first is 1.
#[derive(Debug, Default)]
struct Inbox(Vec<Told>);

/// A request that a person was told of.
#[derive(Debug)]
struct Told {
    id: String,
    what: String,
    /// The digest of the call as it was shown, once it was.
    shown: Option<String>,
    waits: bool,
}

impl Watching<'_> {
    /// Tells what is new, and at a terminal what no longer waits.
    async fn news(&mut self, requests: &[RequestBody], seen: &mut BTreeSet<String>) {
        for request in requests.iter().filter(|request| seen.insert(request.approval.clone())) {
            if self.bell && self.out.terminal() {
                self.out.raw(b"\x07");
            }
            self.out.value(request);
            let announced = announced(request, self.out);
            match &mut self.inbox {
                None => {
                    let (id, flags) = (one_line(&request.approval), self.connect.flags());
                    self.out.line(format!("{announced}\n   countersign approvals show {id}{flags}"));
                }
                Some(inbox) => {
                    inbox.0.push(Told::of(request));
                    self.out.text(&format!("{}  {announced}", inbox.0.len()));
                }
            }
        }
        let Some(inbox) = &mut self.inbox else { return };
        let waits: BTreeSet<&str> = requests.iter().map(|request| request.approval.as_str()).collect();
        let mut gone = Vec::new();
        for (at, told) in inbox.0.iter_mut().enumerate() {
            if told.waits && !waits.contains(told.id.as_str()) {
                told.waits = false;
                gone.push((at.saturating_add(1), told.id.clone(), told.what.clone()));
            }
        }
        for (number, id, what) in gone {
            let path = format!("/v1/approvals/{}", segment(&id));
            if let Ok(RequestDetail { request, .. }) = self.client.get(&path).await {
                self.out.text(&format!("{number}  {what}: {}", ended(&request)));
            }
        }
    }

    /// Does what was typed. False ends the watch.
    async fn heed(&mut self, line: &str) -> bool {
        let done = match Said::read(line) {
            Ok(None) => Ok(()),
            Ok(Some(Said::Quit)) => return false,
            Ok(Some(Said::Help)) => {
                self.out.line(HELP);
                Ok(())
            }
            Ok(Some(Said::List)) => {
                self.list();
                Ok(())
            }
            Ok(Some(Said::To(number, deed))) => self.act(number, deed).await,
            Err(why) => {
                self.out.line(one_line(&format!("{why}; `?` says what can be said")));
                Ok(())
            }
        };
        match done {
            Ok(()) => {}
            Err(Failure::Refused(refusal)) => self.out.refusal(&refusal),
            Err(Failure::Failed(why)) => self.out.failure(&why),
            // None of these comes of looking at a request or answering it.
            Err(Failure::Config(_) | Failure::No | Failure::Pending | Failure::Unsuccessful) => {
                self.out.line("it was not done")
            }
        }
        true
    }

    fn list(&self) {
        let told = self.inbox.iter().flat_map(|inbox| inbox.0.iter().enumerate());
        let lines: Vec<String> = told
            .filter(|(_, told)| told.waits)
            .map(|(at, told)| format!("{}  {} ({})", at.saturating_add(1), told.what, one_line(&told.id)))
            .collect();
        self.out.line(if lines.is_empty() { "nothing waits for you".to_owned() } else { lines.join("\n") });
    }

    async fn act(&mut self, number: usize, deed: Deed) -> Outcome {
        let told = number.checked_sub(1).and_then(|at| self.inbox.as_mut()?.0.get_mut(at));
        let Some(told) = told else {
            self.out.line(format!("there is no number {number}; `w` says what waits"));
            return Ok(());
        };
        let path = format!("/v1/approvals/{}", segment(&told.id));
        match deed {
            Deed::Show => {
                let body: RequestDetail = self.client.get(&path).await?;
                told.shown = Some(body.digest.clone());
                self.out.line(detail(&body));
            }
            Deed::LookCloser => {
                let path = format!("{path}/look-closer");
                let body: RequestDetail = self.client.post(&path, &serde_json::json!({})).await?;
                told.shown = Some(body.digest.clone());
                self.out.line(detail(&body));
            }
            Deed::Approve(comment) => match &told.shown {
                None => {
                    let body: RequestDetail = self.client.get(&path).await?;
                    self.out.line(detail(&body));
                    self.out.line(format!("nothing is approved yet: say `a {number}` again to approve this"));
                    told.shown = Some(body.digest);
                }
                Some(digest) => {
                    let approve = Approve { comment, digest: Some(digest.clone()), grant: None };
                    let state = answer(&self.client, &told.id, "approve", &approve, self.out).await?;
                    told.waits = state == ApprovalState::Waiting;
                }
            },
            Deed::Refuse(reason) => {
                let state = answer(&self.client, &told.id, "refuse", &Refuse { reason }, self.out).await?;
                told.waits = state == ApprovalState::Waiting;
            }
        }
        Ok(())
    }
}

impl Told {
    fn of(request: &RequestBody) -> Self {
        let what = format!("{} asks for {}", one_line(&request.agent), one_line(&request.tool));
        Self { id: request.approval.clone(), what, shown: None, waits: true }
    }
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    To(usize, Deed),
    List,
    Help,
    Quit,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
enum Deed {
    Show,
    Approve(Option<String>),
    Refuse(String),
    LookCloser,
}

impl Said {
    /// Reads a line; one without words says nothing.
    fn read(line: &str) -> Result<Option<Self>, String> {
        let (word, rest) = cut(line);
        if word.is_empty() {
            return Ok(None);
        }
        if let Ok(number) = word.parse() {
            return match rest {
                "" => Ok(Some(Self::To(number, Deed::Show))),
                _ => Err(format!("what is to be done with {number}?")),
            };
        }
        let (of, words) = cut(rest);
        let number = || of.parse::<usize>().map_err(|_odd| format!("`{word}` which? write its number"));
        Ok(Some(match word {
            "s" | "show" => Self::To(number()?, Deed::Show),
            "l" | "look-closer" => Self::To(number()?, Deed::LookCloser),
            "a" | "approve" => {
                Self::To(number()?, Deed::Approve((!words.is_empty()).then(|| words.to_owned())))
            }
            "r" | "refuse" if words.is_empty() => {
                return Err(format!("say why: `r {} too many rows`", number()?));
            }
            "r" | "refuse" => Self::To(number()?, Deed::Refuse(words.to_owned())),
            "w" | "list" => Self::List,
            "?" | "h" | "help" => Self::Help,
            "q" | "quit" | "exit" => Self::Quit,
            other => return Err(format!("`{other}` is not known")),
        }))
    }
}

/// The first word of a text, and the rest.
fn cut(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

/// What became of a request that waits no longer.
fn ended(request: &RequestBody) -> String {
    let by =
        request.signatures.last().map(|signature| format!(", {} has answered", one_line(&signature.person)));
    format!("{}{}", request.state.as_str(), by.unwrap_or_default())
}

/// A request in a line, and a second where such a call was answered before.
fn announced(request: &RequestBody, out: &Output) -> String {
    let rows = match request.rows {
        Some(1) => ", 1 row".to_owned(),
        Some(rows) => format!(", {} rows", grouped(rows)),
        None => String::new(),
    };
    let before: String = earlier(request).take(1).map(|one| format!("\n   before: {one}")).collect();
    format!(
        "{} asks for {}: {}{rows}; {} may answer, until {}{before}",
        one_line(&request.agent),
        one_line(&request.tool),
        request.effect,
        one_line(&groups(request)),
        out.moment(&cell(request.expires_at.as_deref())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_done_to_the_request_that_it_names_and_to_no_other() {
        let to = |number, deed| Ok(Some(Said::To(number, deed)));
        assert_eq!(Said::read("  12 "), to(12, Deed::Show));
        assert_eq!(Said::read("a 2"), to(2, Deed::Approve(None)));
        assert_eq!(Said::read("approve 2   fine by me "), to(2, Deed::Approve(Some("fine by me".into()))));
        assert_eq!(Said::read("r 3 not in March"), to(3, Deed::Refuse("not in March".into())));
        assert_eq!(Said::read("l 4"), to(4, Deed::LookCloser));
        assert_eq!(Said::read(" \t"), Ok(None));
        assert_eq!(Said::read("q"), Ok(Some(Said::Quit)));
        // What could be meant otherwise does nothing.
        for odd in [
            "a",
            "a all",
            "a2",
            "r 3",
            "r",
            "2 a",
            "2 3",
            "A 2",
            "a -1",
            "a 1,2",
            "y",
            "a 99999999999999999999999",
        ] {
            assert!(Said::read(odd).is_err(), "{odd}");
        }
    }
}
