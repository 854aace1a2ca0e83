//! `countersign connect`

use super::{Outcome, client::Connect};
use countersign_mcp as mcp;

/// `countersign connect`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For MCP clients that start a program, such as desktop applications: any number of them share one running server.\n\
                  Waits half a minute for a server that does not answer yet. Standard output carries messages and nothing else.\n\n\
                  Example:\n  COUNTERSIGN_KEY=csk_… countersign connect -C my-folder"
)]
pub(super) struct Bridge {
    #[command(flatten)]
    connect: Connect,
}

impl Bridge {
    pub(super) async fn run(self) -> Outcome {
        let (http, server, key) = self.connect.parts(None)?;
        Ok(mcp::bridge(http, &server, &key, tokio::io::stdin(), tokio::io::stdout()).await?)
    }
}
