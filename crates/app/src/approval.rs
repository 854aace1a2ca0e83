//! A person answers a request: the one way to do so, whichever surface the person uses.
//!
//! A surface authenticates the person and turns its protocol into [`App::answer`]; who is asked, whether the
//! call is still the one that was looked at, and whether an answer counts is looked at here and in the gate.

use countersign_gate::{
    GrantOffer, Ledger as _,
    ledger::{ApprovalRecord, LedgerFault, NotAnswered},
};
use countersign_rules::{
    AnswerVerb, ApprovalId, ApprovalState, Code, PasskeyId, Refusal, approval::AnswerRefusal,
};

use crate::{
    answer::not_looked_up,
    app::App,
    auth::{Person, Principal, SteppedUp},
    offer::Offer,
    role::Right,
};

/// A person answers this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonAnswer {
    /// The call may be performed.
    Approve {
        /// A remark for the record.
        comment: Option<String>,
        /// The person looked at the call of this digest, where the surface knows: then nothing is approved if
        /// the request is about another.
        digest: Option<String>,
        /// The person grants calls like it beside the approval.
        grant: Option<GrantOffer>,
    },
    /// The call must not be performed.
    Refuse {
        /// It must not for this reason, which reaches the agent.
        reason: String,
    },
}

/// A request that is not there, and one that is none of the caller's business, are answered with this: nobody
/// can tell the two apart.
pub const UNKNOWN: &str = "no such request is visible to you";

/// Returns true if a request may be shown to somebody: people see those that ask one of their groups, some by their role
/// all, and agents see their own.
#[must_use]
pub fn visible(record: &ApprovalRecord, who: &Principal) -> bool {
    match who {
        Principal::Agent(agent) => agent.sees(&record.request.call),
        Principal::Person(person) => person.roles.may(Right::SeeAll) || asks(record, person),
    }
}

/// Returns true if a request asks one of a person's groups.
#[must_use]
pub fn asks(record: &ApprovalRecord, person: &Person) -> bool {
    record.request.of.iter().any(|ask| person.groups.contains(&ask.group))
}

impl App {
    /// Returns a request, for whoever looks.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if there is none that is [`visible`], and [`Code::NotLookedUp`] if the ledger
    /// cannot be read.
    pub async fn approval(&self, id: &ApprovalId, who: &Principal) -> Result<ApprovalRecord, Refusal> {
        let record = self.store().approval(id).await.map_err(|fault| not_looked_up(&fault))?;
        record.filter(|record| visible(record, who)).ok_or_else(unknown)
    }

    /// Records a person's answer to a request, who is authenticated and has given it by `channel`: `rest`,
    /// `console`, …. A call that is granted by it is decided again, and then performed by the worker.
    ///
    /// # Errors
    /// Returns [`Code::OutOfScope`] for who is no approver, [`Code::NotFound`] if no such request is visible to the
    /// person, [`Code::Malformed`] for a refusal without a reason, [`Code::AnswerRefused`] if the answer does not
    /// count, and [`Code::NotLookedUp`] if the ledger cannot be used. Nothing is approved then.
    pub async fn answer(
        &self,
        person: &Person,
        id: &ApprovalId,
        answer: PersonAnswer,
        channel: &str,
    ) -> Result<ApprovalRecord, Refusal> {
        self.answer_with(person, id, answer, channel, None).await
    }

    /// Records a person's answer as [`App::answer`] does, which they have confirmed with a passkey.
    ///
    /// # Errors
    /// Fails as [`App::answer`] does, and with [`Code::AnswerRefused`] if another answer was confirmed.
    pub async fn answer_stepped_up(
        &self,
        person: &Person,
        id: &ApprovalId,
        answer: PersonAnswer,
        channel: &str,
        stepped_up: SteppedUp,
    ) -> Result<ApprovalRecord, Refusal> {
        let passkey = stepped_up.into_passkey(&person.id, id, &answer).ok_or_else(|| {
            Refusal::new(Code::AnswerRefused, "the passkey has confirmed another answer than this one")
        })?;
        self.answer_with(person, id, answer, channel, Some(passkey)).await
    }

