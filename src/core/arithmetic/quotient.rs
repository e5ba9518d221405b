//! Quotients of wide integers as doubles, rounded once.

/// Units of turnover, 1e-16, in one unit of money.
const TURNOVER_PER_UNIT: u64 = 10_000_000_000_000_000;

/// An unevaluated sum of two doubles.
#[derive(Clone, Copy)]
struct Double {
    high: f64,
    low: f64,
}

impl Double {
    /// An integer with a relative error of at most 2^-105.
    #[inline]
    fn near(value: u128) -> Self {
        const SHIFT: u32 = 11;
        Self::of(value).unwrap_or_else(|| {
            let scale = f64::from(1u32 << SHIFT);
            // Below 2^117 after the shift, so there is a value.
            let shifted = Self::of(value >> SHIFT).unwrap_or(Self { high: f64::NAN, low: 0.0 });
            Self { high: shifted.high * scale, low: shifted.low * scale }
        })
    }

    /// An integer as high and low part; `None` from 2^117 on.
    #[inline]
    fn of(value: u128) -> Option<Self> {
        const TWO_32: f64 = 4_294_967_296.0;
        let top = (value >> 64) as u64;
        if top >= 1 << 53 {
            return None;
        }
        let (middle, bottom) = (value as u64 >> 32, value as u64 & 0xffff_ffff);
        // All three are exact, and each is smaller than the last place of two before it.
        let (a, b, c) = (top as f64 * (TWO_32 * TWO_32), middle as f64 * TWO_32, bottom as f64);
        let sum = a + b;
        let rest = (b - (sum - a)) + c;
        let high = sum + rest;
        Some(Self { high, low: rest - (high - sum) })
    }
}

/// High part and remainder of a quotient. Their sum has a relative error of at most 2^-90.
#[inline]
fn divide(numerator: Double, denominator: Double) -> (f64, f64) {
    let quotient = numerator.high / denominator.high;
    let rest =
        (-quotient).mul_add(denominator.high, numerator.high) + (-quotient).mul_add(denominator.low, numerator.low);
    (quotient, rest / denominator.high)
}

/// Turnover in money: `turnover / 1e16`, correctly rounded.
#[inline]
pub fn money(turnover: i128) -> f64 {
    let size = turnover.unsigned_abs();
    let rounded = money_quick(size).unwrap_or_else(|| money_exact(size));
    if turnover < 0 { -rounded } else { rounded }
}

#[inline]
fn money_quick(size: u128) -> Option<f64> {
    const DENOMINATOR: Double = Double { high: TURNOVER_PER_UNIT as f64, low: 0.0 };
    if size < 1 << 53 {
        return Some(size as u64 as f64 / TURNOVER_PER_UNIT as f64);
    }
    let (quotient, rest) = divide(Double::of(size)?, DENOMINATOR);
    let sum = quotient + rest;
    let lost = rest - (sum - quotient);
    // Certain unless the part lost is so close to half a unit in the last place that its error decides.
    let is_certain = sum == sum + lost * (1.0 + 1e-9) && sum == sum + lost * (1.0 - 1e-9);
    is_certain.then_some(sum)
}

/// Divides with a sticky bit.
fn money_exact(size: u128) -> f64 {
    let shift = size.leading_zeros();
    let (quotient, rest) = {
        let wide = size << shift;
        (wide / u128::from(TURNOVER_PER_UNIT), wide % u128::from(TURNOVER_PER_UNIT))
    };
    // The quotient has at least 74 bits: the sticky bit is far below the last place of the result.
    let sticky = quotient | u128::from(rest != 0);
    sticky as f64 / 2f64.powi(shift as i32)
}

/// Volume-weighted average price: turnover (1e-16) over volume (1e-8), in units of price.
#[inline]
pub fn vwap(turnover: i128, volume: i128) -> f64 {
    match volume.unsigned_abs().checked_mul(100_000_000) {
        Some(scaled) => {
            let (quotient, rest) = divide(Double::near(turnover.unsigned_abs()), Double::near(scaled));
            quotient + rest
        }
        None => turnover as f64 / volume as f64 / 1e8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_go_to_even() {
        // 2^53 + 1 lies between two doubles; the quotient by 1e16 of its 1e16-fold does not fit 128
        // bits, so the tie is made below 2^64: (2^54 + 2) * 1e16 / 2 needs rounding at the last bit.
        let tie = i128::from((1u64 << 53) + 1) * i128::from(TURNOVER_PER_UNIT);
        assert_eq!(money(tie), 9_007_199_254_740_992.0);
        assert_eq!(money(tie + 1), 9_007_199_254_740_994.0);
    }

    proptest! {
        #[test]
        fn quick_and_exact_agree(size in any::<u128>(), shift in 1u32..127) {
            let size = size >> shift;
            if size >= 1 << 53 && let Some(quick) = money_quick(size) {
                prop_assert_eq!(quick, money_exact(size));
            }
        }

        #[test]
        fn most_turnovers_are_quick(size in (1u128 << 53)..(1 << 110)) {
            prop_assert!(money_quick(size).is_some());
        }

        #[test]
        fn vwap_is_near_the_long_division(price in 1u64..1 << 62, volume in 1u64..1 << 62, shift in 0u32..60) {
            let (price, volume) = (i128::from(price >> shift) + 1, i128::from(volume >> shift) + 1);
            let near = price as f64 / 1e8;
            prop_assert!((vwap(price * volume, volume) - near).abs() <= near * f64::EPSILON);
        }
    }
}
