//! The MCP front door of the real server, spoken to by a real MCP client.
//!
//! Effects are rows of a database that nobody but the tools writes to, so each test can count them.

#[cfg(test)]
mod bridge;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod effects;
#[cfg(test)]
mod holding;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod program;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod repeat;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod stdio;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod world;
