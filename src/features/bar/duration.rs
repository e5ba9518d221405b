//! Duration: `close_time - open_time` in microseconds, rounded down.

use crate::core::columns::{BASE, Column, Extract, Group, Type, fill};
use crate::core::ticks::Inputs;

pub const COLUMN: Column = Column {
    name: "duration_us",
    dtype: Type::Int64,
    unit: "µs",
    group: Group::Microstructure,
    needs: Inputs::NONE,
    is_nullable: false,
    lower: Some(0.0),
    upper: None,
    meaning: "time from the first to the last record",
    extract: Extract::Int(|bars, context, out| fill(bars, out, |bar| bar.duration_us(context.unit))),
    ..BASE
};
