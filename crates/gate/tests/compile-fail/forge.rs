//! A warrant has one source, inside the gate.
use std::sync::Arc;

use countersign_gate::{Limits, Warrant};
use countersign_rules::{Call, DecisionId};

fn forge(call: Arc<Call<()>>, decision: DecisionId, limits: Limits, journal: Option<String>) -> Warrant<()> {
    Warrant { call, decision, limits, journal }
}

fn main() {}
