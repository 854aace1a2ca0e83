//! This leads from standard input and output to a running server: for clients that can only start a program,
//! beside others that share the server.
//!
//! Messages are passed on as they are, both ways, by the SDK's own transports: streams, progress and
//! cancellation with them. Nothing is decided here. A message that could not be passed on is answered with an
//! error that says so; what was passed on and lost its answer on the way is found again by repeating the very
//! same call.

use std::time::Duration;

use futures::{StreamExt as _, stream::FuturesUnordered};
use rmcp::{
    model::{ClientJsonRpcMessage, ErrorData, RequestId, ServerJsonRpcMessage},
    transport::{
        StreamableHttpClientTransport, Transport, async_rw::AsyncRwTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use url::Url;

/// A server that does not answer yet is waited for so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// It is asked again after each such time.
const LOOK: Duration = Duration::from_millis(500);
/// Answers are waited for so long once the client has closed its end.
const GRACE: Duration = Duration::from_secs(2);

/// A bridge ended for one of these reasons before its client closed its end.
#[derive(Debug, thiserror::Error)]
pub enum BridgeFault {
    /// No server answers.
    #[error("no server answers at `{server}`: {why}")]
    NoServer {
        /// The server was asked at this address.
        server: Url,
        /// No server answers for this reason.
        why: String,
    },
    /// The server ended the conversation, or refused to begin it.
    #[error("the server at `{0}` does not go on with the conversation")]
    Ended(Url),
    /// The client cannot be written to.
    #[error("the client reads no more")]
    Client(#[from] std::io::Error),
}

/// Passes messages between a client on these streams and the server, as whoever the key belongs to, until the
/// client closes its end.
///
/// # Errors
/// Returns a [`BridgeFault`] if no server answers, if the server ends the conversation, or if the client cannot
/// be written to.
pub async fn bridge(
    http: reqwest::Client,
    server: &Url,
    key: &SecretString,
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<(), BridgeFault> {
    let base = server.as_str().trim_end_matches('/');
    until_ready(&http, server, base).await?;
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{base}/mcp"))
        .auth_header(key.expose_secret().to_owned());
    let mut there = StreamableHttpClientTransport::with_client(http, config);
    let mut here = AsyncRwTransport::new_server(input, output);
    let mut sending = FuturesUnordered::new();
    let mut waiting = Vec::new();
    let mut begun = false;
    let mut over: Option<Instant> = None;
    while over.is_none() || !(sending.is_empty() && waiting.is_empty()) {
        tokio::select! {
            // What the server says first: an answer that is there is not held up by what is still to be sent.
            biased;
            message = there.receive() => match message {
                Some(message) => {
                    begun = true;
                    waiting.retain(|id| Some(id) != answered(&message));
                    here.send(message).await?;
                }
                None => {
                    // Whoever waits for an answer is told that there is none.
                    while let Some((id, sent)) = sending.next().await {
                        tell(&mut here, id, sent).await?;
                    }
                    return Err(BridgeFault::Ended(server.clone()));
                }
            },
            Some((id, sent)) = sending.next(), if !sending.is_empty() => {
                let refused = sent.is_err();
                if refused {
                    waiting.retain(|waiting| Some(waiting) != id.as_ref());
                }
                tell(&mut here, id, sent).await?;
                // Nothing can follow what never began, whether or not the client has closed its end meanwhile.
                if refused && !begun {
                    return Err(BridgeFault::Ended(server.clone()));
                }
            }
            () = until(over), if over.is_some() => break,
            message = here.receive(), if over.is_none() => {
                let Some(message) = message else {
                    over = Instant::now().checked_add(GRACE);
                    continue;
                };
                let id = request(&message);
                waiting.extend(id.clone());
                let sent = there.send(message);
                sending.push(async move { (id, sent.await.map_err(|why| why.to_string())) });
            }
        }
    }
    // What is still under way goes on in the gate.
    drop(there.close().await);
    Ok(())
}

/// Answers a request that could not be passed on.
async fn tell(
    here: &mut impl Transport<rmcp::RoleServer, Error = std::io::Error>,
    id: Option<RequestId>,
    sent: Result<(), String>,
) -> Result<(), BridgeFault> {
    let (Some(id), Err(why)) = (id, sent) else { return Ok(()) };
    let message = format!(
        "the server could not be asked, or its answer was lost ({why}); repeating the very same call finds what became of it"
    );
    here.send(ServerJsonRpcMessage::error(ErrorData::internal_error(message, None), Some(id))).await?;
    Ok(())
}

async fn until(over: Option<Instant>) {
    if let Some(over) = over {
        tokio::time::sleep_until(over).await;
    }
}

/// Returns the request that a message answers.
const fn answered(message: &ServerJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ServerJsonRpcMessage::Response(response) => Some(&response.id),
        ServerJsonRpcMessage::Error(error) => error.id.as_ref(),
        ServerJsonRpcMessage::Request(_) | ServerJsonRpcMessage::Notification(_) => None,
    }
}

fn request(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
        ClientJsonRpcMessage::Response(_)
        | ClientJsonRpcMessage::Notification(_)
        | ClientJsonRpcMessage::Error(_) => None,
    }
}

/// Waits for a server that is just being started.
async fn until_ready(http: &reqwest::Client, server: &Url, base: &str) -> Result<(), BridgeFault> {
    let asked = async {
        loop {
            match http.get(format!("{base}/healthz")).send().await {
                Ok(_answer) => return,
                Err(why) => tracing::debug!(why = %why.without_url(), "the server does not answer yet"),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_late| BridgeFault::NoServer {
        server: server.clone(),
        why: format!("it was waited for {} s", PATIENCE.as_secs()),
    })
}
