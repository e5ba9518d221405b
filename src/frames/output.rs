//! Conversion of bars to columns of a frame; the schema follows from the catalogue.

use polars::prelude::*;

use crate::core::bar::Bar;
use crate::core::columns::{Column as Entry, Context, DISTANCE, ENDED_BY, Extract, NOT_ENDED, Type};
use crate::core::sample::family::{Cell, NO_INTEGER, float, integer};
use crate::core::sample::plan::Plan;
use crate::core::ticks::Inputs;
use crate::core::time::TimeUnit;
use crate::features::{self, catalogue, computed};
use crate::frames::options::Options;

/// Values of one output column so far.
#[derive(Clone)]
enum Data {
    Float(Vec<f64>),
    Int(Vec<i64>),
    UInt(Vec<u32>),
    Flag(Vec<bool>),
    EndedBy(Vec<u8>),
    /// Values that the bars carry, at a position: doubles, or integers with [`NO_INTEGER`] for null.
    Floats(usize, Vec<f64>),
    Integers(usize, Vec<i64>),
    /// A required input is missing: all values are null.
    Null,
}

/// A table of bars under construction.
#[derive(Clone)]
pub struct BarTable {
    columns: Vec<(&'static Entry, Data)>,
    /// Keys of the bars, if they have keys.
    pub codes: Vec<u32>,
    is_keyed: bool,
    len: usize,
}

/// Catalogue columns of the output, in order.
pub fn entries(options: &Options, with_state: bool) -> impl Iterator<Item = &'static Entry> {
    let selected = catalogue().filter(move |entry| options.includes(entry.name, entry.group, with_state));
    selected.map(|entry| if entry.name == DISTANCE.name && options.has_distances() { &DISTANCE } else { entry })
}

/// The plan of the requested columns that are computed record by record, if there are any.
pub fn plan(options: &Options, inputs: Inputs, unit: TimeUnit) -> Option<Plan> {
    let columns: Vec<_> = entries(options, false).collect();
    features::plan(&columns, inputs, options.window(unit), unit)
}

/// Polars type of a catalogue column.
///
/// # Errors
/// Never in practice: the categories are distinct.
pub fn dtype(entry: &Entry, time: &DataType) -> PolarsResult<DataType> {
    Ok(match entry.dtype {
        Type::Time => time.clone(),
        Type::Float64 => DataType::Float64,
        Type::Int64 => DataType::Int64,
        Type::UInt32 => DataType::UInt32,
        Type::Boolean => DataType::Boolean,
        Type::EndedBy => DataType::from_frozen_categories(FrozenCategories::new(ENDED_BY)?),
    })
}

impl BarTable {
    /// An empty table, to be cloned for every push: to choose the columns takes longer than a short push.
    pub fn new(options: &Options, inputs: Inputs, with_state: bool) -> Self {
        let computed: Vec<_> = computed(entries(options, with_state), inputs).map(|entry| entry.name).collect();
        let slot = |entry: &Entry| computed.iter().position(|name| *name == entry.name).unwrap_or_default();
        let data = |entry: &Entry| match entry.extract {
            _ if !inputs.has(entry.needs) => Data::Null,
            Extract::Computed(_) if entry.dtype == Type::Int64 => Data::Integers(slot(entry), Vec::new()),
            Extract::Computed(_) => Data::Floats(slot(entry), Vec::new()),
            Extract::Float(_) => Data::Float(Vec::new()),
            Extract::Int(_) => Data::Int(Vec::new()),
            Extract::UInt(_) => Data::UInt(Vec::new()),
            Extract::Flag(_) => Data::Flag(Vec::new()),
            Extract::EndedBy(_) => Data::EndedBy(Vec::new()),
        };
        let columns = entries(options, with_state).map(|entry| (entry, data(entry))).collect();
        Self { columns, codes: Vec::new(), is_keyed: options.is_keyed(), len: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends bars and empties the vector.
    pub fn take(&mut self, bars: &mut Vec<Bar>, context: Context) {
        // The bars of a block stay in the cache while each column is filled.
        for block in bars.chunks(256) {
            for (entry, data) in &mut self.columns {
                match (entry.extract, data) {
                    (Extract::Float(extract), Data::Float(out)) => extract(block, context, out),
                    (Extract::Int(extract), Data::Int(out)) => extract(block, context, out),
                    (Extract::UInt(extract), Data::UInt(out)) => extract(block, context, out),
                    (Extract::Flag(extract), Data::Flag(out)) => extract(block, context, out),
                    (Extract::EndedBy(extract), Data::EndedBy(out)) => extract(block, context, out),
                    (_, Data::Floats(slot, out)) => out.extend(cells(block, *slot, float(None)).map(f64::from_bits)),
                    (_, Data::Integers(slot, out)) => {
                        out.extend(cells(block, *slot, integer(None)).map(|cell| cell as i64));
                    }
                    _ => {}
                }
            }
        }
        if self.is_keyed {
            self.codes.extend(bars.iter().map(|bar| bar.key));
        }
        self.len += bars.len();
        bars.clear();
    }

    /// The finished columns, without keys.
    ///
    /// # Errors
    /// When Polars rejects a column, which the types rule out.
    pub fn finish(self, time: &DataType) -> PolarsResult<Vec<Series>> {
        let len = self.len;
        self.columns.into_iter().map(|(entry, data)| to_series(entry, data, &dtype(entry, time)?, len)).collect()
    }
}

/// One of the values that bars carry.
fn cells(bars: &[Bar], slot: usize, null: Cell) -> impl Iterator<Item = Cell> {
    bars.iter().map(move |bar| bar.values.as_ref().and_then(|values| values.get(slot)).copied().unwrap_or(null))
}

fn to_series(entry: &Entry, data: Data, dtype: &DataType, len: usize) -> PolarsResult<Series> {
    let name: PlSmallStr = entry.name.into();
    match data {
        Data::Null => Ok(Series::full_null(name, len, dtype)),
        Data::Integers(_, values) if values.contains(&NO_INTEGER) => {
            let defined = values.into_iter().map(|value| (value != NO_INTEGER).then_some(value));
            Ok(Int64Chunked::from_iter_options(name, defined).into_series())
        }
        Data::Integers(_, values) => Ok(Series::from_vec(name, values)),
        Data::Floats(_, values) | Data::Float(values) if values.iter().any(|value| value.is_nan()) => {
            let defined = values.into_iter().map(|value| (!value.is_nan()).then_some(value));
            Ok(Float64Chunked::from_iter_options(name, defined).into_series())
        }
        Data::Floats(_, values) | Data::Float(values) => Ok(Series::from_vec(name, values)),
        Data::Int(values) => match dtype {
            // A cast would lose the zone.
            DataType::Datetime(unit, zone) => {
                Ok(Int64Chunked::from_vec(name, values).into_datetime(*unit, zone.clone()).into_series())
            }
            _ => Ok(Series::from_vec(name, values)),
        },
        Data::UInt(values) => Ok(Series::from_vec(name, values)),
        Data::Flag(values) => Ok(Series::new(name, values)),
        Data::EndedBy(codes) => {
            let codes = codes.into_iter().map(|code| (code != NOT_ENDED).then_some(code));
            let codes = UInt8Chunked::from_iter_options(name, codes);
            Ok(CategoricalChunked::<Categorical8Type>::from_cats_and_dtype(codes, dtype.clone()).into_series())
        }
    }
}
