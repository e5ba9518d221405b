//! Conversion of decimals and integers to the 1e-8 grid, in integer arithmetic.

use polars::prelude::*;
use polars_arrow::array::{Array, PrimitiveArray};

use crate::core::arithmetic::contracts::coins;
use crate::core::arithmetic::grid::grid;
use crate::core::arithmetic::scale::Scale;
use crate::frames::chunks::Chunks;
use crate::frames::error::FrameError;

/// Grid values in one unit.
const GRID_PER_UNIT: i64 = 100_000_000;
/// Grid values up to this size are recovered exactly from their double.
const EXACT_IN_DOUBLE: u64 = 1 << 50;

/// A converted column.
pub struct Converted {
    pub chunks: Chunks,
    /// First row whose value does not fit the grid.
    pub too_large: Option<usize>,
    /// First row whose value is positive and rounds to zero.
    pub rounds_to_zero: Option<usize>,
}

/// Converts a column, with digits beyond eight places rounded half away from zero.
///
/// If all values are moderate, they become doubles with the same grid values, for which the core has a
/// quick path.
///
/// # Errors
/// When Polars cannot widen the column.
pub fn to_values(series: &Series) -> Result<Converted, FrameError> {
    if series.null_count() == 0
        && let Some(chunks) = moderate_integers(series)?
    {
        return Ok(Converted { chunks, too_large: None, rounds_to_zero: None });
    }
    let (wide, places) = match series.dtype() {
        DataType::Decimal(_, scale) => (series.to_physical_repr().into_owned(), *scale),
        _ => (series.cast(&DataType::Int128)?, 0),
    };
    let mut grid = Grid::new(Scale::from_places(places));
    for chunk in wide.i128()?.downcast_iter() {
        if chunk.null_count() == 0 {
            grid.add(chunk.len(), chunk.values().iter().map(|value| Some(*value)));
        } else {
            grid.add(chunk.len(), chunk.iter().map(|value| value.copied()));
        }
    }
    let Grid { chunks, largest, mut too_large, rounds_to_zero, .. } = grid;
    // Polars turns a value that it cannot widen into null; nulls of the input are reported elsewhere.
    if wide.null_count() > series.null_count() && too_large.is_none() {
        too_large = first_overflow(series, &wide);
    }
    let chunks = if largest <= EXACT_IN_DOUBLE { as_doubles(chunks) } else { as_integers(chunks) };
    Ok(Converted { chunks, too_large, rounds_to_zero })
}

/// An integer with a size and a conversion to double in one instruction.
trait Whole: Copy + Ord {
    fn size(self) -> u64;
    fn double(self) -> f64;
}

macro_rules! whole {
    ($($number:ty: $size:expr),*) => {$(
        impl Whole for $number {
            #[inline(always)]
            fn size(self) -> u64 {
                let size: fn($number) -> _ = $size;
                u64::from(size(self))
            }

            #[inline(always)]
            fn double(self) -> f64 {
                self as f64
            }
        }
    )*};
}

whole!(
    i8: i8::unsigned_abs, i16: i16::unsigned_abs, i32: i32::unsigned_abs, i64: i64::unsigned_abs,
    u8: |x| x, u16: |x| x, u32: |x| x, u64: |x| x
);

/// Integers without nulls as doubles; `None` if a value is large or the type has more than 64 bits.
fn moderate_integers(series: &Series) -> Result<Option<Chunks>, FrameError> {
    Ok(match series.dtype() {
        DataType::Int8 => integers_to_doubles(series.i8()?),
        DataType::Int16 => integers_to_doubles(series.i16()?),
        DataType::Int32 => integers_to_doubles(series.i32()?),
        DataType::Int64 => integers_to_doubles(series.i64()?),
        DataType::UInt8 => integers_to_doubles(series.u8()?),
        DataType::UInt16 => integers_to_doubles(series.u16()?),
        DataType::UInt32 => integers_to_doubles(series.u32()?),
        DataType::UInt64 => integers_to_doubles(series.u64()?),
        _ => None,
    })
}

