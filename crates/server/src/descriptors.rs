//! File descriptors: how many connections fit beside the ledger, the systems and what people need.
//!
//! A process that has none left can accept nobody and open no file, so connections are limited to what is left.

use countersign_tools::definition::Target;
use rlimit::Resource;

use crate::config::{Config, StorePlace};
use countersign_app::connection::FOR_PEOPLE;

/// Descriptors of the process itself, its log and its listener, and some to spare.
const OWN: u64 = 64;
/// Of a SQLite database: its connections, each with the file, the log and the index beside it.
const SQLITE: u64 = 24;
/// A connection of an agent, and one to the system that its call goes to.
const EACH: u64 = 2;
/// What processes may open at least, where nobody says.
const LIMIT_MIN: u64 = 256;
/// Fewer connections are no server.
const CONNECTIONS_MIN: u64 = 8;

/// The process may open too few files for any server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process may open {limit} files and needs {needed}: raise the limit (`ulimit -n {needed}`)")]
pub struct TooFewDescriptors {
    /// How many it may open.
    pub limit: u64,
    /// How many it needs.
    pub needed: u64,
}

/// What fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fit {
    /// So many connections for agents.
    connections_max: usize,
    /// The limit that was compared with.
    limit: u64,
    /// What all configured connections would need.
    needed: u64,
}

/// Raises the process's own limit as far as it may. Answers how many connections for agents fit beside the rest, which it
/// says where these are fewer than the configuration has.
///
/// # Errors
/// [`TooFewDescriptors`] when there are too few for any server.
pub(crate) fn connections(config: &Config) -> Result<usize, TooFewDescriptors> {
    let wanted = config.server.connections_max;
    let Fit { connections_max, limit, needed } = compare(raised(), fixed(config), wanted)?;
    if connections_max < wanted {
        tracing::warn!(
            limit,
            needed,
            connections_max,
            "the process may open fewer files than its connections need, so it takes fewer connections: raise the limit (`ulimit -n`)"
        );
    }
    Ok(connections_max)
}

/// The limit of this process, raised to the most that it may have. Where the system refuses that, as it was; where it
/// tells no limit, the least that systems begin with.
fn raised() -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(why) => {
            tracing::debug!(%why, "the limit of open files stays as it is");
            Resource::NOFILE.get_soft().unwrap_or(LIMIT_MIN)
        }
    }
}

/// What is needed whoever connects.
fn fixed(config: &Config) -> u64 {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let ledger = match &config.store.place {
        StorePlace::Sqlite(_) => SQLITE,
        StorePlace::Postgres { connections_max, .. } => count(*connections_max),
    };
    let systems = config.systems.values().map(|system| match &system.definition.target {
        Target::Sqlite(_) => SQLITE,
        Target::Postgres(target) => count(target.connections_max),
        // What a call takes is counted with its connection; these are pipes and streams.
        Target::Http(_) | Target::Mcp(_) => 4,
    });
    systems.fold(OWN.saturating_add(ledger), u64::saturating_add).saturating_add(count(FOR_PEOPLE))
}

fn compare(limit: u64, fixed: u64, connections_max: usize) -> Result<Fit, TooFewDescriptors> {
    let wanted = u64::try_from(connections_max).unwrap_or(u64::MAX);
    let needed = fixed.saturating_add(wanted.saturating_mul(EACH));
    let fitting = limit.saturating_sub(fixed).checked_div(EACH).unwrap_or(0);
    let most = usize::try_from(fitting.min(wanted)).unwrap_or(usize::MAX);
    if fitting < CONNECTIONS_MIN.min(wanted) {
        return Err(TooFewDescriptors { limit, needed });
    }
    Ok(Fit { connections_max: most, limit, needed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_fit_beside_the_rest() {
        let most = |limit, wanted| compare(limit, 200, wanted).map(|fit| fit.connections_max);
        assert_eq!(most(1_000_000, 1_024).unwrap(), 1_024);
        assert_eq!(most(2_248, 1_024).unwrap(), 1_024, "exactly");
        assert_eq!(most(1_024, 1_024).unwrap(), 412);
        assert_eq!(most(216, 1_024).unwrap(), 8);
        assert!(matches!(compare(215, 200, 1_024), Err(TooFewDescriptors { limit: 215, needed: 2_248 })));
        assert_eq!(most(202, 1).unwrap(), 1);
        assert!(most(64, 1).is_err());
    }

    #[test]
    fn the_limit_is_raised_to_the_most_that_it_may_be() {
        let limit = raised();
        assert_eq!(Resource::NOFILE.get().unwrap(), (limit, limit));
    }
}
