//! Which record is invalid, and why. Runs only after a quick check has refused a block, so it may be
//! slow: it checks record by record and composes the message.

use crate::core::arithmetic::grid::grid;
use crate::core::bar::Overflow;
use crate::core::error::DataError;
use crate::core::ticks::{Ticks, Values};
use crate::core::time::{TimeUnit, format_time};

/// Names of the bound columns, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub time: String,
    pub price: String,
    pub quantity: String,
    pub agg_id: String,
    pub first_id: String,
    pub last_id: String,
    pub bar_id: String,
    /// Columns that could tell symbols apart, where the trades have no key.
    pub apart: Vec<String>,
    pub is_keyed: bool,
    /// Whether the trades are the inputs of an expression, and not a frame.
    pub is_expression: bool,
}

/// The last record so far, for the check of order across pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub time: i64,
    /// Meaningful only if ids are bound.
    pub agg_id: i64,
    /// Id of the last fill; the smallest integer where it is not known.
    pub fill_id: i64,
    /// Counted over all pushes.
    pub row: u64,
}

impl Last {
    /// The record at an index, whose row over all pushes is `row`.
    #[inline]
    pub fn of(ticks: &Ticks, at: usize, row: u64) -> Self {
        let fill_id = ticks.last_id.map_or(i64::MIN, |ids| ids[at]);
        Self { time: ticks.time[at], agg_id: ticks.agg_id.map_or(0, |ids| ids[at]), fill_id, row }
    }
}

/// Column names and the numbering of rows for messages.
#[derive(Clone, Copy, Debug)]
pub struct FaultContext<'a> {
    pub names: &'a Names,
    pub unit: TimeUnit,
    /// Rows before this one belong to earlier pushes.
    pub push_row: u64,
    /// Whether messages count rows over all pushes.
    pub is_absolute: bool,
}

impl FaultContext<'_> {
    /// A row number as in messages.
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

/// Checks a record, and its order after the last one; `row` counts over all pushes.
///
/// # Errors
/// At the first fault of the record.
pub fn check_record(
    ticks: &Ticks,
    at: usize,
    row: u64,
    last: Option<Last>,
    context: FaultContext,
) -> Result<(), DataError> {
    if let Some(last) = last {
        check_order(ticks, at, row, last, context)?;
    }
    check_price(ticks.price, at, row, context)?;
    if let Some(quantity) = ticks.quantity {
        check_quantity(quantity, at, row, context)?;
    }
    check_fills(ticks, at, row, context)
}

fn check_order(ticks: &Ticks, at: usize, row: u64, last: Last, context: FaultContext) -> Result<(), DataError> {
    let (names, number) = (context.names, context.row(row));
    let time = ticks.time[at];
    if time < last.time {
        let (now, before) = (format_time(time, context.unit), format_time(last.time, context.unit));
        return Err(DataError::order(
            number,
            format!(
                "`{}` runs back at row {number}: `{now}` after `{before}` in {}\n\nhint: {}{}, or raise late times with \
                 `pl.col(\"{0}\").cum_max()`",
                names.time,
                context.earlier(last.row),
                apart(names),
                sort_hint(ticks.agg_id.is_some(), last, context),
            ),
        ));
    }
    match ticks.agg_id {
        Some(ids) if ids[at] <= last.agg_id => Err(DataError::order(
            number,
            format!(
                "`{}` does not increase at row {number}: `{}` after `{}` in {}\n\nhint: {}{}, or leave the id column out",
                names.agg_id,
                ids[at],
                last.agg_id,
                context.earlier(last.row),
                apart(names),
                sort_hint(true, last, context),
            ),
        )),
        _ => Ok(()),
    }
}

/// How trades are put in order, or how those are left out that an earlier push had.
fn sort_hint(has_ids: bool, last: Last, context: FaultContext) -> String {
    let Names { time, agg_id: id, .. } = context.names;
    let is_earlier_push = !context.is_absolute && last.row < context.push_row;
    match (is_earlier_push, has_ids) {
        (true, true) => format!("drop the trades that were pushed before: `.filter(pl.col({id:?}) > {})`", last.agg_id),
        (true, false) => "drop the trades that were pushed before".to_owned(),
        (false, true) => format!("sort the trades and drop repeated ones: `.unique({id:?}).sort({id:?})`"),
        (false, false) => format!("sort the trades: `.sort({time:?}, maintain_order=True)`"),
    }
}

/// Says how several symbols are told apart, which is the most frequent reason of disorder.
fn apart(names: &Names) -> String {
    if names.is_keyed {
        return String::new();
    }
    match names.apart.as_slice() {
        [] => "no column tells symbols apart; if these are several, add one and pass its name: group_by=\"symbol\". \
               Else "
            .to_owned(),
        [column, ..] => format!("if `{column}` tells several symbols apart, pass group_by=\"{column}\". Else "),
    }
}

fn invalid(name: &str, number: u64, value: &str, rule: &str, hint: &str) -> DataError {
    DataError::value(number, format!("`{name}` must be {rule}, got `{value}` at row {number}\n\nhint: {hint}"))
}

/// A value as text, as far as possible as the user wrote it.
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

/// Code that drops invalid rows, for the end of a hint.
fn drop_hint(condition: &str) -> String {
    format!("drop or repair such rows first, e.g. `.filter({condition})`")
}

