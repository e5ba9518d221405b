//! Where bars end: the search. It knows prices and times alone and yields cuts; what a bar says is
//! for the fold.

use super::bar::Cause;
use super::rule::{Band, RangeRule, Rule};
use super::simd::{self, InstructionSet};
use super::ticks::{Ticks, Values};

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

/// The opening record of a forming bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    pub time: i64,
    pub price: i64,
}

/// The search state of one threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lane {
    opening: Option<Opening>,
    band: Band,
    quiet: (f64, f64),
}

impl Lane {
    pub fn opening(&self) -> Option<Opening> {
        self.opening
    }

    pub fn resumed(rule: RangeRule, opening: Option<Opening>) -> Self {
        let mut lane = Self::default();
        if let Some(opening) = opening {
            lane.open(rule, opening);
        }
        lane
    }

    /// Ends the forming bar; whether there was one.
    pub fn end(&mut self) -> bool {
        self.opening.take().is_some()
    }

    #[inline]
    fn open(&mut self, rule: RangeRule, opening: Opening) {
        self.band = rule.band(opening.price);
        self.quiet = self.band.quiet_range();
        self.opening = Some(opening);
    }

    /// Searches the rows `from..to` of a chunk, which have no boundary between them.
    ///
    /// Rows without a grid price are passed over: the fold refuses them.
    #[inline]
    pub fn search(&mut self, rule: RangeRule, scan: Scan, (from, to): (usize, usize), lane: u16, cuts: &mut Vec<Cut>) {
        let mut row = from;
        while row < to {
            let Some(opening) = self.opening else {
                if let Some(price) = scan.ticks.price.grid(row) {
                    self.open(rule, Opening { time: scan.ticks.time[row], price });
                }
                row += 1;
                continue;
            };
            let Some(end) = self.first_breach(scan, opening, row, to) else { return };
            self.opening = None;
            row = end + 1;
            cuts.push(Cut { at: row as u32, lane, cause: Cause::Threshold });
        }
    }

    /// First row at which the bar closes.
    #[inline]
    fn first_breach(&self, scan: Scan, opening: Opening, from: usize, to: usize) -> Option<usize> {
        let mut row = from;
        loop {
            row = self.first_candidate(scan, row, to)?;
            let is_gated = scan.is_gated && scan.ticks.time[row] == opening.time;
            if !is_gated && scan.ticks.price.grid(row).is_some_and(|price| self.band.is_breached_by(price)) {
                return Some(row);
            }
            row += 1;
        }
    }

    #[inline]
    fn first_candidate(&self, scan: Scan, from: usize, to: usize) -> Option<usize> {
        let found = match scan.ticks.price {
            Values::Float(prices) => {
                from + simd::first_outside(scan.set, &prices[from..to], self.quiet.0, self.quiet.1)
            }
            Values::Grid(prices) => {
                from + prices[from..to].iter().position(|price| self.band.is_breached_by(*price)).unwrap_or(to - from)
            }
        };
        (found < to).then_some(found)
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
