//! Requests for people's approval, their answers and the evidence shown with them.

use std::sync::Arc;

use countersign_gate::{
    Evidence, NewEntry,
    ledger::{ApprovalRecord, Bond, Closer, LedgerFault, NotAnswered, NotParked, Parking},
};
use countersign_rules::{ApprovalId, ApprovalState, Code, GrantEnd, Signature};

use crate::{
    bond,
    queue::Operation,
    record::{
        approval::ApprovalRow,
        bond::{key_of, key_of_call},
    },
    records::{Changes, Key, Needs, Records},
    row::{SqlStatement, json},
    tail::Encoded,
};

/// Parks a call until people answer, or finds the request that is open already.
pub(crate) struct Park {
    parking: Parking,
    entries: Vec<Arc<Encoded>>,
}

impl Park {
    /// Takes a call that is to be parked, and encodes its entries.
    ///
    /// # Errors
    /// Fails when an entry cannot be recorded.
    pub(crate) fn new(mut parking: Parking) -> Result<Self, LedgerFault> {
        let entries = Encoded::all(&std::mem::take(&mut parking.entries))?;
        Ok(Self { parking, entries })
    }
}

impl Operation for Park {
    type Output = Result<ApprovalRecord, NotParked>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        let request = &self.parking.request;
        needs.name(records, &Key::Newest(request.call.retry_key()));
        needs.name(records, &Key::Approval(request.id.clone()));
        if let Some(key) = key_of_call(&request.call) {
            needs.name(records, &Key::Bond(key));
        }
        if let Some(way) = &self.parking.makes_way {
            needs.name(records, &Key::Approval(way.approval.clone()));
        }
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let Parking { request, replaces, makes_way, evidence, effect, entries: _ } = &self.parking;
        let bond = Bond::of(&request.call, Some(&request.id), request.asked_ms);
        if let Some(bond) = &bond
            && let Some(taken) = bond::taken(records, bond, replaces.as_ref())?
        {
            return Ok((Err(NotParked::KeyTaken(taken)), Changes::default()));
        }
        // A newer request is opened only when the one before is final, so the newest is the only candidate.
        if let Some(open) =
            records.newest(&request.call.retry_key())?.filter(|row| !row.record.state.is_final())
        {
            let open = &open.record;
            let mut changes = Changes::default();
            if let Some(bond) = bond.map(|bond| bond.joining(&open.request)) {
                changes.bonds.put(key_of(&bond), bond);
            }
            return Ok((Ok(open.clone()), changes));
        }
        if records.approvals.find(&request.id)?.is_some() {
            return Err(LedgerFault::Unavailable("a request of this id was opened before".into()));
        }
        let mut changes = Changes::entries(self.entries.clone());
        if let Some(way) = makes_way {
            let moved = |state| Ok((Err(NotParked::Moved(state)), Changes::default()));
            let Some(row) = records.approvals.find(&way.approval)? else {
                return moved(ApprovalState::Superseded);
            };
            let mut row = row.clone();
            if !row.record.make_way(way, &request.id) {
                return moved(row.record.state);
            }
            changes.approvals.put(way.approval.clone(), row);
        }
        let record = ApprovalRecord {
            request: request.clone(),
            effect: *effect,
            state: ApprovalState::Waiting,
            signatures: Vec::new(),
            evidence: evidence.clone(),
            why: None,
            code: None,
            grant: None,
            narrowed_to: None,
            delivered: false,
        };
        if let Some(bond) = bond {
            changes.bonds.put(key_of(&bond), bond);
        }
        let row = ApprovalRow { record: record.clone(), order: records.next_order() };
        if let Some(evidence) = evidence {
            changes.statements.push(keep(&request.id, evidence)?);
        }
        changes.approvals.put(request.id.clone(), row);
        Ok((Ok(record), changes))
    }
}

/// Adds one person's answer, and returns the request as the answer leaves it.
pub(crate) struct AddSignature {
    pub(crate) approval: ApprovalId,
    pub(crate) signature: Signature,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for AddSignature {
    type Output = Result<ApprovalRecord, NotAnswered>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.approval.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let Some(row) = records.approvals.find(&self.approval)? else {
            return Ok((Err(NotAnswered::NotFound), Changes::default()));
        };
        let mut row = row.clone();
        let record = &mut row.record;
        let given = match record.sign(self.signature.clone()) {
            Ok(given) => given,
            Err(why) => return Ok((Err(why.into()), Changes::default())),
        };
        let mut entries = vec![Arc::clone(&self.entry)];
        if let Some(terms) = given {
            entries.push(Encoded::of(&NewEntry::grant_given(&record.request, &record.signatures, terms))?);
        }
        let answered = record.clone();
        let mut changes = Changes::entries(entries);
        changes.approvals.put(self.approval.clone(), row);
        Ok((Ok(answered), changes))
    }
}

/// Shows people more of a request than they saw before, and returns it as it is then.
pub(crate) struct LookCloser {
    pub(crate) approval: ApprovalId,
    pub(crate) seen: Closer,
    pub(crate) entries: Vec<Arc<Encoded>>,
}

