//! The only binary: front doors, approvals, command line, configuration and wiring.

fn main() {}
