//! Ending a halt, which not everybody may.

use countersign_gate::ledger::HaltScope;
use countersign_rules::{Code, Refusal};

use crate::{answer::not_looked_up, app::App, auth::Person};

impl App {
    /// Ends a halt for a person, who must be an operator. Whom an agent acts for lets it go on no more than they approve
    /// its calls.
    ///
    /// # Errors
    /// Returns [`Code::OutOfScope`] for who may not, [`Code::NotFound`] if there is no such halt, and
    /// [`Code::NotLookedUp`] if the ledger cannot be written.
    pub async fn resume(&self, person: &Person, scope: &HaltScope) -> Result<(), Refusal> {
        if !person.operator {
            let message = format!("`{}` is no operator", person.id);
            return Err(Refusal::new(Code::OutOfScope, message)
                .help("the configuration must say `operator = true` of this person"));
        }
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
