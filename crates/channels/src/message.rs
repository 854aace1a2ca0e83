//! What a channel is told: one form for every kind of channel.

use countersign_app::{
    App,
    answer::timestamp,
    request::{RequestBody, SampleBody},
};
use countersign_audit::canonical::to_canonical_string;
use countersign_rules::ApprovalState;
use countersign_store::{Event, Turn};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;

/// Arguments of more bytes than these stay in the server, whatever the channel may be told.
const ARGUMENTS_BYTES_MAX: usize = 32 * 1024;

/// A channel is told this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// This is `request.` and what happened: `request.asked`, `request.reminded`, `request.escalated`,
    /// `request.answered` or `request.ended`.
    #[serde(rename = "type")]
    pub kind: String,
    /// It happened at this time (RFC 3339).
    pub timestamp: Option<String>,
    /// It happened to this.
    pub data: MessageData,
}

/// Something happened to this request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageData {
    /// This happened.
    pub event: Event,
    /// The request stood so when it happened. In `request` it stands as it does now, which may be later.
    pub state_then: ApprovalState,
    /// This is the request, in short, as it stands now. What people said, what became of earlier calls, and why it ended
    /// are in it only where the channel may be told details.
    pub request: RequestBody,
    /// The tool acts on this system; absent when it is no longer configured.
    pub system: Option<String>,
    /// The system is of this environment; absent when the tool is no longer configured.
    pub environment: Option<String>,
    /// The agent says that the call is for this. It is the agent's claim; no rule looks at it.
    pub reason_claimed: Option<String>,
    /// People look at the request here.
    pub link: String,
    /// These are the arguments in canonical form, where the channel may be told and they are not long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// These are some of the rows, masked where the tool says so, where the channel may be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleBody>,
}

/// A channel is told this when an operator tests it.
#[derive(Debug, Serialize)]
pub(crate) struct TestMessage {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Option<String>,
    data: TestData,
}

#[derive(Debug, Serialize)]
struct TestData {
    channel: String,
}

impl TestMessage {
    pub(crate) fn new(channel: &Channel, now_ms: i64) -> Self {
        let data = TestData { channel: channel.state.name.to_string() };
        Self { kind: "channel.test", timestamp: timestamp(now_ms), data }
    }
}

impl Message {
    /// Makes what a channel is told in a turn. `public_url` is where people reach the server.
    pub(crate) fn new(app: &App, turn: &Turn, details: bool, public_url: &str) -> Self {
        let Turn { record, notice, .. } = turn;
        let call = &record.request.call;
        let spec = app.tool(&call.tool).map(countersign_app::offer::Offer::spec);
        let mut request = RequestBody::from(record);
        if !details {
            request.why = None;
            request.narrowed.iter_mut().for_each(|narrowed| narrowed.why = None);
            request.answered_before.clear();
            request.signatures.iter_mut().for_each(|signature| signature.comment = None);
        }
        let arguments = to_canonical_string(&call.arguments).ok().filter(|_| details);
        let evidence = record.evidence.as_ref().filter(|_| details);
        Self {
            kind: format!("request.{}", notice.event.as_str()),
            timestamp: timestamp(notice.at_ms),
            data: MessageData {
                event: notice.event,
                state_then: notice.state,
                request,
                system: spec.map(|spec| spec.system.name.to_string()),
                environment: spec.map(|spec| spec.system.environment.clone()),
                reason_claimed: call.reason.clone(),
                link: format!("{public_url}/console/requests/{}", record.request.id),
                arguments: arguments.filter(|text| text.len() <= ARGUMENTS_BYTES_MAX),
                sample: evidence.map(|evidence| SampleBody {
                    table: evidence.sample.table.clone(),
                    columns: evidence.sample.columns.clone(),
                    rows: evidence.sample.rows.clone(),
                }),
            },
        }
    }
}
