//! A warrant has one source, inside the gate.
use countersign_gate::Warrant;
use countersign_rules::{Call, DecisionId};

fn forge(call: Call<()>, decision: DecisionId) -> Warrant<()> {
    Warrant { call, decision, rows_max: 1_000_000 }
}

fn main() {}
