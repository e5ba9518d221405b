//! Features of the orders of a bar, and of its path in time.
//!
//! An order is a run of records of one time and side: what one taker sent. Price changes between records
//! measure how the exchange splits orders; changes between orders measure prices.

pub mod arrival;
pub mod averages;
pub mod delta;
pub mod impact;
pub mod moments;
pub mod order_sizes;
pub mod path;
pub mod reversals;
pub mod signs;
pub mod spread;
pub mod sweeps;
pub mod two_scales;
pub mod variation;

use crate::core::columns::{Column, Group};

const GROUP: Group = Group::Extended;

/// The columns in output order.
pub const COLUMNS: &[Column] = &[
    impact::LAMBDA.column(GROUP, "glosten_harris_lambda", "price impact per unit of size, net of bounce"),
    impact::LAMBDA_T.column(GROUP, "glosten_harris_lambda_t", "glosten_harris_lambda over its standard error"),
    impact::SPREAD.column(GROUP, "glosten_harris_spread", "spread at size 0, over the open"),
    spread::HUANG_STOLL_SPREAD.column(GROUP, "huang_stoll_spread", "spread paid, over the open"),
    spread::ADVERSE_HALF_SPREAD.column(
        GROUP,
        "adverse_half_spread",
        "half spread that stays in the price, over the open",
    ),
    variation::REALIZED_VARIANCE.column(
        GROUP,
        "realized_variance",
        "squared price changes between orders, over the squared open",
    ),
    variation::UPSIDE_VARIANCE_SHARE.column(GROUP, "upside_variance_share", "share of rises in realized_variance"),
    moments::REALIZED_SKEW.column(GROUP, "realized_skew", "skewness of the price changes between orders"),
    moments::REALIZED_KURT.column(GROUP, "realized_kurt", "kurtosis of the price changes between orders; 3 if normal"),
    two_scales::TWO_SCALE_VARIANCE.column(
        GROUP,
        "two_scale_variance",
        "variance without bounce, from changes over 8 and 1 orders; may be negative",
    ),
    two_scales::VARIANCE_RATIO.column(
        GROUP,
        "variance_ratio",
        "variance over 8 orders to 8 times that over 1: above 1 trending, below 1 bouncing",
    ),
    variation::LARGEST_MOVE.column(
        GROUP,
        "largest_move",
        "largest absolute price change between orders, over the open",
    ),
    variation::UNCHANGED_SHARE.column(GROUP, "unchanged_share", "share of orders that did not change the price"),
    reversals::REVERSAL_RATIO.column(GROUP, "reversal_ratio", "share of price changes that reverse the one before"),
    sweeps::ORDER_COUNT.defined(GROUP, "order_count", "orders: runs of records of one time and side"),
    sweeps::SWEEP_SHARE.column(GROUP, "sweep_share", "share of volume in orders of several records"),
    signs::SIGN_AUTOCORR_1.column(GROUP, "sign_autocorr_1", "autocorrelation of the sides of orders at lag 1"),
    signs::SIGN_AUTOCORR_5.column(GROUP, "sign_autocorr_5", "autocorrelation of the sides of orders at lag 5"),
    signs::SIGN_ENTROPY.column(GROUP, "sign_entropy", "entropy of the side of an order given the two before it"),
    signs::RUN_LENGTH_MAX.column(GROUP, "run_length_max", "longest run of orders of one side"),
    delta::DELTA_MAX.column(GROUP, "delta_max", "highest cumulative bought less sold volume, at least 0"),
    delta::DELTA_MIN.column(GROUP, "delta_min", "lowest cumulative bought less sold volume, at most 0"),
    delta::DELTA_EXTREME_AT.column(
        GROUP,
        "delta_extreme_at",
        "when cumulative flow was farthest from 0, as a share of the duration",
    ),
    path::HIGH_AT.column(GROUP, "high_at", "when the high was reached, as a share of the duration"),
    path::LOW_AT.column(GROUP, "low_at", "when the low was reached, as a share of the duration"),
    averages::TWAP.column(GROUP, "twap", "average price by time; each price holds until the next record"),
    averages::VWAP_SD.column(GROUP, "vwap_sd", "standard deviation of prices around vwap, by volume"),
    path::OPEN_CROSSINGS.column(GROUP, "open_crossings", "crossings of the open by the price"),
    order_sizes::ORDER_SIZE_P50.column(GROUP, "order_size_p50", "median size of orders"),
    order_sizes::ORDER_SIZE_P90.column(GROUP, "order_size_p90", "90 % quantile of the sizes of orders"),
    sweeps::ORDER_SIZE_MAX.column(GROUP, "order_size_max", "size of the largest order"),
    sweeps::ORDER_SIZE_HHI.column(
        GROUP,
        "order_size_hhi",
        "Herfindahl index of the sizes of orders; its inverse is their effective number",
    ),
    order_sizes::LARGE_ORDER_SHARE.column(
        GROUP,
        "large_order_share",
        "share of volume in orders of at least order_size_p90",
    ),
    order_sizes::LARGE_ORDER_OFI.column(GROUP, "large_order_ofi", "bought less sold volume of these orders, over both"),
    arrival::BURSTINESS_KIM_JO.column(
        GROUP,
        "burstiness_kim_jo",
        "burstiness of the intervals between orders: -1 periodic, 0 Poisson",
    ),
    arrival::INTERVAL_MEMORY.column(GROUP, "interval_memory", "correlation of successive intervals between orders"),
    arrival::MAX_SILENCE_US.column(GROUP, "max_silence_us", "longest time between two records"),
];
