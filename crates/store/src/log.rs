//! The log: appending within a batch, reading and proving.

use std::{collections::BTreeMap, sync::Arc};

use countersign_audit::{
    Checkpoint, Frontier, Hash, NodeId, Note, Receipt, SigningKey, VerifierKey, leaf_hash,
    proof::{self, TileNodes, consistency_nodes, inclusion_nodes},
};
use countersign_gate::{Entry, ledger::LedgerFault};
use countersign_rules::{AgentId, ApprovalId, CallId, SessionId};

use crate::{
    row::{Damage, Query, Row, Value},
    store::Store,
};

/// The head, as it is read under the writer's lock.
pub(crate) const SELECT_HEAD: &str = "SELECT size, frontier, checkpoint, changed FROM log_head WHERE id = 0";

/// A log without entries.
pub(crate) fn insert_head(key: &SigningKey) -> Result<Query, LedgerFault> {
    let empty = Frontier::new();
    Ok(Query::one(
        "INSERT INTO log_head (id, vkey, size, frontier, checkpoint, changed) VALUES (0, $1, 0, $2, $3, 0)",
        vec![key.verifier().to_string().into(), empty.to_bytes().into(), sign(&empty, key)?.into()],
    ))
}

fn sign(frontier: &Frontier, key: &SigningKey) -> Result<String, LedgerFault> {
    let signed = Checkpoint::new(key.name().as_str(), frontier.size(), frontier.root())
        .and_then(|checkpoint| checkpoint.sign(key));
    signed
        .map(|note| note.encode())
        .map_err(|why| LedgerFault::Unavailable(format!("the log cannot be signed: {why}")))
}

/// An entry as it stands in the log.
#[derive(Debug)]
pub(crate) struct Encoded {
    leaf: Hash,
    /// What its row has beside its place.
    columns: [Value; 8],
}

impl Encoded {
    /// An entry as the log has it.
    ///
    /// # Errors
    /// When it is too long for the log, or has no canonical form.
    pub(crate) fn of(entry: &Entry) -> Result<Arc<Self>, LedgerFault> {
        let bytes = entry
            .encode()
            .map_err(|why| LedgerFault::Unavailable(format!("an entry cannot be recorded: {why}")))?;
        let leaf = leaf_hash(&bytes);
        let columns = [
            leaf.as_bytes().to_vec().into(),
            entry.at_ms.into(),
            entry.kind.into(),
            entry.agent.as_ref().map(AgentId::as_str).into(),
            entry.session.as_ref().map(SessionId::as_str).into(),
            entry.call.as_ref().map(CallId::as_str).into(),
            entry.approval.as_ref().map(ApprovalId::as_str).into(),
            bytes.into(),
        ];
        Ok(Arc::new(Self { leaf, columns }))
    }

    /// Several entries. This is done by whoever hands an operation over, not by the one writer.
    ///
    /// # Errors
    /// As [`Encoded::of`].
    pub(crate) fn all(entries: &[Entry]) -> Result<Vec<Arc<Self>>, LedgerFault> {
        entries.iter().map(Self::of).collect()
    }
}

/// The end of the log, to which a batch appends.
#[derive(Debug)]
pub(crate) struct LogTail {
    frontier: Frontier,
    size_before: u64,
    checkpoint: String,
    changed_before: u64,
    changed: u64,
    entries: Vec<(u64, Arc<Encoded>)>,
    nodes: Vec<(NodeId, Hash)>,
}

