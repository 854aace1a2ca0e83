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
/// How often a stream on which nothing happens says that it is there, to clients and proxies.
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
    let events = stream::unfold(
        (changes, console, (open, used), signed),
        move |(mut changes, console, held, signed)| async move {
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                () = console.stopping.cancelled() => return None,
                () = held.1.ended() => return None,
                () = tokio::time::sleep_until(until) => return None,
            }
            // Whatever changes meanwhile is in the same event.
            tokio::time::sleep(PAUSE).await;
            changes.borrow_and_update();
            // A session that has ended hears nothing more.
            console.app.accounts().look_at_session(&signed.token).await.ok()?;
            // An event without data is none to a browser.
            let event = Event::default().event("changed").data("changed");
            Some((Ok(event), (changes, console, held, signed)))
        },
    );
    Ok(Sse::new(events).keep_alive(KeepAlive::default().interval(BEAT)))
}
