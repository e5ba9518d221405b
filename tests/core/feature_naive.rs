//! Features against plain loops over the records of a bar, in doubles and narrow integers. The property
//! tests in Python hold every column to its exact definition; these hold the core alone.

use std::collections::HashMap;

use proptest::prelude::*;
use rangebar_polars::core::aggregate::{Aggregator, Ids};
use rangebar_polars::core::columns::{Column, Type};
use rangebar_polars::core::diagnose::Names;
use rangebar_polars::core::time::TimeUnit;
use rangebar_polars::core::window::Window;

use crate::features::{columns, plan_of};
use crate::trades::{Trades, bitmap, walk};

/// A record in units of price and size, and seconds.
struct Sample {
    time: Vec<f64>,
    price: Vec<f64>,
    size: Vec<f64>,
    side: Vec<f64>,
    fills: Vec<f64>,
}

impl Sample {
    fn of(trades: &Trades) -> Self {
        let side = |row: usize| match (trades.is_unsided[row], trades.is_sell[row]) {
            (true, _) => 0.0,
            (_, true) => -1.0,
            _ => 1.0,
        };
        Self {
            time: trades.time.iter().map(|time| (time - trades.time[0]) as f64 / 1e6).collect(),
            price: trades.price.clone(),
            size: trades.quantity.iter().map(|size| (size * 1e8).round() / 1e8).collect(),
            side: (0..trades.len()).map(side).collect(),
            fills: (0..trades.len()).map(|row| (trades.last_id[row] - trades.first_id[row] + 1) as f64).collect(),
        }
    }

    /// Rows of each order.
    fn orders(&self) -> Vec<Vec<usize>> {
        let mut orders: Vec<Vec<usize>> = Vec::new();
        for row in 0..self.price.len() {
            match orders.last_mut() {
                Some(order) if (self.time[order[0]], self.side[order[0]]) == (self.time[row], self.side[row]) => {
                    order.push(row);
                }
                _ => orders.push(vec![row]),
            }
        }
        orders
    }
}

