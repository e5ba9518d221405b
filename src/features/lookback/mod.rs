//! Features of the records before a bar: its look-back window, evaluated when the bar opens.

use crate::core::columns::{Column, Group};
use crate::features::shared::{
    Definition, arrival, flow, hurst, kaufman, permutation_entropy, price_range, sizes, vwap,
};

const GROUP: Group = Group::Lookback;

/// The columns in output order.
pub const COLUMNS: &[Column] = &[
    Definition { bounds: (Some(0.0), Some(10_000.0)), ..arrival::COUNT }.defined(
        GROUP,
        "lookback_trade_count",
        "records of the window; 10000 means 10000 or more",
    ),
    flow::OFI.column(GROUP, "lookback_ofi", "bought less sold volume over both, of the window"),
    arrival::DURATION.column(GROUP, "lookback_duration_us", "time from the first to the last record of the window"),
    arrival::INTENSITY.column(
        GROUP,
        "lookback_intensity",
        "records over duration of the window, without the silence before the bar",
    ),
    vwap::VWAP.column(GROUP, "lookback_vwap", "turnover over volume of the window"),
    vwap::VWAP_POSITION.column(GROUP, "lookback_vwap_position", "vwap less low over high less low, of the window"),
    flow::COUNT_IMBALANCE.column(
        GROUP,
        "lookback_count_imbalance",
        "bought less sold records over both, of the window",
    ),
    flow::KYLE_LAMBDA.column(
        GROUP,
        "lookback_kyle_lambda",
        "return of the window over its flow imbalance; a ratio, not a regression",
    ),
    arrival::BURSTINESS.column(
        GROUP,
        "lookback_burstiness",
        "sd less mean over sd plus mean of the intervals: -1 periodic, 0 Poisson",
    ),
    sizes::VOLUME_SKEW.column(GROUP, "lookback_volume_skew", "skewness of the sizes of records of the window"),
    sizes::VOLUME_KURT.column(GROUP, "lookback_volume_kurt", "excess kurtosis of the sizes of records of the window"),
    price_range::PRICE_RANGE.column(GROUP, "lookback_price_range", "high less low of the window over its first price"),
    price_range::GARMAN_KLASS_VOL.column(
        GROUP,
        "lookback_garman_klass_vol",
        "Garman-Klass volatility of the range of the window",
    ),
    kaufman::KAUFMAN_ER.column(GROUP, "lookback_kaufman_er", "net over absolute price changes of the window"),
    hurst::HURST.column(GROUP, "lookback_hurst", "slope of the detrended fluctuation of prices: 0.5 for a random walk"),
    permutation_entropy::PERMUTATION_ENTROPY.column(
        GROUP,
        "lookback_permutation_entropy",
        "entropy of the order of three successive prices, over its maximum",
    ),
];
