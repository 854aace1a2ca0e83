//! The connections that are open, and who gives way when there is no room for another.
//!
//! - What agents ask at once is limited, for each of them and for all: there are always connections left for
//!   people.
//! - A connection on which nothing is asked gives way to a new one, the one that has been quiet longest first.
//!   So nobody is kept out by connections that are only held, whether or not they belong to somebody who is
//!   known.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use countersign_rules::{AgentId, Code, Refusal};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::places::{Place, Places};

/// There are so many connections beyond those that agents may be busy on: for people, and for those of whom
/// nothing is known yet.
pub const FOR_PEOPLE: usize = 64;

/// A connection on which something happened so short a time ago is not sent away: a request may be on its way.
const FRESH: Duration = Duration::from_millis(100);

/// A request may be on its way for so long.
const WAY: Duration = Duration::from_millis(50);

/// A client may keep a quiet connection for so long for its next request without that request meeting a
/// connection that is just being sent away.
pub const KEPT: Duration = FRESH.saturating_sub(WAY);

/// These connections are open. A clone is of the same ones.
#[derive(Debug, Clone)]
pub struct Connections {
    open: Arc<Mutex<Open>>,
    /// This is told when a connection ends or falls quiet.
    freed: Arc<Notify>,
    connections_max: usize,
    /// Agents are busy in these places: each of them here, and all together in the next.
    each: Places<AgentId>,
    all: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Open {
    /// This counts connections and requests, so that what is older has a smaller number.
    next: u64,
    connections: BTreeMap<u64, OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    /// Something last happened on the connection then: `since` says before what, and `at` at what time.
    since: u64,
    at: Instant,
    /// This is true if a request is being answered.
    busy: bool,
    gone: CancellationToken,
}

/// One connection is open, and is gone when this is dropped.
#[derive(Debug)]
pub struct Connection {
    connections: Connections,
    id: u64,
    gone: CancellationToken,
}

/// One request is being answered, until its answer has been given away or the client has gone.
#[derive(Debug)]
pub struct Busy {
    seat: Seat,
}

/// A seat says whose request it is, once somebody finds that out. It stands among a request's extensions.
#[derive(Debug, Clone)]
pub struct Seat {
    connections: Connections,
    id: u64,
    taken: Arc<Mutex<Option<Taken>>>,
}

#[derive(Debug)]
struct Taken {
    _each: Place<AgentId>,
    _of_all: OwnedSemaphorePermit,
}

impl Connections {
    /// Makes room for agents on so many connections, with so many requests of each of them at once; and for
    /// people beside.
    pub fn new(connections_max: usize, requests_max: usize) -> Self {
        Self {
            open: Arc::default(),
            freed: Arc::default(),
            connections_max: connections_max.saturating_add(FOR_PEOPLE),
            each: Places::new(requests_max),
            all: Arc::new(Semaphore::new(connections_max)),
        }
    }

    /// Waits until there is room for another connection, and makes it: the quietest one goes where there is
    /// none.
    pub async fn room(&self) {
        loop {
            // Registered before looking, so that what happens in between is not missed.
            let freed = self.freed.notified();
            let wait = match self.look() {
                Look::Room => return,
                Look::After(wait) => wait,
                Look::Busy => Duration::MAX,
            };
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn look(&self) -> Look {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.connections.len() < self.connections_max {
            return Look::Room;
        }
        let Some((id, quiet)) = open.quietest() else { return Look::Busy };
        let wait = FRESH.saturating_sub(quiet);
        if !wait.is_zero() {
            return Look::After(wait);
        }
        open.send_away(id);
        Look::Room
    }

    /// Sends the connection away that has been quiet longest: the system has nothing left to accept with.
    pub fn exhausted(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, _)) = open.quietest() {
            open.send_away(id);
        }
    }

    /// Notes that a connection was accepted.
    pub fn opened(&self) -> Connection {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, gone) = (open.number(), CancellationToken::new());
        open.connections
            .insert(id, OpenConnection { since: id, at: Instant::now(), busy: false, gone: gone.clone() });
        drop(open);
        Connection { connections: self.clone(), id, gone }
    }
}

impl Open {
    const fn number(&mut self) -> u64 {
        self.next = self.next.saturating_add(1);
        self.next
    }

    /// Returns the connection that has been quiet longest, and how long.
    fn quietest(&self) -> Option<(u64, Duration)> {
        let quiet = self.connections.iter().filter(|(_, state)| !state.busy);
        quiet.min_by_key(|(_, state)| state.since).map(|(id, state)| (*id, state.at.elapsed()))
    }

    fn send_away(&mut self, id: u64) {
        if let Some(state) = self.connections.remove(&id) {
            state.gone.cancel();
        }
    }
}

