//! Range of prices: `(high - low) / open`, and the volatility of Garman and Klass (1980),
//! `√(½A² - (2 ln 2 - 1)B²)` with `A = ln(high / low)` and `B = ln(close / open)`.
//!
//! Prices 100, 102, 101 give a range of 0.02.

use std::f64::consts::LN_2;

use crate::core::sample::family::{Formula, float};
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::ratio;
use crate::features::shared::{Definition, POSITIVE, records};

pub const PRICE_RANGE: Definition = records(
    "ratio",
    Inputs::NONE,
    POSITIVE,
    1,
    Formula::Summary(|sample| float(ratio((sample.high - sample.low) as f64, sample.open as f64)), Uses::PRICE),
);

pub const GARMAN_KLASS_VOL: Definition = records(
    "ratio",
    Inputs::NONE,
    POSITIVE,
    2,
    Formula::Summary(|sample| float(Some(garman_klass(sample))), Uses::PRICE),
);

fn garman_klass(sample: &Summary) -> f64 {
    let range = libm::log1p((sample.high - sample.low) as f64 / sample.low as f64);
    let change = (sample.close - sample.open) as f64 / sample.open as f64;
    // After a fall to less than 2^-53 of the open, the quotient has no digit left.
    let is_lost = change <= -1.0;
    let change = if is_lost { libm::log(sample.close as f64 / sample.open as f64) } else { libm::log1p(change) };
    (0.5 * range * range - (2.0 * LN_2 - 1.0) * change * change).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::TimeUnit;

    #[test]
    fn a_fall_to_almost_nothing_has_a_volatility() {
        let mut sample = Summary::empty(TimeUnit::Microseconds);
        (sample.open, sample.high, sample.low, sample.close) = (1 << 60, 1 << 60, 1, 1);
        // `A` and `B` are both `60 ln 2`.
        let expected = 60.0 * LN_2 * (0.5 - (2.0 * LN_2 - 1.0)).sqrt();
        assert!((garman_klass(&sample) - expected).abs() < 1e-12 * expected);
    }
}
