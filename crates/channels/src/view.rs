//! What a message to people says, before it is written in the form of any channel. It is made here for all of them.
//!
//! Nothing is escaped yet: whoever writes it does that, and cuts what is too long for them.

use countersign_rules::ApprovalState;
use countersign_store::{Event, Turn};

use crate::message::MessageData;

/// So many lines of a kind are shown: a card or message with more is refused by those who show it.
const LINES_MAX: usize = 3;

/// A request as people are told of it.
pub(crate) struct View<'a> {
    /// Who wants what of which system.
    pub(crate) asks: String,
    /// The same, and how the request stands.
    pub(crate) heading: String,
    /// What is known of it, a line each.
    pub(crate) facts: Vec<String>,
    /// What the agent says it is for: its claim.
    pub(crate) claim: Option<&'a str>,
    /// The arguments, where the channel may be told.
    pub(crate) arguments: Option<&'a str>,
    /// People look at the request here.
    pub(crate) link: &'a str,
    /// What an answer is about, where the request waits: the very call that was shown.
    pub(crate) about: Option<About>,
}

/// An answer is about this.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct About {
    pub(crate) approval: countersign_rules::ApprovalId,
    pub(crate) digest: String,
}

impl<'a> View<'a> {
    pub(crate) fn new(turn: &Turn, data: &'a MessageData) -> Self {
        let request = &data.request;
        let place = match (&data.system, &data.environment) {
            (Some(system), Some(environment)) => format!(" on {system} ({environment})"),
            (_, _) => String::new(),
        };
        let asks = format!("{} asks for {}{place}", request.agent, request.tool);
        let mut facts = vec![
            format!("Effect: {}", request.effect.as_str()),
            request.rows.map_or_else(|| "Rows: not measured".to_owned(), |rows| format!("Rows: {rows}")),
            format!("State: {}", request.state.as_str()),
            format!("Until: {}", request.expires_at.as_deref().unwrap_or("-")),
        ];
        // The arguments are not the agent's own then.
        facts.extend(
            request
                .narrowed
                .as_ref()
                .map(|narrowed| format!("Changed by {}, out of {}", narrowed.by, narrowed.from)),
        );
        facts.extend(request.of.iter().take(LINES_MAX).map(|ask| {
            let because =
                ask.because.as_deref().map(|because| format!(", because {because}")).unwrap_or_default();
            format!("Asked: {} of {} by rule {}{because}", ask.quorum, ask.group, ask.policy)
        }));
        facts.extend(request.signatures.iter().take(LINES_MAX).map(|signature| {
            let said = if signature.approved { "Approved" } else { "Refused" };
            format!("{said} by {} ({})", signature.person, signature.channel)
        }));
        Self {
            heading: format!("{asks}: {}", request.state.as_str()),
            asks,
            facts,
            claim: data.reason_claimed.as_deref(),
            arguments: data.arguments.as_deref(),
            link: &data.link,
            about: (request.state == ApprovalState::Waiting).then(|| About {
                approval: turn.record.request.id.clone(),
                digest: turn.record.request.call.digest.to_string(),
            }),
        }
    }
}

/// Says in a word or two what happened.
pub(crate) const fn happened(event: Event) -> &'static str {
    match event {
        Event::Asked => "Asked",
        Event::Reminded => "Still waiting",
        Event::Escalated => "Escalated: it still waits",
        Event::Answered => "Answered",
        Event::Ended => "Over",
    }
}
