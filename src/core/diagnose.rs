//! Which record is refused, and why. Runs only after a quick check doubted, so it may be slow: it
//! walks a push row by row and words the first fault.

use crate::core::arithmetic::grid::grid;
use crate::core::bar::Overflow;
use crate::core::error::DataError;
use crate::core::ticks::{Ticks, Values};
use crate::core::time::{TimeUnit, format_time};

/// Names of the bound columns for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub time: String,
    pub price: String,
    pub quantity: String,
    pub agg_id: String,
    pub first_id: String,
    pub last_id: String,
    pub bar_id: String,
}

/// The last record seen before, for order across pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub time: i64,
    /// Meaningful where ids are bound.
    pub agg_id: i64,
    /// Counted over all pushes.
    pub row: u64,
}

impl Last {
    /// The record at a position, whose row over all pushes is `row`.
    #[inline]
    pub fn of(ticks: &Ticks, at: usize, row: u64) -> Self {
        Self { time: ticks.time[at], agg_id: ticks.agg_id.map_or(0, |ids| ids[at]), row }
    }
}

/// How rows are counted and named in messages.
#[derive(Clone, Copy, Debug)]
pub struct Wording<'a> {
    pub names: &'a Names,
    pub unit: TimeUnit,
    /// Rows before this one belong to earlier pushes.
    pub push_row: u64,
    /// Messages count rows over all pushes.
    pub is_absolute: bool,
}

impl Wording<'_> {
    /// A row as the user counts it.
    pub fn row(&self, row: u64) -> u64 {
        if self.is_absolute { row } else { row.saturating_sub(self.push_row) }
    }

    fn earlier(&self, row: u64) -> String {
        if self.is_absolute || row >= self.push_row {
            format!("row {}", self.row(row))
        } else {
            "the last row of an earlier push".to_owned()
        }
    }
}

/// First fault of a record against the one before it, `row` counted over all pushes.
///
/// # Errors
/// The fault, in words.
pub fn check_record(ticks: &Ticks, at: usize, row: u64, last: Option<Last>, wording: Wording) -> Result<(), DataError> {
    if let Some(last) = last {
        check_order(ticks, at, row, last, wording)?;
    }
    check_price(ticks.price, at, row, wording)?;
    if let Some(quantity) = ticks.quantity {
        check_quantity(quantity, at, row, wording)?;
    }
    check_fills(ticks, at, row, wording)
}

fn check_order(ticks: &Ticks, at: usize, row: u64, last: Last, wording: Wording) -> Result<(), DataError> {
    let (names, number) = (wording.names, wording.row(row));
    let time = ticks.time[at];
    if time < last.time {
        let (now, before) = (format_time(time, wording.unit), format_time(last.time, wording.unit));
        return Err(DataError::order(
            number,
            format!(
                "`{}` runs back at row {number}: `{now}` after `{before}` in {}\n\nhint: sort the trades by their id \
                 (or by time), or raise late times with `pl.col(\"{0}\").cum_max()`",
                names.time,
                wording.earlier(last.row),
            ),
        ));
    }
    match ticks.agg_id {
        Some(ids) if ids[at] <= last.agg_id => Err(DataError::order(
            number,
            format!(
                "`{}` does not increase at row {number}: `{}` after `{}` in {}\n\nhint: sort the trades by this id and \
                 drop repeated ones, or leave the id column out",
                names.agg_id,
                ids[at],
                last.agg_id,
                wording.earlier(last.row),
            ),
        )),
        _ => Ok(()),
    }
}

fn refuse(name: &str, number: u64, value: &str, rule: &str, hint: &str) -> DataError {
    DataError::value(number, format!("`{name}` must be {rule}, got `{value}` at row {number}\n\nhint: {hint}"))
}

/// A value as the user wrote it, as far as the grid tells.
fn show(values: Values, at: usize) -> String {
    match values {
        Values::Float(values) => format!("{:?}", values[at]),
        Values::Grid(values) => {
            let sign = if values[at] < 0 { "-" } else { "" };
            let size = values[at].unsigned_abs();
            format!("{sign}{}.{:08}", size / 100_000_000, size % 100_000_000)
        }
    }
}

const DROP_HINT: &str = "drop or repair such rows first, e.g. with `filter`";

