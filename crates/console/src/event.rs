//! That something changed, so that a page looks again. An event says that there is something to look at, never what.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use countersign_gate::Ledger as _;
use futures::{Stream, stream};

use crate::{Console, failure::Failure, signed::Signed};

/// The shortest time between two events.
const PAUSE: Duration = Duration::from_millis(250);
/// So often a stream on which nothing happens says that it is there, and whether its session still is.
const BEAT: Duration = Duration::from_secs(15);

pub(crate) async fn events(
    State(console): State<Console>,
    signed: Signed,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let streams = console.app.streams();
    let (open, until) = (streams.open(&signed.principal())?, streams.until());
    let changes = console.app.store().changes();
    let (credential, expires_ms) = (&signed.person().credential, signed.session.expires_ms);
    let used = console.app.credentials().open(credential, Some(expires_ms), console.app.clock().now_ms());
    let open = (open, used);
    let events = stream::unfold(
        (changes, console, open, signed),
        move |(mut changes, console, open, signed)| async move {
            let changed = tokio::select! {
                changed = changes.changed() => { changed.ok()?; true }
                () = console.stopping.cancelled() => return None,
                () = open.1.ended() => return None,
                () = tokio::time::sleep_until(until) => return None,
                () = tokio::time::sleep(BEAT) => false,
            };
            if changed {
                // Whatever changes meanwhile is in the same event.
                tokio::time::sleep(PAUSE).await;
                changes.borrow_and_update();
            }
            // A session that has ended hears nothing more.
            console.app.accounts().look_at_session(&signed.token).await.ok()?;
            // An event without data is none to a browser.
            let event = if changed {
                Event::default().event("changed").data("changed")
            } else {
                Event::default().comment("")
            };
            Some((Ok(event), (changes, console, open, signed)))
        },
    );
    Ok(Sse::new(events).keep_alive(KeepAlive::default().interval(BEAT)))
}
