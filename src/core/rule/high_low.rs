//! `high_low`: a bar closes on the first record at which its highest less its lowest price, from the
//! opening record on, is at or above the distance, in exact integers on the 1e-8 grid.

use crate::core::arithmetic::grid::{from_grid, grid};
use crate::core::bar::Sums;
use crate::core::rule::{Rule, Scan};
use crate::core::simd;
use crate::core::simd::search::{PRICE_BLOCK, extremes};
use crate::core::ticks::Values;

/// The rule on the height of the bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HighLow;

/// The highest and the lowest grid price so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extremes {
    distance: u64,
    high: i64,
    low: i64,
}

impl Extremes {
    #[inline(always)]
    fn add(&mut self, price: i64) {
        self.high = self.high.max(price);
        self.low = self.low.min(price);
    }

    #[inline(always)]
    fn is_reached(&self) -> bool {
        self.high.abs_diff(self.low) >= self.distance
    }

    /// Adds whole blocks while the bar stays below the distance. Returns the row at which it stopped:
    /// the first row of the block that reaches the distance, or of the incomplete last block.
    #[inline]
    fn skip_blocks(&mut self, scan: Scan, from: usize, to: usize) -> usize {
        match scan.ticks.price {
            Values::Float(prices) => self.skip_doubles(scan, &prices[from..to]) + from,
            Values::Grid(prices) => self.skip_integers(&prices[from..to]) + from,
        }
    }

    fn skip_doubles(&mut self, scan: Scan, prices: &[f64]) -> usize {
        let (mut high, mut low) =
            (Self::double_of(self.high, f64::NEG_INFINITY), Self::double_of(self.low, f64::INFINITY));
        let mut row = 0;
        loop {
            // Prices within the extremes need no exact check.
            row += simd::first_extreme(scan.set, &prices[row..], high, low);
            let Some(block) = prices[row..].first_chunk::<PRICE_BLOCK>() else { return row };
            let (block_high, block_low) = extremes(block);
            let mut next = *self;
            // The fold refuses a price without a grid value.
            [block_high, block_low].into_iter().filter_map(grid).for_each(|price| next.add(price));
            if next.is_reached() {
                return row;
            }
            *self = next;
            (high, low) = (high.max(block_high), low.min(block_low));
            row += PRICE_BLOCK;
        }
    }

    /// The double of a grid price, or `otherwise` if the conversion is not exact.
    fn double_of(price: i64, otherwise: f64) -> f64 {
        let exact = from_grid(price);
        if grid(exact) == Some(price) { exact } else { otherwise }
    }

    fn skip_integers(&mut self, prices: &[i64]) -> usize {
        let (blocks, rest) = prices.as_chunks::<PRICE_BLOCK>();
        for (index, block) in blocks.iter().enumerate() {
            let mut next = *self;
            for price in block {
                next.high = next.high.max(*price);
                next.low = next.low.min(*price);
            }
            if next.is_reached() {
                return index * PRICE_BLOCK;
            }
            *self = next;
        }
        prices.len() - rest.len()
    }
}

impl Rule for HighLow {
    type State = Extremes;

    #[inline(always)]
    fn open(price: i64, distance: u64) -> Extremes {
        Extremes { distance, high: price, low: price }
    }

    fn resume(sums: &Sums, distance: u64) -> Extremes {
        Extremes { distance, high: sums.high, low: sums.low }
    }

    fn may_be_forming(sums: &Sums, distance: u64, is_gated: bool) -> bool {
        let is_at_opening_time = is_gated && sums.close_time == sums.open_time;
        is_at_opening_time || !Self::resume(sums, distance).is_reached()
    }

    #[inline]
    fn first_close(
        extremes: &mut Extremes,
        scan: Scan,
        opening_time: i64,
        (from, to): (usize, usize),
    ) -> Option<usize> {
        let mut row = from;
        while row < to {
            // A bar that has reached the distance at its opening time closes at a later time.
            if !extremes.is_reached() {
                row = extremes.skip_blocks(scan, row, to);
            }
            let end = to.min(row + PRICE_BLOCK);
            while row < end {
                if let Some(price) = scan.ticks.price.grid(row) {
                    extremes.add(price);
                    if extremes.is_reached() && !(scan.is_gated && scan.ticks.time[row] == opening_time) {
                        return Some(row);
                    }
                }
                row += 1;
            }
        }
        None
    }
}