impl Default for LogTail {
    fn default() -> Self {
        Self {
            frontier: Frontier::new(),
            size_before: 0,
            checkpoint: String::new(),
            changed_before: 0,
            changed: 0,
            entries: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

impl LogTail {
    /// Reads the head. Its tree must be the one that its checkpoint states, signed by the log's key;
    /// `trusted` is the checkpoint that this process signed last.
    pub(crate) fn read(row: &Row, key: &VerifierKey, trusted: Option<&str>) -> Result<Self, LedgerFault> {
        let damaged =
            |why: &dyn std::fmt::Display| LedgerFault::Damaged(format!("the head of the log: {why}"));
        let frontier = Frontier::from_bytes(row.bytes(1)?).map_err(|why| damaged(&why))?;
        let text = row.text(2)?;
        let note = Note::parse(text.as_bytes()).map_err(|why| damaged(&why))?;
        let checkpoint = if trusted == Some(text) {
            Checkpoint::parse_text(note.unverified_text())
        } else {
            Checkpoint::from_note(&note, key)
        };
        let checkpoint = checkpoint.map_err(|why| damaged(&why))?;
        let size = row.count(0)?;
        if size != frontier.size() || size != checkpoint.size() || frontier.root() != *checkpoint.root() {
            return Err(damaged(&"its tree is not the one that was signed"));
        }
        let changed = row.count(3)?;
        Ok(Self {
            frontier,
            size_before: size,
            checkpoint: text.to_owned(),
            changed_before: changed,
            changed,
            entries: Vec::new(),
            nodes: Vec::new(),
        })
    }

    /// How many operations changed the ledger so far.
    pub(crate) const fn changed(&self) -> u64 {
        self.changed
    }

    pub(crate) const fn is_changed(&self) -> bool {
        self.changed != self.changed_before
    }

    /// Whether it stands at this checkpoint after so many changes.
    pub(crate) fn is_at(&self, checkpoint: &str, changed: u64) -> bool {
        self.checkpoint == checkpoint && self.changed == changed
    }

    /// The head as it is once the batch is committed: its checkpoint, and how often the ledger was changed.
    pub(crate) fn committed(&self) -> (String, u64) {
        (self.checkpoint.clone(), self.changed)
    }

    /// The tree, how often the ledger was changed, and the checkpoint that was signed for it.
    pub(crate) fn state(&self) -> (&Frontier, u64, &str) {
        (&self.frontier, self.changed, &self.checkpoint)
    }

    /// Appends the entries of one operation.
    pub(crate) fn append(&mut self, entries: Vec<Arc<Encoded>>) -> Result<(), LedgerFault> {
        let room = u64::MAX.saturating_sub(self.frontier.size());
        if u64::try_from(entries.len()).unwrap_or(u64::MAX) > room {
            return Err(LedgerFault::Unavailable("the log is full".into()));
        }
        self.changed = self.changed.saturating_add(1);
        for entry in entries {
            let nodes = &mut self.nodes;
            let index = self.frontier.append_with(entry.leaf, |id, hash| {
                // The hashes of complete tiles; leaf hashes stand beside their entries.
                if id.level != 0 && id.level & 7 == 0 {
                    nodes.push((id, *hash));
                }
            });
            let index = index.map_err(|why| LedgerFault::Unavailable(why.to_string()))?;
            self.entries.push((index, entry));
        }
        Ok(())
    }

    /// The statements that write the batch's end of the log, its signed head among them.
    pub(crate) fn write(&mut self, key: &SigningKey, out: &mut Vec<Query>) -> Result<(), LedgerFault> {
        let size = self.frontier.size();
        if size != self.size_before {
            self.checkpoint = sign(&self.frontier, key)?;
        }
        for (index, entry) in &self.entries {
            let mut params = Vec::with_capacity(9);
            params.push(Value::from(*index));
            params.extend(entry.columns.iter().cloned());
            out.push(Query::one(
                "INSERT INTO entry (idx, leaf, at_ms, kind, agent, session, call, approval, bytes) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                params,
            ));
        }
        for (id, hash) in &self.nodes {
            out.push(Query::one(
                "INSERT INTO node (level, idx, hash) VALUES ($1, $2, $3)",
                vec![u64::from(id.level).into(), id.index.into(), hash.as_bytes().to_vec().into()],
            ));
        }
        // One checkpoint is kept for every tile of entries; any other can be proven from these.
        if size >> 8 != self.size_before >> 8 {
            out.push(Query::one(
                "INSERT INTO checkpoint (size, note) VALUES ($1, $2)",
                vec![size.into(), self.checkpoint.clone().into()],
            ));
        }
        out.push(Query::one(
            "UPDATE log_head SET size = $1, frontier = $2, checkpoint = $3, changed = $4 WHERE id = 0",
            vec![
                size.into(),
                self.frontier.to_bytes().into(),
                self.checkpoint.clone().into(),
                self.changed.into(),
            ],
        ));
        Ok(())
    }
}

/// The state of the log, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// How many entries it has.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// The signed checkpoint that says so, as a note.
    pub checkpoint: String,
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its index in the log, from 0.
    pub index: u64,
    /// Its bytes: canonical JSON.
    pub bytes: Vec<u8>,
}

/// Which entries are wanted. What is `None` is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Of this call.
    pub call: Option<CallId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// Of this request.
    pub approval: Option<ApprovalId>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Recorded at this time or later, in Unix milliseconds UTC.
    pub since_ms: Option<i64>,
    /// Recorded before this time, in Unix milliseconds UTC.
    pub until_ms: Option<i64>,
    /// With this index or a later one.
    pub from: u64,
}

/// The kinds of entries that every call has. They are in no index by kind; see the schema.
const COMMON: [&str; 4] = ["call_proposed", "decided", "warrant_issued", "outcome"];

/// The condition for any other kind, as the index has it.
macro_rules! by_rare_kind {
    ($order:literal) => {
        by_column!(
            "kind <> 'call_proposed' AND kind <> 'decided' AND kind <> 'warrant_issued' AND kind <> 'outcome' \
             AND kind = $8",
            $order
        )
    };
}

/// The query for a filter: parameters in order of appearance, as SQLite numbers them.
macro_rules! by_column {
    ($subject:literal, $order:literal) => {
        concat!(
            "SELECT idx, bytes FROM entry WHERE idx >= $1 AND at_ms >= $2 AND at_ms < $3",
            " AND (CAST($4 AS TEXT) IS NULL OR session = $4) AND (CAST($5 AS TEXT) IS NULL OR kind = $5)",
            " AND (CAST($6 AS TEXT) IS NULL OR agent = $6) AND (CAST($7 AS TEXT) IS NULL OR approval = $7)",
            " AND ",
            $subject,
            " ORDER BY idx ",
            $order,
            " LIMIT $9"
        )
    };
}

/// The most entries that one answer holds.
pub const ENTRIES_MAX: u32 = 10_000;

/// The hashes of complete tiles that a proof needs, already read.
#[derive(Debug, Clone, Default)]
pub struct LogNodes(BTreeMap<NodeId, Hash>);

impl proof::Nodes for LogNodes {
    type Error = proof::MissingNode;