fn integers_to_doubles<T>(column: &ChunkedArray<T>) -> Option<Chunks>
where
    T: PolarsNumericType,
    T::Native: Whole,
{
    const LARGEST: u64 = EXACT_IN_DOUBLE / GRID_PER_UNIT.unsigned_abs();
    let mut chunks = Vec::with_capacity(column.chunks().len());
    for chunk in column.downcast_iter() {
        let values = chunk.values().as_slice();
        if let (Some(low), Some(high)) = (values.iter().min(), values.iter().max())
            && low.size().max(high.size()) > LARGEST
        {
            return None;
        }
        chunks.push(PrimitiveArray::from_vec(values.iter().map(|value| value.double()).collect()));
    }
    Some(Chunks::Floats(chunks))
}

fn first_overflow(series: &Series, wide: &Series) -> Option<usize> {
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

/// Quantities in coins, converted from contracts.
pub struct Coins {
    pub chunks: Chunks,
    /// First row whose contracts are not a quantity, although its price is one.
    pub invalid: Option<usize>,
    /// First row whose coins do not fit the grid.
    pub too_large: Option<usize>,
}

/// The grid values of a column; `None` where a double has none.
fn grids(column: &Chunks) -> Box<dyn Iterator<Item = Option<i64>> + '_> {
    match column {
        Chunks::Floats(chunks) => Box::new(chunks.iter().flat_map(|chunk| chunk.values().iter().map(|x| grid(*x)))),
        Chunks::Integers(chunks) => Box::new(chunks.iter().flat_map(|chunk| chunk.values().iter().map(|x| Some(*x)))),
        Chunks::Absent | Chunks::Bits(_) => Box::new(std::iter::empty()),
    }
}

/// Converts contracts to coins at the price of each record.
///
/// A record whose price is not valid gets no coins; its price is refused later.
pub fn to_coins(price: &Chunks, contracts: &Chunks, size: i64) -> Coins {
    let (mut converted, mut largest) = (Vec::new(), 0);
    let (mut invalid, mut too_large) = (None, None);
    for (row, (price, contracts)) in grids(price).zip(grids(contracts)).enumerate() {
        let value = match (price, contracts) {
            (Some(price @ 1..), Some(contracts @ 0..)) => {
                let value = coins(contracts, size, price);
                too_large = too_large.or(value.is_none().then_some(row));
                value.unwrap_or(0)
            }
            (Some(1..), _) => {
                invalid = invalid.or(Some(row));
                0
            }
            _ => 0,
        };
        largest = largest.max(value.unsigned_abs());
        converted.push(value);
    }
    let chunks = vec![converted];
    Coins {
        chunks: if largest <= EXACT_IN_DOUBLE { as_doubles(chunks) } else { as_integers(chunks) },
        invalid,
        too_large,
    }
}

/// A column on the grid, under construction; nulls become 0.
struct Grid {
    scale: Scale,
    chunks: Vec<Vec<i64>>,
    largest: u64,
    too_large: Option<usize>,
    rounds_to_zero: Option<usize>,
    rows: usize,
}

impl Grid {
    fn new(scale: Scale) -> Self {
        Self { scale, chunks: Vec::new(), largest: 0, too_large: None, rounds_to_zero: None, rows: 0 }
    }

    fn add(&mut self, len: usize, values: impl Iterator<Item = Option<i128>> + Clone) {
        let (scale, rows) = (self.scale, self.rows);
        let (mut largest, mut has_faults) = (self.largest, false);
        let mut grids = Vec::with_capacity(len);
        grids.extend(values.clone().map(|value| {
            let value = value.unwrap_or(0);
            let fitting = scale.apply(value);
            has_faults |= fitting.is_none() | (fitting == Some(0) && value > 0);
            let grid = fitting.unwrap_or(0);
            largest = largest.max(grid.unsigned_abs());
            grid
        }));
        if has_faults {
            let first = |is_at_fault: fn(i128, Option<i64>) -> bool| {
                let at = values.clone().position(|value| value.is_some_and(|x| is_at_fault(x, scale.apply(x))));
                at.map(|at| rows + at)
            };
            self.too_large = self.too_large.or_else(|| first(|_, grid| grid.is_none()));
            self.rounds_to_zero = self.rounds_to_zero.or_else(|| first(|value, grid| grid == Some(0) && value > 0));
        }
        (self.largest, self.rows) = (largest, rows + grids.len());
        self.chunks.push(grids);
    }
}
