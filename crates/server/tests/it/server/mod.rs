//! The real server, in this process, with a real ledger and a real database, over real connections.
#![expect(clippy::disallowed_methods, reason = "tests look at the database and the server from outside")]
#![expect(clippy::arithmetic_side_effects, reason = "tests")]

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod effects;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod jwks;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod log;
#[cfg(test)]
mod oauth;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod postgres_tls;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod repeat;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod tls;