/// This says if there is room for another connection.
enum Look {
    Room,
    /// A connection may be sent away after so long.
    After(Duration),
    /// Requests are answered on all of them.
    Busy,
}

impl Connection {
    /// Returns a token that is cancelled when the connection has to make room.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Notes that the headers of a request are there, which is being answered from now on. `None` when the
    /// connection had to make room.
    pub fn begin(&self) -> Option<Busy> {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.connections.get_mut(&self.id)?.busy = true;
        drop(open);
        Some(Busy {
            seat: Seat { connections: self.connections.clone(), id: self.id, taken: Arc::default() },
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).connections.remove(&self.id);
        self.connections.freed.notify_one();
    }
}

impl Busy {
    /// Returns the seat of the request, to be taken by whoever authenticates it.
    pub fn seat(&self) -> Seat {
        self.seat.clone()
    }

    /// Makes an answer keep the connection busy until it was given away.
    pub fn until_given(self, body: Body) -> Body {
        Body::new(BusyBody { body, _busy: self })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Seat { connections, id, taken } = &self.seat;
        drop(taken.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut open = connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        let since = open.number();
        if let Some(state) = open.connections.get_mut(id) {
            state.busy = false;
            state.since = since;
            state.at = Instant::now();
        }
        drop(open);
        connections.freed.notify_one();
    }
}

impl Seat {
    /// Notes that an agent is busy on this connection. People are not counted.
    ///
    /// # Errors
    /// Returns [`Code::RateLimited`] if this agent, or all agents together, are busy on enough connections.
    pub fn take(&self, agent: &AgentId) -> Result<(), Refusal> {
        let refuse = |message: String| {
            Refusal::new(Code::RateLimited, message)
                .help("nothing was done; send it again when one of the requests under way has been answered")
        };
        let Connections { each, all, .. } = &self.connections;
        let place = each.take(agent.clone()).ok_or_else(|| {
            refuse(format!("{} requests of agent `{agent}` are under way already", each.each_max()))
        })?;
        let of_all = Arc::clone(all).try_acquire_owned().map_err(|_none_left| {
            refuse("agents are busy on every connection that there is for them".into())
        })?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = Some(Taken { _each: place, _of_all: of_all });
        Ok(())
    }

    /// Does as [`Seat::take`] for a request that came over a connection, and nothing for any other.
    ///
    /// # Errors
    /// Fails as [`Seat::take`] does.
    pub fn take_in(extensions: &http::Extensions, agent: &AgentId) -> Result<(), Refusal> {
        extensions.get::<Self>().map_or(Ok(()), |seat| seat.take(agent))
    }
}

/// This body remembers until its end that its connection is busy.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::parse(name).unwrap()
    }

    #[tokio::test]
    async fn the_connection_that_was_quiet_longest_gives_way_and_a_busy_one_never() {
        let connections = Connections::new(1, 1);
        let open: Vec<Connection> = (0..=FOR_PEOPLE).map(|_| connections.opened()).collect();
        let first = open[0].begin().unwrap();
        drop(open[1].begin().unwrap());
        connections.room().await;
        assert!(open[2].gone().is_cancelled() && open[2].begin().is_none(), "it was quiet longest");
        assert!(!open[0].gone().is_cancelled() && !open[1].gone().is_cancelled());
        let _last = connections.opened();
        let busy: Vec<_> = open.iter().skip(1).filter_map(Connection::begin).collect();
        connections.room().await;
        assert!(!connections.open.lock().unwrap().connections.values().any(|state| !state.busy));
        let _another = connections.opened();
        let _busy_too = _another.begin().unwrap();
        let full = futures::poll!(Box::pin(connections.room()));
        assert!(full.is_pending(), "nobody who is busy is sent away");
        drop((first, busy));
        connections.room().await;
    }

    #[tokio::test]
    async fn agents_leave_room_for_others_and_people_always_find_some() {
        let connections = Connections::new(3, 2);
        let open: Vec<Connection> = (0..4).map(|_| connections.opened()).collect();
        let busy: Vec<Busy> = open.iter().filter_map(Connection::begin).collect();
        busy[0].seat().take(&agent("a")).unwrap();
        busy[1].seat().take(&agent("a")).unwrap();
        assert_eq!(busy[2].seat().take(&agent("a")).unwrap_err().code, Code::RateLimited);
        busy[2].seat().take(&agent("b")).unwrap();
        assert_eq!(busy[3].seat().take(&agent("c")).unwrap_err().code, Code::RateLimited, "all are taken");
        drop(busy);
        open[0].begin().unwrap().seat().take(&agent("c")).unwrap();
    }
}