    async fn answer_with(
        &self,
        person: &Person,
        id: &ApprovalId,
        answer: PersonAnswer,
        channel: &str,
        passkey: Option<PasskeyId>,
    ) -> Result<ApprovalRecord, Refusal> {
        person.may(Right::Answer)?;
        let record = self.approval(id, &Principal::Person(person.clone())).await?;
        self.auth().accounts().key_may_answer(&person.credential, &record).await?;
        let (approved, grant, comment) = match answer {
            PersonAnswer::Approve { comment, digest, grant } => {
                if digest.is_some_and(|digest| digest != record.request.call.digest.to_string()) {
                    let message = "the request is about another call than the one looked at";
                    return Err(Refusal::new(Code::AnswerRefused, message).help("look at the request again"));
                }
                (true, grant, comment)
            }
            PersonAnswer::Refuse { reason } => {
                if reason.trim().is_empty() {
                    return Err(Refusal::new(Code::Malformed, "a refusal has no reason")
                        .help("say what the agent should do differently"));
                }
                (false, None, Some(reason))
            }
        };
        // What is switched off is not performed, whoever approves it.
        if approved
            && record.state == ApprovalState::Waiting
            && let Some(refusal) = self.tool(&record.request.call.tool).and_then(Offer::off)
        {
            let superseded = self.gate().supersede(&record, &refusal.message).await;
            superseded.map_err(|fault| not_looked_up(&fault))?;
        }
        let who = (person.id.clone(), person.groups.clone());
        match self.gate().answer_with(id, who, (approved, grant), comment, channel, passkey).await {
            Ok(record) => {
                self.metrics().answered(approved);
                self.metrics().decided(&record);
                Ok(record)
            }
            Err(why) => Err(self.not_answered(why, id).await),
        }
    }

    /// Checks that no policy in force forbids a person to do this about a request: what a surface asks before it offers that.
    /// Whether the person is asked is not looked at here.
    ///
    /// # Errors
    /// Returns [`Code::AnswerRefused`] if one does, or cannot be evaluated.
    pub fn policies_let(
        &self,
        record: &ApprovalRecord,
        person: &Person,
        verb: AnswerVerb,
    ) -> Result<(), Refusal> {
        let (asked, who) = ((&record.request, record.effect), (&person.id, &person.groups));
        let said = self.gate().policies().may_answer(asked, who, verb, self.clock().now_ms());
        said.map_err(|why| Refusal::new(Code::AnswerRefused, why.to_string()))
    }

    /// Returns true if those who approved a request, still may and are forbidden it by no policy in force are enough for it;
    /// if `granted`, for calls like it that they granted beside it.
    ///
    /// # Errors
    /// Returns a [`LedgerFault`] if keys and accounts cannot be read.
    pub async fn still_approved(&self, record: &ApprovalRecord, granted: bool) -> Result<bool, LedgerFault> {
        let mut signatures = self.auth().still_signed(record).await?;
        let policies = self.gate().policies();
        signatures
            .retain(|one| !one.approved || policies.counts((&record.request, record.effect), one, granted));
        Ok(record.request.is_met(&signatures))
    }

    /// Tells a person why what they did about a request does not count.
    pub(crate) async fn not_answered(&self, why: NotAnswered, id: &ApprovalId) -> Refusal {
        match why {
            NotAnswered::NotFound => unknown(),
            NotAnswered::Refused(AnswerRefusal::NotOpen(ApprovalState::Superseded)) => {
                self.superseded(id).await
            }
            NotAnswered::Refused(why @ AnswerRefusal::NotSteppedUp(_)) => {
                Refusal::new(Code::AnswerRefused, why.to_string()).help(format!(
                    "approve it in the console, with a passkey: `/console/requests/{id}`; refusing needs none"
                ))
            }
            NotAnswered::Refused(why @ (AnswerRefusal::Forbidden { .. } | AnswerRefusal::NotJudged(_))) => {
                Refusal::new(Code::AnswerRefused, why.to_string())
                    .help("somebody else who is asked may answer, unless a policy forbids them, too")
            }
            NotAnswered::Refused(why) => Refusal::new(Code::AnswerRefused, why.to_string()),
            NotAnswered::Call(refusal) => *refusal,
            NotAnswered::Fault(fault) => not_looked_up(&fault),
        }
    }

    /// Tells a person who answers a superseded request why it is.
    async fn superseded(&self, id: &ApprovalId) -> Refusal {
        let why = match self.store().approval(id).await {
            Ok(record) => record.and_then(|record| record.why),
            Err(fault) => return not_looked_up(&fault),
        };
        let why = why.unwrap_or_else(|| "what was asked no longer holds".into());
        let message = format!("the request is superseded, and nothing was done: {why}");
        Refusal::new(Code::AnswerRefused, message)
            .help("the agent is told so; when it repeats the call, a new request asks about what holds now")
    }
}

fn unknown() -> Refusal {
    Refusal::new(Code::NotFound, UNKNOWN)
}
