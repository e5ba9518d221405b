//! `open`: a bar that opened at price `o` closes on the first later record whose price `p` has
//! `|p - o|` at or above the distance, in exact integers on the 1e-8 grid.

use crate::core::arithmetic::grid::GRID_PER_UNIT;
use crate::core::bar::Sums;
use crate::core::rule::{Rule, Scan};
use crate::core::simd;
use crate::core::ticks::Values;

/// The open-anchored rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open;

/// The two grid prices at or beyond which a bar closes, and doubles well inside of them.
///
/// Unsigned, both fit 64 bits. No price reaches a lower bound of 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    lower: u64,
    upper: u64,
    quiet: (f64, f64),
}

impl Band {
    fn around(open: i64, distance: u64) -> Self {
        let open = open.unsigned_abs();
        // The addition saturates only at an opening price that is invalid.
        let (lower, upper) = (open.saturating_sub(distance), open.saturating_add(distance));
        Self { lower, upper, quiet: quiet_range(lower, upper) }
    }

    /// Whether a grid price, which is positive, closes the bar.
    #[inline(always)]
    fn is_breached_by(&self, price: i64) -> bool {
        let price = price as u64;
        price >= self.upper || price <= self.lower
    }

    #[inline]
    fn first_candidate(&self, scan: Scan, from: usize, to: usize) -> Option<usize> {
        let found = match scan.ticks.price {
            Values::Float(prices) => {
                from + simd::first_outside(scan.set, &prices[from..to], self.quiet.0, self.quiet.1)
            }
            Values::Grid(prices) => {
                from + prices[from..to].iter().position(|price| self.is_breached_by(*price)).unwrap_or(to - from)
            }
        };
        (found < to).then_some(found)
    }
}

/// Doubles between which no price can close the bar.
///
/// Narrower than the exact band by a few units in the last place. A price outside is a candidate that
/// integers must confirm; a price inside needs no exact check.
#[inline(always)]
fn quiet_range(lower: u64, upper: u64) -> (f64, f64) {
    const SLACK: f64 = 1.0 / (1u64 << 49) as f64;
    let below = (lower as i64 as f64 + 0.5) * ((1.0 + SLACK) / GRID_PER_UNIT);
    let above = if upper > i64::MAX as u64 {
        f64::INFINITY
    } else {
        (upper as i64 as f64 - 0.5) * ((1.0 - SLACK) / GRID_PER_UNIT)
    };
    (below, above)
}

impl Rule for Open {
    type State = Band;

    #[inline(always)]
    fn open(price: i64, distance: u64) -> Band {
        Band::around(price, distance)
    }

    fn resume(sums: &Sums, distance: u64) -> Band {
        Band::around(sums.open, distance)
    }

    fn may_be_forming(sums: &Sums, distance: u64, is_gated: bool) -> bool {
        let band = Band::around(sums.open, distance);
        let is_at_opening_time = is_gated && sums.close_time == sums.open_time;
        // With the gate, a price beyond the band may have occurred at the opening time.
        (is_at_opening_time || !band.is_breached_by(sums.close))
            && (is_gated || !(band.is_breached_by(sums.high) || band.is_breached_by(sums.low)))
    }

    #[inline]
    fn first_close(band: &mut Band, scan: Scan, opening_time: i64, (from, to): (usize, usize)) -> Option<usize> {
        let mut row = from;
        loop {
            row = band.first_candidate(scan, row, to)?;
            let is_gated = scan.is_gated && scan.ticks.time[row] == opening_time;
            if !is_gated && scan.ticks.price.grid(row).is_some_and(|price| band.is_breached_by(price)) {
                return Some(row);
            }
            row += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::arithmetic::grid::grid;
    use crate::core::rule::threshold::Threshold;
    use proptest::prelude::*;

    fn band(open: i64, dbps: u32) -> Band {
        Open::open(open, Threshold::try_from(dbps).unwrap().distance(open))
    }

    #[test]
    fn quarter_percent_of_fifty_thousand() {
        let band = band(5_000_000_000_000, 250);
        assert_eq!((band.lower, band.upper), (4_987_500_000_000, 5_012_500_000_000));
    }

    proptest! {
        #[test]
        fn the_band_is_the_rule(open in 1i64.., dbps in 1u32..=100_000, step in -2i128..=2) {
            let band = band(open, dbps);
            for edge in [band.lower, band.upper] {
                let Ok(price) = i64::try_from(i128::from(edge) + step) else { continue };
                if price <= 0 {
                    continue;
                }
                let far = (i128::from(price) - i128::from(open)).abs() * 100_000;
                prop_assert_eq!(band.is_breached_by(price), far >= i128::from(open) * i128::from(dbps));
            }
        }

        #[test]
        fn quiet_prices_close_nothing(
            open in 1i64..,
            distance in prop_oneof![(1u32..=100_000).prop_map(|dbps| Threshold::try_from(dbps).unwrap()),
                                    (1i64..).prop_map(|grid| Threshold::of_grid(grid).unwrap())],
            nudge in -3i64..=3,
        ) {
            let band = Open::open(open, distance.distance(open));
            let (lower, upper) = band.quiet;
            for edge in [lower, upper] {
                let price = f64::from_bits((edge.to_bits() as i64).wrapping_add(nudge) as u64);
                if price > lower && price < upper && let Some(price @ 1..) = grid(price) {
                    prop_assert!(!band.is_breached_by(price));
                }
            }
        }
    }
}
