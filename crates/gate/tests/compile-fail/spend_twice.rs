//! A warrant is spent by performing.
use countersign_gate::{Tool, Warrant};

async fn twice<T: Tool>(tool: &T, warrant: Warrant<T::Args>) {
    let first = tool.perform(warrant).await;
    let second = tool.perform(warrant).await;
    drop((first, second));
}

fn main() {}
