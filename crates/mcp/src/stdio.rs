//! Standard input and output: one process, one agent, one message per line.
//!
//! The SDK's own transport takes the last of two equal keys, so lines are read here and checked as over HTTP.
//! Standard output carries messages and nothing else; whatever is logged goes to standard error.

use std::{io, sync::Arc};

use countersign_rules::Code;
use http::HeaderMap;
use rmcp::{
    RoleServer, ServiceExt as _,
    model::{ClientJsonRpcMessage, ErrorCode, ServerJsonRpcMessage},
    service::{QuitReason, ServerInitializeError},
    transport::Transport,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::mpsc,
};

use super::{
    Settings,
    door::{self, Door},
    frame::{BadFrame, Frame},
    session::{SessionKey, unnamed},
};
use countersign_app::{App, auth::Identity};

/// So many messages may wait to be read or written before whoever sends them waits too.
const QUEUE: usize = 64;

/// Serving ended for one of these reasons before the client closed its end.
#[derive(Debug, thiserror::Error)]
pub enum StdioFault {
    /// The client did not begin as the protocol demands.
    #[error("the client did not initialise: {0}")]
    Handshake(String),
    /// Serving failed.
    #[error("serving on standard input and output failed: {0}")]
    Failed(String),
}

/// Serves one agent on standard input and output until the client closes its end. `session` names the
/// session; without a name, each process is one of its own.
///
/// Calls under way go on in the gate when this returns; whoever stops the process waits for the gate.
///
/// # Errors
/// Returns a [`StdioFault`] if the client breaks the protocol beyond an answer, or serving fails.
pub async fn serve_stdio(
    app: Arc<App>,
    settings: Settings,
    (who, credential): (Identity, HeaderMap),
    session: Option<String>,
) -> Result<(), StdioFault> {
    serve_io(app, settings, (who, credential), session, tokio::io::stdin(), tokio::io::stdout()).await
}

