//! The path from a proposal to its effect. Each step is a named function, and there is no other way:
//!
//! 1. [`Gate::propose`] parses a proposal into a call ([`Gate::parse`]), and looks whether its idempotency key is taken.
//!    [`Gate::grant`](super::Gate::grant) comes in here with a call that people have approved.
//! 2. [`Gate::drive`] takes rounds until there is an answer: one more where the world moved while it was decided.
//! 3. [`Gate::round`] opens the case ([`Case::open`]), has it judged ([`Case::judge`]: a question after the other, the
//!    cheapest first) and does what the rules say: refuse it, ask people ([`Case::ask`]), or let it act.
//! 4. `Gate::act` (`effect.rs`) is the only place where a call becomes an effect: issue, perform, close.

use std::sync::Arc;

use countersign_rules::{
    Call, CallDigest, Code, Decision, Observed, RawCall, Reach, Refusal, Requester, StoredCall,
};
use serde_json::Value;

use super::{
    Gate,
    case::{Case, RoundStart},
    refusal::{bad_id, crowded, extent, refused},
    repeat::KeyState,
    stop::Stop,
};
use crate::{
    answer::Answer,
    clock::call_id,
    form::Form,
    ledger::{ApprovalRecord, Ledger},
    tool::Tool,
};

/// A call is decided again so often because its session's history moved meanwhile, before it is refused.
const DECISIONS_MAX: u32 = 64;

/// A round along the path ends in one of these ways.
pub(super) enum Round<A> {
    /// There is an answer.
    Answer(Answer),
    /// Decide again: the session's history moved.
    Again(Call<A>),
    /// It exceeded its warrant and was rolled back: decide again with the reach that was seen.
    Exceeded(Call<A>, Reach),
}

impl<L: Ledger> Gate<L> {
    pub(super) async fn propose<T: Tool>(&self, tool: &T, requester: Requester, raw: RawCall) -> Answer {
        let (mut call, seen) = match self.parse(tool, &requester, raw.arguments) {
            Ok((call, seen)) => (Call { key: raw.key, trace: raw.trace, ..call }, seen),
            Err(refusal) => return self.reject(&requester, &raw.tool, refusal).await,
        };
        tracing::Span::current().record("gen_ai.tool.call.id", call.id.as_str());
        let answer = match self.held(tool, &call).await {
            KeyState::Answer(answer) => answer,
            KeyState::Free => self.drive(tool, call, &seen, None).await,
            KeyState::Nothing { before, .. } => {
                call.replaces = Some(before);
                self.drive(tool, call, &seen, None).await
            }
        };
        tracing::Span::current().record("countersign.status", answer.status());
        answer
    }

    /// Parses arguments into a call: form only, no facts.
    pub(super) fn parse<T: Tool>(
        &self,
        tool: &T,
        requester: &Requester,
        arguments: Value,
    ) -> Result<(Call<T::Args>, Observed), Refusal> {
        let spec = tool.spec();
        let form = Form::read(tool, arguments)?;
        let digest = CallDigest::of_canonical(&spec.name, &spec.version, &form.canonical);
        let id = call_id(self.clock.now_ms(), &*self.entropy).map_err(|why| bad_id(&why))?;
        let call = Call {
            id,
            requester: requester.clone(),
            tool: Arc::clone(spec),
            arguments: form.arguments,
            digest,
            reason: form.reason,
            key: None,
            replaces: None,
            again: None,
            trace: None,
            narrowed: None,
            parsed: form.parsed,
        };
        Ok((call, form.observed))
    }

    pub(super) fn parse_stored<T: Tool>(
        &self,
        tool: &T,
        stored: &StoredCall,
    ) -> Result<(Call<T::Args>, Observed), Refusal> {
        let (call, seen) = self.parse(tool, &stored.requester, stored.arguments.clone())?;
        let StoredCall { id, reason, key, again, trace, narrowed, .. } = stored.clone();
        Ok((Call { id, reason, key, again, trace, narrowed, ..call }, seen))
    }

    /// Takes a parsed call to its answer: facts, decision, and then refusal, request or effect.
    pub(super) async fn drive<T: Tool>(
        &self,
        tool: &T,
        mut call: Call<T::Args>,
        seen: &Observed,
        granted: Option<&ApprovalRecord>,
    ) -> Answer {
        let mut start = RoundStart::of(granted);
        for _ in 0..DECISIONS_MAX {
            match self.round(tool, call, seen, &start).await {
                Round::Answer(answer) => return answer,
                Round::Again(same) => call = same,
                Round::Exceeded(same, reach) if start.exceeded.is_none() => {
                    // The first warrant is closed and its approval superseded. The new decision is about a
                    // new call with the reach that was really seen.
                    let id = match call_id(self.clock.now_ms(), &*self.entropy) {
                        Ok(id) => id,
                        Err(why) => return refused(&same, None, bad_id(&why)),
                    };
                    call = Call { replaces: Some(same.id), id, ..same };
                    start = RoundStart::after(reach);
                }
                Round::Exceeded(same, reach) => {
                    let message = format!("the call reaches further than was allowed: {}", extent(&reach));
                    let refusal = Refusal::new(Code::ReachExceeded, message)
                        .help("what it touches grows while it is decided; narrow the call and try again");
                    return self.refuse(&same, start.granted, Vec::new(), refusal).await;
                }
            }
        }
        self.refuse(&call, start.granted, Vec::new(), crowded()).await
    }

    /// Judges a call, and does what the rules say.
    async fn round<T: Tool>(
        &self,
        tool: &T,
        call: Call<T::Args>,
        seen: &Observed,
        start: &RoundStart<'_>,
    ) -> Round<T::Args> {
        let mut case = match Case::open(self, tool, call, seen, start).await {
            Ok(case) => case,
            Err(answer) => return Round::Answer(answer),
        };
        let decision = match case.judge().await {
            Ok(decision) => decision,
            Err(stop) => return Round::Answer(case.stop(stop).await),
        };
        match decision {
            Decision::Deny(deny) => Round::Answer(case.stop(Stop::Denied(deny)).await),
            Decision::Ask(ref ask) => Round::Answer(case.ask(&decision, ask).await),
            Decision::Allow(ref allow) => self.act(tool, case.permit(&decision, allow), start.granted).await,
        }
    }
}
