//! Why a call goes no further.

use countersign_rules::{Deny, Refusal};

use super::room::NoRoom;
use crate::{answer::Answer, ledger::NotIssued};

/// A call goes no further for one of these reasons.
pub(super) enum Stop {
    /// This is the answer, and what has to be recorded of it is.
    Answered(Box<Answer>),
    /// The policies deny it.
    Denied(Deny),
    /// Something else refuses it.
    Refused(Refusal),
    /// A limit, a halt or the ledger refuses it.
    NotIssued(NotIssued),
}

impl From<Answer> for Stop {
    fn from(answer: Answer) -> Self {
        Self::Answered(Box::new(answer))
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NotIssued> for Stop {
    fn from(why: NotIssued) -> Self {
        Self::NotIssued(why)
    }
}

impl From<NoRoom> for Stop {
    fn from(why: NoRoom) -> Self {
        match why {
            NoRoom::Limit(why) => Self::NotIssued(why),
            NoRoom::Unmeasured(refusal) => Self::Refused(refusal),
        }
    }
}
