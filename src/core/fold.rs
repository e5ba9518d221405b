//! The fold: it computes the exact sums of a span of columns.
//!
//! Order is checked in the same pass, so that every column is read once. The quick fold (`simd::fold`)
//! returns nothing where it meets an unusual value; the checked fold here then decides, one record at
//! a time.

use crate::core::bar::{Overflow, Sums};
use crate::core::simd::fold::QuickSpan;
use crate::core::simd::{self, InstructionSet};
use crate::core::ticks::Ticks;

/// Spans shorter than this fold faster one record at a time.
const SHORT_SPAN: usize = 20;

/// Why a span cannot be folded. A second, slower pass finds the row at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldError {
    /// A record is invalid.
    Record,
    /// A sum overflowed its integer type.
    Overflow(Overflow),
}

impl From<Overflow> for FoldError {
    fn from(what: Overflow) -> Self {
        Self::Overflow(what)
    }
}

/// Sums the rows `from..to` of a chunk, at least one and at most [`crate::core::simd::fold::LONGEST_SPAN`].
///
/// The order of each row after the one before it in the chunk is checked as well.
///
/// # Errors
/// When a record is invalid or a sum overflows.
#[inline]
pub fn fold(set: InstructionSet, chunk: &Ticks, from: usize, to: usize) -> Result<Sums, FoldError> {
    if to - from >= SHORT_SPAN {
        let span = chunk.slice(from, to);
        if (from == 0 || is_next(chunk, from))
            && let Some(quick) = QuickSpan::of(&span)
            && let Some(mut sums) = simd::fold(set, &quick)
        {
            add_edges(&mut sums, chunk, from, to);
            return Ok(sums);
        }
    }
    fold_checked(chunk, from, to)
}

/// Checks the rows `from..to` of a chunk without summing them, so that no sum can overflow.
///
/// # Errors
/// When a record is invalid.
pub fn check(set: InstructionSet, chunk: &Ticks, from: usize, to: usize) -> Result<(), FoldError> {
    if from == to || fold(set, chunk, from, to).is_ok() {
        return Ok(());
    }
    (from..to).try_for_each(|row| checked_record(chunk, row).map(|_| ()))
}

/// Whether a record may follow the one before it.
#[inline(always)]
pub fn is_next(ticks: &Ticks, row: usize) -> bool {
    ticks.time[row] >= ticks.time[row - 1] && ticks.agg_id.is_none_or(|ids| ids[row] > ids[row - 1])
}

/// Fills in the first and last values.
#[inline]
fn add_edges(sums: &mut Sums, chunk: &Ticks, from: usize, to: usize) {
    let last = to - 1;
    sums.records = (to - from) as i64;
    sums.open_time = chunk.time[from];
    sums.close_time = chunk.time[last];
    if let Some(ids) = chunk.agg_id {
        (sums.first_agg_id, sums.last_agg_id) = (ids[from], ids[last]);
    }
    if let Some(ids) = chunk.first_id {
        sums.first_id = ids[from];
    }
    if let Some(ids) = chunk.last_id {
        sums.last_id = ids[last];
    }
}

/// Price and quantity of a record on the grid, and its fills; `None` if one is invalid.
#[inline]
fn admit_record(chunk: &Ticks, row: usize) -> Option<(i64, i64, i64)> {
    let price = chunk.price.grid(row).filter(|price| *price > 0)?;
    let quantity = match chunk.quantity {
        None => 0,
        Some(values) => values.grid(row).filter(|quantity| *quantity >= 0)?,
    };
    let fills = match (chunk.first_id, chunk.last_id) {
        (Some(first), Some(last)) if last[row] < first[row] => return None,
        (Some(first), Some(last)) => last[row].checked_sub(first[row])?.checked_add(1)?,
        _ => 1,
    };
    Some((price, quantity, fills))
}

/// Like [`admit_record`], with the order after the record before it in the chunk.
#[inline]
fn checked_record(chunk: &Ticks, row: usize) -> Result<(i64, i64, i64), FoldError> {
    let is_in_order = row == 0 || is_next(chunk, row);
    admit_record(chunk, row).filter(|_| is_in_order).ok_or(FoldError::Record)
}

/// Folds one record at a time, with every check.
fn fold_checked(chunk: &Ticks, from: usize, to: usize) -> Result<Sums, FoldError> {
    let mut sums = Sums { low: i64::MAX, ..Sums::default() };
    for row in from..to {
        let (price, quantity, fills) = checked_record(chunk, row)?;
        let turnover = i128::from(price) * i128::from(quantity);
        sums.turnover = sums.turnover.checked_add(turnover).ok_or(Overflow::Turnover)?;
        sums.fills = sums.fills.checked_add(fills).ok_or(Overflow::Fills)?;
        sums.volume += i128::from(quantity);
        if chunk.is_buyer_maker.is_some_and(|bits| bits.get(row)) {
            sums.sell_turnover += turnover;
            sums.sell_fills += fills;
            sums.sell_volume += i128::from(quantity);
        } else if chunk.unsided.is_some_and(|bits| bits.get(row)) {
            sums.unsided_turnover += turnover;
            sums.unsided_fills += fills;
            sums.unsided_volume += i128::from(quantity);
        }
        sums.high = sums.high.max(price);
        sums.low = sums.low.min(price);
        if row == from {
            sums.open = price;
        }
        sums.close = price;
    }
    add_edges(&mut sums, chunk, from, to);
    Ok(sums)
}
