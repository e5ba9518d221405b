//! The 1e-8 grid on which prices and quantities are integers.

/// Grid units in one unit of price or quantity.
pub const GRID_PER_UNIT: f64 = 1e8;

/// Nearest grid value of a double: `x * 1e8` in double, rounded half away from zero.
///
/// `None` when `x` is not finite or the result does not fit 63 bits.
#[inline]
pub fn grid(x: f64) -> Option<i64> {
    let scaled = x * GRID_PER_UNIT;
    // 2^63 as a double; the comparison is false for NaN.
    if scaled.abs() < 9_223_372_036_854_775_808.0 { Some(scaled.round() as i64) } else { None }
}

/// A grid value in units of price or quantity.
#[inline]
pub fn from_grid(value: i64) -> f64 {
    value as f64 / GRID_PER_UNIT
}

/// Nearest double of a 128-bit integer, without a wide conversion in the common case.
#[inline]
pub fn to_f64(value: i128) -> f64 {
    match i64::try_from(value) {
        Ok(narrow) => narrow as f64,
        Err(_) => value as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_round_away_from_zero() {
        // These products are exact halves in double.
        assert_eq!(grid(2.5e-8), Some(3));
        assert_eq!(grid(-2.5e-8), Some(-3));
        assert_eq!(grid(5e-9), Some(1));
        assert_eq!(grid(4.9e-9), Some(0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(grid(f64::NAN), None);
        assert_eq!(grid(f64::INFINITY), None);
        assert_eq!(grid(9.3e10), None);
        assert!(grid(9.2e10).is_some());
    }
}
