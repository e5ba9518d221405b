//! The hand-checked files of `tests/golden`, which the Python tests read too.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use rangebar_polars::core::bar::Bar;
use rangebar_polars::core::builder::RangeBarBuilder;
use rangebar_polars::core::columns::{Context, ENDED_BY, Extract, NOT_ENDED};
use rangebar_polars::core::diagnose::Names;
use rangebar_polars::core::rule::table::RuleName;
use rangebar_polars::core::rule::threshold::Threshold;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::time::{Reset, TimeUnit};
use rangebar_polars::features::catalogue;

use crate::trades::{Trades, bitmap};

type Row = HashMap<String, String>;

fn read(name: &str) -> Vec<Row> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row =
        |line: &str| names.iter().zip(line.split(',')).map(|(name, value)| ((*name).into(), value.into())).collect();
    lines.map(row).collect()
}

fn trades(rows: &[Row]) -> Trades {
    let mut trades = Trades::default();
    for row in rows {
        let whole = |name: &str| row[name].parse::<i64>().unwrap();
        trades.time.push(whole("timestamp_us"));
        trades.price.push(row["price"].parse().unwrap());
        trades.quantity.push(row["quantity"].parse().unwrap());
        trades.is_sell.push(row["is_buyer_maker"] == "true");
        trades.agg_id.push(whole("agg_trade_id"));
        trades.first_id.push(whole("first_trade_id"));
        trades.last_id.push(whole("last_trade_id"));
    }
    trades
}

fn settings(case: &Row) -> Settings {
    let reset = match case["reset"].as_str() {
        "" => None,
        "year" => Some(Reset::Year),
        "month" => Some(Reset::Month),
        "week" => Some(Reset::WeekSunday),
        "1w" => Some(Reset::WeekMonday),
        "day" => Some(Reset::Day),
        other => panic!("reset {other}"),
    };
    let thresholds = case["thresholds"].split([' ', '|', ';']);
    Settings {
        rule: RuleName::Open,
        thresholds: thresholds.map(|dbps| Threshold::try_from(dbps.parse::<u32>().unwrap()).unwrap()).collect(),
        unit: TimeUnit::Microseconds,
        reset,
        max_gap: case["max_gap_us"].parse().ok(),
        is_gated: case["gate"] == "true",
        keeps_unfinished: case["incomplete"] == "keep",
    }
}

/// A catalogue value as in the files.
fn value(entry: &rangebar_polars::core::columns::Column, bar: &Bar, context: Context) -> String {
    let bars = std::slice::from_ref(bar);
    match entry.extract {
        Extract::Float(extract) => {
            one(|out| extract(bars, context, out), |x: &f64| if x.is_nan() { String::new() } else { format!("{x:?}") })
        }
        Extract::Int(extract) => one(|out| extract(bars, context, out), i64::to_string),
        Extract::UInt(extract) => one(|out| extract(bars, context, out), u32::to_string),
        Extract::Flag(extract) => one(|out| extract(bars, context, out), bool::to_string),
        Extract::Computed(_) => String::new(),
        Extract::EndedBy(extract) => one(
            |out| extract(bars, context, out),
            |code| if *code == NOT_ENDED { String::new() } else { ENDED_BY[usize::from(*code)].to_owned() },
        ),
    }
}

fn one<T>(fill: impl Fn(&mut Vec<T>), show: impl Fn(&T) -> String) -> String {
    let mut out = Vec::new();
    fill(&mut out);
    show(&out[0])
}

/// The contract fixes every value to the last bit, except for these two.
fn slack(name: &str) -> f64 {
    match name {
        "turnover_imbalance" => 1e-11,
        "vwap_close_deviation" => 1e-9,
        _ => 0.0,
    }
}

#[test]
fn golden_files_hold() {
    let cases = read("cases.csv");
    assert!(cases.len() >= 9);
    for case in cases {
        let (name, settings) = (&case["name"], settings(&case));
        let trades = trades(&read(&format!("trades_{name}.csv")));
        let bytes = bitmap(&trades.is_sell, 0);
        let mut builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
        let (mut all, mut bars) = (Vec::new(), Vec::new());
        builder.begin();
        builder.push(&trades.ticks(&bytes, 0), None, &mut bars, &mut |bars| all.append(bars)).unwrap();
        if settings.keeps_unfinished {
            all.extend(builder.partial());
        }
        let expected = read(&format!("bars_{name}.csv"));
        assert_eq!(all.len(), expected.len(), "{name}");
        let context = Context { unit: TimeUnit::Microseconds, thresholds: &settings.thresholds };
        for (row, (bar, expected)) in all.iter().zip(&expected).enumerate() {
            for entry in catalogue().filter(|entry| expected.contains_key(entry.name)) {
                let (got, want) = (value(entry, bar, context), &expected[entry.name]);
                let numbers = (got.parse::<f64>(), want.parse::<f64>());
                let slack = slack(entry.name);
                let is_equal = matches!(numbers, (Ok(a), Ok(b)) if (a - b).abs() <= slack) || got == *want;
                assert!(is_equal, "{name}, bar {row}, {}: {got} for {want}", entry.name);
            }
        }
    }
}
