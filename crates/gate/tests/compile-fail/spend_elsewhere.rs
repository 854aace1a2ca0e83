//! A warrant for one kind of tool is none for another.
use countersign_gate::{Tool, Warrant};

struct Sql;
struct Http;

async fn elsewhere(http: &impl Tool<Args = Http>, warrant: Warrant<Sql>) {
    drop(http.perform(warrant).await);
}

fn main() {}