fn drop_infinite(name: &str) -> String {
    drop_hint(&format!("pl.col({name:?}).is_finite()"))
}

fn check_price(values: Values, at: usize, row: u64, context: FaultContext) -> Result<(), DataError> {
    let (name, number) = (&context.names.price, context.row(row));
    if let Values::Float(floats) = values {
        let x = floats[at];
        if !x.is_finite() {
            return Err(invalid(name, number, &show(values, at), "finite", &drop_infinite(name)));
        }
        if x > 0.0 && grid(x) == Some(0) {
            let hint = "prices have 8 decimals; rescale the price, e.g. quote a thousand units";
            return Err(invalid(name, number, &show(values, at), "at least 0.00000001", hint));
        }
        if x > 0.0 && grid(x).is_none() {
            return Err(invalid(name, number, &show(values, at), "below 92233720368.54775808", "rescale the price"));
        }
    }
    match values.grid(at) {
        Some(price) if price > 0 => Ok(()),
        _ => Err(invalid(name, number, &show(values, at), "positive", &drop_hint(&format!("pl.col({name:?}) > 0")))),
    }
}

/// Checks a quantity; `row` counts over all pushes.
///
/// # Errors
/// When it is not on the grid or negative.
pub fn check_quantity(values: Values, at: usize, row: u64, context: FaultContext) -> Result<(), DataError> {
    let (name, number) = (&context.names.quantity, context.row(row));
    let is_negative = match values {
        Values::Float(floats) if !floats[at].is_finite() => {
            return Err(invalid(name, number, &show(values, at), "finite", &drop_infinite(name)));
        }
        // Checked on the grid, as other data types are: a value that rounds to zero is zero.
        Values::Float(floats) => grid(floats[at]).map_or(floats[at] < 0.0, |quantity| quantity < 0),
        Values::Grid(grids) => grids[at] < 0,
    };
    if is_negative {
        let hint = signed_hint(name, context.names.is_expression);
        return Err(invalid(name, number, &show(values, at), "zero or positive", &hint));
    }
    match values.grid(at) {
        Some(_) => Ok(()),
        None => Err(invalid(name, number, &show(values, at), "below 92233720368.54775808", "rescale the quantity")),
    }
}

/// What to write where a sale is a negative quantity.
fn signed_hint(name: &str, is_expression: bool) -> String {
    let column = format!("pl.col({name:?})");
    let code = format!("quantity={column}.abs(), is_buyer_maker={column} < 0");
    let code = if is_expression { format!("`{code}` as arguments") } else { format!("`.with_columns({code})`") };
    format!("if the sales are the negative ones, write {code}; else {}", drop_hint(&format!("{column} >= 0")))
}

fn check_fills(ticks: &Ticks, at: usize, row: u64, context: FaultContext) -> Result<(), DataError> {
    let (Some(first), Some(last)) = (ticks.first_id, ticks.last_id) else { return Ok(()) };
    let (first, last, number) = (first[at], last[at], context.row(row));
    let (first_name, last_name) = (&context.names.first_id, &context.names.last_id);
    if last < first {
        return Err(DataError::value(
            number,
            format!(
                "`{last_name}` is below `{first_name}` at row {number}: `{last}` < `{first}`\n\nhint: {}, or leave the \
                 two id columns out",
                drop_hint(&format!("pl.col({last_name:?}) >= pl.col({first_name:?})"))
            ),
        ));
    }
    match last.checked_sub(first).and_then(|span| span.checked_add(1)) {
        Some(_) => Ok(()),
        None => Err(fills_overflow(number, context)),
    }
}

/// The error for a sum that overflowed.
pub fn overflow_error(what: Overflow, number: u64, context: FaultContext) -> DataError {
    match what {
        Overflow::Turnover => DataError::value(
            number,
            format!(
                "the turnover of the bar (`{}` times `{}`) exceeds 128 bits at row {number}\n\nhint: rescale the quantity",
                context.names.price, context.names.quantity
            ),
        ),
        Overflow::Fills => fills_overflow(number, context),
        Overflow::Bars => DataError::value(
            number,
            format!("the bars of one key and threshold exceed 32 bits at row {number}\n\nhint: use a larger threshold"),
        ),
    }
}

/// The error for too many forming bars.
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

fn fills_overflow(number: u64, context: FaultContext) -> DataError {
    DataError::value(
        number,
        format!(
            "the fills counted from `{}` to `{}` exceed 64 bits at row {number}\n\nhint: these columns do not look like \
             trade ids; leave them out",
            context.names.first_id, context.names.last_id
        ),
    )
}

/// The error if a quick check refused what the slow one accepts, which is a bug of this library.
pub fn unexplained(number: u64) -> DataError {
    DataError::value(
        number,
        format!("the trades near row {number} were refused for no known reason; please report this as a bug"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_column_row_value_and_remedy() {
        let names = Names { price: "px".into(), ..Names::default() };
        let context = FaultContext { names: &names, unit: TimeUnit::Milliseconds, push_row: 10, is_absolute: false };
        let error = check_price(Values::Float(&[1.0, f64::NAN]), 1, 12, context).unwrap_err();
        assert_eq!(
            error.message,
            "`px` must be finite, got `NaN` at row 2\n\nhint: drop or repair such rows first, e.g. \
             `.filter(pl.col(\"px\").is_finite())`"
        );
    }
}
