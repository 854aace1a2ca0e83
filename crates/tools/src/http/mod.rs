//! Requests to HTTP APIs.
//!
//! A request goes to its system's base URL and nowhere else; arguments fill places in its path, query and
//! body and can never become more than that. What is known of a failed write follows from what the API said:
//!
//! | seen | a write |
//! |---|---|
//! | no connection | was not sent: nothing changed |
//! | 2xx | done; an answer that is too large or breaks its schema is withheld |
//! | 4xx, 307, 308, 501, 505 | refused: nothing changed |
//! | other 3xx, 5xx, a timeout, a lost connection | in doubt |
//!
//! Reads have failed wherever they have not succeeded. Requests are sent again only where that is safe: when
//! nothing was sent, by reads, and by tools whose API recognises the `Idempotency-Key`. After one attempt in
//! doubt only a success is an answer, because a refusal may be about the first attempt.

mod address;
pub(crate) mod client;
mod definition;
pub(crate) mod send;
mod system;
mod template;
mod tool;

pub use address::is_public;
pub use client::{check_base, client};
pub use system::HttpSystem;
pub use tool::{HttpCall, HttpTool};
