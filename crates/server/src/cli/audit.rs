//! `countersign audit`: reading, exporting, proving and verifying the log, from the ledger itself and also while
//! a server writes to it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use countersign_audit::{EntryKind, VerifierKey, verify::explain};
use countersign_gate::{Clock as _, Ledger as _, NewEntry};
use countersign_rules::{AgentId, ApprovalId, CallId, SessionId};
use countersign_store::{EntryFilter, Erasure, Opening, Store, StoreError, StoredEntry};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{Failure, FolderOption, Outcome, Output, load};
use crate::{
    clock::SystemClock,
    config::{Config, StorePlace},
    entry::{Continued, LogRestarted},
    log_key,
    server::{StartError, ledger_key, open_store_as, store_options},
};
use countersign_app::{
    answer::{ASKED_STILL_HELP, asked_still},
    story,
    text::{one_line, visible},
};

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Tell the story of a call or of a session: who asked, which rule decided, who answered, what was done
    Show {
        /// A call, or the request that it waited in
        #[arg(required_unless_present = "session", value_name = "CALL")]
        id: Option<String>,
        /// A session instead, call by call
        #[arg(long, conflicts_with = "id")]
        session: Option<String>,
        /// With `--session`: of this agent alone, as two agents may give theirs the same name
        #[arg(long, requires = "session")]
        agent: Option<String>,
        /// The entries themselves instead of the story
        #[arg(long)]
        entries: bool,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Print entries that fit, oldest first
    Query {
        /// Of this agent
        #[arg(long)]
        agent: Option<String>,
        /// Of this session
        #[arg(long)]
        session: Option<String>,
        /// Of this call
        #[arg(long)]
        call: Option<String>,
        /// Of this request
        #[arg(long)]
        approval: Option<String>,
        /// Of this kind, such as `decided`
        #[arg(long)]
        kind: Option<String>,
        /// Recorded at this time (RFC 3339) or later
        #[arg(long)]
        since: Option<String>,
        /// Recorded before this time (RFC 3339)
        #[arg(long)]
        until: Option<String>,
        /// With this index or a later one
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// At most so many
        #[arg(long, default_value_t = 1_000)]
        limit: u32,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Write the whole log into a folder that any verifier reads, or as JSON Lines
    Export {
        /// The folder to write
        #[arg(required_unless_present = "json_lines")]
        out: Option<PathBuf>,
        /// Write entries as JSON Lines to this file instead
        #[arg(long, value_name = "FILE", conflicts_with = "out")]
        json_lines: Option<PathBuf>,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Prove that an entry, or everything about a call, is in the log: for whoever has the log's key
    #[command(
        after_help = "One entry's proof is printed; those of a call are files, one per entry, in a folder that is made.\n\
                            Each is checked by: countersign-verify --proof FILE --key VKEY"
    )]
    Prove {
        /// An entry's index, or a call
        #[arg(value_name = "INDEX|CALL")]
        subject: String,
        /// The folder for the proofs of a call [default: `CALL.proofs`]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Go on with a ledger that does not contain what its log is known to have had, or begin anew after one that is lost
    #[command(
        after_help = "What was recorded after the state that the ledger has now is gone: what budgets spent, what was approved, \
                            which calls were performed. Look for the right ledger first, and stop every server.\n\
                            An entry `log_restarted` says why, with the checkpoint that was signed and is not contained."
    )]
    DangerousRestart {
        /// Why, for the log
        #[arg(long = "reason", visible_alias = "because", value_name = "REASON")]
        because: String,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Erase the rows that approvers were shown with a request, for good: the log keeps their commitment and verifies
    #[command(
        after_help = "Erased is the evidence of the request: the sample of rows, the previews and the values that were measured.\n\
                            Not erased is what is in the log itself: arguments, the agent's reason, comments and names.\n\
                            A ledger on SQLite is written by one process: where a server runs, ask it by `countersign approvals erase`."
    )]
    Erase {
        /// The request
        #[arg(value_name = "APPROVAL")]
        approval: String,
        /// Why, for the log
        #[arg(long, value_name = "REASON")]
        reason: String,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Verify the ledger's log against its key, and against checkpoints that you kept
    #[command(
        after_help = "An exported log is verified by `countersign-verify`, which depends on nothing else."
    )]
    Verify {
        /// A signed checkpoint that you kept; may be repeated
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// The log's key as vkey [default: the one of the configured key file]
        #[arg(long)]
        vkey: Option<String>,
        #[command(flatten)]
        folder: FolderOption,
    },
}

/// Opens the ledger to read; also while a server writes to it.
pub(super) async fn open_to_read(config: &Config) -> Result<Store, Failure> {
    let opened = opened_to_read(config).await?;
    Ok(opened.ok_or(StartError::Store(StoreError::Absent))?)
}

