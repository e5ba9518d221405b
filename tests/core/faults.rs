//! The row at fault is the first in input order, however the trades are split and keyed.

use proptest::prelude::*;
use rangebar_polars::core::aggregate::{Aggregator, Ids};
use rangebar_polars::core::builder::{MOST_FORMING_BARS, RangeBarBuilder};
use rangebar_polars::core::diagnose::Names;
use rangebar_polars::core::error::{DataError, DataErrorKind};
use rangebar_polars::core::rule::table::RuleName;
use rangebar_polars::core::rule::threshold::Threshold;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::ticks::{Bits, Ticks, Values};
use rangebar_polars::core::time::TimeUnit;

use crate::properties::codes_of;
use crate::trades::{Piece, Trades, bitmap, take, walk};

/// The sum of two products of it fits 128 bits, the sum of three does not.
const HUGE: f64 = 9e10;

fn settings(thresholds: &[u32]) -> Settings {
    Settings {
        rule: RuleName::Open,
        thresholds: thresholds.iter().map(|dbps| Threshold::try_from(*dbps).unwrap()).collect(),
        unit: TimeUnit::Microseconds,
        reset: None,
        max_gap: None,
        is_gated: true,
        keeps_unfinished: false,
    }
}

fn builder(thresholds: &[u32]) -> RangeBarBuilder {
    RangeBarBuilder::new(settings(thresholds), Names::default(), false)
}

/// Splits trades at these rows into the pieces of one push.
fn pieces<'a>(ticks: &Ticks<'a>, codes: Option<&'a [u32]>, cuts: &[prop::sample::Index]) -> Vec<Piece<'a>> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(ticks.len())).chain([ticks.len()]).collect();
    ends.sort_unstable();
    let mut from = 0;
    let mut pieces = Vec::new();
    for to in ends.into_iter().filter(|to| *to > 0) {
        if to > from {
            pieces.push((ticks.slice(from, to), codes.map(|codes| &codes[from..to])));
            from = to;
        }
    }
    pieces
}

