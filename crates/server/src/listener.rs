//! Accepting connections, and ending those that only hold them: what a client may take its time for is
//! limited before anybody is known to be behind it.
//!
//! - Headers must arrive in time. The same time ends a connection on which nothing is asked.
//! - TLS must be agreed on in the same time, where it is spoken. Who asks without is told so.
//! - An answer must be taken in time: a client that stops reading is not waited for.
//! - There are only so many connections. For a further one, the one gives way that has been quiet longest
//!   ([`connection`](countersign_app::connection)); where requests are answered on all of them, it waits in the system's queue.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, response::Response};
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use countersign_app::connection::{Connection, Connections};

use crate::tls::Certificates;

/// How long accepting rests when the system has nothing left to accept with, such as file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(500);

/// Over TLS, browsers ask this server for nothing without it any more, for a year.
const STRICT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// So many at once on which agents may be busy, beside those for people.
    pub(crate) connections_max: usize,
    /// So many of these for each agent.
    pub(crate) requests_max: usize,
    /// The longest until a request's headers are there, and between two requests.
    pub(crate) header: Duration,
    /// The longest that a client may leave an answer untaken.
    pub(crate) write: Duration,
}

/// Serves until `stopping`, and then until every connection has had its answer.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tls: Option<Arc<Certificates>>,
    stopping: CancellationToken,
) {
    let open = Connections::new(limits.connections_max, limits.requests_max);
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header);
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = accept(&listener, &open) => accepted,
        };
        let (stream, from, connection) = match accepted {
            Ok(accepted) => accepted,
            Err(why) if is_of_one_connection(&why) => continue,
            Err(why) => {
                tracing::warn!(%why, "no connection can be accepted");
                open.exhausted();
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        let gone = connection.gone();
        let door =
            Door { http: http.clone(), router: router.clone(), from, connection: Arc::new(connection) };
        let (tls, watcher, stopping) = (tls.clone(), connections.watcher(), stopping.clone());
        let served = async move {
            let Some(tls) = tls else {
                return door.converse(Patient::new(stream, limits.write), watcher, false).await;
            };
            let agreed = tls.accept(stream, |stream| Patient::new(stream, limits.write));
            let agreed = tokio::select! {
                agreed = tokio::time::timeout(limits.header, agreed) => agreed,
                () = stopping.cancelled() => return,
            };
            match agreed {
                Ok(Ok(Some(stream))) => door.converse(stream, watcher, true).await,
                Ok(Ok(None)) => {}
                Ok(Err(why)) => tracing::debug!(%why, "TLS was not agreed on"),
                Err(_late) => tracing::debug!("TLS was not agreed on in time"),
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = served => {}
                () = gone.cancelled() => tracing::debug!("a connection on which nothing was asked made room"),
            }
        });
    }
    // No new connection is taken while the others end.
    drop(listener);
    connections.shutdown().await;
}

/// What one connection leads to.
struct Door {
    http: http1::Builder,
    router: Router,
    from: SocketAddr,
    connection: Arc<Connection>,
}

impl Door {
    /// Answers what is asked on a connection, to its end.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: S,
        watcher: Watcher,
        secure: bool,
    ) {
        let Self { http, router, from, connection } = self;
        let service = service_fn(move |request| {
            answer(router.clone(), Arc::clone(&connection), (from, secure), request)
        });
        if let Err(why) = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await {
            tracing::debug!(%why, "a connection ended early");
        }
    }
}

/// Answers one request, on a connection that is busy until the answer was given away.
async fn answer(
    mut router: Router,
    connection: Arc<Connection>,
    (from, secure): (SocketAddr, bool),
    mut request: Request<Incoming>,
) -> Result<Response, io::Error> {
    let Some(busy) = connection.begin() else {
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection has made room"));
    };
    request.extensions_mut().insert(busy.seat());
    request.extensions_mut().insert(ConnectInfo(from));
    let strict = secure && is_named(&request);
    let mut response = router.call(request).await.unwrap_or_else(|never| match never {});
    if strict {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, STRICT);
    }
    Ok(response.map(|body| busy.until_given(body)))
}

/// Whether a request names the server by a name of its own. What a browser keeps of `localhost` holds for every port there,
/// and of an address it keeps nothing.
fn is_named(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| {
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        !name.eq_ignore_ascii_case("localhost")
    })
}

async fn accept(
    listener: &TcpListener,
    open: &Connections,
) -> io::Result<(TcpStream, SocketAddr, Connection)> {
    open.room().await;
    let (stream, from) = listener.accept().await?;
    // Answers are small and waited for.
    stream.set_nodelay(true)?;
    Ok((stream, from, open.opened()))
}

/// Whether a failure to accept says something about that one client alone.
fn is_of_one_connection(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}

/// A stream whose writes fail when the other side takes nothing for a while.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Runs while a write waits.
    over: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Patient {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, over: Box::pin(tokio::time::sleep(patience)), waiting: false }
    }

    /// Lets a write that waits go on waiting while there is patience.
    fn waited<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            if let Some(over) = Instant::now().checked_add(self.patience) {
                self.over.as_mut().reset(over);
            }
        }
        ready!(self.over.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no answer")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.waited(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.waited(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.waited(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
