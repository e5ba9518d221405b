//! Benchmarks of the core alone: `cargo bench --no-default-features`.
//!
//! Every figure is records per second on one thread. `read` is the yardstick: merely reading the
//! same seven columns once.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use rangebar_polars::core::bar::Bar;
use rangebar_polars::core::builder::RangeBarBuilder;
use rangebar_polars::core::columns::Column;
use rangebar_polars::core::diagnose::Names;
use rangebar_polars::core::rule::table::RuleName;
use rangebar_polars::core::rule::threshold::Threshold;
use rangebar_polars::core::simd::InstructionSet;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::ticks::{Bits, Ticks, Values};
use rangebar_polars::core::time::TimeUnit;
use rangebar_polars::core::window::Window;
use rangebar_polars::features::{catalogue, computed, plan};

fn main() {
    if cfg!(debug_assertions) {
        eprintln!("benchmarks of a debug build say nothing; run `cargo bench`");
        std::process::exit(2);
    }
    divan::main();
}

/// Trades in columns, a random walk on a tick grid with a fixed seed.
struct Trades {
    time: Vec<i64>,
    price: Vec<f64>,
    quantity: Vec<f64>,
    side: Vec<u8>,
    agg_id: Vec<i64>,
    first_id: Vec<i64>,
    last_id: Vec<i64>,
}

impl Trades {
    fn walk(rows: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut trades = Self {
            time: Vec::with_capacity(rows),
            price: Vec::with_capacity(rows),
            quantity: Vec::with_capacity(rows),
            side: vec![0; rows / 8 + 1],
            agg_id: (0..rows as i64).collect(),
            first_id: Vec::with_capacity(rows),
            last_id: Vec::with_capacity(rows),
        };
        let (mut time, mut cents, mut id) = (1_700_000_000_000_000i64, 6_000_000i64, 0i64);
        for row in 0..rows {
            let bits = random();
            time += if bits & 3 == 0 { 0 } else { (bits >> 2 & 0xffff) as i64 };
            cents += (bits >> 18 & 0xf) as i64 * 4 - 30;
            trades.time.push(time);
            trades.price.push(cents as f64 / 100.0);
            trades.quantity.push((bits >> 30 & 0xfff) as f64 / 1e5);
            trades.side[row / 8] |= ((bits >> 45 & 1) as u8) << (row % 8);
            trades.first_id.push(id);
            id += (bits >> 50 & 3) as i64;
            trades.last_id.push(id);
            id += 1;
        }
        trades
    }

    fn ticks(&self) -> Ticks<'_> {
        Ticks {
            time: &self.time,
            price: Values::Float(&self.price),
            quantity: Some(Values::Float(&self.quantity)),
            is_buyer_maker: Some(Bits { bytes: &self.side, offset: 0 }),
            unsided: None,
            agg_id: Some(&self.agg_id),
            first_id: Some(&self.first_id),
            last_id: Some(&self.last_id),
        }
    }
}

fn builder(rule: RuleName, thresholds: &[u32]) -> RangeBarBuilder {
    let settings = Settings {
        rule,
        thresholds: thresholds.iter().map(|dbps| Threshold::try_from(*dbps).unwrap()).collect(),
        unit: TimeUnit::Microseconds,
        reset: None,
        max_gap: None,
        is_gated: true,
        keeps_unfinished: false,
    };
    RangeBarBuilder::new(settings, Names::default(), false)
}

/// How the keys of records take turns.
#[derive(Clone, Copy, Debug)]
enum Turns {
    /// One after the other.
    Even(u32),
    /// In no order.
    Mixed(u32),
    /// So many records of a key in a row.
    Runs(u32),
}

impl Turns {
    fn codes(self, rows: usize) -> Vec<u32> {
        let rows = 0..rows as u32;
        match self {
            Self::Even(keys) => rows.map(|row| row % keys).collect(),
            Self::Mixed(keys) => {
                rows.map(|row| (row ^ row >> 9).wrapping_mul(0x9e37_79b9) >> 8).map(|x| x % keys).collect()
            }
            Self::Runs(len) => rows.map(|row| row / len % 20).collect(),
        }
    }
}

fn build(bencher: Bencher, rows: usize, thresholds: &[u32], keys: Option<Turns>) {
    build_by(bencher, RuleName::Open, rows, thresholds, keys);
}

fn build_by(bencher: Bencher, rule: RuleName, rows: usize, thresholds: &[u32], keys: Option<Turns>) {
    build_with(bencher, || builder(rule, thresholds), rows, keys);
}

