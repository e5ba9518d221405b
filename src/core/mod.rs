//! Range bars, independent of Polars and Python, without a clock, input or output.
//!
//! Trades come in as borrowed columns ([`ticks::Ticks`]); bars go out as exact integer sums
//! ([`bar::Bar`]). The boundary rule: the first record opens a bar; the first later record at or
//! beyond the band closes it and belongs to it; the next record opens the next bar. With opening
//! price 100 and 250 dbps the band is 99.75 to 100.25: of the prices 100, 100.1, 100.3, 100.31 the
//! first three are a bar and the fourth opens the next.
//!
//! `search` finds where bars end by a `rule`, `fold` computes what a bar holds, `state` joins the two
//! for one key and `builder` serves many keys push by push. `aggregate` folds bars that the caller
//! numbered, and `label` assigns every record the id of its bar. `simd` has the vector kernels. They
//! refuse a block without a reason; `builder` then finds the row, record by record, and `diagnose`
//! composes the message.

pub mod aggregate;
pub mod arithmetic;
pub mod bar;
pub mod builder;
pub mod checkpoint;
pub mod columns;
pub mod diagnose;
pub mod error;
pub mod fold;
pub mod keys;
pub mod label;
pub mod partial;
pub mod rule;
pub mod sample;
pub mod search;
pub mod simd;
pub mod state;
pub mod ticks;
pub mod time;
pub mod window;
