//! The server, in this process and as the program that people and scripts use: one linked binary for all of it.

#[cfg(test)]
mod acting;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod incident;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod mcp;
#[cfg(test)]
mod ordinary;
#[cfg(test)]
mod payments;
#[cfg(test)]
mod people;
#[cfg(test)]
mod place;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod served;
#[cfg(test)]
mod server;
#[cfg(test)]
mod sql;
#[cfg(test)]
mod system;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod threats;
#[cfg(test)]
mod undo;
#[cfg(test)]
mod watch;