fn check_price(values: Values, at: usize, row: u64, wording: Wording) -> Result<(), DataError> {
    let (name, number) = (&wording.names.price, wording.row(row));
    if let Values::Float(floats) = values {
        let x = floats[at];
        if !x.is_finite() {
            return Err(refuse(name, number, &show(values, at), "finite", DROP_HINT));
        }
        if x > 0.0 && grid(x) == Some(0) {
            let hint = "prices are kept to 8 decimals; rescale the price, e.g. quote a thousand units";
            return Err(refuse(name, number, &show(values, at), "at least 0.00000001", hint));
        }
        if x > 0.0 && grid(x).is_none() {
            return Err(refuse(name, number, &show(values, at), "below 92233720368.54775808", "rescale the price"));
        }
    }
    match values.grid(at) {
        Some(price) if price > 0 => Ok(()),
        _ => Err(refuse(name, number, &show(values, at), "positive", DROP_HINT)),
    }
}

fn check_quantity(values: Values, at: usize, row: u64, wording: Wording) -> Result<(), DataError> {
    let (name, number) = (&wording.names.quantity, wording.row(row));
    let is_negative = match values {
        Values::Float(floats) if !floats[at].is_finite() => {
            return Err(refuse(name, number, &show(values, at), "finite", DROP_HINT));
        }
        // Judged on the grid, as other data types are: what rounds to zero is zero.
        Values::Float(floats) => grid(floats[at]).map_or(floats[at] < 0.0, |quantity| quantity < 0),
        Values::Grid(grids) => grids[at] < 0,
    };
    if is_negative {
        return Err(refuse(name, number, &show(values, at), "zero or positive", DROP_HINT));
    }
    match values.grid(at) {
        Some(_) => Ok(()),
        None => Err(refuse(name, number, &show(values, at), "below 92233720368.54775808", "rescale the quantity")),
    }
}

fn check_fills(ticks: &Ticks, at: usize, row: u64, wording: Wording) -> Result<(), DataError> {
    let (Some(first), Some(last)) = (ticks.first_id, ticks.last_id) else { return Ok(()) };
    let (first, last, number) = (first[at], last[at], wording.row(row));
    let (first_name, last_name) = (&wording.names.first_id, &wording.names.last_id);
    if last < first {
        return Err(DataError::value(
            number,
            format!(
                "`{last_name}` is below `{first_name}` at row {number}: `{last}` < `{first}`\n\nhint: drop such rows, \
                 or leave the two id columns out"
            ),
        ));
    }
    match last.checked_sub(first).and_then(|span| span.checked_add(1)) {
        Some(_) => Ok(()),
        None => Err(fills_overflow(number, wording)),
    }
}

/// A sum that left its integer type, in words.
pub fn overflow_error(what: Overflow, number: u64, wording: Wording) -> DataError {
    match what {
        Overflow::Turnover => DataError::value(
            number,
            format!(
                "the turnover of the bar (`{}` times `{}`) exceeds 128 bits at row {number}\n\nhint: rescale the quantity",
                wording.names.price, wording.names.quantity
            ),
        ),
        Overflow::Fills => fills_overflow(number, wording),
        Overflow::Bars => DataError::value(
            number,
            format!("the bars of one key and threshold exceed 32 bits at row {number}\n\nhint: use a larger threshold"),
        ),
    }
}

/// Too many forming bars at once, in words.
pub fn limit_error(keys: usize, thresholds: usize, most: usize, number: u64) -> DataError {
    DataError::limit(
        number,
        format!(
            "{keys} keys times {thresholds} thresholds exceed the limit of {most} forming bars at row {number}\n\n\
             hint: pass at most {} thresholds at a time, or split the trades by key and process each part by itself",
            (most / keys.max(1)).max(1)
        ),
    )
}

fn fills_overflow(number: u64, wording: Wording) -> DataError {
    DataError::value(
        number,
        format!(
            "the fills counted from `{}` to `{}` exceed 64 bits at row {number}\n\nhint: these columns do not look like \
             trade ids; leave them out",
            wording.names.first_id, wording.names.last_id
        ),
    )
}

/// A quick check refused what the slow one accepts: a fault of this library, told as such.
pub fn unexplained(number: u64) -> DataError {
    DataError::value(number, format!("the trades near row {number} were refused without a reason; please report this"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_column_row_value_and_remedy() {
        let names = Names { price: "px".into(), ..Names::default() };
        let wording = Wording { names: &names, unit: TimeUnit::Milliseconds, push_row: 10, is_absolute: false };
        let error = check_price(Values::Float(&[1.0, f64::NAN]), 1, 12, wording).unwrap_err();
        assert_eq!(
            error.message,
            "`px` must be finite, got `NaN` at row 2\n\nhint: drop or repair such rows first, e.g. with `filter`"
        );
    }
}
