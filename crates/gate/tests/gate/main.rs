//! The real gate in a simulated world.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails, and says where"
)]

mod answering;
mod entries;
mod grants;
mod narrow;
mod path;
mod recall;
mod repeat;
mod simulation;
mod world;
