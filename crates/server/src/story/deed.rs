//! What a session did so far, a line for each call: what approvers see beside a request.

use std::collections::BTreeMap;

use countersign_gate::entry::Told;
use countersign_store::StoredEntry;
use serde::Serialize;
use utoipa::ToSchema;

use super::read::Read;

/// Something the session did.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Deed {
    /// The call.
    call: String,
    /// When it was proposed (RFC 3339).
    at: Option<String>,
    /// The tool.
    tool: Option<String>,
    /// What was decided: `allow`, `ask` or `deny`.
    decision: Option<String>,
    /// What became of it.
    status: Option<String>,
    /// Rows touched or returned.
    rows: Option<u64>,
}

/// What was done in some entries, call by call.
pub(crate) fn deeds(entries: &[StoredEntry]) -> Vec<Deed> {
    let mut order: Vec<String> = Vec::new();
    let mut deeds: BTreeMap<String, Deed> = BTreeMap::new();
    for entry in entries.iter().map(Read::new) {
        let Some(call) = entry.text("call") else { continue };
        let deed = deeds.entry(call.to_owned()).or_insert_with(|| {
            order.push(call.to_owned());
            let at = entry.text("at").map(str::to_owned);
            Deed { call: call.to_owned(), at, ..Deed::default() }
        });
        if let Some(told) = &entry.told {
            deed.add(told);
        }
    }
    order.into_iter().filter_map(|call| deeds.remove(&call)).collect()
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
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn what_a_session_did_is_told_as_it_was() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> = fs::read_dir(root.join("../gate/tests/gate/golden"))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        let mut told = String::new();
        for file in files {
            for (line, index) in fs::read_to_string(&file).unwrap().lines().zip(0..) {
                let entry = StoredEntry { index, bytes: line.as_bytes().to_vec() };
                told.push_str(&serde_json::to_string(&deeds(&[entry])).unwrap());
                told.push('\n');
            }
        }
        let golden = root.join("tests/golden/deeds.jsonl");
        if option_env!("COUNTERSIGN_WRITE_GOLDEN").is_some() {
            fs::write(&golden, &told).unwrap();
        }
        assert_eq!(fs::read_to_string(golden).unwrap(), told);
    }
}
