//! The end of the log, to which a batch appends.

use std::sync::Arc;

use countersign_audit::{Checkpoint, Frontier, Hash, NodeId, Note, SigningKey, VerifierKey, leaf_hash};
use countersign_gate::{NewEntry, ledger::LedgerFault};
use countersign_rules::{AgentId, ApprovalId, CallId, SessionId};

use crate::{
    place::filed,
    row::{SqlStatement, StoredRow, Value},
};

/// This reads the head, under the writer's lock where a batch begins.
pub(crate) const SELECT_HEAD: &str = "SELECT size, frontier, checkpoint, changed FROM log_head WHERE id = 0";

/// Returns the statement that inserts the head of a log without entries. It fails when the log cannot be
/// signed.
pub(crate) fn insert_head(key: &SigningKey) -> Result<SqlStatement, LedgerFault> {
    let empty = Frontier::new();
    Ok(SqlStatement::one(
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

/// This is an entry as it stands in the log.
#[derive(Debug)]
pub(crate) struct Encoded {
    leaf: Hash,
    /// The entry's row has these columns beside its place.
    columns: [Value; 8],
}

impl Encoded {
    /// Encodes an entry as the log has it.
    ///
    /// # Errors
    /// Fails when the entry is too long for the log, or has no canonical form.
    pub(crate) fn of(entry: &NewEntry) -> Result<Arc<Self>, LedgerFault> {
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

    /// Returns when it happened, in Unix milliseconds UTC.
    pub(crate) const fn at_ms(&self) -> Option<i64> {
        match &self.columns {
            [_, Value::Int(at_ms), ..] => Some(*at_ms),
            _ => None,
        }
    }

    /// Encodes several entries. This is done by whoever hands an operation over, not by the one writer.
    ///
    /// # Errors
    /// Fails as [`Encoded::of`] does.
    pub(crate) fn all(entries: &[NewEntry]) -> Result<Vec<Arc<Self>>, LedgerFault> {
        entries.iter().map(Self::of).collect()
    }
}

/// This is the end of the log, to which a batch appends.
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
    /// Reads the head. Its tree must be the one that its checkpoint states, signed by the log's key; `trusted`
    /// is the checkpoint that this process signed last.
    pub(crate) fn read(
        row: &StoredRow,
        key: &VerifierKey,
        trusted: Option<&str>,
    ) -> Result<Self, LedgerFault> {
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

    /// Returns how many entries the log has so far.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Returns the index of the first entry of the tiles that the batch completes, and that of the entry after them.
    pub(crate) fn completed(&self) -> Option<(u64, u64)> {
        let (from, end) = (filed(self.size_before), filed(self.size()));
        (from != end).then_some((from, end))
    }

    /// Returns how many operations have changed the ledger so far.
    pub(crate) const fn changed(&self) -> u64 {
        self.changed
    }

    pub(crate) const fn is_changed(&self) -> bool {
        self.changed != self.changed_before
    }

    /// Tells whether the log stands at this checkpoint after so many changes.
    pub(crate) fn is_at(&self, checkpoint: &str, changed: u64) -> bool {
        self.checkpoint == checkpoint && self.changed == changed
    }

    /// Returns the head as it is once the batch is committed: its checkpoint, and how often the ledger was
    /// changed.
    pub(crate) fn committed(&self) -> (String, u64) {
        (self.checkpoint.clone(), self.changed)
    }

    /// Returns the tree, how often the ledger was changed, and the checkpoint that was signed for it.
    pub(crate) fn state(&self) -> (&Frontier, u64, &str) {
        (&self.frontier, self.changed, &self.checkpoint)
    }

    /// Appends the entries of one operation. It fails when the log is full.
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

    /// Adds the statements that write the batch's end of the log to `out`, its signed head among them.
    pub(crate) fn write(&mut self, key: &SigningKey, out: &mut Vec<SqlStatement>) -> Result<(), LedgerFault> {
        let size = self.frontier.size();
        if size != self.size_before {
            self.checkpoint = sign(&self.frontier, key)?;
        }
        for (index, entry) in &self.entries {
            let mut params = Vec::with_capacity(9);
            params.push(Value::from(*index));
            params.extend(entry.columns.iter().cloned());
            out.push(SqlStatement::one(
                "INSERT INTO entry (idx, leaf, at_ms, kind, agent, session, call, approval, bytes) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                params,
            ));
        }
        for (id, hash) in &self.nodes {
            out.push(SqlStatement::one(
                "INSERT INTO node (level, idx, hash) VALUES ($1, $2, $3)",
                vec![u64::from(id.level).into(), id.index.into(), hash.as_bytes().to_vec().into()],
            ));
        }
        // One checkpoint is kept for every tile of entries; any other can be proven from these.
        if self.completed().is_some() {
            out.push(SqlStatement::one(
                "INSERT INTO checkpoint (size, note) VALUES ($1, $2)",
                vec![size.into(), self.checkpoint.clone().into()],
            ));
        }
        out.push(SqlStatement::one(
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