/// The ledger to read, if there is one yet.
pub(super) async fn opened_to_read(config: &Config) -> Result<Option<Store>, Failure> {
    let opened = match &config.store.place {
        StorePlace::Sqlite(path) => Store::open_sqlite_read_only(path, &store_options(config)),
        StorePlace::Postgres { url, .. } => {
            let url = url.read().map_err(StartError::from)?;
            Store::open_postgres_read_only(url.expose_secret(), &store_options(config)).await
        }
    };
    match opened {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::Absent) => Ok(None),
        Err(why) => Err(StartError::from(why).into()),
    }
}

impl Audit {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::Show { id, session, agent, entries, folder } => {
                let store = open_to_read(&load(&folder.dir)?).await?;
                let subject = match (id, session) {
                    (Some(id), _) => Subject::call(&id, &store).await?,
                    (None, Some(session)) => Subject::session(&session, agent.as_deref())?,
                    (None, None) => return Err(anyhow::anyhow!("say which call or session").into()),
                };
                show(&subject, &store, entries, out).await
            }
            Self::Query { agent, session, call, approval, kind, since, until, from, limit, folder } => {
                if let Some(kind) = &kind {
                    EntryKind::new(kind)?;
                }
                let filter = EntryFilter {
                    agent: agent.as_deref().map(AgentId::parse).transpose()?,
                    session: session.as_deref().map(SessionId::parse).transpose()?,
                    call: call.as_deref().map(CallId::parse).transpose()?,
                    approval: approval.as_deref().map(ApprovalId::parse).transpose()?,
                    kind,
                    since_ms: since.as_deref().map(instant).transpose()?,
                    until_ms: until.as_deref().map(instant).transpose()?,
                    from,
                };
                let store = open_to_read(&load(&folder.dir)?).await?;
                let entries = store.find_entries(&filter, limit).await?;
                entries.iter().for_each(|entry| print(entry, out));
                Ok(())
            }
            Self::Export { out: to, json_lines, folder } => {
                let store = open_to_read(&load(&folder.dir)?).await?;
                match (to, json_lines) {
                    (Some(to), _) => {
                        let head = store.export(&to).await?;
                        out.value(
                            &json!({ "entries": head.size, "folder": to, "root": head.root.to_base64() }),
                        );
                        out.line(format!(
                            "{} entries in `{}`; verify them with\n   countersign-verify {} --key '{}'",
                            head.size,
                            to.display(),
                            to.display(),
                            store.verifier()
                        ));
                        Ok(())
                    }
                    (None, Some(file)) => write_lines(&store, &file, out).await,
                    (None, None) => Err(anyhow::anyhow!("say where to").into()),
                }
            }
            Self::Prove { subject, out: to, folder } => {
                let store = open_to_read(&load(&folder.dir)?).await?;
                match subject.parse::<u64>() {
                    Ok(index) => prove_entry(index, to.as_deref(), &store, out).await,
                    Err(_no_index) => prove_call(&subject, to, &store, out).await,
                }
            }
            Self::DangerousRestart { because, folder } => restart(&load(&folder.dir)?, &because, out).await,
            Self::Erase { approval, reason, folder } => {
                erase(&load(&folder.dir)?, &ApprovalId::parse(&approval)?, &reason, out).await
            }
            Self::Verify { checkpoints, vkey, folder } => {
                verify(&load(&folder.dir)?, vkey.as_deref(), &checkpoints, out).await
            }
        }
    }
}

fn instant(text: &str) -> Result<i64, Failure> {
    let instant: jiff::Timestamp =
        text.parse().map_err(|_not_one| anyhow::anyhow!("`{text}` is no time in RFC 3339"))?;
    Ok(instant.as_millisecond())
}

/// What a story is about.
enum Subject {
    /// One call.
    Call { name: String, filter: EntryFilter },
    /// One session, or those of that name.
    Session { name: String, filter: EntryFilter },
}

impl Subject {
    /// A call, by its id or by that of its request; a session that is not named as one still is one.
    async fn call(id: &str, store: &Store) -> Result<Self, Failure> {
        let mut filter = EntryFilter::default();
        if id.starts_with("call-") {
            filter.call = Some(CallId::parse(id)?);
        } else if id.starts_with("apr-") {
            // Everything about the request's call, also what came before anybody was asked.
            let asked = EntryFilter { approval: Some(ApprovalId::parse(id)?), ..EntryFilter::default() };
            let entries = store.find_entries(&asked, 1).await?;
            let call = entries.first().and_then(|entry| {
                let value: Value = serde_json::from_slice(&entry.bytes).ok()?;
                value.get("call")?.as_str().map(str::to_owned)
            });
            match call {
                Some(call) => filter.call = Some(CallId::parse(&call)?),
                None => filter = asked,
            }
        } else {
            return Self::session(id, None);
        }
        Ok(Self::Call { name: id.to_owned(), filter })
    }

