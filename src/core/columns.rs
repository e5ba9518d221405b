//! Columns of a frame of bars: the type of a catalogue entry, and the core entries. `features` adds
//! its own and joins both. Schema, documentation, table definitions and validation bounds are all
//! derived from the catalogue.

use crate::core::arithmetic::grid::{from_grid, to_f64};
use crate::core::arithmetic::quotient::{money, vwap};
use crate::core::bar::{Bar, Cause};
use crate::core::rule::threshold::Threshold;
use crate::core::sample::family::Formula;
use crate::core::ticks::Inputs;
use crate::core::time::TimeUnit;

/// Column type, independent of any library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// The time type of the input.
    Time,
    Float64,
    Int64,
    UInt32,
    Boolean,
    /// One of [`ENDED_BY`].
    EndedBy,
}

impl Type {
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "Datetime",
            Self::Float64 => "Float64",
            Self::Int64 => "Int64",
            Self::UInt32 => "UInt32",
            Self::Boolean => "Boolean",
            Self::EndedBy => "Enum",
        }
    }
}

/// Categories of `ended_by`.
pub const ENDED_BY: [&str; 3] = ["threshold", "reset", "gap"];
/// Code of a null in an `ended_by` column.
pub const NOT_ENDED: u8 = u8::MAX;

/// Columns that are selected together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Core,
    Microstructure,
    Lookback,
    Intrabar,
    Extended,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Microstructure => "microstructure",
            Self::Lookback => "lookback",
            Self::Intrabar => "intrabar",
            Self::Extended => "extended",
        }
    }
}

/// What a sample consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    Records,
    Orders,
}

impl SampleKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Orders => "orders",
        }
    }
}

/// Settings from which values are computed, besides the bar.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub unit: TimeUnit,
    pub thresholds: &'a [Threshold],
}

/// Appends the values of a column for some bars.
#[derive(Clone, Copy)]
pub enum Extract {
    /// NaN stands for null.
    Float(fn(&[Bar], Context, &mut Vec<f64>)),
    Int(fn(&[Bar], Context, &mut Vec<i64>)),
    UInt(fn(&[Bar], Context, &mut Vec<u32>)),
    Flag(fn(&[Bar], Context, &mut Vec<bool>)),
    EndedBy(fn(&[Bar], Context, &mut Vec<u8>)),
    /// Computed record by record; the bar carries the value.
    Computed(Formula),
}

/// A column of the catalogue.
#[derive(Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub dtype: Type,
    pub unit: &'static str,
    pub group: Group,
    /// Inputs without which the whole column is null.
    pub needs: Inputs,
    pub is_nullable: bool,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub meaning: &'static str,
    /// What the smallest sample for which there is a value consists of, and its size.
    pub sample: SampleKind,
    pub min_sample: u32,
    pub extract: Extract,
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Appends one value per bar.
#[inline(always)]
pub fn fill<T>(bars: &[Bar], out: &mut Vec<T>, value: impl Fn(&Bar) -> T) {
    out.extend(bars.iter().map(value));
}

/// Appends one value per bar, NaN where it is undefined.
#[inline(always)]
pub fn fill_defined(bars: &[Bar], out: &mut Vec<f64>, value: impl Fn(&Bar) -> Option<f64>) {
    out.extend(bars.iter().map(|bar| value(bar).unwrap_or(f64::NAN)));
}

pub const BASE: Column = Column {
    name: "",
    dtype: Type::Float64,
    unit: "",
    group: Group::Core,
    needs: Inputs::NONE,
    is_nullable: false,
    lower: None,
    upper: None,
    meaning: "",
    sample: SampleKind::Records,
    min_sample: 1,
    extract: Extract::Float(|_, _, _| {}),
};

const fn time(name: &'static str, meaning: &'static str, extract: fn(&[Bar], Context, &mut Vec<i64>)) -> Column {
    Column { name, dtype: Type::Time, unit: "UTC instant", meaning, extract: Extract::Int(extract), ..BASE }
}

const fn price(name: &'static str, meaning: &'static str, extract: fn(&[Bar], Context, &mut Vec<f64>)) -> Column {
    Column { name, unit: "quote currency", lower: Some(1e-8), meaning, extract: Extract::Float(extract), ..BASE }
}

