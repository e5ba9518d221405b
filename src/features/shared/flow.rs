//! Imbalance of flow, by volume and by count, and the price change per unit of it.
//!
//! With `S` the bought and `s` the sold volume, `ofi = (S - s) / (S + s)` (Chordia, Roll and Subrahmanyam,
//! 2002) and `kyle_lambda = ((close - open) / open) / ofi`, a ratio and not a regression, with heavy tails
//! (after Kyle, 1985). Three bought and one sold give an `ofi` of 0.5.

use crate::core::arithmetic::grid::to_f64;
use crate::core::sample::family::{Formula, float};
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::{ratio, signed_share};
use crate::features::shared::{ANY, Definition, SIGNED_SHARE, records};

pub const OFI: Definition = records(
    "ratio",
    Inputs::FLOW,
    SIGNED_SHARE,
    1,
    Formula::Summary(|sample| float(signed_share(to_f64(sample.net_volume), to_f64(sample.sided_volume))), Uses::FLOW),
);

pub const COUNT_IMBALANCE: Definition = records(
    "ratio",
    Inputs::SIDE,
    SIGNED_SHARE,
    1,
    Formula::Summary(
        |sample| float(signed_share(sample.net_count as f64, sample.sided_count as f64)),
        Uses { side: true, ..Uses::TIME },
    ),
);

pub const KYLE_LAMBDA: Definition =
    records("ratio", Inputs::FLOW, ANY, 2, Formula::Summary(|sample| float(kyle_lambda(sample)), Uses::ALL));

fn kyle_lambda(sample: &Summary) -> Option<f64> {
    let change = (sample.close - sample.open) as f64;
    ratio(change * to_f64(sample.sided_volume), sample.open as f64 * to_f64(sample.net_volume))
}
