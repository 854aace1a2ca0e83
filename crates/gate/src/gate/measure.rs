//! How far a call reaches: measured, or found out by running it and having it rolled back.

use countersign_rules::{Call, Code, Facts, PolicyId, Reach, Refusal};

use super::{Gate, room::NoRoom};
use crate::{
    entry::NewEntry,
    ledger::Ledger,
    tool::{Evidence, MeasureError, Measured, Tool},
    warrant::Probe,
};

impl<L: Ledger> Gate<L> {
    /// Measures the reach. A tool whose calls cannot be measured at all yields none; one whose calls can,
    /// and this one could not, refuses.
    pub(super) async fn measure<T: Tool>(
        &self,
        tool: &T,
        call: &Call<T::Args>,
        now_ms: i64,
        entries: &mut Vec<NewEntry>,
    ) -> Result<(Option<Reach>, Option<Evidence>), Refusal> {
        if !call.tool.measurable {
            return Ok((None, None));
        }
        let unmeasurable = |why: String| {
            Refusal::new(
                Code::ReachUnmeasurable,
                format!("how far the call reaches cannot be measured: {why}"),
            )
            .help("narrow the call so that what it touches can be counted before it runs")
        };
        if !tool.measurable(&call.parsed) {
            return Err(unmeasurable("calls of this form cannot be counted".into()));
        }
        let measured = tool.measure(Probe::new(call)).await.map_err(|why| unmeasured(why, unmeasurable))?;
        let (reach, evidence) = self.record(call, measured, now_ms, entries)?;
        Ok((Some(reach), evidence))
    }

    /// Runs the call and has it rolled back, because this policy wants its reach found out so before people are
    /// asked. What would find no room is not run.
    pub(super) async fn rehearsed<T: Tool>(
        &self,
        tool: &T,
        call: &Call<T::Args>,
        facts: &Facts,
        policy: &PolicyId,
        entries: &mut Vec<NewEntry>,
    ) -> Result<(Reach, Option<Evidence>), NoRoom> {
        let refusal = |why: String| {
            let message = format!(
                "policy `{policy}` wants the call rehearsed before people are asked, and that is not possible: {why}"
            );
            let help = "narrow the call, or ask the system's author to allow rehearsals of it (`rehearse`)";
            Refusal::new(Code::ReachUnmeasurable, message).help(help)
        };
        if is_beyond_counting(facts.reach.as_ref()) {
            return Err(NoRoom::Unmeasured(refusal(BEYOND_COUNTING.into())));
        }
        self.room_to_ask(call, facts).await?;
        let measured = tool.rehearse(Probe::new(call)).await;
        let measured = measured.map_err(|why| NoRoom::Unmeasured(unmeasured(why, refusal)))?;
        self.record(call, measured, facts.now_ms, entries).map_err(NoRoom::Unmeasured)
    }

    /// As [`Gate::rehearsed`], because a person who is asked wants to see it; what they are shown is `shown`.
    pub(super) async fn rehearsed_for_a_person<T: Tool>(
        &self,
        tool: &T,
        call: &Call<T::Args>,
        shown: Option<&Reach>,
        entries: &mut Vec<NewEntry>,
    ) -> Result<(Reach, Option<Evidence>), Refusal> {
        let refusal = |why: String| {
            let message = format!("the call cannot be run and rolled back: {why}");
            let help =
                "answer what the request shows, or ask the system's author to allow rehearsals (`rehearse`)";
            Refusal::new(Code::ReachUnmeasurable, message).help(help)
        };
        if is_beyond_counting(shown) {
            return Err(refusal(BEYOND_COUNTING.into()));
        }
        let measured = tool.rehearse(Probe::new(call)).await.map_err(|why| unmeasured(why, refusal))?;
        self.record(call, measured, self.clock.now_ms(), entries)
    }

    /// Keeps what was measured, with a commitment to the rows in the log and not the rows.
    fn record<A>(
        &self,
        call: &Call<A>,
        measured: Measured,
        now_ms: i64,
        entries: &mut Vec<NewEntry>,
    ) -> Result<(Reach, Option<Evidence>), Refusal> {
        let evidence = measured.sample.map(|sample| {
            let mut salt = [0_u8; 32];
            let halves = [self.entropy.bytes(), self.entropy.bytes()];
            for (to, from) in salt.iter_mut().zip(halves.iter().flatten()) {
                *to = *from;
            }
            Evidence::new(sample, salt)
        });
        let evidence = evidence.transpose().map_err(|why| Refusal::new(Code::Internal, why.to_string()))?;
        let commitment = evidence.as_ref().map(|e| e.commitment.as_str());
        entries.push(NewEntry::reach_measured(now_ms, call, &measured.reach, commitment));
        Ok((measured.reach, evidence))
    }
}

/// A call is not rehearsed for this reason.
const BEYOND_COUNTING: &str = "it reaches further than is counted";

/// Returns true if so many rows are reached that they are not locked for the sake of a number.
fn is_beyond_counting(reach: Option<&Reach>) -> bool {
    reach.is_some_and(|reach| reach.unbounded)
}

/// Makes the refusal of a call whose reach is not known. `unknown` words what neither the call nor the system can be
/// blamed for.
fn unmeasured(why: MeasureError, unknown: impl FnOnce(String) -> Refusal) -> Refusal {
    match why {
        MeasureError::Rejected(why) => {
            Refusal::new(Code::ToolFailed, why).help("nothing was done; correct the call")
        }
        MeasureError::System(why) => {
            Refusal::new(Code::SystemUnavailable, why).help("nothing was done; try again later")
        }
        MeasureError::NotMeasurable(_) | MeasureError::Limit(_) => unknown(why.to_string()),
    }
}