const fn amount(
    name: &'static str,
    unit: &'static str,
    needs: Inputs,
    meaning: &'static str,
    extract: fn(&[Bar], Context, &mut Vec<f64>),
) -> Column {
    Column { name, unit, needs, is_nullable: true, lower: Some(0.0), meaning, extract: Extract::Float(extract), ..BASE }
}

const fn count(
    name: &'static str,
    unit: &'static str,
    needs: Inputs,
    lower: f64,
    meaning: &'static str,
    extract: fn(&[Bar], Context, &mut Vec<i64>),
) -> Column {
    let is_nullable = needs.bits() != 0;
    Column {
        name,
        dtype: Type::Int64,
        unit,
        needs,
        is_nullable,
        lower: Some(lower),
        meaning,
        extract: Extract::Int(extract),
        ..BASE
    }
}

const fn id(
    name: &'static str,
    needs: Inputs,
    meaning: &'static str,
    extract: fn(&[Bar], Context, &mut Vec<i64>),
) -> Column {
    Column {
        name,
        dtype: Type::Int64,
        unit: "id",
        needs,
        is_nullable: true,
        meaning,
        extract: Extract::Int(extract),
        ..BASE
    }
}

/// Present only with a list of thresholds.
pub const THRESHOLD: Column = Column {
    name: "threshold",
    dtype: Type::UInt32,
    unit: "dbps",
    lower: Some(1.0),
    upper: Some(100_000.0),
    meaning: "threshold of the bar; only when a list was given; Float64 in units of price for distances",
    extract: Extract::UInt(|bars, context, out| {
        fill(bars, out, |bar| {
            context
                .thresholds
                .get(usize::from(bar.threshold))
                .and_then(|threshold| threshold.dbps())
                .unwrap_or_default()
        });
    }),
    ..BASE
};

/// Replaces [`THRESHOLD`] if the thresholds are absolute distances.
pub const DISTANCE: Column = Column {
    name: THRESHOLD.name,
    dtype: Type::Float64,
    unit: "quote currency",
    lower: Some(1e-8),
    meaning: "distance of the bar; only when a list of distances was given",
    extract: Extract::Float(|bars, context, out| {
        let distance =
            |bar: &Bar| context.thresholds.get(usize::from(bar.threshold)).and_then(|threshold| threshold.absolute());
        fill_defined(bars, out, distance);
    }),
    ..BASE
};

pub const BAR_ID: Column = Column {
    name: "bar_id",
    dtype: Type::UInt32,
    unit: "number",
    lower: Some(0.0),
    meaning: "0, 1, … per key and threshold",
    extract: Extract::UInt(|bars, _, out| fill(bars, out, |bar| bar.bar_id)),
    ..BASE
};

/// Present only when unfinished bars are kept.
pub const IS_CLOSED: Column = Column {
    name: "is_closed",
    dtype: Type::Boolean,
    unit: "flag",
    meaning: "whether the price reached the threshold; only with incomplete=\"keep\"",
    extract: Extract::Flag(|bars, _, out| fill(bars, out, |bar| bar.ended_by == Some(Cause::Threshold))),
    ..BASE
};

/// Present only when unfinished bars are kept.
pub const ENDED_BY_COLUMN: Column = Column {
    name: "ended_by",
    dtype: Type::EndedBy,
    unit: "category",
    is_nullable: true,
    meaning: "threshold, reset or gap; null while the bar is forming; only with incomplete=\"keep\"",
    extract: Extract::EndedBy(|bars, _, out| {
        fill(bars, out, |bar| match bar.ended_by {
            Some(Cause::Threshold | Cause::Run) => 0,
            Some(Cause::Reset) => 1,
            Some(Cause::Gap) => 2,
            Some(Cause::Discard) | None => NOT_ENDED,
        });
    }),
    ..BASE
};

