//! Statements on SQLite and PostgreSQL.
//!
//! A *fixed* tool has one statement, with `:name` for each argument; arguments are bound, never put into the
//! text. With a *from_statement* tool the agent writes the statement in its argument `sql`; it is
//! classified by the database's own grammar, and refused unless it is one statement within the tool's
//! tables. In both cases the database enforces too: reads run where nothing can be written, writes in one
//! transaction that is rolled back when it touches more than the warrant allows.
//!
//! A result is `{"rows": [{column: value}], "row_count": n, "truncated": bool}`. `row_count` is what a read
//! returned or a write touched (triggers and cascades included); `truncated` says that more rows were left
//! out by the cap of rows or bytes. A write that returns no columns answers `{"rows_changed": n}` instead. Values: see
//! [`postgres`] and [`sqlite`]; whole numbers beyond 2^53 and decimals are text, so that no reader rounds them.

mod cascade;
mod change;
mod columns;
mod database;
mod journal;
mod mask;
mod placeholder;
pub(crate) mod postgres;
pub(crate) mod sqlite;
mod statement;
mod system;
mod tally;
mod tool;
mod undo;
mod value;
mod work;

pub use journal::UndoReply;
pub use system::SqlSystem;
pub use tool::SqlTool;
pub use undo::{UndoArgs, UndoTool};
pub use work::Work;
