//! What stands around every page of somebody who is signed in.

use countersign_app::{
    approval::asks,
    role::{Right, Roles},
    text::one_line,
};
use countersign_gate::{
    Ledger as _,
    ledger::{ApprovalRecord, HaltScope},
};
use countersign_rules::ApprovalState;
use countersign_store::ApprovalFilter;

use crate::{Console, asset, failure::Failure, signed::Signed};

/// So many waiting requests are read; of more it is said that they are more.
const WAITING_MAX: usize = 100;

/// What stands around a page.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) assets: asset::Version,
    pub(crate) form_token: String,
    pub(crate) person: String,
    /// What the person may do here.
    pub(crate) roles: Roles,
    /// The part of the console that the page belongs to.
    pub(crate) part: &'static str,
    /// How many requests wait for the person, in words; empty for none.
    pub(crate) waiting: String,
    pub(crate) agents: Vec<String>,
    pub(crate) halts: Vec<HaltLine>,
}

/// A halt in force.
#[derive(Debug)]
pub(crate) struct HaltLine {
    /// The agent; empty for all of them.
    pub(crate) agent: String,
    pub(crate) why: String,
    pub(crate) by: String,
    pub(crate) since: String,
}

impl Frame {
    /// Returns true if the person may halt.
    pub(crate) fn may_halt(&self) -> bool {
        self.roles.may(Right::Halt)
    }

    /// Returns true if the person may end a halt.
    pub(crate) fn may_operate(&self) -> bool {
        self.roles.may(Right::Operate)
    }

    /// Returns true if the person sees what everybody is asked and answers.
    pub(crate) fn sees_all(&self) -> bool {
        self.roles.may(Right::SeeAll)
    }
}

impl Console {
    /// Makes what stands around a page, with the requests that wait for the person, oldest first.
    pub(crate) async fn frame(
        &self,
        signed: &Signed,
        part: &'static str,
    ) -> Result<(Frame, Vec<ApprovalRecord>), Failure> {
        let person = signed.person();
        let filter = ApprovalFilter {
            state: Some(ApprovalState::Waiting),
            groups: Some(person.groups.clone()),
            ..ApprovalFilter::default()
        };
        let limit = u32::try_from(WAITING_MAX).unwrap_or(u32::MAX).saturating_add(1);
        let mut records = self.app.store().list_approvals(&filter, limit).await?;
        records.retain(|record| asks(record, person));
        let more = records.len() > WAITING_MAX;
        records.truncate(WAITING_MAX);
        let waiting = match records.len() {
            0 => String::new(),
            number if more => format!("{number}+"),
            number => number.to_string(),
        };
        let halts = self.app.store().halts().await?;
        let frame = Frame {
            assets: asset::Version,
            form_token: signed.form_token(),
            person: person.id.to_string(),
            roles: person.roles.clone(),
            part,
            waiting,
            agents: self.app.auth().agents().map(ToString::to_string).collect(),
            halts: halts
                .into_iter()
                .map(|halt| HaltLine {
                    agent: match halt.scope {
                        HaltScope::Agent(agent) => agent.to_string(),
                        HaltScope::All => String::new(),
                    },
                    why: one_line(&halt.why),
                    by: one_line(&halt.by),
                    since: at(halt.since_ms),
                })
                .collect(),
        };
        Ok((frame, records))
    }
}

/// Writes a time as RFC 3339, which the script shows in the reader's own zone.
pub(crate) fn at(unix_ms: i64) -> String {
    countersign_app::answer::timestamp(unix_ms).unwrap_or_default()
}