    fn node(&mut self, id: NodeId) -> Result<Hash, proof::MissingNode> {
        self.0.node(id)
    }
}

impl Store {
    /// The newest state of the log.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn log_head(&self) -> Result<LogHead, LedgerFault> {
        let rows = self.select(Query::new(SELECT_HEAD, Vec::new())).await?;
        let row = rows.first().ok_or_else(|| Damage("the log has no head".into()))?;
        let tail = LogTail::read(row, self.verifier(), None)?;
        Ok(LogHead { size: tail.size_before, root: tail.frontier.root(), checkpoint: tail.checkpoint })
    }

    /// Entries from an index on, oldest first; at most [`ENTRIES_MAX`].
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn entries(&self, from: u64, limit: u32) -> Result<Vec<StoredEntry>, LedgerFault> {
        let rows = self.scan(Query::new(
            "SELECT idx, bytes FROM entry WHERE idx >= $1 ORDER BY idx LIMIT $2",
            vec![from.into(), u64::from(limit.min(ENTRIES_MAX)).into()],
        ));
        stored_entries(&rows.await?)
    }

    /// Entries that fit a filter, oldest first; at most [`ENTRIES_MAX`]. For the next ones, ask from the
    /// index after the last.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn find_entries(
        &self,
        filter: &EntryFilter,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, LedgerFault> {
        self.filtered(filter, limit, false).await
    }

