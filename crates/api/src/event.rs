//! Server-sent events: that something changed, so that nobody has to ask again and again.
//!
//! An event says that there is something to look at, never what: whoever asks then sees what they may.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use countersign_gate::Ledger as _;
use futures::{Stream, stream};
use http::HeaderMap;

use super::{Api, Problem, ProblemBody, request::AsAnybody};
use countersign_app::auth::Principal;

/// The shortest time between two events.
const PAUSE: Duration = Duration::from_millis(250);
/// How often a stream on which nothing happens says that it is there, to clients and proxies.
const BEAT: Duration = Duration::from_secs(15);

/// `changed` whenever an approval, a call or a halt changed. The stream ends after the server's `stream_ms`; connect
/// again. It ends within seconds when the key is revoked or the token expires.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "events",
    responses(
        (status = 200, description = "A stream of `changed` events", content_type = "text/event-stream"),
        (status = 429, description = "Enough streams are open", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn events(
    State(api): State<Api>,
    AsAnybody(who): AsAnybody,
    credential: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let streams = api.app.streams();
    let (open, until) = (streams.open(&who)?, streams.until());
    let changes = api.app.store().changes();
    let app = api.app;
    let (named, expires_ms) = match &who {
        Principal::Agent(agent) => (&agent.credential, agent.expires_ms),
        Principal::Person(person) => (&person.credential, None),
    };
    let used = app.credentials().open(named, expires_ms, app.clock().now_ms());
    let events = stream::unfold(
        (changes, api.stopping, (open, used), app, credential),
        move |(mut changes, stopping, held, app, credential)| async move {
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                () = stopping.cancelled() => return None,
                () = held.1.ended() => return None,
                () = tokio::time::sleep_until(until) => return None,
            }
            // Whatever changes meanwhile is in the same event.
            tokio::time::sleep(PAUSE).await;
            let number = *changes.borrow_and_update();
            // A credential that was revoked or has expired hears nothing more.
            app.auth().authenticate(&credential).await.ok()?;
            let event = Event::default().event("changed").id(number.to_string()).data(number.to_string());
            Some((Ok(event), (changes, stopping, held, app, credential)))
        },
    );
    Ok(Sse::new(events).keep_alive(KeepAlive::default().interval(BEAT)))
}
