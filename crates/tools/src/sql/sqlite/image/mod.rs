//! Rows as they were before a call and after it.
//!
//! SQLite tells every row before it changes, whatever changes it: the statement, a foreign key, a trigger,
//! `REPLACE`, a `DELETE` of everything. So the counts are exact, and the first that is told of a row is what it
//! was before. What it is afterwards is read from the table when the statement has ended.
//!
//! Within a transaction a row is known by its rowid, or by its key in a table `WITHOUT ROWID`; `VACUUM` may
//! give other rowids, so that afterwards it is known by its primary key. Tables without one are not kept.
//!
//! The parts, from the smallest: a value ([`cell`]), a row of them ([`row`]), what a table's rows look like ([`shape`])
//! and where they stand in the file ([`layout`]), the rows that a call changes ([`images`]), and who listens to SQLite
//! and counts them ([`recorder`]).

mod cell;
mod images;
mod layout;
mod recorder;
mod row;
mod shape;

pub(super) use cell::Cell;
pub(super) use images::Images;
pub(super) use layout::layouts;
pub(super) use recorder::Recorder;
pub(super) use row::RowImage;
pub(super) use shape::Shape;
