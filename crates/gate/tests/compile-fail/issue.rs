//! Issuing is the gate's own business.
use countersign_gate::Warrant;

fn main() {
    let _ = Warrant::<()>::issue;
}
