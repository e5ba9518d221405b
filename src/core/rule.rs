//! Where a bar ends.
//!
//! Open-anchored range rule: a bar opened at price `o` closes on the first later record whose price
//! `p` has `|p - o| * 100 000 >= o * threshold`, in exact integers on the 1e-8 grid. The closing
//! record belongs to the bar it closes; the next record opens the next bar.

use super::units::{DBPS_PER_UNIT, GRID_PER_UNIT, Threshold};

/// The two grid prices at or beyond which a bar closes.
///
/// With a threshold of at most 100 % both fit 64 bits without a sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Band {
    pub lower: u64,
    pub upper: u64,
}

impl Band {
    /// Whether a grid price, which is positive, closes the bar.
    #[inline(always)]
    pub fn is_breached_by(&self, price: i64) -> bool {
        let price = price as u64;
        price >= self.upper || price <= self.lower
    }

    /// Doubles between which no price can close the bar.
    ///
    /// Wider than exact by a few units in the last place, so a price outside is a candidate that
    /// integers must confirm, and a price inside needs no second look.
    #[inline(always)]
    pub fn quiet_range(&self) -> (f64, f64) {
        const SLACK: f64 = 1.0 / (1u64 << 49) as f64;
        let lower = (self.lower as i64 as f64 + 0.5) * ((1.0 + SLACK) / GRID_PER_UNIT);
        let upper = if self.upper > i64::MAX as u64 {
            f64::INFINITY
        } else {
            (self.upper as i64 as f64 - 0.5) * ((1.0 - SLACK) / GRID_PER_UNIT)
        };
        (lower, upper)
    }
}

/// A rule that fixes a bar's end from its opening price.
pub trait Rule {
    fn band(&self, open: i64) -> Band;
}

/// The open-anchored percentage rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeRule(pub Threshold);

impl Rule for RangeRule {
    /// The smallest integer distance that satisfies the rule, on both sides of the open.
    #[inline(always)]
    fn band(&self, open: i64) -> Band {
        let (open, dbps) = (open.unsigned_abs(), u64::from(self.0.dbps()));
        let distance = match open.checked_mul(dbps) {
            Some(product) => product.div_ceil(DBPS_PER_UNIT),
            None => (u128::from(open) * u128::from(dbps)).div_ceil(u128::from(DBPS_PER_UNIT)) as u64,
        };
        // The subtraction cannot saturate, and the addition only at an opening price that is refused.
        Band { lower: open.saturating_sub(distance), upper: open.saturating_add(distance) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(dbps: u32) -> RangeRule {
        RangeRule(Threshold::try_from(dbps).unwrap())
    }

    #[test]
    fn quarter_percent_of_fifty_thousand() {
        let band = rule(250).band(5_000_000_000_000);
        assert_eq!((band.lower, band.upper), (4_987_500_000_000, 5_012_500_000_000));
    }

    proptest! {
        #[test]
        fn the_band_is_the_rule(open in 1i64.., dbps in 1u32..=100_000, step in -2i128..=2) {
            let band = rule(dbps).band(open);
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
        fn quiet_prices_close_nothing(open in 1i64.., dbps in 1u32..=100_000, nudge in -3i64..=3) {
            let band = rule(dbps).band(open);
            let (lower, upper) = band.quiet_range();
            for edge in [lower, upper] {
                let price = f64::from_bits((edge.to_bits() as i64 + nudge) as u64);
                if price > lower && price < upper && let Some(price) = super::super::units::grid(price) {
                    prop_assert!(!band.is_breached_by(price));
                }
            }
        }
    }
}
