//! Units: the 1e-8 grid, thresholds, time units.

use std::num::{NonZeroU32, NonZeroU64};

use crate::core::error::CoreError;

/// Grid units in one unit of price or quantity.
pub const GRID_PER_UNIT: f64 = 1e8;
/// Parts of a threshold in the whole price: one dbps is 0.001 %.
pub const DBPS_PER_UNIT: u64 = 100_000;

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

/// Nearest double of a 128-bit integer; the common case avoids the wide conversion.
#[inline]
pub fn to_f64(value: i128) -> f64 {
    match i64::try_from(value) {
        Ok(narrow) => narrow as f64,
        Err(_) => value as f64,
    }
}

/// How far the price must move: a part of the opening price, or an absolute distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Decimal basis points, 1 to 100 000 (0.001 % to 100 %).
    Dbps(NonZeroU32),
    /// Grid units.
    Grid(NonZeroU64),
}

impl Threshold {
    pub const MAX: u32 = 100_000;

    /// An absolute distance in grid units.
    ///
    /// # Errors
    /// When it is not above 0.
    pub fn of_grid(distance: i64) -> Result<Self, CoreError> {
        match u64::try_from(distance).ok().and_then(NonZeroU64::new) {
            Some(distance) => Ok(Self(Kind::Grid(distance))),
            None => Err(CoreError::Distance { distance }),
        }
    }

    /// The percentage in decimal basis points; `None` for an absolute distance.
    #[inline]
    pub fn dbps(self) -> Option<u32> {
        match self.0 {
            Kind::Dbps(dbps) => Some(dbps.get()),
            Kind::Grid(_) => None,
        }
    }

    /// The absolute distance in units of price; `None` for a percentage.
    #[inline]
    pub fn absolute(self) -> Option<f64> {
        match self.0 {
            Kind::Dbps(_) => None,
            Kind::Grid(distance) => Some(from_grid(distance.get() as i64)),
        }
    }

    /// The smallest number of grid units that reaches the threshold from an opening price.
    #[inline(always)]
    pub fn distance(self, open: i64) -> u64 {
        match self.0 {
            Kind::Dbps(dbps) => {
                let (open, dbps) = (open.unsigned_abs(), u64::from(dbps.get()));
                match open.checked_mul(dbps) {
                    Some(product) => product.div_ceil(DBPS_PER_UNIT),
                    None => (u128::from(open) * u128::from(dbps)).div_ceil(u128::from(DBPS_PER_UNIT)) as u64,
                }
            }
            Kind::Grid(distance) => distance.get(),
        }
    }
}

impl TryFrom<u32> for Threshold {
    type Error = CoreError;

    fn try_from(dbps: u32) -> Result<Self, CoreError> {
        match NonZeroU32::new(dbps) {
            Some(value) if dbps <= Self::MAX => Ok(Self(Kind::Dbps(value))),
            _ => Err(CoreError::Threshold { dbps }),
        }
    }
}

/// Resolution of the time column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl TimeUnit {
    pub fn per_second(self) -> i64 {
        match self {
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }

    /// Length of a unit in nanoseconds.
    pub fn nanoseconds(self) -> i64 {
        1_000_000_000 / self.per_second()
    }

    /// The time from one instant to another in whole microseconds, rounded down; the largest value
    /// where it does not fit.
    #[inline]
    pub fn microseconds_between(self, from: i64, to: i64) -> i64 {
        let wide = || {
            let span = i128::from(to) - i128::from(from);
            let microseconds = (span * 1_000_000).div_euclid(i128::from(self.per_second()));
            i64::try_from(microseconds).unwrap_or(if span < 0 { i64::MIN } else { i64::MAX })
        };
        let Some(span) = to.checked_sub(from) else { return wide() };
        match self {
            Self::Milliseconds => span.checked_mul(1_000).unwrap_or_else(wide),
            Self::Microseconds => span,
            Self::Nanoseconds => span.div_euclid(1_000),
        }
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

    #[test]
    fn thresholds_have_a_range() {
        assert!(Threshold::try_from(0).is_err());
        assert!(Threshold::try_from(100_001).is_err());
        assert_eq!(Threshold::try_from(250).ok().and_then(Threshold::dbps), Some(250));
    }
}
