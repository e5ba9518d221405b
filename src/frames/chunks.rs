//! Converted columns in chunks, and views of them for the core.

use polars::prelude::*;
use polars_arrow::array::{Array, PrimitiveArray};
use polars_arrow::bitmap::Bitmap;

use crate::core::ticks::{Bits, Values};
use crate::frames::error::FrameError;

/// Chunks of a converted column.
pub enum Chunks {
    Absent,
    Floats(Vec<PrimitiveArray<f64>>),
    Integers(Vec<PrimitiveArray<i64>>),
    Bits(Vec<Bitmap>),
}

impl Chunks {
    pub fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Absent => Vec::new(),
            Self::Floats(chunks) => chunks.iter().map(Array::len).collect(),
            Self::Integers(chunks) => chunks.iter().map(Array::len).collect(),
            Self::Bits(chunks) => chunks.iter().map(Bitmap::len).collect(),
        }
    }

    pub fn values(&self, position: Position, len: usize) -> Option<Values<'_>> {
        let (from, to) = (position.offset, position.offset + len);
        match self {
            Self::Floats(chunks) => Some(Values::Float(&chunks[position.chunk].values().as_slice()[from..to])),
            Self::Integers(chunks) => Some(Values::Grid(&chunks[position.chunk].values().as_slice()[from..to])),
            Self::Absent | Self::Bits(_) => None,
        }
    }

    pub fn integers(&self, position: Position, len: usize) -> Option<&[i64]> {
        match self {
            Self::Integers(chunks) => {
                Some(&chunks[position.chunk].values().as_slice()[position.offset..position.offset + len])
            }
            _ => None,
        }
    }

    pub fn bits(&self, position: Position) -> Option<Bits<'_>> {
        match self {
            Self::Bits(chunks) => {
                let (bytes, offset, _) = chunks[position.chunk].as_slice();
                Some(Bits { bytes, offset }.slice(position.offset))
            }
            _ => None,
        }
    }
}

/// Position of a row in a chunked column.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    pub chunk: usize,
    pub offset: usize,
}

/// Chunks of an Int64 column.
///
/// # Errors
/// When the column is of another type.
pub fn integers(series: &Series) -> Result<Chunks, FrameError> {
    Ok(Chunks::Integers(series.i64()?.downcast_iter().cloned().collect()))
}

/// Chunks of a Boolean column, and the nulls of each chunk that has some. Where a value is null, its
/// flag is clear.
///
/// # Errors
/// When the column is of another type.
pub fn flags(series: &Series) -> Result<(Chunks, Vec<Option<Bitmap>>), FrameError> {
    let (mut flags, mut nulls) = (Vec::new(), Vec::new());
    for chunk in series.bool()?.downcast_iter() {
        let validity = chunk.validity().filter(|validity| validity.unset_bits() > 0);
        flags.push(validity.map_or_else(|| chunk.values().clone(), |validity| chunk.values() & validity));
        nulls.push(validity.map(|validity| !validity));
    }
    Ok((Chunks::Bits(flags), nulls))
}
