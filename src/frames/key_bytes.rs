//! Keys to bytes and back, for checkpoints.

use polars::prelude::*;

use super::codes::float_bits;
use super::error::FrameError;
use crate::core::checkpoint::refuse;

/// A fixed-width column as 64-bit patterns, one pattern a value.
fn bits_of(series: &Series) -> PolarsResult<Vec<Option<u64>>> {
    let physical = series.to_physical_repr();
    match physical.dtype() {
        DataType::Float64 | DataType::Float32 => {
            let wide = physical.cast(&DataType::Float64)?;
            Ok(wide.f64()?.iter().map(|x| x.map(float_bits)).collect())
        }
        DataType::UInt64 => Ok(physical.u64()?.iter().collect()),
        _ => Ok(physical.cast(&DataType::Int64)?.i64()?.iter().map(|x| x.map(|x| x as u64)).collect()),
    }
}

fn is_text(dtype: &DataType) -> bool {
    matches!(dtype, DataType::String | DataType::Categorical(_, _) | DataType::Enum(_, _))
}

/// Bytes of each key.
///
/// # Errors
/// When Polars cannot read the column.
pub fn encode(series: &Series) -> PolarsResult<Vec<Option<Vec<u8>>>> {
    if is_text(series.dtype()) {
        let text = series.cast(&DataType::String)?;
        return Ok(text.str()?.iter().map(|text| text.map(|text| text.as_bytes().to_vec())).collect());
    }
    Ok(bits_of(series)?.into_iter().map(|bits| bits.map(|bits| bits.to_le_bytes().to_vec())).collect())
}

/// Keys from bytes; `empty` gives name and type.
///
/// # Errors
/// When the bytes are not keys of this type.
pub fn decode(values: &[Option<&[u8]>], empty: &Series) -> Result<Series, FrameError> {
    let refuse = || FrameError::from(refuse("it holds a value that is not a key of its data type"));
    let name = empty.name().clone();
    if is_text(empty.dtype()) {
        let text = values.iter().map(|value| value.map(std::str::from_utf8).transpose()).collect::<Result<Vec<_>, _>>();
        let text = text.map_err(|_| refuse())?;
        let text = StringChunked::from_iter_options(name, text.into_iter()).into_series();
        return text.strict_cast(empty.dtype()).map_err(|_| refuse());
    }
    let word =
        |value: &Option<&[u8]>| value.map(<[u8; 8]>::try_from).transpose().map(|bytes| bytes.map(u64::from_le_bytes));
    let bits = values.iter().map(word).collect::<Result<Vec<_>, _>>().map_err(|_| refuse())?;
    let physical = match empty.dtype() {
        DataType::Float64 | DataType::Float32 => {
            Float64Chunked::from_iter_options(name, bits.into_iter().map(|bits| bits.map(f64::from_bits))).into_series()
        }
        DataType::UInt64 => UInt64Chunked::from_iter_options(name, bits.into_iter()).into_series(),
        _ => Int64Chunked::from_iter_options(name, bits.into_iter().map(|bits| bits.map(|bits| bits as i64)))
            .into_series(),
    };
    if let DataType::Datetime(unit, zone) = empty.dtype() {
        // A cast would lose the zone.
        return Ok(physical.i64()?.clone().into_datetime(*unit, zone.clone()).into_series());
    }
    let narrow = physical.strict_cast(&empty.dtype().to_physical());
    narrow.and_then(|narrow| narrow.strict_cast(empty.dtype())).map_err(|_| refuse())
}
