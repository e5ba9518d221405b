//! Conversion of Series to core columns. It checks types and nulls; the core checks values and order.

use polars::prelude::*;
use polars_arrow::bitmap::Bitmap;

use crate::core::diagnose::{FaultContext, Names, check_quantity};
use crate::core::error::DataError;
use crate::core::ticks::{Bits, Ticks, Values};
use crate::core::time::TimeUnit as CoreUnit;
use crate::frames::checks::times::{range_fault, time_unit};
use crate::frames::chunks::{Chunks, Position, flags, integers};
use crate::frames::decimal::{Converted, to_coins};
use crate::frames::error::{Fault, FrameError, wrong_type};
use crate::frames::names::Kind;
use crate::frames::options::{Options, Role};
use crate::frames::side;

/// Every bound column of a push, converted.
pub struct Columns {
    pub len: usize,
    price: Chunks,
    time: Chunks,
    quantity: Chunks,
    side: Chunks,
    /// Rows without an aggressor in each chunk of `side` that has such rows.
    unsided: Vec<Option<Bitmap>>,
    agg_id: Chunks,
    first_id: Chunks,
    last_id: Chunks,
    /// The first row that could not be converted.
    pub fault: Option<Fault>,
}

/// Checks that a column of a role has a supported type.
///
/// # Errors
/// When it has not. The message has the cast to write.
pub fn check_type(role: Role, name: &str, dtype: &DataType) -> Result<(), FrameError> {
    let is_number =
        |dtype: &DataType| dtype.is_integer() || matches!(dtype, DataType::Float64 | DataType::Decimal(_, _));
    if let Some(hint) = nested_hint(name, dtype) {
        return Err(wrong_type(name, "a column of single values", dtype, &hint));
    }
    match role {
        Role::Timestamp => time_unit(name, dtype).map(|_| ()),
        Role::Price | Role::Quantity if !is_number(dtype) => {
            Err(wrong_type(name, "Float64, Decimal or an integer", dtype, &number_hint(name, dtype)))
        }
        Role::IsBuyerMaker if *dtype != DataType::Boolean => {
            let code = match dtype {
                DataType::String => format!("pl.col({name:?}).str.to_lowercase() == \"true\""),
                dtype if dtype.is_primitive_numeric() => format!("pl.col({name:?}).cast(pl.Boolean)"),
                _ => format!("pl.col({name:?}).cast(pl.String).str.to_lowercase() == \"true\""),
            };
            let hint = format!(
                "convert it (true: the seller is the aggressor): `{code}`; or pass the side of the aggressor as `side`"
            );
            Err(wrong_type(name, "Boolean", dtype, &hint))
        }
        Role::Side if !is_side(dtype) => {
            let hint = match dtype {
                DataType::Boolean if name == "is_buyer_maker" => {
                    "leave `side` out; `is_buyer_maker` is found by its name".to_owned()
                }
                DataType::Boolean => format!(
                    "if true is the taker's sale, it is `is_buyer_maker`: `.rename({{\"{name}\": \"is_buyer_maker\"}})`"
                ),
                dtype if dtype.is_float() || dtype.is_decimal() => {
                    format!("cast it: `pl.col(\"{name}\").cast(pl.Int8)`")
                }
                _ => "pass the aggressor as \"buy\", \"sell\" or \"none\", or as 1, -1 or 0".to_owned(),
            };
            Err(wrong_type(name, "String, Categorical, Enum or an integer", dtype, &hint))
        }
        Role::BarId if !dtype.is_integer() || matches!(dtype, DataType::Int128 | DataType::UInt128) => {
            let hint = format!("number its runs: `pl.col(\"{name}\").rle_id()`");
            Err(wrong_type(name, "an integer of at most 64 bits", dtype, &hint))
        }
        Role::AggTradeId | Role::FirstTradeId | Role::LastTradeId
            if !dtype.is_integer() || matches!(dtype, DataType::Int128 | DataType::UInt128) =>
        {
            let unless = if dtype.is_string() { "; or leave it out, if the ids are not numbers" } else { "" };
            let hint = format!("cast it: `pl.col(\"{name}\").cast(pl.Int64)`{unless}");
            Err(wrong_type(name, "an integer of at most 64 bits", dtype, &hint))
        }
        Role::Key => crate::frames::keys::check_type(name, dtype),
        // Codes stand for the categories of a column of few symbols.
        Role::Symbol if Kind::from(dtype) != Kind::Text && !is_code(dtype) => {
            Err(wrong_type(name, "String, Categorical or Enum", dtype, "leave it out: `symbol=None`"))
        }
        _ => Ok(()),
    }
}

