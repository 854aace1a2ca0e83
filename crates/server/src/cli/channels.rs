//! `countersign channels`: how channels stand, tests, and what they were given up for.

use clap::Subcommand;
use countersign_api::{ChannelDone, ChannelsBody, GivenUpsBody, Retry};
use serde_json::json;

use super::{
    Outcome, Output,
    approvals::segment,
    client::{Connect, cell},
};

#[derive(Debug, Subcommand)]
pub(super) enum Channels {
    /// List the channels, and how they stand
    List {
        #[command(flatten)]
        connect: Connect,
    },
    /// Send a channel a test message, once
    Test {
        /// The channel
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// List the requests for which a channel was given up: after a day of failures, or refused for good
    Dead {
        /// The channel
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Try again what a channel was not told of a request
    Retry {
        /// The channel
        name: String,
        /// The request
        id: String,
        #[command(flatten)]
        connect: Connect,
    },
}

impl Channels {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::List { connect } => {
                let body: ChannelsBody = connect.client()?.get("/v1/channels").await?;
                out.value(&body);
                out.table(
                    &["channel", "kind", "groups", "details", "state", "given up"],
                    body.channels.into_iter().map(|one| {
                        let state = match (one.gone, one.why, one.deaf) {
                            (true, ..) => "gone".to_owned(),
                            (false, Some(why), _) => format!("failing for {}: {why}", one.failing),
                            (false, None, Some(why)) => format!("nobody's answers arrive: {why}"),
                            (false, None, None) => "in use".to_owned(),
                        };
                        let details = if one.details { "yes" } else { "no" };
                        vec![
                            one.channel,
                            one.kind,
                            one.groups.join(" "),
                            details.to_owned(),
                            state,
                            one.given_up.to_string(),
                        ]
                    }),
                );
            }
            Self::Test { name, connect } => {
                let path = format!("/v1/channels/{}/test", segment(&name));
                let body: ChannelDone = connect.client()?.post(&path, &json!({})).await?;
                out.value(&body);
                out.line(format!("channel `{name}` was told"));
            }
            Self::Dead { name, connect } => {
                let path = format!("/v1/channels/{}/given-up", segment(&name));
                let body: GivenUpsBody = connect.client()?.get(&path).await?;
                out.value(&body);
                out.table(
                    &["request", "not told", "since", "why"],
                    body.given_up.into_iter().map(|one| {
                        vec![one.approval, one.events.join(" "), out.moment(&cell(one.since)), one.why]
                    }),
                );
            }
            Self::Retry { name, id, connect } => {
                let path = format!("/v1/channels/{}/retry", segment(&name));
                let body: ChannelDone =
                    connect.client()?.post(&path, &Retry { approval: id.clone() }).await?;
                out.value(&body);
                out.line(format!("channel `{name}` is told of request `{id}` again"));
            }
        }
        Ok(())
    }
}
