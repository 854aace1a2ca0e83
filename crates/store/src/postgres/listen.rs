//! Being told of what other processes change.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::MissedTickBehavior,
};

use super::{connect::Connector, fault::failure};
use crate::error::Failure;

/// By this statement a connection is told of changes.
const LISTEN: &str = "LISTEN countersign";

/// A process looks so often for changes of others that it was not told of.
const POLL: Duration = Duration::from_millis(1_000);

/// A lost connection is left alone so long before it is made again.
const PAUSE: Duration = Duration::from_millis(250);

impl Connector {
    /// Tells `changes` of what other processes change, until `stop` is dropped.
    pub(crate) async fn listen(self, changes: watch::Sender<u64>, mut stop: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _dropped = &mut stop => return,
                why = self.listen_once(&changes) => tracing::debug!(?why, "not told of others' changes any more"),
            }
            tokio::select! {
                _dropped = &mut stop => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn listen_once(&self, changes: &watch::Sender<u64>) -> Result<(), Failure> {
        let (announced, mut announcements) = mpsc::channel(1);
        let client = self.connect(Some(announced)).await?;
        self.limited(client.batch_execute(LISTEN)).await?;
        let tell = || changes.send_modify(|version| *version = version.wrapping_add(1));
        // What happened while nobody listened.
        tell();
        let mut seen = None;
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                announced = announcements.recv() => match announced {
                    Some(()) => tell(),
                    None => return Ok(()),
                },
                // Notifications may be lost on the way through a proxy; the counter is not. It also tells a
                // server that has nothing to write how far the others are.
                _tick = poll.tick() => {
                    let row = self
                        .limited(client.query_one("SELECT changed FROM log_head WHERE id = 0", &[]))
                        .await?;
                    let changed: i64 = row.try_get(0).map_err(|why| failure(&why))?;
                    self.floor.fetch_max(changed, Ordering::Relaxed);
                    if seen.replace(changed).is_some_and(|before| before != changed) {
                        tell();
                    }
                }
            }
        }
    }
}