/// The error of pushing one record after another.
fn first_fault(ticks: &Ticks, codes: &[u32], thresholds: &[u32]) -> Option<DataError> {
    let mut builder = builder(thresholds);
    (0..ticks.len()).find_map(|row| {
        let record = (ticks.slice(row, row + 1), Some(&codes[row..=row]));
        take(&mut builder, &[record]).err().map(|error| DataError { row: row as u64, ..error })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_third_huge_trade_of_a_key_is_at_fault(
        rows in prop_oneof![20usize..400, 9_000usize..70_000],
        keys in 1u32..6,
        run in prop_oneof![Just(1usize), 2usize..300],
        huge in prop::collection::vec(any::<prop::sample::Index>(), 1..24),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        is_long in any::<bool>(),
        is_sell in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut trades = walk(rows, seed, 1.0, keys);
        trades.price.fill(HUGE);
        trades.quantity.fill(1e-8);
        trades.is_sell.fill(is_sell);
        for row in 0..rows {
            trades.key[row] = trades.key[row / run * run];
        }
        let mut huge: Vec<usize> = huge.iter().map(|row| row.index(rows)).collect();
        huge.sort_unstable();
        huge.dedup();
        let (codes, mut seen) = (codes_of(&trades), [0; 8]);
        let mut expected = None;
        for row in huge {
            trades.quantity[row] = HUGE;
            let count = &mut seen[codes[row] as usize];
            *count += 1;
            if *count == 3 && expected.is_none() {
                expected = Some(row as u64);
            }
        }
        let bytes = bitmap(&trades.is_sell, 1);
        let thresholds: &[u32] = if is_long { &[100_000, 50_000, 250] } else { &[100_000] };
        let mut builder = builder(thresholds);
        let result = take(&mut builder, &pieces(&trades.ticks(&bytes, 1), Some(&codes), &cuts));
        prop_assert_eq!(result.as_ref().err().map(|error| error.row), expected);
        if let Err(error) = result {
            prop_assert!(error.message.contains("exceeds 128 bits"), "{}", error.message);
            prop_assert!(error.message.contains(&format!("row {}\n", error.row)), "{}", error.message);
        }
    }

    #[test]
    fn a_fault_is_the_one_that_single_records_meet(
        rows in prop_oneof![1usize..60, 300usize..1_500],
        keys in 1u32..5,
        faults in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        thresholds in prop::collection::vec(1u32..=100_000, 1..4),
        seed in any::<u64>(),
    ) {
        let mut trades = walk(rows, seed, 60_000.0, keys);
        for (row, fault) in faults {
            let row = row.index(rows);
            match fault {
                0 => trades.price[row] = f64::NAN,
                1 => trades.last_id[row] = trades.first_id[row].saturating_add(1 << 62),
                2 => trades.time[row] -= 1_000_000,
                3 => trades.agg_id[row] -= 40,
                _ => (trades.price[row], trades.quantity[row]) = (HUGE, HUGE),
            }
        }
        let (codes, bytes) = (codes_of(&trades), bitmap(&trades.is_sell, 0));
        let ticks = trades.ticks(&bytes, 0);
        let expected = first_fault(&ticks, &codes, &thresholds);
        let mut builder = builder(&thresholds);
        let before = builder.save();
        let error = take(&mut builder, &pieces(&ticks, Some(&codes), &cuts)).err();
        let told = |error: &DataError| (error.kind, error.row, error.message.split(' ').take(4).collect::<Vec<_>>().join(" "));
        prop_assert_eq!(error.as_ref().map(told), expected.as_ref().map(told));
        if error.is_some() {
            prop_assert_eq!(builder.save(), before);
        }
    }

    #[test]
    fn records_of_no_bar_are_checked_but_not_summed(
        ids in prop::collection::vec(prop::option::weighted(0.4, 0u8..3), 1..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        bad in prop::option::of(any::<prop::sample::Index>()),
    ) {
        // Ids of runs increase, so that none occurs again.
        let (mut id, mut before) = (0i64, None);
        let mut values = Vec::new();
        for own in &ids {
            id += i64::from(*own != before);
            before = *own;
            values.push(id);
        }
        let rows = ids.len();
        let (mut price, quantity) = (vec![HUGE; rows], vec![HUGE; rows]);
        let time: Vec<i64> = (0..rows as i64).collect();
        // Every null restarts a run, so the third record in a row of one id overflows.
        let mut run = 0;
        let overflow = (0..rows).find(|row| {
            run = if ids[*row].is_none() { 0 } else if *row > 0 && values[row - 1] == values[*row] { run + 1 } else { 1 };
            run == 3
        });
        let bad = bad.map(|bad| bad.index(rows));
        if let Some(bad) = bad {
            price[bad] = f64::NAN;
        }
        let expected = [overflow, bad].into_iter().flatten().min();
        let valid = bitmap(&ids.iter().map(Option::is_some).collect::<Vec<_>>(), 0);
        let ticks = Ticks {
            time: &time, price: Values::Float(&price), quantity: Some(Values::Float(&quantity)), is_buyer_maker: None, unsided: None,
            agg_id: None, first_id: None, last_id: None,
        };
        let mut aggregator = Aggregator::new(TimeUnit::Microseconds, Names::default(), false);
        aggregator.begin();
        let (mut result, mut from, mut bars) = (Ok(()), 0, Vec::new());
        for (part, _) in pieces(&ticks, None, &cuts) {
            let to = from + part.len();
            let validity = Some(Bits { bytes: &valid, offset: 0 }.slice(from));
            result = aggregator.push(&part, Ids { values: &values[from..to], validity }, &mut bars, &mut |bars| bars.clear());
            if result.is_err() {
                break;
            }
            from = to;
        }
        prop_assert_eq!(result.err().map(|error| error.row as usize), expected);
    }

    #[test]
    fn what_rounds_to_zero_is_zero_whatever_the_dtype(
        x in prop_oneof![-2e-8..2e-8f64, Just(-0.0), Just(-5e-9), Just(-4.999e-9), Just(-1e-300)],
        rows in prop_oneof![Just(1usize), Just(40)],
    ) {
        let trades = walk(rows, 5, 1.0, 1);
        let bytes = bitmap(&trades.is_sell, 0);
        let mut quantity = trades.quantity.clone();
        quantity[rows / 2] = x;
        let grid: Vec<i64> = quantity.iter().map(|x| (x * 1e8).round() as i64).collect();
        let outcome = |quantity| {
            let mut ticks = trades.ticks(&bytes, 0);
            ticks.quantity = Some(quantity);
            let mut builder = builder(&[250]);
            take(&mut builder, &[(ticks, None)]).map(|_| builder.save()).map_err(|error| error.row)
        };
        let float = outcome(Values::Float(&quantity));
        prop_assert_eq!(&float, &outcome(Values::Grid(&grid)));
        prop_assert_eq!(float.is_ok(), grid[rows / 2] >= 0);
    }
}

#[test]
fn keys_times_thresholds_have_a_bound() {
    let thresholds: Vec<u32> = (1..=60_000).collect();
    let most_keys = MOST_FORMING_BARS / thresholds.len();
    let trades = Trades { key: (0..80).collect(), ..walk(80, 1, 1.0, 1) };
    let bytes = bitmap(&trades.is_sell, 0);
    for run in [1, 40] {
        let codes: Vec<u32> = (0..80 * run).map(|row| row / run).take(80).collect();
        let mut builder = builder(&thresholds);
        let result = take(&mut builder, &[(trades.ticks(&bytes, 0), Some(&codes))]);
        if run == 1 {
            let error = result.unwrap_err();
            assert_eq!((error.kind, error.row), (DataErrorKind::Limit, most_keys as u64));
            assert!(error.message.starts_with(&format!("{} keys times 60000 thresholds", most_keys + 1)), "{error}");
            assert_eq!(builder.save().len(), 16);
        } else {
            assert!(result.is_ok());
        }
    }
}
