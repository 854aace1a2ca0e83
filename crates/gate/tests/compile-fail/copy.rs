//! A warrant cannot be copied, made by default or read from anywhere.
use countersign_gate::Warrant;

fn copy(warrant: &Warrant<()>) -> Warrant<()> {
    warrant.clone()
}

fn default() -> Warrant<()> {
    Default::default()
}

fn read(json: &str) -> Warrant<()> {
    serde_json::from_str(json).unwrap()
}

fn main() {}
