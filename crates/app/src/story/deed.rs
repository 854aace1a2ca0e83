//! A session did this so far, a line for each call: approvers see it beside a request.

use countersign_gate::entry::Told;
use countersign_store::StoredEntry;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::read::{Read, by_call};

/// The session did this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deed {
    /// The call has this id.
    pub call: String,
    /// The call was proposed at this time (RFC 3339).
    pub at: Option<String>,
    /// The call is one of this tool.
    pub tool: Option<String>,
    /// This was decided last: `allow`, `ask` or `deny`.
    pub decision: Option<String>,
    /// The call has come to this.
    pub status: Option<String>,
    /// The call touched or returned so many rows.
    pub rows: Option<u64>,
}

/// Returns what was done in some entries, call by call.
pub fn deeds(entries: &[StoredEntry]) -> Vec<Deed> {
    let begin = |call: &str, first: &Read| Deed {
        call: call.to_owned(),
        at: first.text("at").map(str::to_owned),
        ..Deed::default()
    };
    by_call(entries, begin, |deed, entry| entry.told.iter().for_each(|told| deed.add(told)))
}

impl Deed {
    fn add(&mut self, told: &Told) {
        match told {
            Told::CallProposed(told) => self.tool = Some(told.tool.to_string()),
            Told::CallRejected(told) => {
                self.tool = Some(told.tool.to_string());
                self.status = Some("rejected".into());
            }
            Told::Decided(told) => self.decision = Some(told.decision.as_str().to_owned()),
            Told::Refused(told) => {
                self.status = Some(told.status.to_string());
                self.rows = None;
            }
            Told::Outcome(told) => {
                self.status = Some(told.end.status().to_owned());
                self.rows = told.rows;
            }
            Told::RequestEnded(told) => self.status = Some(told.state.as_str().to_owned()),
            Told::InDoubt(_) => self.status = Some("in_doubt".into()),
            Told::ReachMeasured(_)
            | Told::RefusalsCounted(_)
            | Told::Asked(_)
            | Told::Answered(_)
            | Told::LookedCloser(_)
            | Told::GrantGiven(_)
            | Told::GrantEnded(_)
            | Told::WarrantIssued(_)
            | Told::DoubtResolved(_)
            | Told::Undone(_)
            | Told::SessionOpened(_)
            | Told::Halted(_)
            | Told::Resumed(_)
            | Told::EvidenceErased(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};

    #[test]
    fn what_a_session_did_is_told_as_it_was() {
        let mut told = String::new();
        for line in golden::entries() {
            let entry = StoredEntry { index: 0, bytes: line.into_bytes() };
            told.push_str(&serde_json::to_string(&deeds(&[entry])).unwrap());
            told.push('\n');
        }
        golden::holds("deeds.jsonl", &told);
    }
}