/// The core columns in output order.
pub const CORE: &[Column] = &[
    THRESHOLD,
    BAR_ID,
    time("open_time", "time of the first record", |bars, _, out| fill(bars, out, |bar| bar.sums.open_time)),
    time("close_time", "time of the last record", |bars, _, out| fill(bars, out, |bar| bar.sums.close_time)),
    price("open", "price of the first record", |bars, _, out| fill(bars, out, |bar| from_grid(bar.sums.open))),
    price("high", "highest price", |bars, _, out| fill(bars, out, |bar| from_grid(bar.sums.high))),
    price("low", "lowest price", |bars, _, out| fill(bars, out, |bar| from_grid(bar.sums.low))),
    price("close", "price of the last record", |bars, _, out| fill(bars, out, |bar| from_grid(bar.sums.close))),
    amount(
        "volume",
        "base currency",
        Inputs::QUANTITY,
        "sum of quantities; contracts become coins with contract_size",
        |bars, _, out| {
            fill(bars, out, Bar::volume);
        },
    ),
    amount(
        "vwap",
        "quote currency",
        Inputs::QUANTITY,
        "turnover over volume; null when volume is 0",
        |bars, _, out| {
            fill_defined(bars, out, Bar::vwap);
        },
    ),
    amount("turnover", "quote currency", Inputs::QUANTITY, "sum of price times quantity", |bars, _, out| {
        fill(bars, out, |bar| money(bar.sums.turnover));
    }),
    amount("buy_volume", "base currency", Inputs::FLOW, "volume with the buyer as aggressor", |bars, _, out| {
        fill(bars, out, Bar::buy_volume);
    }),
    amount("sell_volume", "base currency", Inputs::FLOW, "volume with the seller as aggressor", |bars, _, out| {
        fill(bars, out, Bar::sell_volume);
    }),
    amount("buy_turnover", "quote currency", Inputs::FLOW, "turnover with the buyer as aggressor", |bars, _, out| {
        fill(bars, out, |bar| money(bar.sums.buy_turnover()));
    }),
    amount("sell_turnover", "quote currency", Inputs::FLOW, "turnover with the seller as aggressor", |bars, _, out| {
        fill(bars, out, |bar| money(bar.sums.sell_turnover));
    }),
    count("buy_trade_count", "fills", Inputs::SIDE, 0.0, "fills with the buyer as aggressor", |bars, _, out| {
        fill(bars, out, |bar| bar.sums.buy_fills());
    }),
    count("sell_trade_count", "fills", Inputs::SIDE, 0.0, "fills with the seller as aggressor", |bars, _, out| {
        fill(bars, out, |bar| bar.sums.sell_fills);
    }),
    count(
        "individual_trade_count",
        "fills",
        Inputs::NONE,
        1.0,
        "fills by first and last trade id; without these ids, records",
        |bars, _, out| fill(bars, out, |bar| bar.sums.fills),
    ),
    count("agg_record_count", "records", Inputs::NONE, 1.0, "input records", |bars, _, out| {
        fill(bars, out, |bar| bar.sums.records);
    }),
    id("first_trade_id", Inputs::FIRST_ID, "first trade id of the first record", |bars, _, out| {
        fill(bars, out, |bar| bar.sums.first_id);
    }),
    id("last_trade_id", Inputs::LAST_ID, "last trade id of the last record", |bars, _, out| {
        fill(bars, out, |bar| bar.sums.last_id);
    }),
    id("first_agg_trade_id", Inputs::AGG_ID, "aggregate trade id of the first record", |bars, _, out| {
        fill(bars, out, |bar| bar.sums.first_agg_id);
    }),
    id("last_agg_trade_id", Inputs::AGG_ID, "aggregate trade id of the last record", |bars, _, out| {
        fill(bars, out, |bar| bar.sums.last_agg_id);
    }),
    IS_CLOSED,
    ENDED_BY_COLUMN,
];

/// Values in units of price and quantity, for columns and features.
impl Bar {
    #[inline]
    pub fn volume(&self) -> f64 {
        to_f64(self.sums.volume) / 1e8
    }

    #[inline]
    pub fn buy_volume(&self) -> f64 {
        to_f64(self.sums.buy_volume()) / 1e8
    }

    #[inline]
    pub fn sell_volume(&self) -> f64 {
        to_f64(self.sums.sell_volume) / 1e8
    }

    /// `None` when nothing was traded.
    #[inline]
    pub fn vwap(&self) -> Option<f64> {
        (self.sums.volume > 0).then(|| vwap(self.sums.turnover, self.sums.volume))
    }

    /// Time from the first to the last record in whole microseconds.
    #[inline]
    pub fn duration_us(&self, unit: TimeUnit) -> i64 {
        unit.microseconds_between(self.sums.open_time, self.sums.close_time)
    }
}
