//! Halting, and ending a halt, which not everybody may.

use countersign_gate::ledger::{HaltRecord, HaltScope};
use countersign_rules::{Code, Refusal};

use crate::{answer::not_looked_up, app::App, auth::Person, role::Right};

/// What is kept of a reason at most, in characters.
const WHY_CHARS_MAX: usize = 500;

impl App {
    /// Halts an agent, or all, for a person.
    ///
    /// # Errors
    /// Returns [`Code::OutOfScope`] for who may not, [`Code::Malformed`] without a reason, and [`Code::NotLookedUp`] if the
    /// ledger cannot be written.
    pub async fn halt(&self, person: &Person, scope: HaltScope, why: &str) -> Result<HaltRecord, Refusal> {
        person.may(Right::Halt)?;
        let why: String = why.trim().chars().take(WHY_CHARS_MAX).collect();
        if why.is_empty() {
            return Err(Refusal::new(Code::Malformed, "a halt has no reason, and nothing was halted")
                .help("say why: agents and people are told it"));
        }
        let halted = self.gate().halt(scope, person.id.as_str(), &why).await;
        halted.map_err(|fault| not_looked_up(&fault))
    }

    /// Ends a halt for a person, who must be an operator. Whom an agent acts for lets it go on no more than they approve
    /// its calls.
    ///
    /// # Errors
    /// Returns [`Code::OutOfScope`] for who may not, [`Code::NotFound`] if there is no such halt, and
    /// [`Code::NotLookedUp`] if the ledger cannot be written.
    pub async fn resume(&self, person: &Person, scope: &HaltScope) -> Result<(), Refusal> {
        person.may(Right::Operate)?;
        let own = match scope {
            HaltScope::Agent(agent) => self.auth().acts_for(agent, &person.id),
            HaltScope::All => self.auth().any_acts_for(&person.id),
        };
        if own {
            let message = format!("{scope} acts for you, and another person must let it go on");
            return Err(Refusal::new(Code::OutOfScope, message).help("ask another operator"));
        }
        let resumed = self.gate().resume(scope, person.id.as_str()).await;
        if resumed.map_err(|fault| not_looked_up(&fault))? {
            return Ok(());
        }
        Err(Refusal::new(Code::NotFound, format!("{scope} is not halted")))
    }
}
