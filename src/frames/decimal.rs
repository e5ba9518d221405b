//! Decimals and integers to the 1e-8 grid, in integer arithmetic.

use polars::prelude::*;
use polars_arrow::array::PrimitiveArray;

use super::error::FrameError;
use super::input::Chunks;

/// Decimal places of the grid.
const GRID_PLACES: usize = 8;
/// Grid values up to this size are recovered exactly from their double.
const EXACT_IN_DOUBLE: u64 = 1 << 50;

/// A converted column.
pub struct Converted {
    pub chunks: Chunks,
    /// First row whose value does not fit the grid.
    pub too_large: Option<usize>,
    /// First row whose value is positive and rounds to zero.
    pub vanished: Option<usize>,
}

/// Converts; digits beyond eight places are rounded half away from zero.
///
/// Columns of moderate size become doubles that stand for the same grid values, so that they take
/// the same quick path as doubles.
///
/// # Errors
/// When Polars cannot widen the column.
pub fn to_values(series: &Series) -> Result<Converted, FrameError> {
    let (wide, places) = match series.dtype() {
        DataType::Decimal(_, scale) => (series.to_physical_repr().into_owned(), *scale),
        _ => (series.cast(&DataType::Int128)?, 0),
    };
    let scale = Scale::from_places(places);
    let (mut too_large, mut vanished, mut row, mut largest) = (None, None, 0usize, 0u64);
    let mut chunks: Vec<Vec<i64>> = Vec::new();
    for chunk in wide.i128()?.downcast_iter() {
        let mut grids = Vec::with_capacity(chunk.len());
        for value in chunk.iter() {
            let grid = value.map_or(Some(0), |value| scale.apply(*value)).and_then(|wide| i64::try_from(wide).ok());
            if grid.is_none() && too_large.is_none() {
                too_large = Some(row);
            }
            if grid == Some(0) && value.is_some_and(|value| *value > 0) && vanished.is_none() {
                vanished = Some(row);
            }
            let grid = grid.unwrap_or(0);
            largest = largest.max(grid.unsigned_abs());
            grids.push(grid);
            row += 1;
        }
        chunks.push(grids);
    }
    // A value that Polars could not widen came back as null; a null of the input is reported as such.
    if wide.null_count() > series.null_count() && too_large.is_none() {
        too_large = first_lost(series, &wide);
    }
    let chunks = if largest <= EXACT_IN_DOUBLE { as_doubles(chunks) } else { as_integers(chunks) };
    Ok(Converted { chunks, too_large, vanished })
}

fn first_lost(series: &Series, wide: &Series) -> Option<usize> {
    (0..series.len()).find(|row| {
        wide.get(*row).is_ok_and(|value| value.is_null()) && series.get(*row).is_ok_and(|value| !value.is_null())
    })
}

fn as_doubles(chunks: Vec<Vec<i64>>) -> Chunks {
    let double = |grids: Vec<i64>| PrimitiveArray::from_vec(grids.into_iter().map(|grid| grid as f64 / 1e8).collect());
    Chunks::Floats(chunks.into_iter().map(double).collect())
}

fn as_integers(chunks: Vec<Vec<i64>>) -> Chunks {
    Chunks::Integers(chunks.into_iter().map(PrimitiveArray::from_vec).collect())
}

/// From a decimal's integer to the grid.
#[derive(Clone, Copy)]
enum Scale {
    Multiply(i128),
    Divide(i128),
}

impl Scale {
    fn from_places(places: usize) -> Self {
        let power = |exponent: usize| 10i128.pow(u32::try_from(exponent.min(38)).unwrap_or(38));
        if places <= GRID_PLACES {
            Self::Multiply(power(GRID_PLACES - places))
        } else {
            Self::Divide(power(places - GRID_PLACES))
        }
    }

    fn apply(self, value: i128) -> Option<i128> {
        match self {
            Self::Multiply(factor) => value.checked_mul(factor),
            Self::Divide(divisor) => {
                let (quotient, rest) = (value / divisor, value % divisor);
                let is_up = rest.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2);
                Some(quotient + if is_up { value.signum() } else { 0 })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_beyond_eight_round_half_away() {
        let scale = Scale::from_places(9);
        assert_eq!([14, 15, -14, -15].map(|value| scale.apply(value)), [Some(1), Some(2), Some(-1), Some(-2)]);
        assert_eq!(Scale::from_places(2).apply(123), Some(123_000_000));
        assert_eq!(Scale::from_places(0).apply(i128::MAX), None);
    }
}
