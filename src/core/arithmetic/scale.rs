//! Conversion of decimals of any scale to the 1e-8 grid.

/// Decimal places of the grid.
const GRID_PLACES: usize = 8;

/// Factor or divisor from the integer of a decimal to the grid.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    Multiply(i128),
    Divide(Divisor),
}

impl Scale {
    /// Scale of decimals with this many places, at most 38.
    pub fn from_places(places: usize) -> Self {
        let power = |exponent: usize| 10i128.pow(u32::try_from(exponent.min(38)).unwrap_or(38));
        if places <= GRID_PLACES {
            Self::Multiply(power(GRID_PLACES - places))
        } else {
            Self::Divide(Divisor::new(power(places - GRID_PLACES).unsigned_abs()))
        }
    }

    /// The nearest grid value, with halves away from zero; `None` if it does not fit an `i64`.
    #[inline(always)]
    pub fn apply(self, value: i128) -> Option<i64> {
        match self {
            Self::Multiply(factor) => match (i64::try_from(value), i64::try_from(factor)) {
                (Ok(value), Ok(factor)) => value.checked_mul(factor),
                _ => i64::try_from(value.checked_mul(factor)?).ok(),
            },
            Self::Divide(divisor) => divisor.divide(value),
        }
    }
}

/// A power of ten as a divisor.
#[derive(Clone, Copy, Debug)]
pub struct Divisor {
    divisor: u128,
    /// The divisor in 64 bits and its reciprocal, if remainders fit 63 bits.
    quick: Option<(u64, f64)>,
}

impl Divisor {
    const LARGEST_QUICK: u128 = 1_000_000_000_000_000_000;

    fn new(divisor: u128) -> Self {
        let quick = (divisor <= Self::LARGEST_QUICK).then(|| (divisor as u64, 1.0 / divisor as f64));
        Self { divisor, quick }
    }

    #[inline(always)]
    fn divide(self, value: i128) -> Option<i64> {
        match self.divide_quick(value.unsigned_abs()) {
            Some(size) => Some(if value < 0 { -size } else { size }),
            None => self.divide_wide(value),
        }
    }

    #[cold]
    fn divide_wide(self, value: i128) -> Option<i64> {
        let size = value.unsigned_abs();
        let is_up = size % self.divisor >= self.divisor.div_ceil(2);
        // The divisor is at least ten, so the quotient fits 127 bits.
        let quotient = (size / self.divisor + u128::from(is_up)) as i128;
        i64::try_from(if value < 0 { -quotient } else { quotient }).ok()
    }

    /// Divides if the quotient is below 2^50. An estimate in double is at most one away from the true
    /// quotient; the remainder, which then fits 63 bits, corrects it.
    #[inline(always)]
    fn divide_quick(self, size: u128) -> Option<i64> {
        const TWO_64: f64 = 18_446_744_073_709_551_616.0;
        const LIMIT: f64 = (1u64 << 50) as f64;
        let (divisor, reciprocal) = self.quick?;
        let estimate = ((size >> 64) as u64 as f64 * TWO_64 + size as u64 as f64) * reciprocal;
        if estimate >= LIMIT {
            return None;
        }
        let quotient = estimate as i64;
        let rest = (size as u64).wrapping_sub((quotient as u64).wrapping_mul(divisor)) as i64;
        let (divisor, half) = (divisor as i64, divisor.div_ceil(2) as i64);
        let up = i64::from(rest >= half) + i64::from(rest >= divisor + half) - i64::from(rest < half - divisor);
        Some(quotient + up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_beyond_eight_round_half_away() {
        let scale = Scale::from_places(9);
        assert_eq!([14, 15, -14, -15].map(|value| scale.apply(value)), [Some(1), Some(2), Some(-1), Some(-2)]);
        assert_eq!(Scale::from_places(2).apply(123), Some(123_000_000));
        assert_eq!(Scale::from_places(0).apply(i128::MAX), None);
        assert_eq!(Scale::from_places(8).apply(i128::from(i64::MIN)), Some(i64::MIN));
    }

    /// The rule, written down.
    fn expected(value: i128, places: usize) -> Option<i64> {
        if places <= GRID_PLACES {
            return i64::try_from(value.checked_mul(10i128.pow((GRID_PLACES - places) as u32))?).ok();
        }
        let divisor = 10i128.pow((places - GRID_PLACES) as u32);
        let (quotient, rest) = (value / divisor, value % divisor);
        let is_up = rest.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2);
        i64::try_from(quotient + if is_up { value.signum() } else { 0 }).ok()
    }

    proptest! {
        #[test]
        fn every_scale_rounds_the_same_way(value in any::<i128>(), shift in 0u32..127, places in 0usize..=38) {
            let value = value >> shift;
            prop_assert_eq!(Scale::from_places(places).apply(value), expected(value, places));
        }

        #[test]
        fn values_around_halves_are_exact(
            quotient in -(1i128 << 51)..1 << 51,
            places in 9usize..=38,
            halves in 0i128..3,
            offset in -2i128..=2,
        ) {
            let divisor = 10i128.pow((places - GRID_PLACES) as u32);
            if let Some(value) = quotient.checked_mul(divisor) {
                let value = value.saturating_add(halves * divisor / 2 + offset);
                prop_assert_eq!(Scale::from_places(places).apply(value), expected(value, places));
            }
        }
    }
}
