//! Trades of a journal: as frames, and as a push that creates no Polars columns.

use polars::prelude::*;

use crate::core::bar::Bar;
use crate::core::ticks::{Inputs, Ticks};
use crate::frames::error::FrameError;
use crate::frames::options::Role;
use crate::frames::session::{Engine, Session};
use crate::journal::columns::TradeColumns;

/// Names of the columns, in their order in a record.
const NAMES: [&str; 7] =
    ["timestamp", "price", "quantity", "agg_trade_id", "first_trade_id", "last_trade_id", "is_buyer_maker"];

fn time_dtype() -> DataType {
    DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC))
}

/// Trades as columns of a frame.
pub fn trade_series(trades: TradeColumns) -> Vec<Series> {
    let [time, price, quantity, agg_id, first_id, last_id, side] = NAMES.map(PlSmallStr::from_static);
    let times = Int64Chunked::from_vec(time, trades.time.into_owned());
    let sides = BooleanChunked::from_iter_values(side, trades.side.iter().map(|side| *side == 1));
    vec![
        times.into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)).into_series(),
        Series::from_vec(price, trades.price.into_owned()),
        Series::from_vec(quantity, trades.quantity.into_owned()),
        Series::from_vec(agg_id, trades.agg_id.into_owned()),
        Series::from_vec(first_id, trades.first_id.into_owned()),
        Series::from_vec(last_id, trades.last_id.into_owned()),
        sides.into_series(),
    ]
}

/// The trades of a frame with the columns of a record.
///
/// # Errors
/// When a column is missing, of another type, or has nulls.
pub fn trades_of(frame: &DataFrame) -> Result<TradeColumns<'static>, FrameError> {
    let column = |at: usize, dtype: &DataType| -> Result<Series, FrameError> {
        let absent = || FrameError::Type(format!("the frame has no column `{}`", NAMES[at]));
        let series = frame.column(NAMES[at]).map_err(|_| absent())?.as_materialized_series().rechunk();
        if series.dtype() != dtype || series.null_count() > 0 {
            let (name, found) = (NAMES[at], series.dtype());
            return Err(FrameError::Type(format!("`{name}` must be {dtype} without nulls, got {found}")));
        }
        Ok(series)
    };
    let ints = |at: usize, dtype: &DataType| -> Result<Vec<i64>, FrameError> {
        Ok(column(at, dtype)?.to_physical_repr().i64()?.into_no_null_iter().collect())
    };
    let floats = |at: usize| -> Result<Vec<f64>, FrameError> {
        Ok(column(at, &DataType::Float64)?.f64()?.into_no_null_iter().collect())
    };
    let sides = column(6, &DataType::Boolean)?;
    Ok(TradeColumns {
        time: ints(0, &time_dtype())?.into(),
        price: floats(1)?.into(),
        quantity: floats(2)?.into(),
        agg_id: ints(3, &DataType::Int64)?.into(),
        first_id: ints(4, &DataType::Int64)?.into(),
        last_id: ints(5, &DataType::Int64)?.into(),
        side: sides.bool()?.iter().map(|side| u8::from(side == Some(true))).collect::<Vec<_>>().into(),
    })
}

/// Pushes of trades that are no Polars columns. Each is `begin`, `push_ticks`, then `commit` or `roll_back`.
impl Session {
    /// Checks that this session takes the columns of a record, and no others.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_takes_trades(&self) -> Result<(), FrameError> {
        let expected = |role: &Role| match role {
            Role::Timestamp => Some(time_dtype()),
            Role::Price | Role::Quantity => Some(DataType::Float64),
            Role::AggTradeId | Role::FirstTradeId | Role::LastTradeId => Some(DataType::Int64),
            Role::IsBuyerMaker => Some(DataType::Boolean),
            Role::Side | Role::BarId | Role::Key | Role::Symbol => None,
        };
        let options = &self.options;
        let are_alike =
            options.roles.iter().zip(&self.dtypes).all(|(role, dtype)| expected(role).as_ref() == Some(dtype));
        let is_plain = options.contract_size.is_none() && !options.watch_fills && !options.is_aggregate();
        let all = Inputs::FLOW.with(Inputs::FILLS).with(Inputs::AGG_ID).with(Inputs::UNSIDED);
        if are_alike && is_plain && options.inputs() == all && options.roles.len() == NAMES.len() {
            return Ok(());
        }
        let names = NAMES.join("`, `");
        Err(FrameError::Options(format!("the state is not one of trades with exactly the columns `{names}`")))
    }

    /// Starts a push.
    pub fn begin(&mut self) {
        if let Engine::Builder(builder) = &mut self.engine {
            builder.begin();
        }
    }

    /// Processes trades and returns the bars that end in them.
    ///
    /// # Errors
    /// At the first invalid record. The push must then be rolled back.
    pub fn push_ticks(&mut self, ticks: &Ticks) -> Result<Vec<Bar>, FrameError> {
        let Engine::Builder(builder) = &mut self.engine else {
            return Err(FrameError::Options("bars need a threshold".to_owned()));
        };
        let (mut bars, mut ended) = (Vec::new(), Vec::new());
        let mut result = builder.push(ticks, None, &mut bars, &mut |bars| ended.append(bars));
        if result.is_err() && builder.retrace() {
            result = builder.push(ticks, None, &mut bars, &mut |bars| bars.clear());
        }
        result?;
        Ok(ended)
    }

    /// Makes the push final.
    pub fn commit(&mut self) {
        if let Engine::Builder(builder) = &mut self.engine {
            builder.commit();
        }
    }

    /// Restores the state at `begin`.
    pub fn roll_back(&mut self) {
        if let Engine::Builder(builder) = &mut self.engine {
            builder.roll_back();
        }
    }

    /// Bars as columns.
    ///
    /// # Errors
    /// Never in practice.
    pub fn bar_series(&self, mut bars: Vec<Bar>) -> Result<Vec<Series>, FrameError> {
        let mut table = self.table(self.options.keep);
        table.take(&mut bars, self.context());
        self.finish_table(table)
    }

    /// A hash of the state, less counters of rows and bars and less features, in hex.
    ///
    /// # Errors
    /// In aggregate mode.
    pub fn bars_digest(&self) -> Result<String, FrameError> {
        let Engine::Builder(builder) = &self.engine else {
            return Err(FrameError::Options("an aggregation has no state".to_owned()));
        };
        Ok(builder.bars_digest().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
