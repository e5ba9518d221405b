//! Searches of a price column, in blocks.

use crate::core::simd::intrinsics::{ALONE, prefetch};

/// Prices per block in searches by the extremes of a bar.
pub const PRICE_BLOCK: usize = 16;

/// Row of the first price not strictly between the bounds; inlined into one function per
/// instruction set.
#[inline(always)]
pub fn first_outside_lanes(price: &[f64], lower: f64, upper: f64) -> usize {
    const LANES: usize = 16;
    let (blocks, rest) = price.as_chunks::<LANES>();
    for (block, prices) in blocks.iter().enumerate() {
        prefetch::<ALONE, _>(prices);
        prefetch::<ALONE, _>(&prices[LANES / 2..]);
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
    let (blocks, _) = price.as_chunks::<PRICE_BLOCK>();
    for (index, block) in blocks.iter().enumerate() {
        for line in block.as_chunks::<8>().0 {
            prefetch::<ALONE, _>(line);
        }
        let mut is_beyond = false;
        for value in block {
            is_beyond |= (*value > high) | (*value < low);
        }
        if is_beyond {
            return index * PRICE_BLOCK;
        }
    }
    blocks.len() * PRICE_BLOCK
}

/// The highest and the lowest price of a block, without NaN.
#[inline]
pub fn extremes(block: &[f64; PRICE_BLOCK]) -> (f64, f64) {
    block.iter().fold((f64::NEG_INFINITY, f64::INFINITY), |(high, low), price| (high.max(*price), low.min(*price)))
}
