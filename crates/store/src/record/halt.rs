//! Halts in force.

use countersign_gate::ledger::{HaltRecord, HaltScope, LedgerFault};
use countersign_rules::AgentId;

use super::{Record, Removable};
use crate::row::{Damage, SqlStatement, StoredRow, json};

impl Record for HaltRecord {
    type Key = HaltScope;

    const WATCHED: bool = true;

    fn select(scope: &HaltScope) -> SqlStatement {
        SqlStatement::new("SELECT body FROM halt WHERE scope = $1", vec![text(scope).into()])
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        row.json(0)
    }

    fn insert(&self, scope: &HaltScope) -> Result<SqlStatement, LedgerFault> {
        let params = vec![text(scope).into(), json(self)?];
        Ok(SqlStatement::one("INSERT INTO halt (scope, body) VALUES ($1, $2)", params))
    }

    fn update(&self, scope: &HaltScope) -> Result<SqlStatement, LedgerFault> {
        let params = vec![json(self)?, text(scope).into()];
        Ok(SqlStatement::one("UPDATE halt SET body = $1 WHERE scope = $2", params))
    }
}

impl Removable for HaltRecord {
    fn delete(scope: &HaltScope) -> SqlStatement {
        SqlStatement::one("DELETE FROM halt WHERE scope = $1", vec![text(scope).into()])
    }
}

/// Returns the scopes of the halts that may stop an agent.
pub(crate) fn scopes(agent: &AgentId) -> [HaltScope; 2] {
    [HaltScope::All, HaltScope::Agent(agent.clone())]
}

/// Returns a scope as it is written in the store: names have no white space, so the two never meet.
fn text(scope: &HaltScope) -> String {
    match scope {
        HaltScope::Agent(agent) => format!("agent {agent}"),
        HaltScope::All => "all".to_owned(),
    }
}

pub(crate) fn select_for(agent: &AgentId) -> SqlStatement {
    let [all, one] = scopes(agent);
    SqlStatement::new(
        "SELECT body FROM halt WHERE scope = $1 OR scope = $2 ORDER BY scope DESC",
        vec![text(&all).into(), text(&one).into()],
    )
}

pub(crate) fn select_all() -> SqlStatement {
    SqlStatement::new("SELECT body FROM halt ORDER BY scope", Vec::new())
}