fn is_code(dtype: &DataType) -> bool {
    matches!(dtype, DataType::UInt8 | DataType::UInt16 | DataType::UInt32)
}

/// What to write where prices or quantities are not numbers.
fn number_hint(name: &str, dtype: &DataType) -> String {
    let cast = match dtype {
        DataType::Boolean => return "truth values are not amounts; name another column".to_owned(),
        DataType::Binary | DataType::Categorical(_, _) | DataType::Enum(_, _) => ".cast(pl.String)",
        _ => "",
    };
    format!("cast it: `pl.col({name:?}){cast}.cast(pl.Float64)`")
}

fn is_side(dtype: &DataType) -> bool {
    let is_number = dtype.is_integer() && !matches!(dtype, DataType::Int128 | DataType::UInt128);
    is_number || matches!(dtype, DataType::String | DataType::Categorical(_, _) | DataType::Enum(_, _))
}

/// What to write where a column holds several values in a row.
fn nested_hint(name: &str, dtype: &DataType) -> Option<String> {
    match dtype {
        DataType::List(_) | DataType::Array(_, _) => {
            Some(format!("give each value a row of its own: `.explode(\"{name}\")`"))
        }
        DataType::Struct(_) => Some(format!("make its fields columns: `.unnest(\"{name}\")`")),
        _ => None,
    }
}

/// Repeats columns of one row to the length of the others.
///
/// # Errors
/// When columns differ in length and the shorter one has more than one row.
pub fn align(inputs: &[Series]) -> PolarsResult<Vec<Series>> {
    let len = if inputs.iter().any(|series| series.is_empty()) && inputs.iter().all(|series| series.len() <= 1) {
        0
    } else {
        inputs.iter().map(|series| series.len()).max().unwrap_or(0)
    };
    let repeat = |series: &Series| match series.len() {
        own if own == len => Ok(series.clone()),
        1 => Ok(series.new_from_index(0, len)),
        own => Err(polars_err!(ShapeMismatch: "`{}` has {own} rows where other columns have {len}", series.name())),
    };
    inputs.iter().map(repeat).collect()
}

impl Columns {
    /// Converts the columns of a push; `inputs` are in the order of the roles.
    ///
    /// # Errors
    /// When a type is not supported. The first row that cannot be converted becomes [`Columns::fault`].
    pub fn of(options: &Options, inputs: &[Series]) -> Result<Self, FrameError> {
        let mut columns = Self {
            len: inputs.first().map_or(0, |series| series.len()),
            price: Chunks::Absent,
            time: Chunks::Absent,
            quantity: Chunks::Absent,
            side: Chunks::Absent,
            unsided: Vec::new(),
            agg_id: Chunks::Absent,
            first_id: Chunks::Absent,
            last_id: Chunks::Absent,
            fault: None,
        };
        for ((role, name), series) in options.roles.iter().zip(&options.names).zip(inputs) {
            check_type(*role, name, series.dtype())?;
            if !matches!(role, Role::Key | Role::BarId | Role::Symbol | Role::Side | Role::IsBuyerMaker) {
                columns.check_nulls(name, series);
            }
            match role {
                Role::Price => columns.price = columns.prices(name, series)?,
                Role::Quantity => columns.quantity = columns.values(name, series)?,
                Role::Timestamp => {
                    if let Some(fault) = range_fault(name, series) {
                        columns.add_fault(fault);
                    }
                    columns.time = integers(&series.to_physical_repr())?;
                }
                // As an empty side, a null says that there was no aggressor.
                Role::IsBuyerMaker => (columns.side, columns.unsided) = flags(series)?,
                Role::Side => columns.side = columns.sides(name, series, options.side_is_maker)?,
                Role::AggTradeId => columns.agg_id = columns.ids(name, series)?,
                Role::FirstTradeId => columns.first_id = columns.ids(name, series)?,
                Role::LastTradeId => columns.last_id = columns.ids(name, series)?,
                Role::BarId | Role::Key | Role::Symbol => {}
            }
        }
        if let Some(size) = options.contract_size {
            columns.convert_contracts(options, inputs, size)?;
        }
        Ok(columns)
    }

