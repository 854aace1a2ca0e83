//! `countersign approvals`: people's side.

use clap::Subcommand;
use countersign_api::{Approve, EndGrant, Erased, GrantTermsBody, GrantsBody, RequestsBody};
use countersign_app::{
    request::{RequestBody, RequestDetail},
    text::one_line,
};
use countersign_rules::{ApprovalState, source::duration_ms};
use serde::Serialize;

use super::{
    Failure, Outcome, Output,
    client::{Client, Connect, cell},
    narrow::Narrowed,
    request::detail,
    watch::Watch,
};

/// How often it is looked what came of an answer.
const LOOK: std::time::Duration = std::time::Duration::from_millis(700);
/// How often an approver looks what came of the answer, before being told that it is under way.
const LOOKS_MAX: u32 = 14;

#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// List the requests that you may see: those that ask your groups, by some roles all
    List {
        /// Only those that ask one of your groups
        #[arg(long)]
        mine: bool,
        /// A state, or `all`
        #[arg(long, default_value = "waiting")]
        state: String,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Go on after this request, the last of a list
        #[arg(long, value_name = "REQUEST")]
        after: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Show a request: exact arguments, measured reach, sample rows, who asks and why
    Show {
        /// The request
        id: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Approve a request; the server decides again and then performs the call
    Approve {
        /// The request
        id: String,
        /// Why, for the record
        #[arg(long, alias = "comment")]
        reason: Option<String>,
        /// Approve only if the call still has this digest, as `show` prints it
        #[arg(long)]
        digest: Option<String>,
        /// Let so many further calls like it run, where the policies that ask allow that (`@grant`)
        #[arg(long, value_name = "CALLS", requires = "grant_for", value_parser = clap::value_parser!(u32).range(1..))]
        grant: Option<u32>,
        /// For so long: `90s`, `15m`, `2h` or `3d`
        #[arg(long, value_name = "TIME", requires = "grant", value_parser = seconds)]
        grant_for: Option<u64>,
        #[command(flatten)]
        connect: Connect,
    },
    /// List the calls that were granted beside an approval, as far as any are left
    Grants {
        #[command(flatten)]
        connect: Connect,
    },
    /// End what was granted with a request, before its time
    EndGrant {
        /// The request
        id: String,
        /// Why, for the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Change the call of a request: others are asked about what comes of it, in place of that request
    Narrow(Narrowed),
    /// Run the call of a request and roll it back, where its system allows that, and show all that it touches
    LookCloser {
        /// The request
        id: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Refuse a request; the reason reaches the agent
    Refuse {
        /// The request
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Erase the rows that approvers were shown with a request, for good; the log keeps their commitment and verifies
    #[command(
        after_help = "For admins. Erased is the evidence of the request: the sample of rows, the previews and the values that were measured.\n\
                            Not erased is what is in the log itself: arguments, the agent's reason, comments and names."
    )]
    Erase {
        /// The request
        id: String,
        /// Why, for the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// See how soon people answer, by group and tool, and what you answered, or by some roles everybody
    Levels {
        /// Look at the requests of so many days before now, 1 to 90
        #[arg(long, default_value_t = countersign_app::level::DAYS)]
        days: u32,
        #[command(flatten)]
        connect: Connect,
    },
    /// See requests as they come, and at a terminal answer them; a server that restarts is waited for
    Watch(Watch),
}

impl Approvals {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::List { mine, state, limit, after, connect } => {
                let after = after.map(|id| format!("&after={}", segment(&id))).unwrap_or_default();
                let query = format!("state={}&mine={mine}&limit={limit}{after}", segment(&state));
                let body: RequestsBody = connect.client()?.get(&format!("/v1/approvals?{query}")).await?;
                out.value(&body);
                out.table(
                    &["request", "state", "agent", "tool", "effect", "rows", "asked of", "expires"],
                    body.approvals.iter().map(|request| row(request, out)),
                );
                more(body.next.as_deref(), out);
                Ok(())
            }
            Self::Show { id, connect } => {
                let path = format!("/v1/approvals/{}", segment(&id));
                let body: RequestDetail = connect.client()?.get(&path).await?;
                out.value(&body);
                out.line(detail(&body));
                Ok(())
            }
            Self::Approve { id, reason, digest, grant, grant_for, connect } => {
                let grant = grant.zip(grant_for).map(|(calls, seconds)| GrantTermsBody { calls, seconds });
                let body = Approve { comment: reason, digest, grant };
                answer(&connect.client()?, &id, "approve", &body, out).await.map(drop)
            }
            Self::Grants { connect } => {
                let body: GrantsBody = connect.client()?.get("/v1/grants").await?;
                out.value(&body);
                out.table(
                    &["request", "agent", "session", "tool", "left", "of", "rows each", "until"],
                    body.grants.iter().filter_map(|request| granted(request, out)),
                );
                Ok(())
            }
            Self::EndGrant { id, reason, connect } => {
                let path = format!("/v1/approvals/{}/grant/end", segment(&id));
                out.value(&connect.client()?.post::<RequestBody>(&path, &EndGrant { reason }).await?);
                out.line(one_line(&format!(
                    "ended what was granted with `{id}`: the next such call asks people"
                )));
                Ok(())
            }
            Self::Narrow(narrowed) => narrowed.run(out).await,
            Self::LookCloser { id, connect } => {
                let path = format!("/v1/approvals/{}/look-closer", segment(&id));
                let body: RequestDetail = connect.client()?.post(&path, &serde_json::json!({})).await?;
                out.value(&body);
                out.line(detail(&body));
                Ok(())
            }
            Self::Refuse { id, reason, connect } => {
                let body = countersign_api::Refuse { reason };
                answer(&connect.client()?, &id, "refuse", &body, out).await.map(drop)
            }
            Self::Erase { id, reason, connect } => {
                let path = format!("/v1/approvals/{}/evidence?reason={}", segment(&id), segment(&reason));
                out.value(&connect.client()?.delete::<Erased>(&path).await?);
                out.line(one_line(&format!("erased the evidence of `{id}`; the log says so, and verifies")));
                Ok(())
            }
            Self::Levels { days, connect } => super::levels::show(days, &connect, out).await,
            Self::Watch(watch) => watch.run(out).await,
        }
    }
}

/// Says how to go on where a list does.
pub(super) fn more(next: Option<&str>, out: &Output) {
    if let Some(next) = next
        && !out.json()
    {
        out.note(one_line(&format!("there is more: go on with --after {next}")));
    }
}

/// Answers a request, and tells what came of it. Returns how the request stands then.
pub(super) async fn answer(
    client: &Client,
    id: &str,
    what: &str,
    body: &(impl Serialize + Sync),
    out: &Output,
) -> Result<ApprovalState, Failure> {
    let path = format!("/v1/approvals/{}", segment(id));
    let mut body = Seen::Answered(Box::new(client.post(&format!("{path}/{what}"), body).await?));
    // What was approved is decided again and performed at once, mostly; the approver should hear what came of it.
    let mut looks = 0_u32;
    while body.request().state.is_granted() && looks < LOOKS_MAX {
        tokio::time::sleep(LOOK).await;
        // The answer counts, whether or not what comes of it can still be seen.
        let Ok(seen) = client.get(&path).await else { break };
        body = Seen::Looked(Box::new(seen));
        looks = looks.saturating_add(1);
    }
    out.value(&body);
    let RequestBody { approval, state, why, .. } = body.request();
    let meant = match state {
        ApprovalState::Approved => ": it will be decided again and performed",
        ApprovalState::Executing => ": it is being performed",
        ApprovalState::Waiting => ": others must approve as well",
        ApprovalState::Done => ": it was performed",
        ApprovalState::Superseded => {
            ": nothing was done, because what was approved no longer holds; a new request may ask again"
        }
        ApprovalState::Blocked => ": it was decided again, and refused",
        ApprovalState::Failed => ": it was tried, and failed",
        ApprovalState::InDoubt => ": nobody knows yet what became of it",
        ApprovalState::Refused | ApprovalState::Expired => "",
    };
    out.text(&format!("request `{}` is {}{meant}", one_line(approval), state.as_str()));
    if let (ApprovalState::Superseded | ApprovalState::Blocked, Some(why)) = (state, why) {
        out.text(&format!("   why: {}", one_line(why)));
    }
    Ok(*state)
}

/// A request after it was answered: as the answer showed it, or as it was seen afterwards.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Seen {
    Answered(Box<RequestBody>),
    Looked(Box<RequestDetail>),
}

