//! Verifies a Countersign log with nothing but the audit crate.

fn main() {}
