//! The real server, in this process, with a real ledger and a real database, over real connections.
#![expect(clippy::disallowed_methods, reason = "tests look at the database and the server from outside")]
#![expect(clippy::arithmetic_side_effects, reason = "tests")]

mod answering;
mod authenticator;
mod bad_input;
mod binary;
mod channels;
mod command_line;
mod configuration;
mod connections;
mod console;
mod effects;
mod email;
mod grants;
mod https;
mod identity;
mod jwks;
mod levels;
mod lists;
mod log;
mod narrow;
mod oauth;
mod openapi;
mod passkey;
mod postgres_tls;
mod provider;
mod refusals;
mod repeat;
mod rig;
mod roles;
mod schema;
mod sign_in;
mod slack;
mod socket;
mod step_up;
mod teams;
mod terminal;
mod tls;
