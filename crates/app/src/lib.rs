//! Every front door shares this: who is calling, the tools they may see, the one way to propose a call, the one
//! way for people to answer a request, answers, the story of a call, streams, undoing, and the worker that goes
//! on without anybody asking.
//!
//! A front door turns a protocol into these calls and back, and holds no rule. It sees this crate and no other
//! door. Nothing here decides either: whatever comes in becomes [`App::call`], and that is one call to the
//! gate.

pub mod answer;
mod app;
pub mod approval;
pub mod auth;
pub mod body;
pub mod certificate;
pub mod channel;
pub mod connection;
pub mod credential;
pub mod grant;
mod halt;
pub mod level;
pub mod metrics;
pub mod narrow;
pub mod offer;
pub mod places;
pub mod principal;
pub mod request;
pub mod role;
pub mod story;
pub mod stream;
pub mod text;
pub mod trace;
pub mod undo;
pub mod worker;

pub use self::app::{App, Beside, Settings};