impl Operation for LookCloser {
    type Output = Result<ApprovalRecord, NotAnswered>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.approval.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let Some(row) = records.approvals.find(&self.approval)? else {
            return Ok((Err(NotAnswered::NotFound), Changes::default()));
        };
        let mut row = row.clone();
        if let Err(why) = row.record.look_closer(self.seen.clone()) {
            return Ok((Err(why.into()), Changes::default()));
        }
        let shown = row.record.clone();
        let id = self.approval.as_str();
        let mut changes = Changes::entries(self.entries.clone());
        // What is asked changes in no other way, so that no other change of a request writes it again.
        changes.statements.push(SqlStatement::one(
            "UPDATE approval SET request = $1 WHERE id = $2",
            vec![json(&shown.request)?, id.into()],
        ));
        if let Some(evidence) = &self.seen.evidence {
            changes
                .statements
                .push(SqlStatement::one("DELETE FROM evidence WHERE approval = $1", vec![id.into()]));
            changes.statements.push(keep(&self.approval, evidence)?);
        }
        changes.approvals.put(self.approval.clone(), row);
        Ok((Ok(shown), changes))
    }
}

fn keep(approval: &ApprovalId, evidence: &Evidence) -> Result<SqlStatement, LedgerFault> {
    let values = vec![approval.as_str().into(), json(evidence)?];
    Ok(SqlStatement::one("INSERT INTO evidence (approval, body) VALUES ($1, $2)", values))
}

/// Ends the grant that was given with a request. Returns true if there was one that had not ended; otherwise nothing
/// changes.
pub(crate) struct EndGrant {
    pub(crate) approval: ApprovalId,
    pub(crate) end: GrantEnd,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for EndGrant {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.approval.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let Some(row) = records.approvals.find(&self.approval)? else {
            return Ok((false, Changes::default()));
        };
        let mut row = row.clone();
        if !row.record.end_grant(self.end.clone()) {
            return Ok((false, Changes::default()));
        }
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.approvals.put(self.approval.clone(), row);
        Ok((true, changes))
    }
}

/// Ends a request that is waiting or granted. Returns true if it was one of these; otherwise nothing changes.
pub(crate) struct End {
    pub(crate) approval: ApprovalId,
    pub(crate) state: ApprovalState,
    pub(crate) code: Option<Code>,
    pub(crate) why: String,
    pub(crate) entries: Vec<Arc<Encoded>>,
}

impl Operation for End {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.approval.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let open = |row: &&ApprovalRow| row.record.state.is_open();
        let Some(row) = records.approvals.find(&self.approval)?.filter(open) else {
            return Ok((false, Changes::default()));
        };
        let mut row = row.clone();
        row.record.state = self.state;
        row.record.why = Some(self.why.clone());
        row.record.code = self.code;
        let mut changes = Changes::entries(self.entries.clone());
        changes.approvals.put(self.approval.clone(), row);
        Ok((true, changes))
    }
}

/// Marks a final request as fetched. Any other request stays as it is.
pub(crate) struct Deliver(pub(crate) ApprovalId);

impl Operation for Deliver {
    type Output = ();

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.0.clone()));
    }

    fn apply(&self, records: &Records) -> Result<((), Changes), LedgerFault> {
        let mut changes = Changes::default();
        let fetchable = |row: &&ApprovalRow| row.record.state.is_final() && !row.record.delivered;
        if let Some(row) = records.approvals.find(&self.0)?.filter(fetchable) {
            let mut row = row.clone();
            row.record.delivered = true;
            changes.approvals.put(self.0.clone(), row);
        }
        Ok(((), changes))
    }
}

/// Erasing evidence came to this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erasure {
    /// The evidence is erased.
    Erased,
    /// There was no evidence.
    Nothing,
    /// People are asked until `until_ms`, and would answer without having seen the evidence. Nothing was
    /// changed.
    Asked {
        /// The request expires at this time, in Unix milliseconds UTC.
        until_ms: i64,
    },
}

/// Erases the evidence kept with a request that nobody is asked about any more.
pub(crate) struct EraseEvidence {
    pub(crate) approval: ApprovalId,
    /// It is erased at this time, in Unix milliseconds UTC.
    pub(crate) now_ms: i64,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for EraseEvidence {
    type Output = Erasure;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.approval.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Erasure, Changes), LedgerFault> {
        let Some(row) = records.approvals.find(&self.approval)?.filter(|row| row.record.evidence.is_some())
        else {
            return Ok((Erasure::Nothing, Changes::default()));
        };
        let until_ms = row.record.request.expires_ms;
        if row.record.state == ApprovalState::Waiting && self.now_ms < until_ms {
            return Ok((Erasure::Asked { until_ms }, Changes::default()));
        }
        let mut row = row.clone();
        row.record.evidence = None;
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.approvals.put(self.approval.clone(), row);
        changes.statements.push(SqlStatement::one(
            "DELETE FROM evidence WHERE approval = $1",
            vec![self.approval.as_str().into()],
        ));
        Ok((Erasure::Erased, changes))
    }
}
