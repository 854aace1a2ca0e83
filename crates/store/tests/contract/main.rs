//! The contract of a ledger, held by both databases.
//!
//! Every test runs on SQLite and, by `COUNTERSIGN_TEST_POSTGRES` (a superuser's URL), on PostgreSQL, each
//! in a place of its own. `./test` starts a server and sets it.
#![expect(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

#[cfg(test)]
mod accounts;
mod approvals;
#[cfg(test)]
mod bonds;
#[cfg(test)]
mod budgets;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod columns;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod grants;
#[cfg(test)]
mod held;
#[cfg(test)]
mod history;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod log;
#[cfg(test)]
mod make;
#[cfg(test)]
mod model;
#[cfg(test)]
mod outbox;
#[cfg(test)]
mod passkeys;
#[cfg(test)]
mod place;
#[cfg(test)]
mod places;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod prune;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod visits;
#[cfg(test)]
mod whole;
