//! Pushes of converted columns to the core, piece by piece.

use polars::prelude::*;

use crate::core::aggregate::{Aggregator, Ids};
use crate::core::bar::Bar;
use crate::core::builder::RangeBarBuilder;
use crate::core::keys::buckets::block_size;
use crate::core::ticks::{Bits, Ticks};
use crate::frames::error::FrameError;
use crate::frames::input::Columns;
use crate::frames::keys::Keyer;

/// Least number of records whose keys are encoded at once, so that the codes of few keys stay in the
/// cache.
const CODED_ROWS: usize = 65_536;

/// Pushes a piece in parts whose records are of one type in memory, up to its first fault.
///
/// # Errors
/// At the first invalid record.
pub fn push_pieces(
    builder: &mut RangeBarBuilder,
    columns: &mut Columns,
    keyer: &mut Keyer,
    keys: &[Series],
    sink: &mut dyn FnMut(&mut Vec<Bar>),
) -> Result<(), FrameError> {
    let first_row = builder.rows();
    let mut bars = Vec::new();
    for (row, ticks) in columns.pieces() {
        if keys.is_empty() {
            builder.push(&ticks, None, &mut bars, sink)?;
            continue;
        }
        let mut to = 0;
        while to < ticks.len() {
            let from = to;
            to = ticks.len().min(from + block_size(keyer.count()).max(CODED_ROWS));
            let part = keys.iter().map(|series| series.slice((row + from) as i64, to - from)).collect::<Vec<_>>();
            let codes = keyer.codes(&part)?;
            builder.push(&ticks.slice(from, to), Some(&codes), &mut bars, sink)?;
        }
    }
    raise_fault(columns, |row| builder.fault_context().row(first_row + row as u64))
}

/// Raises the fault of the columns, if there is one, with the number of its row.
///
/// # Errors
/// When there is one.
pub fn raise_fault(columns: &mut Columns, number: impl Fn(usize) -> u64) -> Result<(), FrameError> {
    match columns.fault.take() {
        None => Ok(()),
        Some(fault) => Err((fault.describe)(number(fault.row)).into()),
    }
}

/// Pushes a piece with the matching part of an id column of any width.
///
/// # Errors
/// At the first invalid record, and when the ids are not integers.
pub fn push_ids(
    aggregator: &mut Aggregator,
    ids: &Series,
    row: usize,
    ticks: &Ticks,
    bars: &mut Vec<Bar>,
    flush: &mut dyn FnMut(&mut Vec<Bar>),
) -> Result<(), FrameError> {
    let mut push = IdPush { aggregator, ticks, row, bars, flush };
    match ids.dtype() {
        DataType::Int8 => push.chunks(ids.i8()?),
        DataType::Int16 => push.chunks(ids.i16()?),
        DataType::Int32 => push.chunks(ids.i32()?),
        DataType::Int64 => push.chunks(ids.i64()?),
        DataType::UInt8 => push.chunks(ids.u8()?),
        DataType::UInt16 => push.chunks(ids.u16()?),
        DataType::UInt32 => push.chunks(ids.u32()?),
        DataType::UInt64 => push.chunks(ids.u64()?),
        other => Err(FrameError::Type(format!("bar ids must be integers, got {other:?}"))),
    }
}

/// A push of a piece to the aggregator, generic over the width of its ids.
struct IdPush<'a, 'b> {
    aggregator: &'a mut Aggregator,
    ticks: &'a Ticks<'b>,
    row: usize,
    bars: &'a mut Vec<Bar>,
    flush: &'a mut dyn FnMut(&mut Vec<Bar>),
}

impl IdPush<'_, '_> {
    fn chunks<T: PolarsNumericType>(&mut self, ids: &ChunkedArray<T>) -> Result<(), FrameError>
    where
        T::Native: Into<i128>,
    {
        let mut from = 0;
        for chunk in ids.slice(self.row as i64, self.ticks.len()).downcast_iter() {
            let to = from + chunk.len();
            let validity = chunk.validity().map(|validity| {
                let (bytes, offset, _) = validity.as_slice();
                Bits { bytes, offset }
            });
            let ids = Ids { values: chunk.values().as_slice(), validity };
            self.aggregator.push(&self.ticks.slice(from, to), ids, self.bars, self.flush)?;
            from = to;
        }
        Ok(())
    }
}