    /// Keeps the fault of the earliest row.
    pub fn add_fault(&mut self, fault: Fault) {
        if self.fault.as_ref().is_none_or(|earlier| fault.row < earlier.row) {
            self.fault = Some(fault);
        }
    }

    fn check_nulls(&mut self, name: &str, series: &Series) {
        if series.null_count() == 0 {
            return;
        }
        let Some(row) = series.is_null().iter().position(|is_null| is_null == Some(true)) else { return };
        let name = name.to_owned();
        let describe = move |number: u64| {
            DataError::value(
                number,
                format!("`{name}` is null at row {number}\n\nhint: drop such rows first: `.drop_nulls(\"{name}\")`"),
            )
        };
        self.add_fault(Fault { row, describe: Box::new(describe) });
    }

    /// Adds a fault at a row, described with the value there.
    fn add_value_fault(
        &mut self,
        name: &str,
        series: &Series,
        row: usize,
        rule: &'static str,
        hint: &'static str,
    ) -> Result<(), FrameError> {
        let (name, value) = (name.to_owned(), series.get(row)?.to_string());
        let describe = move |number: u64| {
            DataError::value(number, format!("`{name}` must be {rule}, got `{value}` at row {number}\n\nhint: {hint}"))
        };
        self.add_fault(Fault { row, describe: Box::new(describe) });
        Ok(())
    }

    fn prices(&mut self, name: &str, series: &Series) -> Result<Chunks, FrameError> {
        if let DataType::Float64 = series.dtype() {
            return self.values(name, series);
        }
        let converted = crate::frames::decimal::to_values(series)?;
        if let Some(row) = converted.rounds_to_zero {
            let hint = "prices have 8 decimals; rescale the price, e.g. quote a thousand units";
            self.add_value_fault(name, series, row, "at least 0.00000001", hint)?;
        }
        self.checked(name, series, converted)
    }

    fn values(&mut self, name: &str, series: &Series) -> Result<Chunks, FrameError> {
        if let DataType::Float64 = series.dtype() {
            return Ok(Chunks::Floats(series.f64()?.downcast_iter().cloned().collect()));
        }
        let converted = crate::frames::decimal::to_values(series)?;
        self.checked(name, series, converted)
    }

    fn checked(&mut self, name: &str, series: &Series, converted: Converted) -> Result<Chunks, FrameError> {
        if let Some(row) = converted.too_large {
            self.add_value_fault(name, series, row, "below 92233720368.54775808", "rescale the column")?;
        }
        Ok(converted.chunks)
    }

    /// Replaces contracts by coins, at the price of each record.
    fn convert_contracts(&mut self, options: &Options, inputs: &[Series], size: i64) -> Result<(), FrameError> {
        let Some(at) = options.position(Role::Quantity) else { return Ok(()) };
        let (name, series) = (&options.names[at], &inputs[at]);
        let coins = to_coins(&self.price, &self.quantity, size);
        if let Some(row) = coins.too_large {
            let rule = "below 92233720368.54775808 coins at its price";
            self.add_value_fault(name, series, row, rule, "give the worth of one contract: contract_size=\"100\"")?;
        }
        if let Some(row) = coins.invalid {
            let value = series.slice(row as i64, 1).cast(&DataType::Float64)?.f64()?.get(0).unwrap_or(f64::NAN);
            let names = Names { quantity: name.clone(), is_expression: options.is_expression, ..Names::default() };
            let describe = move |number: u64| {
                let unit = CoreUnit::Microseconds;
                let context = FaultContext { names: &names, unit, push_row: 0, is_absolute: true };
                let checked = check_quantity(Values::Float(&[value]), 0, number, context);
                checked
                    .err()
                    .unwrap_or_else(|| DataError::value(number, format!("`{}` is not a quantity", names.quantity)))
            };
            self.add_fault(Fault { row, describe: Box::new(describe) });
        }
        self.quantity = coins.chunks;
        Ok(())
    }