    /// Entries that fit a filter, newest first; at most [`ENTRIES_MAX`].
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn last_entries(
        &self,
        filter: &EntryFilter,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, LedgerFault> {
        self.filtered(filter, limit, true).await
    }

    async fn filtered(
        &self,
        filter: &EntryFilter,
        limit: u32,
        newest_first: bool,
    ) -> Result<Vec<StoredEntry>, LedgerFault> {
        // The one most selective column picks the index; the others are checked on what it finds.
        let (subject, by): (Option<&str>, usize) = if let Some(call) = &filter.call {
            (Some(call.as_str()), 1)
        } else if let Some(approval) = &filter.approval {
            (Some(approval.as_str()), 2)
        } else if let Some(session) = &filter.session {
            (Some(session.as_str()), 3)
        } else if let Some(kind) = filter.kind.as_ref().filter(|kind| !COMMON.contains(&kind.as_str())) {
            (Some(kind.as_str()), 4)
        } else if let Some(agent) = &filter.agent {
            (Some(agent.as_str()), 5)
        } else {
            (None, 0)
        };
        let sql = match (by, newest_first) {
            (1, false) => by_column!("call = $8", "ASC"),
            (1, true) => by_column!("call = $8", "DESC"),
            (2, false) => by_column!("approval = $8", "ASC"),
            (2, true) => by_column!("approval = $8", "DESC"),
            (3, false) => by_column!("session = $8", "ASC"),
            (3, true) => by_column!("session = $8", "DESC"),
            (4, false) => by_rare_kind!("ASC"),
            (4, true) => by_rare_kind!("DESC"),
            (5, false) => by_column!("agent = $8", "ASC"),
            (5, true) => by_column!("agent = $8", "DESC"),
            (_, false) => by_column!("CAST($8 AS TEXT) IS NULL", "ASC"),
            (_, true) => by_column!("CAST($8 AS TEXT) IS NULL", "DESC"),
        };
        let params = vec![
            filter.from.into(),
            filter.since_ms.unwrap_or(i64::MIN).into(),
            filter.until_ms.unwrap_or(i64::MAX).into(),
            filter.session.as_ref().map(SessionId::as_str).into(),
            filter.kind.as_deref().into(),
            filter.agent.as_ref().map(AgentId::as_str).into(),
            filter.approval.as_ref().map(ApprovalId::as_str).into(),
            subject.into(),
            u64::from(limit.min(ENTRIES_MAX)).into(),
        ];
        stored_entries(&self.scan(Query::new(sql, params)).await?)
    }

    /// Signed checkpoints of a size or a larger one, smallest first, and the newest one last. One is kept
    /// for every 256 entries or so.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn checkpoints(&self, from: u64, limit: u32) -> Result<Vec<(u64, String)>, LedgerFault> {
        let rows = self
            .scan(Query::new(
                "SELECT size, note FROM checkpoint WHERE size >= $1 ORDER BY size LIMIT $2",
                vec![from.into(), u64::from(limit.min(ENTRIES_MAX)).into()],
            ))
            .await?;
        let mut found: Vec<(u64, String)> = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push((row.count(0)?, row.text(1)?.to_owned()));
        }
        if found.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            let head = self.log_head().await?;
            if head.size >= from && found.last().is_none_or(|(size, _)| *size < head.size) {
                found.push((head.size, head.checkpoint));
            }
        }
        Ok(found)
    }

    /// Consecutive hashes of one tile level: leaf hashes at level 0, roots of complete tiles above.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn tile_hashes(&self, level: u8, start: u64, count: u16) -> Result<Vec<Hash>, LedgerFault> {
        let end = start.saturating_add(u64::from(count));
        let query = if level == 0 {
            Query::new(
                "SELECT leaf FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx",
                vec![start.into(), end.into()],
            )
        } else {
            let level = u64::from(level).saturating_mul(8);
            Query::new(
                "SELECT hash FROM node WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx",
                vec![level.into(), start.into(), end.into()],
            )
        };
        let rows = self.select(query).await?;
        rows.iter()
            .map(|row| Hash::from_slice(row.bytes(0)?).map_err(|why| LedgerFault::Damaged(why.to_string())))
            .collect()
    }

    /// Reads the hashes that a proof asks for.
    async fn nodes(&self, ids: Vec<NodeId>) -> Result<LogNodes, LedgerFault> {
        let mut nodes = LogNodes::default();
        for id in ids {
            let (level, start, count) = id.tile_range();
            let hashes = self.tile_hashes(level, start, count).await?;
            let mut tile =
                TileNodes(|_level, _start, _count| Ok::<_, std::convert::Infallible>(hashes.clone()));
            let hash = proof::Nodes::node(&mut tile, id)
                .map_err(|_missing| LedgerFault::Damaged("a hash of the log is missing".into()))?;
            nodes.0.insert(id, hash);
        }
        Ok(nodes)
    }

    /// A receipt: proof that an entry is in the log, for somebody who has nothing but the log's key.
    /// `None` when there is no such entry.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn receipt(&self, index: u64) -> Result<Option<Receipt>, LedgerFault> {
        let head = self.log_head().await?;
        let Ok(ids) = inclusion_nodes(index, head.size) else { return Ok(None) };
        let mut nodes = self.nodes(ids).await?;
        let entry = self.entries(index, 1).await?;
        let entry = entry
            .into_iter()
            .find(|entry| entry.index == index)
            .ok_or_else(|| Damage("an entry of the log is missing".into()))?;
        let path = proof::inclusion(index, head.size, &mut nodes)
            .map_err(|_missing| LedgerFault::Damaged("a hash of the log is missing".into()))?;
        let checkpoint = Note::parse(head.checkpoint.as_bytes())
            .map_err(|why| LedgerFault::Damaged(format!("the head of the log: {why}")))?;
        Ok(Some(Receipt { index, path, checkpoint, entry: Some(entry.bytes) }))
    }

    /// Proof that the log of `old` entries is a prefix of the log of `new`. `None` when the sizes are
    /// reversed or the log is smaller.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Hash>>, LedgerFault> {
        let head = self.log_head().await?;
        let Ok(ids) = consistency_nodes(old, new) else { return Ok(None) };
        if new > head.size {
            return Ok(None);
        }
        let mut nodes = self.nodes(ids).await?;
        proof::consistency(old, new, &mut nodes)
            .map(Some)
            .map_err(|_missing| LedgerFault::Damaged("a hash of the log is missing".into()))
    }
}

fn stored_entries(rows: &[Row]) -> Result<Vec<StoredEntry>, LedgerFault> {
    rows.iter().map(|row| Ok(StoredEntry { index: row.count(0)?, bytes: row.bytes(1)?.to_vec() })).collect()
}
