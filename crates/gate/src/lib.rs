//! The one path from a call to an effect.
//!
//! ```text
//! RawCall ─parse─▶ Call<A> ─decide─▶ Permitted<A> ─issue─▶ Warrant<A> + OpenCall ─perform─▶ outcome ─close─▶ reply
//!                      (or refused, parked)        one transaction:                         one transaction:
//!                                                 hold, intent, entries                     outcome, settle, entries
//! ```
//!
//! Each arrow consumes its left side and is the only source of its right side, so a call that was not
//! decided cannot be performed, and one that was not recorded cannot either. This crate opens no socket
//! and no database: it owns the traits ([`Ledger`], [`Vault`], [`Clock`], [`Tool`]) that others implement.
#![deny(missing_docs)]

pub mod answer;
mod approval;
pub mod clock;
pub mod entry;
mod evidence;
pub mod form;
pub mod gate;
mod halt;
pub mod ledger;
pub mod likeness;
mod limits;
pub mod memory;
mod outcome;
mod refusals;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod tool;
pub mod vault;
pub mod warrant;

pub use answer::{Answer, Changed, Done, Pending, Refused};
pub use clock::{Clock, Entropy};
pub use entry::NewEntry;
pub use form::Form;
pub use gate::{AskedPerson, Gate, GrantOffer, Narrowing, NotRecalled, Settings, Signers};
pub use ledger::Ledger;
pub use likeness::Likeness;
pub use memory::Remembered;
pub use tool::{
    Doubt, Evidence, MeasureError, Measured, Parsed, Performed, Recalled, Sample, Tool, ToolError,
};
pub use vault::{Authority, Credential, Upkeep, Vault, VaultFault};
pub use warrant::{Limits, Probe, Warrant};
