//! Thresholds: how far the price must move before a bar closes.

use std::num::{NonZeroU32, NonZeroU64};

use crate::core::arithmetic::grid::from_grid;
use crate::core::error::CoreError;

/// Decimal basis points in the whole price: one dbps is 0.001 %.
pub const DBPS_PER_UNIT: u64 = 100_000;

/// A threshold as a percentage of the opening price, or as an absolute distance.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_have_a_range() {
        assert!(Threshold::try_from(0).is_err());
        assert!(Threshold::try_from(100_001).is_err());
        assert_eq!(Threshold::try_from(250).ok().and_then(Threshold::dbps), Some(250));
    }
}