impl Seen {
    const fn request(&self) -> &RequestBody {
        match self {
            Self::Answered(request) => request,
            Self::Looked(detail) => &detail.request,
        }
    }
}

fn row(request: &RequestBody, out: &Output) -> Vec<String> {
    vec![
        request.approval.clone(),
        request.state.as_str().to_owned(),
        request.agent.clone(),
        request.tool.clone(),
        request.effect.to_string(),
        cell(request.rows),
        groups(request),
        out.moment(&cell(request.expires_at.as_deref())),
    ]
}

/// A grant, where there is one.
fn granted(request: &RequestBody, out: &Output) -> Option<Vec<String>> {
    let grant = request.grant.as_ref()?;
    Some(vec![
        request.approval.clone(),
        request.agent.clone(),
        request.session.clone(),
        request.tool.clone(),
        grant.left.to_string(),
        grant.calls.to_string(),
        cell(request.rows),
        out.moment(&cell(grant.until.as_deref())),
    ])
}

/// `90s`, `15m`, `2h` or `3d` in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let ms =
        duration_ms(text).ok_or("it is no time: write such as `90s`, `15m`, `2h` or `3d`, up to 30 days")?;
    Ok(ms / 1_000)
}

/// The groups that are asked.
pub(super) fn groups(request: &RequestBody) -> String {
    request.of.iter().map(|ask| ask.group.as_str()).collect::<Vec<_>>().join(", ")
}

/// One segment of a path.
pub(super) fn segment(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect()
}