    fn sides(&mut self, name: &str, series: &Series, is_maker: bool) -> Result<Chunks, FrameError> {
        let sides = side::to_bits(series, is_maker)?;
        if let Some(row) = sides.unknown {
            let hint = "it is the aggressor's side; recode other values first, with `replace`";
            let rule = "buy, sell or none (also b/s, bid/ask, 1/-1/0)";
            self.add_value_fault(name, &series.cast(&DataType::String)?, row, rule, hint)?;
        }
        self.unsided = sides.unsided;
        Ok(Chunks::Bits(sides.sells))
    }

    fn unsided(&self, position: Position) -> Option<Bits<'_>> {
        let (bytes, offset, _) = self.unsided.get(position.chunk)?.as_ref()?.as_slice();
        Some(Bits { bytes, offset }.slice(position.offset))
    }

    fn ids(&mut self, name: &str, series: &Series) -> Result<Chunks, FrameError> {
        if let DataType::UInt64 = series.dtype() {
            let too_large = series.u64()?.iter().position(|id| id.is_some_and(|id| i64::try_from(id).is_err()));
            if let Some(row) = too_large {
                self.add_value_fault(name, series, row, "below 2^63", "leave this column out")?;
            }
        }
        match series.dtype() {
            DataType::Int64 => integers(series),
            _ => integers(&series.cast(&DataType::Int64)?),
        }
    }

    /// Contiguous pieces of all columns, up to the first row that could not be converted.
    pub fn pieces(&self) -> Pieces<'_> {
        let all = [&self.time, &self.price, &self.quantity, &self.side, &self.agg_id, &self.first_id, &self.last_id];
        Pieces {
            columns: self,
            lengths: all.map(Chunks::lengths),
            positions: [Position::default(); 7],
            row: 0,
            end: self.fault.as_ref().map_or(self.len, |fault| fault.row),
        }
    }
}

/// Iterator over columns whose chunks may differ in length; nothing is copied.
pub struct Pieces<'a> {
    columns: &'a Columns,
    lengths: [Vec<usize>; 7],
    positions: [Position; 7],
    row: usize,
    end: usize,
}

impl<'a> Iterator for Pieces<'a> {
    /// First row of a piece, and its columns.
    type Item = (usize, Ticks<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut len = self.end - self.row;
        for (position, lengths) in self.positions.iter_mut().zip(&self.lengths) {
            while lengths.get(position.chunk).is_some_and(|own| position.offset >= *own) {
                *position = Position { chunk: position.chunk + 1, offset: 0 };
            }
            if let Some(own) = lengths.get(position.chunk) {
                len = len.min(own - position.offset);
            }
        }
        if len == 0 {
            return None;
        }
        let [time, price, quantity, side, agg_id, first_id, last_id] = self.positions;
        let columns = self.columns;
        let ticks = Ticks {
            time: columns.time.integers(time, len)?,
            price: columns.price.values(price, len)?,
            quantity: columns.quantity.values(quantity, len),
            is_buyer_maker: columns.side.bits(side),
            unsided: columns.unsided(side),
            agg_id: columns.agg_id.integers(agg_id, len),
            first_id: columns.first_id.integers(first_id, len),
            last_id: columns.last_id.integers(last_id, len),
        };
        let row = self.row;
        self.row += len;
        for position in &mut self.positions {
            position.offset += len;
        }
        Some((row, ticks))
    }
}
