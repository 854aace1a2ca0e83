//! The kinds of entries, each by its word.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    call::{CallProposed, CallRejected, Decided, ReachMeasured, RefusalsCounted, Refused},
    effect::{DoubtResolved, InDoubt, Outcome, Undone, WarrantIssued},
    operation::{EvidenceErased, Halted, Resumed, SessionOpened},
    request::{Answered, Asked, GrantEnded, GrantGiven, LookedCloser, RequestEnded},
};

/// A kind of entry: what is written of one thing that happens, and how that is read back.
///
/// A field that is added later has a default, so that older logs are read; a field is never renamed or removed, because
/// the bytes of a log are signed.
pub trait Kind: Serialize + DeserializeOwned {
    /// The word by which entries of this kind are found.
    const WORD: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $word:literal => $kind:ident,)*) => {
        $(impl Kind for $kind<'_> {
            const WORD: &'static str = $word;
        })*

        /// An entry of the log tells one of these things, for those kinds that the gate writes.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Told {
            $($(#[$doc])* $kind(Box<$kind<'static>>),)*
        }

        impl Told {
            /// These are the words of all kinds.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// Reads the body of an entry. `None` where the kind is not one of these, or where a later version wrote what this
            /// one does not understand.
            #[must_use]
            pub fn read(word: &str, body: &Value) -> Option<Self> {
                match word {
                    $($word => $kind::deserialize(body).ok().map(|told| Self::$kind(Box::new(told))),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// An agent proposed a call.
    "call_proposed" => CallProposed,
    /// A proposal was refused before it was a call.
    "call_rejected" => CallRejected,
    /// Refusals were counted instead of recorded.
    "refusals_counted" => RefusalsCounted,
    /// The reach of a call was measured.
    "reach_measured" => ReachMeasured,
    /// The rules decided.
    "decided" => Decided,
    /// A call was refused for another reason than the policies.
    "refused" => Refused,
    /// People are asked.
    "asked" => Asked,
    /// A person answered.
    "answered" => Answered,
    /// A person had the call run and rolled back before answering.
    "looked_closer" => LookedCloser,
    /// People granted calls like the one they approved.
    "grant_given" => GrantGiven,
    /// A person ended a grant.
    "grant_ended" => GrantEnded,
    /// A request ended without being performed.
    "request_ended" => RequestEnded,
    /// The intent to perform a call was recorded.
    "warrant_issued" => WarrantIssued,
    /// A call was performed, failed or came into doubt.
    "outcome" => Outcome,
    /// It is not known what became of a call.
    "in_doubt" => InDoubt,
    /// It was found out what became of a call in doubt.
    "doubt_resolved" => DoubtResolved,
    /// A call was taken back by another one.
    "undone" => Undone,
    /// An agent's session began.
    "session_opened" => SessionOpened,
    /// An agent, or every agent, was halted.
    "halted" => Halted,
    /// A halt was ended.
    "resumed" => Resumed,
    /// The evidence that approvers were shown was erased.
    "evidence_erased" => EvidenceErased,
}