fn steps(values: &[f64]) -> Vec<f64> {
    values.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Central moment of a population.
fn moment(values: &[f64], power: i32) -> f64 {
    let centre = mean(values);
    mean(&values.iter().map(|value| (value - centre).powi(power)).collect::<Vec<_>>())
}

fn sum_of(values: impl Iterator<Item = f64>) -> f64 {
    values.sum()
}

fn over_records(sample: &Sample, out: &mut HashMap<&'static str, f64>) {
    let Sample { time, price, size, side, fills } = sample;
    let (open, close, span) = (price[0], price[price.len() - 1], time[time.len() - 1]);
    let (high, low) = (price.iter().copied().fold(0.0, f64::max), price.iter().copied().fold(f64::MAX, f64::min));
    let (tau, change) = (steps(time), steps(price));
    let volume = size.iter().sum::<f64>();
    let net = sum_of(size.iter().zip(side).map(|(size, side)| size * side));
    let sided = sum_of(size.iter().zip(side).map(|(size, side)| size * side.abs()));
    let vwap = sum_of(price.iter().zip(size).map(|(price, size)| price * size)) / volume;
    let of_fills = |weight: fn(f64) -> f64| sum_of(fills.iter().zip(side).map(|(fills, side)| fills * weight(*side)));
    out.insert("intra_ofi", net / sided);
    out.insert("intra_intensity", price.len() as f64 / span);
    out.insert("intra_vwap_position", (vwap - low) / (high - low));
    out.insert("intra_count_imbalance", of_fills(|side| side) / of_fills(f64::abs));
    out.insert("intra_kyle_lambda", (close - open) / open / (net / sided));
    let (spread, centre) = (moment(&tau, 2).sqrt(), mean(&tau));
    out.insert("intra_burstiness", (spread - centre) / (spread + centre));
    out.insert("intra_volume_skew", moment(size, 3) / moment(size, 2).powf(1.5));
    out.insert("intra_volume_kurt", moment(size, 4) / moment(size, 2).powi(2) - 3.0);
    out.insert("intra_kaufman_er", (close - open).abs() / sum_of(change.iter().map(|change| change.abs())));
    let squared = |x: f64| x.ln().powi(2);
    let constant = 2.0 * 2f64.ln() - 1.0;
    out.insert("intra_garman_klass_vol", (0.5 * squared(high / low) - constant * squared(close / open)).sqrt());
    let (mut peak, mut trough, mut fall, mut rise) = (open, open, 0.0f64, 0.0f64);
    for price in price {
        (peak, trough) = (peak.max(*price), trough.min(*price));
        fall = fall.max((peak - price) / peak);
        rise = rise.max((price - trough) / trough);
    }
    out.insert("intra_max_drawdown", fall);
    out.insert("intra_max_runup", rise);
    let mut flow = vec![0.0];
    size.iter().zip(side).for_each(|(size, side)| flow.push(flow[flow.len() - 1] + size * side));
    out.insert("delta_max", flow.iter().copied().fold(0.0, f64::max));
    out.insert("delta_min", flow.iter().copied().fold(0.0, f64::min));
    let first = |wanted: f64| time[price.iter().position(|price| *price == wanted).unwrap()] / span;
    out.insert("high_at", first(high));
    out.insert("low_at", first(low));
    out.insert("twap", sum_of(tau.iter().zip(price).map(|(tau, price)| tau * price)) / span);
    let around = sum_of(price.iter().zip(size).map(|(price, size)| size * (price - vwap).powi(2)));
    out.insert("vwap_sd", (around / volume).sqrt());
    out.insert("max_silence_us", (tau.iter().copied().fold(0.0, f64::max) * 1e6).round());
    let sides: Vec<bool> = price.iter().filter(|price| **price != open).map(|price| *price > open).collect();
    out.insert("open_crossings", sides.windows(2).filter(|pair| pair[0] != pair[1]).count() as f64);
}

fn over_orders(sample: &Sample, out: &mut HashMap<&'static str, f64>) {
    let orders = sample.orders();
    let last: Vec<f64> = orders.iter().map(|order| sample.price[order[order.len() - 1]]).collect();
    let sizes: Vec<f64> = orders.iter().map(|order| order.iter().map(|row| sample.size[*row]).sum()).collect();
    let times: Vec<f64> = orders.iter().map(|order| sample.time[order[0]]).collect();
    let sides: Vec<f64> = orders.iter().map(|order| sample.side[order[0]]).collect();
    let (open, volume, n) = (sample.price[0], sizes.iter().sum::<f64>(), last.len() as f64 - 1.0);
    let (change, tau) = (steps(&last), steps(&times));
    let power = |power: i32| sum_of(change.iter().map(|change| change.powi(power)));
    out.insert("order_count", last.len() as f64);
    out.insert("realized_variance", power(2) / open.powi(2));
    out.insert("realized_skew", n.sqrt() * power(3) / power(2).powf(1.5));
    out.insert("realized_kurt", n * power(4) / power(2).powi(2));
    let ups = sum_of(change.iter().filter(|change| **change > 0.0).map(|change| change.powi(2)));
    out.insert("upside_variance_share", ups / power(2));
    out.insert("largest_move", change.iter().map(|change| change.abs()).fold(0.0, f64::max) / open);
    out.insert("unchanged_share", change.iter().filter(|change| **change == 0.0).count() as f64 / n);
    let slow = sum_of((0..last.len() - 1).map(|at| (last[(at + 8).min(last.len() - 1)] - last[at]).powi(2)));
    out.insert("variance_ratio", slow * n / ((8.0 * n - 28.0) * power(2)));
    let swept = orders.iter().zip(&sizes).filter(|(order, _)| order.len() > 1).map(|(_, size)| size);
    out.insert("sweep_share", swept.sum::<f64>() / volume);
    out.insert("order_size_max", sizes.iter().copied().fold(0.0, f64::max));
    out.insert("order_size_hhi", sizes.iter().map(|size| size * size).sum::<f64>() / volume.powi(2));
    let mut sorted = sizes.clone();
    sorted.sort_by(f64::total_cmp);
    let quantile = |percent: usize| sorted[(percent * sorted.len()).div_ceil(100) - 1];
    out.insert("order_size_p50", quantile(50));
    out.insert("order_size_p90", quantile(90));
    let (relative, count) = (moment(&tau, 2).sqrt() / mean(&tau), tau.len() as f64);
    let (a, b) = ((count + 1.0).sqrt(), (count - 1.0).sqrt());
    out.insert("burstiness_kim_jo", (a * relative - b) / ((a - 2.0) * relative + b));
    let (earlier, later) = (&tau[..tau.len() - 1], &tau[1..]);
    let joint =
        mean(&earlier.iter().zip(later).map(|(a, b)| (a - mean(earlier)) * (b - mean(later))).collect::<Vec<_>>());
    out.insert("interval_memory", joint / (moment(earlier, 2) * moment(later, 2)).sqrt());
    let flip = steps(&sides);
    let signed: Vec<f64> = sizes.iter().zip(&sides).map(|(size, side)| size * side).skip(1).collect();
    let dot = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f64>();
    let determinant = dot(&signed, &signed) * dot(&flip, &flip) - dot(&flip, &signed).powi(2);
    let impact = dot(&change, &signed) * dot(&flip, &flip) - dot(&change, &flip) * dot(&flip, &signed);
    out.insert("glosten_harris_lambda", impact / determinant);
    let own: Vec<f64> = sides.iter().copied().filter(|side| *side != 0.0).collect();
    let centred: Vec<f64> = own.iter().map(|side| side - mean(&own)).collect();
    out.insert("sign_autocorr_1", dot(&centred, &centred[1..]) / dot(&centred, &centred));
    out.insert("sign_autocorr_5", dot(&centred, &centred[5..]) / dot(&centred, &centred));
}

/// The columns of a single bar that holds all records.
fn one_bar(trades: &Trades, columns: &[&'static Column]) -> HashMap<&'static str, f64> {
    let mut aggregator = Aggregator::new(TimeUnit::Microseconds, Names::default(), false);
    aggregator.compute(plan_of(columns, Window::Records(1)));
    let bytes = bitmap(&trades.is_sell, 0);
    let ids = vec![0u8; trades.len()];
    aggregator.begin();
    let ids = Ids { values: &ids, validity: None };
    aggregator.push(&trades.ticks(&bytes, 0), ids, &mut Vec::new(), &mut |_| {}).unwrap();
    let bar = aggregator.last_run().unwrap();
    let value = |(column, cell): (&&'static Column, &u64)| match column.dtype {
        Type::Int64 => (column.name, *cell as i64 as f64),
        _ => (column.name, f64::from_bits(*cell)),
    };
    columns.iter().zip(bar.values.unwrap().iter()).map(value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn values_are_those_of_plain_loops(rows in 300usize..3_000, seed in any::<u64>(), one_in in prop_oneof![Just(0u64), 3u64..40]) {
        let mut trades = walk(rows, seed, 60_000.0, 1);
        if one_in > 0 {
            trades = trades.without_aggressor(one_in);
        }
        let sample = Sample::of(&trades);
        let mut expected = HashMap::new();
        over_records(&sample, &mut expected);
        over_orders(&sample, &mut expected);
        let columns: Vec<_> = columns(&[""]).into_iter().filter(|column| expected.contains_key(column.name)).collect();
        prop_assert_eq!(columns.len(), expected.len());
        let got = one_bar(&trades, &columns);
        for (name, want) in &expected {
            let value = got[name];
            let tolerance = if name.contains("skew") || name.contains("kurt") { 1e-5 } else { 1e-6 };
            prop_assert!((value - want).abs() <= tolerance * (want.abs() + 1e-3), "{name}: {value} for {want}");
        }
    }
}
