//! Rules: where a bar ends.
//!
//! A rule is one file that implements [`Rule`], and one line at the end of `table`. The search, the
//! checkpoint and the entry points know rules through that table only.

mod high_low;
mod open;
pub mod table;
pub mod threshold;

use crate::core::bar::Sums;
use crate::core::simd::InstructionSet;
use crate::core::ticks::Ticks;

/// A chunk to search, and the settings that all rules share.
#[derive(Clone, Copy)]
pub struct Scan<'a> {
    pub ticks: &'a Ticks<'a>,
    pub set: InstructionSet,
    /// Whether a bar can close only at a time later than its opening time.
    pub is_gated: bool,
}

/// A closing rule.
///
/// The closing record belongs to the bar that it closes; the next record opens the next bar. A rule
/// decides by prices and the opening time alone, so that a bar's end never depends on how the
/// records are cut into chunks.
pub trait Rule {
    /// State of a forming bar.
    type State: Copy + PartialEq + std::fmt::Debug;

    /// State of a bar that opens at a grid price, with the threshold as a distance in grid units.
    fn open(price: i64, distance: u64) -> Self::State;

    /// State of a forming bar with these sums.
    fn resume(sums: &Sums, distance: u64) -> Self::State;

    /// Whether a bar that has not closed may have these sums, which are not empty.
    fn may_be_forming(sums: &Sums, distance: u64, is_gated: bool) -> bool;

    /// First row of `from..to` at which the bar closes.
    ///
    /// Afterwards the state includes all rows before it, or all rows if the bar does not close. Rows
    /// without a grid price are skipped; the fold refuses them.
    fn first_close(state: &mut Self::State, scan: Scan, opening_time: i64, rows: (usize, usize)) -> Option<usize>;
}
