//! Conversion of key values to 64-bit words or bytes, and back.

use polars::prelude::*;

use crate::core::checkpoint::unusable;
use crate::frames::error::FrameError;

/// A column without text as 64-bit words; categories as their numbers.
///
/// # Errors
/// When Polars cannot read the column.
pub fn to_words(series: &Series) -> PolarsResult<Vec<Option<u64>>> {
    let physical = series.to_physical_repr();
    match physical.dtype() {
        DataType::Float64 | DataType::Float32 => {
            let wide = physical.cast(&DataType::Float64)?;
            Ok(wide.f64()?.iter().map(|x| x.map(f64::to_bits)).collect())
        }
        DataType::UInt64 => Ok(physical.u64()?.iter().collect()),
        _ => Ok(physical.cast(&DataType::Int64)?.i64()?.iter().map(|x| x.map(|x| x as u64)).collect()),
    }
}

/// The column of these words; `empty` has its name and type.
///
/// # Errors
/// When they are not of this type.
pub fn from_words(words: impl Iterator<Item = Option<u64>>, empty: &Series) -> PolarsResult<Series> {
    let (name, dtype) = (empty.name().clone(), empty.dtype());
    let physical = match dtype {
        DataType::Float64 | DataType::Float32 => {
            Float64Chunked::from_iter_options(name, words.map(|word| word.map(f64::from_bits))).into_series()
        }
        DataType::UInt64 => UInt64Chunked::from_iter_options(name, words).into_series(),
        _ => Int64Chunked::from_iter_options(name, words.map(|word| word.map(|word| word as i64))).into_series(),
    };
    match dtype {
        // A cast would lose the zone.
        DataType::Datetime(unit, zone) => Ok(physical.i64()?.clone().into_datetime(*unit, zone.clone()).into_series()),
        DataType::Categorical(_, _) | DataType::Enum(_, _) => {
            categories(&physical.strict_cast(&dtype.to_physical())?, dtype)
        }
        _ => physical.strict_cast(&dtype.to_physical())?.strict_cast(dtype),
    }
}

/// The categories with these numbers.
fn categories(numbers: &Series, dtype: &DataType) -> PolarsResult<Series> {
    let dtype = dtype.clone();
    Ok(match numbers.dtype() {
        DataType::UInt8 => {
            CategoricalChunked::<Categorical8Type>::from_cats_and_dtype(numbers.u8()?.clone(), dtype).into_series()
        }
        DataType::UInt16 => {
            CategoricalChunked::<Categorical16Type>::from_cats_and_dtype(numbers.u16()?.clone(), dtype).into_series()
        }
        _ => CategoricalChunked::<Categorical32Type>::from_cats_and_dtype(numbers.u32()?.clone(), dtype).into_series(),
    })
}

fn is_text(dtype: &DataType) -> bool {
    matches!(dtype, DataType::String | DataType::Categorical(_, _) | DataType::Enum(_, _))
}

/// Keys from the bytes of a checkpoint; `empty` has their name and type.
///
/// # Errors
/// When the bytes are not keys of this type.
pub fn decode(values: &[Option<&[u8]>], empty: &Series) -> Result<Series, FrameError> {
    let invalid = || FrameError::from(unusable("it holds a value that is not a key of its data type"));
    if is_text(empty.dtype()) {
        let text = values.iter().map(|value| value.map(std::str::from_utf8).transpose()).collect::<Result<Vec<_>, _>>();
        let text = text.map_err(|_| invalid())?;
        let text = StringChunked::from_iter_options(empty.name().clone(), text.into_iter()).into_series();
        return text.strict_cast(empty.dtype()).map_err(|_| invalid());
    }
    let word =
        |value: &Option<&[u8]>| value.map(<[u8; 8]>::try_from).transpose().map(|bytes| bytes.map(u64::from_le_bytes));
    let words = values.iter().map(word).collect::<Result<Vec<_>, _>>().map_err(|_| invalid())?;
    from_words(words.into_iter(), empty).map_err(|_| invalid())
}
