//! Where bars end: the search. It knows prices and times alone and yields cuts; what a bar says is
//! for the fold.

use crate::core::bar::{Cause, Sums};
use crate::core::rule::Rule;
use crate::core::simd::{self, InstructionSet};
use crate::core::ticks::Ticks;
use crate::core::units::Threshold;

/// An end of a bar between two rows of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The bar's records are the rows before this one.
    pub at: u32,
    pub lane: u16,
    pub cause: Cause,
}

impl Cut {
    /// Row of the chunk that ended the bar: its last record, or the record that revealed the end.
    #[inline]
    pub fn end_row(&self) -> usize {
        match self.cause {
            Cause::Threshold | Cause::Run => (self.at as usize).saturating_sub(1),
            Cause::Reset | Cause::Gap | Cause::Discard => self.at as usize,
        }
    }

    /// Position in output order: closed by the row before, then revealed by this row, then lanes.
    #[inline]
    pub fn order(&self) -> (u32, bool, u16) {
        (self.at, !matches!(self.cause, Cause::Threshold | Cause::Run), self.lane)
    }
}

/// The search state of one threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThresholdSearch<R: Rule> {
    forming: Option<Forming<R::State>>,
}

/// A bar that has opened.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Forming<S> {
    time: i64,
    state: S,
}

impl<R: Rule> Default for ThresholdSearch<R> {
    fn default() -> Self {
        Self { forming: None }
    }
}

impl<R: Rule> ThresholdSearch<R> {
    /// The search of a forming bar, from its sums; empty sums belong to no bar.
    pub fn resume(threshold: Threshold, sums: &Sums) -> Self {
        let state = || R::resume(sums, threshold.distance(sums.open));
        Self { forming: (!sums.is_empty()).then(|| Forming { time: sums.open_time, state: state() }) }
    }

    /// Ends the forming bar; whether there was one.
    pub fn end(&mut self) -> bool {
        self.forming.take().is_some()
    }

    /// Searches the rows `from..to` of a chunk, which have no boundary between them.
    ///
    /// Rows without a grid price are passed over: the fold refuses them.
    #[inline]
    pub fn search(
        &mut self,
        threshold: Threshold,
        scan: Scan,
        (from, to): (usize, usize),
        lane: u16,
        cuts: &mut Vec<Cut>,
    ) {
        let mut row = from;
        while row < to {
            let Some(Forming { time, state }) = &mut self.forming else {
                if let Some(price) = scan.ticks.price.grid(row) {
                    let state = R::open(price, threshold.distance(price));
                    self.forming = Some(Forming { time: scan.ticks.time[row], state });
                }
                row += 1;
                continue;
            };
            let Some(end) = R::first_close(state, scan, *time, (row, to)) else { return };
            self.forming = None;
            row = end + 1;
            cuts.push(Cut { at: row as u32, lane, cause: Cause::Threshold });
        }
    }
}

/// What every search of a chunk shares.
#[derive(Clone, Copy)]
pub struct Scan<'a> {
    pub ticks: &'a Ticks<'a>,
    pub set: InstructionSet,
    /// Whether a bar may not close in the instant of its opening.
    pub is_gated: bool,
}

/// Row of the first price not strictly between the bounds; inlined into one function per
/// instruction set.
#[inline(always)]
pub fn first_outside_lanes(price: &[f64], lower: f64, upper: f64) -> usize {
    const LANES: usize = 16;
    let (blocks, rest) = price.as_chunks::<LANES>();
    for (block, prices) in blocks.iter().enumerate() {
        simd::prefetch::<{ simd::ALONE }, _>(prices);
        simd::prefetch::<{ simd::ALONE }, _>(&prices[LANES / 2..]);
        let mut is_outside = false;
        for value in prices {
            is_outside |= (*value >= upper) | (*value <= lower);
        }
        if is_outside {
            let inside = prices.iter().take_while(|value| **value > lower && **value < upper).count();
            return block * LANES + inside.min(LANES - 1);
        }
    }
    let done = price.len() - rest.len();
    done + rest.iter().position(|value| *value >= upper || *value <= lower).unwrap_or(rest.len())
}

/// Number of rows in whole blocks before the first block with a price above `high` or below `low`;
/// inlined into one function per instruction set.
#[inline(always)]
pub fn first_extreme_lanes(price: &[f64], high: f64, low: f64) -> usize {
    let (blocks, _) = price.as_chunks::<{ simd::PRICE_BLOCK }>();
    for (index, block) in blocks.iter().enumerate() {
        for line in block.as_chunks::<8>().0 {
            simd::prefetch::<{ simd::ALONE }, _>(line);
        }
        let mut is_beyond = false;
        for value in block {
            is_beyond |= (*value > high) | (*value < low);
        }
        if is_beyond {
            return index * simd::PRICE_BLOCK;
        }
    }
    blocks.len() * simd::PRICE_BLOCK
}
