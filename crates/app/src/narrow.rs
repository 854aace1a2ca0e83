//! A person who is asked does more than answer: changes the call, or has it run and rolled back to see what it touches.

use countersign_gate::{
    AskedPerson, Narrowing,
    ledger::{ApprovalRecord, NotAnswered},
};
use countersign_rules::{ApprovalId, ApprovalState, Code, Effect, Refusal};
use countersign_tools::AnyTool;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    app::App,
    auth::{Person, Principal},
    offer::Offer,
    role::Right,
};

/// A person made this call out of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NarrowedBody {
    /// People were asked about the agent's own call by this request.
    pub from: String,
    /// This person changed it.
    pub by: String,
    /// The person did so for this reason.
    pub why: Option<String>,
    /// This is `true` if the rules ask nobody about the changed call: then its author may approve it, too.
    pub free: bool,
    /// This is `true` if the change only took away, by the word of the tool and by what was measured: then its author may approve
    /// it as anybody else who is asked.
    #[serde(default)]
    pub less: bool,
}

impl App {
    /// Asks people about what a person who is asked makes of a call, in place of the request that asked about it. Returns the
    /// new request; the agent hears what becomes of that.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if no such request is visible to the person, [`Code::Malformed`] without a reason,
    /// [`Code::AnswerRefused`] if the person may not answer it, and what the rules, the tool or a limit say of the changed
    /// call. The request is as it was then.
    pub async fn narrow(
        &self,
        person: &Person,
        id: &ApprovalId,
        arguments: Value,
        reason: &str,
    ) -> Result<ApprovalRecord, Refusal> {
        person.may(Right::Answer)?;
        if reason.trim().is_empty() {
            return Err(Refusal::new(Code::Malformed, "a change has no reason")
                .help("say why the call should be another one: the agent is told"));
        }
        let (tool, asked) = self.asked_about(person, id).await?;
        if matches!(tool, AnyTool::Undo(_)) {
            // Whose calls may be undone is looked at when the agent asks.
            return Err(Refusal::new(
                Code::AnswerRefused,
                "what is to be undone is not for others to choose",
            )
            .help("refuse the request, and say why"));
        }
        let narrowing = Narrowing { arguments, why: Some(reason.to_owned()) };
        let changed = tool.narrow(self.gate(), id, &asked, narrowing).await;
        self.or_refused(changed, id).await
    }

    /// Has the call of a request run and rolled back, and shows people what that found. Returns the request as it is then.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if no such request is visible to the person, [`Code::AnswerRefused`] if the person may not
    /// answer it or somebody has approved it already, and [`Code::ReachUnmeasurable`] where such a call cannot be rehearsed.
    pub async fn look_closer(&self, person: &Person, id: &ApprovalId) -> Result<ApprovalRecord, Refusal> {
        person.may(Right::Answer)?;
        let (tool, asked) = self.asked_about(person, id).await?;
        let seen = tool.look_closer(self.gate(), id, &asked).await;
        self.or_refused(seen, id).await
    }

    /// Returns true if somebody who is asked may change the call of a request.
    #[must_use]
    pub fn may_narrow(&self, record: &ApprovalRecord) -> bool {
        let offer = self.tool(&record.request.call.tool);
        record.state == ApprovalState::Waiting
            && offer.is_some_and(|offer| offer.off().is_none() && !matches!(offer.tool, AnyTool::Undo(_)))
    }

    /// Returns which changes of the call of a request only take away, in words such as `limit lower`: who makes no other may
    /// approve what comes of them.
    #[must_use]
    pub fn takes_away(&self, record: &ApprovalRecord) -> Vec<String> {
        self.tool(&record.request.call.tool).map(|offer| offer.tool.narrows()).unwrap_or_default()
    }

    /// Returns true if somebody who is asked may have the call of a request run and rolled back, as far as that can be said
    /// without asking its system.
    #[must_use]
    pub fn may_look_closer(&self, record: &ApprovalRecord) -> bool {
        let shown = record.request.reach.as_ref();
        record.state == ApprovalState::Waiting
            && record.effect >= Effect::Write
            && record.signatures.is_empty()
            && shown.is_none_or(|reach| !reach.rehearsed && !reach.unbounded)
            && self.tool(&record.request.call.tool).is_some_and(|offer| offer.tool.rehearses())
    }

    /// Finds the tool that a request is about.
    async fn asked_about(
        &self,
        person: &Person,
        id: &ApprovalId,
    ) -> Result<(&AnyTool, AskedPerson), Refusal> {
        let record = self.approval(id, &Principal::Person(person.clone())).await?;
        self.auth().accounts().key_may_answer(&person.credential, &record).await?;
        let name = &record.request.call.tool;
        let offer = self.tool(name).ok_or_else(|| {
            Refusal::new(Code::UnknownTool, format!("there is no tool `{name}` any more"))
                .help("refuse the request")
        })?;
        match Offer::off(offer) {
            Some(refusal) => Err(refusal),
            None => Ok((&offer.tool, AskedPerson { id: person.id.clone(), groups: person.groups.clone() })),
        }
    }

    async fn or_refused(
        &self,
        done: Result<ApprovalRecord, NotAnswered>,
        id: &ApprovalId,
    ) -> Result<ApprovalRecord, Refusal> {
        match done {
            Ok(record) => Ok(record),
            Err(why) => Err(self.not_answered(why, id).await),
        }
    }
}
