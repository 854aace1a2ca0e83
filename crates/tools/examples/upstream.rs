//! An MCP server on standard input and output, for the tests: they start it as a child process.

#[path = "../tests/tools/upstream.rs"]
mod upstream;

use rmcp::ServiceExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    upstream::Upstream::default().serve(rmcp::transport::stdio()).await?.waiting().await?;
    Ok(())
}
