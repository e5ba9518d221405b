//! Volume-weighted average price, and where it lies between low and high:
//! `(vwap - low) / (high - low)` (vwap as in Berkowitz, Logue and Noser, 1988).
//!
//! Undefined when nothing was traded, and the position also when there is no range. Sizes 1 and 3 at the
//! prices 100 and 101 give 100.75 and 0.75.

use crate::core::arithmetic::grid::to_f64;
use crate::core::arithmetic::wide::Int;
use crate::core::sample::family::{Formula, float};
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::{ratio, share};
use crate::features::shared::{Definition, POSITIVE, SHARE, records};

const TRADED: Uses = Uses::PRICE.with(Uses::SIZE);

pub const VWAP: Definition = records(
    "quote currency",
    Inputs::QUANTITY,
    POSITIVE,
    1,
    Formula::Summary(|sample| float(ratio(sample.turnover.to_f64(), to_f64(sample.volume) * 1e8)), TRADED),
);

pub const VWAP_POSITION: Definition =
    records("ratio", Inputs::QUANTITY, SHARE, 1, Formula::Summary(|sample| float(vwap_position(sample)), TRADED));

fn vwap_position(sample: &Summary) -> Option<f64> {
    let above_low = sample.turnover.wide() - Int::<2>::from(sample.volume).by(i128::from(sample.low));
    share(above_low.to_f64(), to_f64(sample.volume) * (sample.high - sample.low) as f64)
}
