//! Undoing a call: as a call of its system's undo tool, through the gate like any other.
//!
//! An agent undoes what it did itself, and nothing else. A person proposes as the reserved agent
//! [`UNDO_AGENT`], on their own behalf, so that another person must approve where the policies ask.

use std::time::Duration;

use countersign_gate::{
    Answer, Ledger as _,
    ledger::{CallRecord, CallState},
};
use countersign_rules::{CallId, Code, Effect, Refusal};
use countersign_tools::AnyTool;
use serde_json::{Value, json};

use crate::{
    app::{App, Beside},
    auth::{Identity, Principal, Scopes},
    principal::{UNDO_AGENT, undo_agent},
    role::Right,
};

/// This call is to be undone, in this way.
#[derive(Debug, Clone)]
pub struct UndoProposal {
    /// The call has this id.
    pub call: CallId,
    /// This is true if rows that changed since are left as they are, and false if they make the undoing be
    /// refused.
    pub skip_changed: bool,
    /// These columns may differ afterwards, because triggers write them.
    pub rewritten: Vec<String>,
    /// The call is undone for this reason, in the words of who undoes.
    pub reason: Option<String>,
    /// This session key was sent, if one was.
    pub session: Option<String>,
    /// This was sent beside the call.
    pub beside: Beside,
    /// People are waited for at most this long before the answer is `pending`.
    pub wait: Duration,
}

impl App {
    /// Proposes to undo a call.
    ///
    /// # Errors
    /// Returns a [`Refusal`] if the caller's role does not undo, there is no such call for this caller, there is
    /// nothing to undo or to undo it with, or the ledger cannot be read or written.
    pub async fn undo(&self, who: Principal, undo: UndoProposal) -> Result<Answer, Refusal> {
        let who = match who {
            Principal::Agent(identity) => identity,
            Principal::Person(person) => {
                person.may(Right::Undo)?;
                Identity {
                    agent: undo_agent()?,
                    teams: Vec::new(),
                    on_behalf_of: Some(person.id),
                    scopes: Scopes::All,
                    credential: person.credential,
                    expires_ms: None,
                }
            }
        };
        let record = self.undoable(&who, &undo.call).await?;
        let tool = self.tools().values().find(|offer| {
            matches!(offer.tool, AnyTool::Undo(_)) && offer.spec().system.name == record.system
        });
        let Some(tool) = tool else {
            let message = format!("system `{}` keeps nothing to undo calls with", record.system);
            return Err(Refusal::new(Code::StatementRefused, message)
                .help(format!("give it a journal: `[system.{}.journal]`", record.system)));
        };
        let requester = self.requester(&who, undo.session.as_deref(), "rest", None).await?;
        let mut arguments = json!({
            "call": undo.call,
            "on_change": if undo.skip_changed { "skip" } else { "refuse" },
        });
        if !undo.rewritten.is_empty()
            && let Some(arguments) = arguments.as_object_mut()
        {
            arguments.insert("rewritten".into(), json!(undo.rewritten));
        }
        if let (Some(reason), Some(arguments)) = (undo.reason, arguments.as_object_mut()) {
            arguments.insert(countersign_rules::call::REASON_FIELD.into(), reason.into());
        }
        let name = tool.spec().name.clone();
        match self.call(&who, &requester, name.as_str(), arguments, undo.beside).await {
            Answer::Pending(pending) if !undo.wait.is_zero() => {
                Ok(self.wait(&who, pending, undo.wait, |_progress| {}).await)
            }
            answer @ (Answer::Done(_) | Answer::Pending(_) | Answer::Refused(_)) => Ok(answer),
        }
    }

    /// Says why a call of an undo tool is refused before it is a call, if it is: an agent's reaches its own
    /// calls only, whichever door it comes through.
    pub(crate) async fn refuse_undo(
        &self,
        who: &Identity,
        tool: &AnyTool,
        arguments: &Value,
    ) -> Option<Refusal> {
        if !matches!(tool, AnyTool::Undo(_)) {
            return None;
        }
        // Arguments of another form are for the tool's schema to refuse.
        let call = CallId::parse(arguments.get("call").and_then(Value::as_str)?).ok()?;
        match self.undoable(who, &call).await {
            Ok(record) if record.system == tool.spec().system.name => None,
            Ok(record) => {
                let message = format!("call `{call}` acted on system `{}`", record.system);
                Some(Refusal::new(Code::InvalidArguments, message).help("use the undo tool of that system"))
            }
            Err(refusal) => Some(refusal),
        }
    }

    /// Returns the call, if it is one that this agent may undo with this credential, and that left something to
    /// undo.
    async fn undoable(&self, who: &Identity, call: &CallId) -> Result<CallRecord, Refusal> {
        let record = self.store().call(call).await.map_err(|fault| {
            Refusal::new(Code::NotLookedUp, format!("the call cannot be looked up: {fault}"))
        })?;
        let visible = |record: &CallRecord| who.agent.as_str() == UNDO_AGENT || who.sees(&record.call);
        let Some(record) = record.filter(visible) else {
            let message = format!("no call `{call}` that you may undo");
            return Err(Refusal::new(Code::NotFound, message).help("agents undo their own calls only"));
        };
        let nothing = |why: &str, help: &str| {
            Err(Refusal::new(Code::InvalidArguments, format!("call `{call}` {why}")).help(help))
        };
        match (record.effect, record.state) {
            (Effect::Read, _) => nothing("only read", "there is nothing to undo"),
            (Effect::Write | Effect::Destructive, CallState::Done) => Ok(record),
            (_, CallState::Failed) => nothing("changed nothing", "there is nothing to undo"),
            (_, CallState::Open) => nothing("is still under way", "wait for its outcome"),
            (_, CallState::InDoubt) => nothing(
                "is in doubt: whether it happened is not known",
                "wait until its system's record or a person has settled that",
            ),
        }
    }
}
