//! Features of the records of a bar.

pub mod drawdown;
pub mod epochs;

use crate::core::columns::{Column, Group};
use crate::features::shared::{
    Definition, arrival, flow, hurst, kaufman, permutation_entropy, price_range, sizes, vwap,
};

const GROUP: Group = Group::Intrabar;

/// The columns in output order.
pub const COLUMNS: &[Column] = &[
    epochs::DENSITY_BULL.column(
        GROUP,
        "intra_bull_epoch_density",
        "logistic of the share of bull epochs in the records",
    ),
    epochs::DENSITY_BEAR.column(
        GROUP,
        "intra_bear_epoch_density",
        "logistic of the share of bear epochs in the records",
    ),
    epochs::EXCESS_BULL.column(GROUP, "intra_bull_excess_gain", "tanh of the sum of gains of the bull walk"),
    epochs::EXCESS_BEAR.column(GROUP, "intra_bear_excess_gain", "tanh of the sum of gains of the bear walk"),
    epochs::CV_BULL.column(GROUP, "intra_bull_cv", "logistic of the variation of the distances of bull epochs"),
    epochs::CV_BEAR.column(GROUP, "intra_bear_cv", "logistic of the variation of the distances of bear epochs"),
    drawdown::MAX_DRAWDOWN.column(GROUP, "intra_max_drawdown", "largest fall from a peak, over the peak"),
    drawdown::MAX_RUNUP.column(GROUP, "intra_max_runup", "largest rise from a trough, over the trough"),
    Definition { least: 1, bounds: (Some(1.0), None), ..arrival::COUNT }.defined(
        GROUP,
        "intra_trade_count",
        "records of the bar; equals agg_record_count",
    ),
    flow::OFI.column(GROUP, "intra_ofi", "bought less sold volume over both; near to ofi"),
    arrival::DURATION.defined(GROUP, "intra_duration_us", "time from the first to the last record; equals duration_us"),
    arrival::INTENSITY.column(GROUP, "intra_intensity", "records over duration"),
    vwap::VWAP_POSITION.column(GROUP, "intra_vwap_position", "vwap less low over high less low"),
    flow::COUNT_IMBALANCE.column(GROUP, "intra_count_imbalance", "bought less sold fills over both"),
    flow::KYLE_LAMBDA.column(GROUP, "intra_kyle_lambda", "return over order flow imbalance; near to kyle_lambda_proxy"),
    arrival::BURSTINESS.column(
        GROUP,
        "intra_burstiness",
        "sd less mean over sd plus mean of the intervals between records: -1 periodic, 0 Poisson",
    ),
    sizes::VOLUME_SKEW.column(GROUP, "intra_volume_skew", "skewness of the sizes of records"),
    sizes::VOLUME_KURT.column(GROUP, "intra_volume_kurt", "excess kurtosis of the sizes of records"),
    kaufman::KAUFMAN_ER.column(GROUP, "intra_kaufman_er", "net over absolute price changes between records"),
    price_range::GARMAN_KLASS_VOL.column(
        GROUP,
        "intra_garman_klass_vol",
        "Garman-Klass volatility of the range of the bar",
    ),
    hurst::HURST.column(GROUP, "intra_hurst", "slope of the detrended fluctuation of prices: 0.5 for a random walk"),
    permutation_entropy::PERMUTATION_ENTROPY.column(
        GROUP,
        "intra_permutation_entropy",
        "entropy of the order of three successive prices, over its maximum",
    ),
];