fn build_with(bencher: Bencher, begun: impl Fn() -> RangeBarBuilder, rows: usize, keys: Option<Turns>) {
    let trades = Trades::walk(rows);
    let codes = keys.map(|keys| keys.codes(rows));
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        let mut builder = begun();
        let (mut bars, mut count) = (Vec::new(), 0usize);
        builder.begin();
        let result = builder.push(&trades.ticks(), codes.as_deref(), &mut bars, &mut |bars: &mut Vec<Bar>| {
            count += bars.len();
            bars.clear();
        });
        assert!(result.is_ok());
        count
    });
}

#[divan::bench(args = [1_000_000, 10_000_000])]
fn read(bencher: Bencher, rows: usize) {
    let trades = Trades::walk(rows);
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        let floats = [&trades.price, &trades.quantity];
        let integers = [&trades.time, &trades.agg_id, &trades.first_id, &trades.last_id];
        let mut sum = 0u64;
        for column in floats {
            sum = sum.wrapping_add(column.iter().fold(0u64, |sum, value| sum.wrapping_add(value.to_bits())));
        }
        for column in integers {
            sum = sum.wrapping_add(column.iter().fold(0u64, |sum, value| sum.wrapping_add(*value as u64)));
        }
        black_box(trades.side.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte))))
    });
}

#[divan::bench(args = ["baseline", "avx2", "avx512"])]
fn bars_250_dbps_10m(bencher: Bencher, name: &str) {
    let set = InstructionSet::ALL.into_iter().find(|set| set.name() == name);
    if InstructionSet::force(set) {
        build(bencher, 10_000_000, &[250], None);
        InstructionSet::force(None);
    }
}

#[divan::bench]
fn bars_250_dbps_1m(bencher: Bencher) {
    build(bencher, 1_000_000, &[250], None);
}

#[divan::bench(args = [false, true])]
fn bars_watching_fills_1m(bencher: Bencher, is_on: bool) {
    let begun = || {
        let mut builder = builder(RuleName::Open, &[250]);
        builder.watch_fills(is_on);
        builder
    };
    build_with(bencher, begun, 1_000_000, None);
}

#[divan::bench]
fn bars_10_dbps_10m(bencher: Bencher) {
    build(bencher, 10_000_000, &[10], None);
}

/// Columns to compute, besides the core.
#[derive(Clone, Copy, Debug)]
struct Features(&'static str, Window);

fn build_features(bencher: Bencher, thresholds: &[u32], Features(wanted, window): Features) {
    const ROWS: usize = 10_000_000;
    let trades = Trades::walk(ROWS);
    let inputs = trades.ticks().inputs();
    let is_wanted = |column: &&Column| wanted == "all" || column.group.name() == wanted || column.name == wanted;
    let columns: Vec<&Column> = computed(catalogue(), inputs).filter(is_wanted).collect();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut builder = builder(RuleName::Open, thresholds);
        let plan = plan(&columns, inputs, window, TimeUnit::Microseconds);
        plan.into_iter().for_each(|plan| builder.compute(plan));
        let (mut bars, mut count) = (Vec::new(), 0usize);
        builder.begin();
        let result = builder.push(&trades.ticks(), None, &mut bars, &mut |bars: &mut Vec<Bar>| {
            count += bars.len();
            bars.clear();
        });
        assert!(result.is_ok());
        count
    });
}

const FEATURES: [Features; 6] = [
    Features("core", Window::Records(200)),
    Features("lookback", Window::Records(200)),
    Features("intrabar", Window::Records(200)),
    Features("extended", Window::Records(200)),
    Features("all", Window::Records(200)),
    Features("max_silence_us", Window::Records(200)),
];

#[divan::bench(args = FEATURES)]
fn features_250_dbps_10m(bencher: Bencher, features: Features) {
    build_features(bencher, &[250], features);
}

#[divan::bench(args = FEATURES.into_iter().chain([Features("lookback", Window::Records(10_000))]))]
fn features_10_dbps_10m(bencher: Bencher, features: Features) {
    build_features(bencher, &[10], features);
}

#[divan::bench(args = [FEATURES[0], FEATURES[2]])]
fn features_four_thresholds_10m(bencher: Bencher, features: Features) {
    build_features(bencher, &[250, 500, 750, 1000], features);
}

#[divan::bench(args = [250, 10])]
fn bars_high_low_10m(bencher: Bencher, dbps: u32) {
    build_by(bencher, RuleName::HighLow, 10_000_000, &[dbps], None);
}

#[divan::bench]
fn bars_four_thresholds_10m(bencher: Bencher) {
    build(bencher, 10_000_000, &[250, 500, 750, 1000], None);
}

#[divan::bench(args = [
    Turns::Even(20), Turns::Mixed(2), Turns::Mixed(20), Turns::Mixed(64), Turns::Mixed(500), Turns::Mixed(5_000),
    Turns::Runs(50), Turns::Runs(1_000),
])]
fn bars_keyed_1m(bencher: Bencher, turns: Turns) {
    build(bencher, 1_000_000, &[250], Some(turns));
}