    fn session(session: &str, agent: Option<&str>) -> Result<Self, Failure> {
        let filter = EntryFilter {
            session: Some(SessionId::parse(session)?),
            agent: agent.map(AgentId::parse).transpose()?,
            ..EntryFilter::default()
        };
        Ok(Self::Session { name: session.to_owned(), filter })
    }

    const fn name(&self) -> &String {
        match self {
            Self::Call { name, .. } | Self::Session { name, .. } => name,
        }
    }

    const fn filter(&self) -> &EntryFilter {
        match self {
            Self::Call { filter, .. } | Self::Session { filter, .. } => filter,
        }
    }
}

async fn show(subject: &Subject, store: &Store, raw: bool, out: &Output) -> Outcome {
    let entries = everything(store, subject.filter().clone()).await?;
    if entries.is_empty() {
        return nothing(subject.name(), out);
    }
    if raw {
        entries.iter().for_each(|entry| print(entry, out));
        return Ok(());
    }
    match subject {
        Subject::Call { .. } => {
            for story in story::calls(&entries) {
                out.value(&story);
                out.text(&story.told());
            }
        }
        Subject::Session { .. } => {
            for (number, session) in story::sessions(&entries).iter().enumerate() {
                if number > 0 {
                    out.line("");
                }
                out.value(session);
                out.text(&session.told());
            }
        }
    }
    Ok(())
}

fn nothing(name: &str, out: &Output) -> Outcome {
    if !out.json() {
        out.note(one_line(&format!("the log has nothing about `{name}`")));
    }
    Err(Failure::No)
}

/// Every entry that fits, however many there are.
async fn everything(store: &Store, mut filter: EntryFilter) -> Result<Vec<StoredEntry>, Failure> {
    let mut all = Vec::new();
    loop {
        let some = store.find_entries(&filter, countersign_store::ENTRIES_MAX).await?;
        let Some(last) = some.last().map(|entry| entry.index) else { return Ok(all) };
        all.extend(some);
        filter.from = last.saturating_add(1);
    }
}

/// One entry's proof: printed, or as a file in a folder.
async fn prove_entry(index: u64, to: Option<&Path>, store: &Store, out: &Output) -> Outcome {
    let Some(receipt) = store.receipt(index).await? else {
        out.value(&json!({ "index": index, "receipt": null }));
        if !out.json() {
            out.note(format!("the log has no entry {index}"));
        }
        return Err(Failure::No);
    };
    out.value(&json!({ "index": index, "receipt": receipt.encode() }));
    match to {
        Some(to) => {
            fs::create_dir_all(to)?;
            let file = to.join(format!("{index}.tlog-proof"));
            fs::write(&file, receipt.encode())?;
            out.line(format!("`{}`", file.display()));
        }
        None if !out.json() => out.raw(receipt.encode().as_bytes()),
        None => {}
    }
    Ok(())
}

/// The proofs of everything about a call.
async fn prove_call(id: &str, to: Option<PathBuf>, store: &Store, out: &Output) -> Outcome {
    let subject = match Subject::call(id, store).await {
        Ok(subject @ Subject::Call { .. }) => subject,
        Ok(Subject::Session { .. }) | Err(_) => {
            return Err(anyhow::anyhow!("`{}` is neither an entry's index nor a call", one_line(id)).into());
        }
    };
    let entries = everything(store, subject.filter().clone()).await?;
    if entries.is_empty() {
        return nothing(id, out);
    }
    // With JSON the proofs are on standard output, and files are written only where it is said.
    let to = match to {
        None if out.json() => None,
        None => Some(PathBuf::from(format!("{id}.proofs"))),
        Some(to) => Some(to),
    };
    if let Some(to) = &to {
        fs::create_dir_all(to)?;
    }
    for entry in &entries {
        let index = entry.index;
        let Some(receipt) = store.receipt(index).await? else {
            return Err(anyhow::anyhow!("entry {index} is gone").into());
        };
        out.value(&json!({ "index": index, "receipt": receipt.encode() }));
        if let Some(to) = &to {
            fs::write(to.join(format!("{index}.tlog-proof")), receipt.encode())?;
        }
    }
    if let Some(to) = to {
        out.line(format!(
            "{} proofs in `{}`, one per entry; each is checked by\n   countersign-verify --proof FILE --key '{}'",
            entries.len(),
            to.display(),
            store.verifier()
        ));
    }
    Ok(())
}

/// Prints one entry: as JSON, or as a line for people.
fn print(stored: &StoredEntry, out: &Output) {
    if out.json() {
        let entry: Value = serde_json::from_slice(&stored.bytes).unwrap_or(Value::Null);
        out.value(&json!({ "entry": entry, "index": stored.index }));
    } else {
        out.line(story::line(stored));
    }
}

