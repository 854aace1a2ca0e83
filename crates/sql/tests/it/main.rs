//! What the answers are, against corpora, hostile texts and real databases.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod bounds;
mod cases;
mod catalog;
mod chance;
mod corpus;
mod credentials;
mod described;
mod differential;
mod extensions;
mod generated;
mod guards;
mod hidden_calls;
mod hostile;
mod implied;
mod known;
mod marks;
mod mutated;
mod normal;
mod postgres_server;
mod respelled;
mod sqlite_server;
mod statements;
