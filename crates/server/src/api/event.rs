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

use super::{Api, request::AsAnybody};

/// The shortest time between two events.
const PAUSE: Duration = Duration::from_millis(250);

/// `changed` whenever an approval, a call or a halt changed.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "events",
    responses((status = 200, description = "A stream of `changed` events", content_type = "text/event-stream")),
    security(("bearer" = [])),
)]
pub(crate) async fn events(
    State(api): State<Api>,
    AsAnybody(_who): AsAnybody,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = api.app.store().changes();
    let events = stream::unfold((changes, api.stopping), |(mut changes, stopping)| async move {
        tokio::select! {
            changed = changes.changed() => changed.ok()?,
            () = stopping.cancelled() => return None,
        }
        // Whatever changes meanwhile is in the same event.
        tokio::time::sleep(PAUSE).await;
        let number = *changes.borrow_and_update();
        let event = Event::default().event("changed").id(number.to_string()).data(number.to_string());
        Some((Ok(event), (changes, stopping)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