/// Does as [`serve_stdio`], on any pair of streams.
///
/// # Errors
/// Fails as [`serve_stdio`] does.
pub async fn serve_io(
    app: Arc<App>,
    settings: Settings,
    (who, credential): (Identity, HeaderMap),
    session: Option<String>,
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<(), StdioFault> {
    let key = session.unwrap_or_else(unnamed);
    let stopping = settings.stopping.clone();
    let good = Good { app: Arc::clone(&app), credential };
    let (lines, writer) = Lines::open(input, output, settings.message_bytes_max, good);
    let door = Door {
        trace: None,
        app,
        settings: Arc::new(settings),
        who,
        session: SessionKey { key: Some(key), client: None },
        transport: door::Transport::Stdio,
    };
    let served = match door.serve_with_ct(lines, stopping).await {
        Ok(service) => match service.waiting().await {
            Ok(QuitReason::JoinError(fault)) | Err(fault) => Err(StdioFault::Failed(fault.to_string())),
            Ok(_) => Ok(()),
        },
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
        Err(fault) => Err(StdioFault::Handshake(fault.to_string())),
    };
    // The transport is gone, so the writer ends once it has written what was queued.
    let written = writer.await;
    served.and_then(|()| written.map_err(|fault| StdioFault::Failed(fault.to_string())))
}

/// This knows if the credential that the process was started with is still good. It looks for each message,
/// because a key may be revoked and a token expire while the process lives.
struct Good {
    app: Arc<App>,
    credential: HeaderMap,
}

impl Good {
    async fn still(&self) -> bool {
        match self.app.identify(&self.credential).await {
            Ok(_) => true,
            // Where that cannot be looked up now, nor can anything be recorded: the message gets its own answer.
            Err(refusal) if refusal.code == Code::NotLookedUp => true,
            Err(refusal) => {
                tracing::warn!(%refusal, "the credential is good no more, and the session ends");
                false
            }
        }
    }
}

/// These are lines of checked messages. The SDK drops and repeats `receive`, so lines are read elsewhere.
struct Lines {
    messages: mpsc::Receiver<ClientJsonRpcMessage>,
    output: Option<mpsc::Sender<Vec<u8>>>,
}

impl Lines {
    fn open(
        input: impl AsyncRead + Send + Unpin + 'static,
        mut output: impl AsyncWrite + Send + Unpin + 'static,
        limit: usize,
        good: Good,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, mut queued) = mpsc::channel::<Vec<u8>>(QUEUE);
        let (read, messages) = mpsc::channel(QUEUE);
        let errors = queue.downgrade();
        tokio::spawn(async move {
            let mut input = BufReader::new(input);
            while let Ok(Some(line)) = next_line(&mut input, limit).await {
                if !good.still().await {
                    return;
                }
                match message(line) {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        if read.send(message).await.is_err() {
                            return;
                        }
                    }
                    Err(bad) => {
                        let Some(errors) = errors.upgrade() else { return };
                        if errors.send(bad.to_json().to_string().into_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        let writer = tokio::spawn(async move {
            while let Some(mut line) = queued.recv().await {
                line.push(b'\n');
                let written = async {
                    output.write_all(&line).await?;
                    output.flush().await
                };
                if let Err(fault) = written.await {
                    tracing::warn!(%fault, "the client reads no more");
                    return;
                }
            }
        });
        (Self { messages, output: Some(queue) }, writer)
    }
}

impl Transport<RoleServer> for Lines {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let output = self.output.clone();
        async move {
            let line = serde_json::to_vec(&message)?;
            let output = output.ok_or(io::ErrorKind::BrokenPipe)?;
            output.send(line).await.map_err(|_closed| io::ErrorKind::BrokenPipe.into())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        self.messages.recv().await
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.output = None;
        Ok(())
    }
}

/// A line is whole as the client sent it, or was longer than so many bytes.
enum Line {
    Whole(Vec<u8>),
    TooLong(usize),
}

/// Reads the next line, without its end; `None` when the client has closed. A line beyond the limit is read to
/// its end and thrown away.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin), limit: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            let nothing = line.is_empty() && !too_long;
            return Ok((!nothing).then(|| whole(line, too_long, limit)));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = end.and_then(|end| available.get(..end)).unwrap_or(available);
        too_long = too_long || part.len() > limit.saturating_sub(line.len());
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = part.len().saturating_add(usize::from(end.is_some()));
        input.consume(used);
        if end.is_some() {
            return Ok(Some(whole(line, too_long, limit)));
        }
    }
}

fn whole(line: Vec<u8>, too_long: bool, limit: usize) -> Line {
    if too_long { Line::TooLong(limit) } else { Line::Whole(line) }
}

/// Checks a line; an empty one is nothing.
fn message(line: Line) -> Result<Option<ClientJsonRpcMessage>, BadFrame> {
    let invalid = |id, message: String| BadFrame::new(id, ErrorCode::INVALID_REQUEST, message);
    let line = match line {
        Line::Whole(line) => line,
        Line::TooLong(limit) => {
            return Err(invalid(Value::Null, format!("a message may have at most {limit} bytes")));
        }
    };
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let frame = Frame::parse(&line)?;
    let id = frame.id();
    serde_json::from_value(frame.into_value())
        .map(Some)
        .map_err(|_unknown| invalid(id, String::from("the message does not fit the protocol")))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], limit: usize) -> Vec<Result<bool, i32>> {
        let mut input = BufReader::with_capacity(7, text);
        let mut seen = Vec::new();
        while let Some(line) = next_line(&mut input, limit).await.unwrap() {
            seen.push(message(line).map(|message| message.is_some()).map_err(|bad| bad.code.0));
        }
        seen
    }

    #[tokio::test]
    async fn bad_lines_are_answered_and_do_not_end_the_conversation() {
        let text = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\
            \n\
            {\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}\r\n\
            \xff\n\
            [1]\n\
            {\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}";
        let seen = lines(text, 1024).await;
        assert_eq!(seen, [Ok(true), Ok(false), Err(-32700), Err(-32700), Err(-32600), Ok(true)]);
    }

    #[tokio::test]
    async fn a_line_beyond_the_limit_is_thrown_away_whole() {
        let ping = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
        let text = format!("{}\n{ping}\n", "x".repeat(1000));
        assert_eq!(lines(text.as_bytes(), ping.len()).await, [Err(-32600), Ok(true)]);
        assert_eq!(lines(ping.as_bytes(), ping.len() - 1).await, [Err(-32600)]);
    }
}
