//! Bodies of requests are read up to a limit.

use axum::body::Body;
use futures::StreamExt as _;

/// Of a body that is too large, so many times the limit is read after all.
const OVERRUN: usize = 8;

/// Reads a body; `None` when it is too large. Of such a one some more is read and thrown away, because a
/// client that still sends when the connection closes may never see the answer.
///
/// # Errors
/// Returns what the connection said when no more could be read of it.
pub async fn read(body: Body, limit: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut thrown_away) = (Vec::new(), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if thrown_away == 0 && chunk.len() <= limit.saturating_sub(bytes.len()) {
            bytes.extend_from_slice(&chunk);
        } else {
            thrown_away = thrown_away.saturating_add(chunk.len().max(1));
            if thrown_away > limit.saturating_mul(OVERRUN) {
                return Ok(None);
            }
        }
    }
    Ok((thrown_away == 0).then_some(bytes))
}
