//! Nobody else can add an authority that opens credentials.
use countersign_gate::Authority;
use countersign_rules::SystemName;

struct Mine(SystemName);

impl Authority for Mine {
    fn system(&self) -> &SystemName {
        &self.0
    }
}

fn main() {}