async fn write_lines(store: &Store, file: &Path, out: &Output) -> Outcome {
    let mut to = std::io::BufWriter::new(fs::File::create(file)?);
    let mut from = 0;
    loop {
        let entries = store.entries(from, 1_000).await?;
        let Some(last) = entries.last() else { break };
        from = last.index.saturating_add(1);
        for entry in &entries {
            // Canonical JSON has no line break, so an entry is a line.
            to.write_all(&entry.bytes)?;
            to.write_all(b"\n")?;
        }
    }
    to.into_inner()?.sync_all()?;
    out.value(&json!({ "entries": from, "file": file }));
    out.line(format!("{from} entries in `{}`", file.display()));
    Ok(())
}

async fn verify(config: &Config, vkey: Option<&str>, kept: &[PathBuf], out: &Output) -> Outcome {
    let key: VerifierKey = match vkey {
        Some(vkey) => vkey.parse()?,
        None => {
            log_key::read(&config.log.key, &config.log.origin).map_err(StartError::from)?.signing.verifier()
        }
    };
    let store = open_to_read(config).await?;
    // Before the head: a running server keeps newer ones than a head that was read before.
    let own = config.log.checkpoint.exists().then_some(&config.log.checkpoint);
    let kept: Vec<(String, Vec<u8>)> = kept
        .iter()
        .chain(own)
        .chain(&config.log.witnesses)
        .map(|path| Ok((path.display().to_string(), fs::read(path)?)))
        .collect::<Result<_, Failure>>()?;
    let report = store.verify(&key, kept).await?;
    if out.json() {
        out.raw(format!("{}\n", report.to_json()).as_bytes());
    }
    out.line(format!(
        "{} entries, {} verified; {} other checkpoints of the same history",
        report.size, report.entries_verified, report.checkpoints_verified
    ));
    for finding in &report.findings {
        out.line(visible(&format!("  {}: {}", finding.code(), explain(finding))));
    }
    if report.verified() {
        out.line("VERIFIED: the log is what was signed");
        return Ok(());
    }
    out.line("NOT VERIFIED");
    Err(Failure::No)
}

/// Erases a request's evidence, and records that.
async fn erase(config: &Config, approval: &ApprovalId, reason: &str, out: &Output) -> Outcome {
    let store = open_store_as(config, ledger_key(config).await?, Opening::Known).await?;
    let entry = NewEntry::evidence_erased(SystemClock.now_ms(), approval, "cli", reason);
    let erased = store.erase_evidence(approval, entry).await;
    store.close().await;
    let erased = erased?;
    out.value(&json!({ "approval": approval, "erased": erased == Erasure::Erased }));
    let not = match erased {
        Erasure::Erased => None,
        Erasure::Nothing => Some(format!("there is no evidence of `{approval}`: nothing was changed")),
        Erasure::Asked { until_ms } => {
            Some(format!("{}; {ASKED_STILL_HELP}", asked_still(approval, until_ms)))
        }
    };
    if let Some(why) = not {
        out.note(why);
        return Err(Failure::No);
    }
    out.line(format!("erased the evidence of `{approval}`; the log says so, and verifies"));
    Ok(())
}

/// Goes on with a ledger that does not contain what is known of it, and records that. A crash before the entry is kept
/// leaves everything as it was; one after it and before the checkpoint's file is, a ledger that is refused still.
async fn restart(config: &Config, because: &str, out: &Output) -> Outcome {
    let key = ledger_key(config).await?;
    let known = store_options(config).kept(&key.signing.verifier()).map_err(StartError::from)?;
    let store = open_store_as(config, key, Opening::DangerouslyAccepted).await?;
    let head = store.log_head().await?;
    let refused = match store.contains(&known).await {
        Ok(()) => {
            store.close().await;
            out.note("the ledger contains everything that is known of it: nothing was changed");
            return Err(Failure::No);
        }
        Err(refused @ StoreError::WentBack { .. }) => refused,
        Err(why) => return Err(StartError::from(why).into()),
    };
    let restarted = LogRestarted {
        because: because.to_owned(),
        continued: Continued { root: head.root.to_base64(), size: head.size },
        signed: known.iter().map(|kept| kept.note.clone()).collect(),
    };
    store.record(vec![NewEntry::new(SystemClock.now_ms(), &restarted)]).await?;
    store.close().await;
    out.value(&json!({ "continued": head.size, "restarted": true }));
    out.line(format!(
        "{refused}\naccepted: the log goes on from {} entries, and entry {} says so; take new copies of its checkpoint to \
         your witnesses",
        head.size, head.size
    ));
    Ok(())
}
