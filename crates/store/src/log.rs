//! The log: reading and proving.

use std::collections::BTreeMap;

use countersign_audit::{
    Hash, NodeId, Note, Receipt,
    proof::{self, TileNodes, consistency_nodes, inclusion_nodes},
};
use countersign_gate::ledger::LedgerFault;
use countersign_rules::{AgentId, ApprovalId, CallId, SessionId};

use crate::{
    place::{By, COMMON},
    row::{Damage, SqlStatement, StoredRow},
    store::Store,
    tail::{LogTail, SELECT_HEAD},
};

/// This is the state of the log, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// The log has so many entries.
    pub size: u64,
    /// The tree over the entries has this root.
    pub root: Hash,
    /// This signed checkpoint says so, as a note.
    pub checkpoint: String,
}

/// This is an entry with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// The entry has this index in the log, counted from 0.
    pub index: u64,
    /// The entry has these bytes: canonical JSON.
    pub bytes: Vec<u8>,
}

/// This says which entries are wanted. A condition that is `None` is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// The entries are of this call.
    pub call: Option<CallId>,
    /// The entries are of this session.
    pub session: Option<SessionId>,
    /// The entries are of this agent.
    pub agent: Option<AgentId>,
    /// The entries are of this request.
    pub approval: Option<ApprovalId>,
    /// The entries are of this kind, by its word.
    pub kind: Option<String>,
    /// The entries were recorded at this time or later, in Unix milliseconds UTC.
    pub since_ms: Option<i64>,
    /// The entries were recorded before this time, in Unix milliseconds UTC.
    pub until_ms: Option<i64>,
    /// The entries have this index or a later one.
    pub from: u64,
}

/// One answer holds at most so many entries.
pub const ENTRIES_MAX: u32 = 10_000;

/// These hashes of complete tiles are already read, for a proof that needs them.
#[derive(Debug, Clone, Default)]
pub struct LogNodes(BTreeMap<NodeId, Hash>);

impl proof::Nodes for LogNodes {
    type Error = proof::MissingNode;

    fn node(&mut self, id: NodeId) -> Result<Hash, proof::MissingNode> {
        self.0.node(id)
    }
}

impl Store {
    /// Returns the newest state of the log.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the head cannot be read, or is not what the log's key has signed.
    pub async fn log_head(&self) -> Result<LogHead, LedgerFault> {
        let rows = self.select(SqlStatement::new(SELECT_HEAD, Vec::new())).await?;
        let row = rows.first().ok_or_else(|| Damage("the log has no head".into()))?;
        let tail = LogTail::read(row, self.verifier(), None)?;
        let (tree, _changed, checkpoint) = tail.state();
        Ok(LogHead { size: tree.size(), root: tree.root(), checkpoint: checkpoint.to_owned() })
    }

    /// Returns entries from an index on, oldest first; at most `limit`, and at most [`ENTRIES_MAX`].
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn entries(&self, from: u64, limit: u32) -> Result<Vec<StoredEntry>, LedgerFault> {
        let rows = self.scan(SqlStatement::new(
            "SELECT idx, bytes FROM entry WHERE idx >= $1 ORDER BY idx LIMIT $2",
            vec![from.into(), u64::from(limit.min(ENTRIES_MAX)).into()],
        ));
        stored_entries(&rows.await?)
    }

    /// Returns entries that fit a filter, oldest first; at most `limit`, and at most [`ENTRIES_MAX`]. For the
    /// next ones, ask from the index after the last.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn find_entries(
        &self,
        filter: &EntryFilter,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, LedgerFault> {
        self.filtered(filter, limit, false).await
    }

    /// Returns entries that fit a filter, newest first; at most `limit`, and at most [`ENTRIES_MAX`].
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
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
        // By the one most selective column; the others are checked on what it finds.
        let (subject, by) = if let Some(call) = &filter.call {
            (Some(call.as_str()), By::Call)
        } else if let Some(approval) = &filter.approval {
            (Some(approval.as_str()), By::Approval)
        } else if let Some(session) = &filter.session {
            (Some(session.as_str()), By::Session)
        } else if let Some(kind) = filter.kind.as_ref().filter(|kind| !COMMON.contains(&kind.as_str())) {
            (Some(kind.as_str()), By::Kind)
        } else if let Some(agent) = &filter.agent {
            (Some(agent.as_str()), By::Agent)
        } else {
            (None, By::Index)
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
        stored_entries(&self.scan(SqlStatement::new(self.select_entries(by, newest_first), params)).await?)
    }

    /// Returns signed checkpoints of the size `from` or a larger one, each with its size, smallest first; at
    /// most `limit`, and at most [`ENTRIES_MAX`]. The newest one comes last, where that leaves room for it: an
    /// answer that does not end with it goes on at the size after its last. One is kept for every 256 entries or
    /// so, so a log of more than two and a half million entries has more than one answer holds.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn checkpoints(&self, from: u64, limit: u32) -> Result<Vec<(u64, String)>, LedgerFault> {
        let limit = limit.min(ENTRIES_MAX);
        let rows = self
            .scan(SqlStatement::new(
                "SELECT size, note FROM checkpoint WHERE size >= $1 ORDER BY size LIMIT $2",
                vec![from.into(), u64::from(limit).into()],
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

    /// Returns at most `count` consecutive hashes of one tile level, from the index `start` on: leaf hashes at
    /// level 0, roots of complete tiles above. There are fewer where the log ends.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read, or what is stored is no hash.
    pub async fn tile_hashes(&self, level: u8, start: u64, count: u16) -> Result<Vec<Hash>, LedgerFault> {
        let end = start.saturating_add(u64::from(count));
        let query = if level == 0 {
            SqlStatement::new(
                "SELECT leaf FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx",
                vec![start.into(), end.into()],
            )
        } else {
            let level = u64::from(level).saturating_mul(8);
            SqlStatement::new(
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

    /// Returns a receipt: proof that an entry is in the log, for somebody who has nothing but the log's key. It
    /// is `None` when there is no entry of this index.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read, or the entry or a hash of its proof is
    /// missing.
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

    /// Returns proof that the log of `old` entries is a prefix of the log of `new`. It is `None` when `old` is
    /// larger than `new`, or `new` larger than the log.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read, or a hash of the proof is missing.
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

fn stored_entries(rows: &[StoredRow]) -> Result<Vec<StoredEntry>, LedgerFault> {
    rows.iter().map(|row| Ok(StoredEntry { index: row.count(0)?, bytes: row.bytes(1)?.to_vec() })).collect()
}
