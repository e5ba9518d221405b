//! Columns of times: their unit, and what to write where the unit is missing or was taken for another.

use polars::prelude::*;

use crate::core::error::DataError;
use crate::core::time::TimeUnit as CoreUnit;
use crate::frames::error::{Fault, FrameError, wrong_type};

/// Seconds from 1970 to the year 2200.
const LATEST_S: i64 = 7_258_118_400;
/// Values of a unit lie between this many seconds after 1970, in 1973, and a thousand times as many.
const EARLIEST_S: f64 = 1e8;

/// Time unit of a time type.
///
/// # Errors
/// When it is not a Datetime, with what to write instead.
pub fn time_unit(name: &str, dtype: &DataType) -> Result<CoreUnit, FrameError> {
    match dtype {
        DataType::Datetime(unit, _) => Ok(core_unit(*unit)),
        other => Err(wrong_type(name, "Datetime", other, &hint(name, other, None))),
    }
}

fn core_unit(unit: TimeUnit) -> CoreUnit {
    match unit {
        TimeUnit::Milliseconds => CoreUnit::Milliseconds,
        TimeUnit::Microseconds => CoreUnit::Microseconds,
        TimeUnit::Nanoseconds => CoreUnit::Nanoseconds,
    }
}

/// Refuses a column that is not a Datetime, with the call for the unit that its values show.
///
/// # Errors
/// When it is not a Datetime.
pub fn check_times(name: &str, times: &Series) -> Result<(), FrameError> {
    let dtype = times.dtype();
    if matches!(dtype, DataType::Datetime(_, _)) {
        return Ok(());
    }
    let numbers = if dtype.is_primitive_numeric() || dtype.is_decimal() {
        times.cast(&DataType::Float64)?
    } else {
        Series::new_empty(PlSmallStr::EMPTY, &DataType::Float64)
    };
    let first = numbers.f64()?.iter().flatten().next();
    Err(wrong_type(name, "Datetime", dtype, &hint(name, dtype, first)))
}

/// The unit in which a number is a time between 1973 and 5138.
fn unit_of(value: f64) -> Option<&'static str> {
    let units = [("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)];
    let found = units.iter().find(|(_, scale)| (EARLIEST_S * scale..EARLIEST_S * scale * 1e3).contains(&value.abs()));
    found.map(|(unit, _)| *unit)
}

fn hint(name: &str, dtype: &DataType, first: Option<f64>) -> String {
    let column = format!("pl.col(\"{name}\")");
    match dtype {
        dtype if dtype.is_integer() => match first.and_then(unit_of) {
            Some(unit) => format!("write `pl.from_epoch(\"{name}\", time_unit=\"{unit}\")`"),
            None => format!(
                "write `pl.from_epoch(\"{name}\", time_unit=\"us\")` if the values have 16 digits, \"ms\" for 13, \
                 \"s\" for 10, \"ns\" for 19"
            ),
        },
        dtype if dtype.is_float() || dtype.is_decimal() => {
            let microseconds = match first.and_then(unit_of).unwrap_or("s") {
                "s" => format!("({column} * 1_000_000)"),
                "ms" => format!("({column} * 1_000)"),
                "us" => column,
                _ => format!("({column} / 1_000)"),
            };
            let integers = format!("{microseconds}.round().cast(pl.Int64)");
            let unless = if first.is_none() { " if these are seconds" } else { "" };
            format!("write `pl.from_epoch({integers}, time_unit=\"us\")`{unless}")
        }
        DataType::String => format!("parse it: `{column}.str.to_datetime()`"),
        DataType::Date => {
            format!("a day has no order of trades; a cast makes it midnight: `{column}.cast(pl.Datetime(\"us\"))`")
        }
        DataType::Time => format!("a time of day needs its day: `pl.col(\"date\").dt.combine({column})`"),
        DataType::Duration(_) => {
            format!("add it to the instant it is counted from: `pl.datetime(2024, 1, 1) + {column}`")
        }
        _ => "this column has no times; name the one that has".to_owned(),
    }
}

/// A fault where the first or the last time lies before 1970 or after 2200.
pub fn range_fault(name: &str, times: &Series) -> Option<Fault> {
    let DataType::Datetime(unit, _) = times.dtype() else { return None };
    let numbers = times.to_physical_repr();
    let numbers = numbers.i64().ok()?;
    let rows = [numbers.first_non_null(), numbers.last_non_null()];
    let row =
        rows.into_iter().flatten().find(|row| numbers.get(*row).is_some_and(|value| is_out_of_range(value, *unit)))?;
    let (name, value, unit) = (name.to_owned(), numbers.get(row)?, *unit);
    let describe = move |number: u64| {
        DataError::value(
            number,
            format!("`{name}` {} at row {number}{}", shown(value, unit), meant(&name, value, unit)),
        )
    };
    Some(Fault { row, describe: Box::new(describe) })
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Milliseconds => 1_000,
        TimeUnit::Microseconds => 1_000_000,
        TimeUnit::Nanoseconds => 1_000_000_000,
    }
}

fn is_out_of_range(value: i64, unit: TimeUnit) -> bool {
    // The latest nanosecond of 64 bits is in 2262.
    value < 0 || value / per_second(unit) >= LATEST_S
}

fn shown(value: i64, unit: TimeUnit) -> String {
    if value < 0 {
        return "lies before 1970".to_owned();
    }
    const SECONDS_A_YEAR: f64 = 31_556_952.0;
    let year = 1970.0 + (value / per_second(unit)) as f64 / SECONDS_A_YEAR;
    format!("lies in the year {year:.0}")
}

fn meant(name: &str, value: i64, unit: TimeUnit) -> String {
    let known = [("s", "seconds"), ("ms", "milliseconds"), ("us", "microseconds"), ("ns", "nanoseconds")];
    let taken = match unit {
        TimeUnit::Milliseconds => "ms",
        TimeUnit::Microseconds => "us",
        TimeUnit::Nanoseconds => "ns",
    };
    let plain = |unit: &str| known.iter().find(|(short, _)| *short == unit).map_or("", |(_, long)| *long);
    match unit_of(value as f64).filter(|unit| *unit != taken && value > 0) {
        Some(unit) => format!(
            ": {} were read as {}\n\nhint: write `pl.from_epoch(pl.col(\"{name}\").to_physical(), time_unit=\"{unit}\")`",
            plain(unit),
            plain(taken)
        ),
        None => format!(
            "\n\nhint: drop or repair such rows first, e.g. `.filter(pl.col({name:?}).dt.year().is_between(1970, 2200))`"
        ),
    }
}
