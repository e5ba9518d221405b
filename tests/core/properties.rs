//! Laws: with any chunking, instruction set, keys and thresholds, resumed or not, the bars are those of
//! the naive loop.

use proptest::prelude::*;
use rangebar_polars::core::aggregate::{Aggregator, Ids};
use rangebar_polars::core::bar::{Bar, Cause};
use rangebar_polars::core::builder::RangeBarBuilder;
use rangebar_polars::core::diagnose::Names;
use rangebar_polars::core::label::{Labels, NO_BAR};
use rangebar_polars::core::rule::table::RuleName;
use rangebar_polars::core::rule::threshold::Threshold;
use rangebar_polars::core::simd::InstructionSet;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::ticks::Values;
use rangebar_polars::core::time::{Reset, TimeUnit};

use crate::naive;
use crate::trades::{Trades, any_walk, bitmap, take};

pub fn any_settings() -> impl Strategy<Value = Settings> {
    let reset = prop_oneof![
        Just(None),
        Just(Some(Reset::Year)),
        Just(Some(Reset::Month)),
        Just(Some(Reset::WeekSunday)),
        Just(Some(Reset::WeekMonday)),
        Just(Some(Reset::Day)),
    ];
    let dbps = prop_oneof![prop::collection::vec(1u32..2_000, 1..4), Just(vec![250]), Just(vec![10, 1_000]),];
    let dbps = dbps.prop_map(|all| all.into_iter().map(|dbps| Threshold::try_from(dbps).unwrap()).collect::<Vec<_>>());
    let distances =
        prop::collection::vec((0u32..14, 1i64..10).prop_map(|(zeros, digit)| digit * 10i64.pow(zeros)), 1..4);
    let distances = distances.prop_map(|all| all.into_iter().map(|grid| Threshold::of_grid(grid).unwrap()).collect());
    let thresholds = prop_oneof![3 => dbps, 2 => distances];
    let rule = prop_oneof![Just(RuleName::Open), Just(RuleName::HighLow)];
    let max_gap = prop_oneof![Just(None), (0u64..300).prop_map(Some), Just(Some(80_000_000_000))];
    (rule, thresholds, reset, max_gap, any::<bool>(), any::<bool>()).prop_map(
        |(rule, thresholds, reset, max_gap, is_gated, keeps_unfinished)| Settings {
            rule,
            thresholds,
            unit: TimeUnit::Microseconds,
            reset,
            max_gap,
            is_gated,
            keeps_unfinished,
        },
    )
}

pub fn assert_same(left: &[Bar], right: &[Bar]) {
    assert_eq!(left.len(), right.len());
    for (a, b) in left.iter().zip(right) {
        assert_eq!(
            (a.sums, a.end_row, a.key, a.threshold, a.bar_id, a.ended_by),
            (b.sums, b.end_row, b.key, b.threshold, b.bar_id, b.ended_by)
        );
    }
}

/// Codes by first appearance, as the entry points assign them.
pub fn codes_of(trades: &Trades) -> Vec<u32> {
    let mut seen = Vec::new();
    trades
        .key
        .iter()
        .map(|key| {
            seen.iter().position(|known| known == key).unwrap_or_else(|| {
                seen.push(*key);
                seen.len() - 1
            }) as u32
        })
        .collect()
}

/// Makes keys change only every `run` records.
fn hold_keys(trades: &mut Trades, run: usize) {
    for row in 0..trades.len() {
        trades.key[row] = trades.key[row / run * run];
    }
}

/// Pushes trades in parts of these lengths, with a checkpoint after each.
fn build(
    trades: &Trades,
    codes: Option<&[u32]>,
    settings: &Settings,
    lengths: &[usize],
    is_resumed: bool,
) -> (Vec<Bar>, Vec<Bar>) {
    let (mut all, mut bars) = (Vec::new(), Vec::new());
    let mut builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
    let bytes = bitmap(&trades.is_sell, 3);
    let ticks = trades.ticks(&bytes, 3);
    let mut from = 0;
    for length in lengths.iter().cycle() {
        if from >= trades.len() {
            break;
        }
        let to = trades.len().min(from + length);
        builder.begin();
        let part = codes.map(|codes| &codes[from..to]);
        builder.push(&ticks.slice(from, to), part, &mut bars, &mut |bars| all.append(bars)).unwrap();
        builder.commit();
        if is_resumed {
            let saved = builder.save();
            builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
            builder.load(&saved, ticks.inputs()).unwrap();
            assert_eq!(builder.save(), saved);
        }
        from = to;
    }
    (all, builder.partial())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chunking_gives_the_naive_bars(
        trades in any_walk(1),
        settings in any_settings(),
        lengths in prop::collection::vec(1usize..5_000, 1..6),
        is_resumed in any::<bool>(),
    ) {
        let codes = vec![0; trades.len()];
        let (ended, forming) = naive::bars(&trades, &codes, &settings);
        for lengths in [vec![usize::MAX >> 1], lengths] {
            let (all, partial) = build(&trades, None, &settings, &lengths, is_resumed);
            assert_same(&all, &ended);
            assert_same(&partial, &forming);
        }
    }

    #[test]
    fn keys_are_apart(
        mut trades in any_walk(5),
        settings in any_settings(),
        run in prop_oneof![Just(1usize), 2usize..400],
        lengths in prop::collection::vec(1usize..9_000, 1..4),
        is_resumed in any::<bool>(),
    ) {
        hold_keys(&mut trades, run);
        let codes = codes_of(&trades);
        let (ended, forming) = naive::bars(&trades, &codes, &settings);
        let (all, partial) = build(&trades, Some(&codes), &settings, &lengths, is_resumed);
        assert_same(&all, &ended);
        assert_same(&partial, &forming);
    }

    #[test]
    fn labels_are_the_bars_of_the_records(trades in any_walk(3), settings in any_settings()) {
        let codes = codes_of(&trades);
        let keeping = Settings { keeps_unfinished: true, ..settings.clone() };
        let (ended, forming) = build(&trades, Some(&codes), &keeping, &[trades.len()], false);
        let mut labels = Labels::new(trades.len(), settings.thresholds.len(), settings.keeps_unfinished, true);
        labels.add_codes(&codes);
        ended.iter().chain(&forming).for_each(|bar| labels.add(bar));
        let ids = labels.finish();
        let (ended, unfinished) = naive::bars(&trades, &codes, &settings);
        let unfinished = if settings.keeps_unfinished { unfinished } else { Vec::new() };
        for bar in ended.iter().chain(&unfinished) {
            let rows = (0..trades.len()).filter(|row| codes[*row] == bar.key && ids[usize::from(bar.threshold)][*row] == bar.bar_id);
            let rows: Vec<usize> = rows.collect();
            prop_assert_eq!(rows.len() as i64, bar.sums.records);
            prop_assert_eq!(trades.agg_id[rows[0]], bar.sums.first_agg_id);
            prop_assert_eq!(trades.agg_id[rows[rows.len() - 1]], bar.sums.last_agg_id);
        }
        let labelled: usize = ids.iter().flatten().filter(|id| **id != NO_BAR).count();
        let records: i64 = ended.iter().chain(&unfinished).map(|bar| bar.sums.records).sum();
        prop_assert_eq!(labelled as i64, records);
    }

    #[test]
    fn runs_fold_as_bars_do(trades in any_walk(1), lengths in prop::collection::vec(1usize..5_000, 1..4)) {
        let settings = Settings {
            rule: RuleName::Open,
            thresholds: vec![Threshold::try_from(100).unwrap()],
            unit: TimeUnit::Microseconds,
            reset: None,
            max_gap: None,
            is_gated: true,
            keeps_unfinished: true,
        };
        let codes = vec![0; trades.len()];
        let (ended, forming) = naive::bars(&trades, &codes, &settings);
        let mut ids = Vec::new();
        for (id, bar) in ended.iter().chain(&forming).enumerate() {
            ids.extend(std::iter::repeat_n(id as u16, bar.sums.records as usize));
        }
        let bytes = bitmap(&trades.is_sell, 0);
        let ticks = trades.ticks(&bytes, 0);
        let mut aggregator = Aggregator::new(TimeUnit::Microseconds, Names::default(), false);
        let (mut all, mut bars, mut from) = (Vec::new(), Vec::new(), 0);
        for length in lengths.iter().cycle() {
            if from >= trades.len() {
                break;
            }
            let to = trades.len().min(from + length);
            aggregator.begin();
            let ids = Ids { values: &ids[from..to], validity: None };
            aggregator.push(&ticks.slice(from, to), ids, &mut bars, &mut |bars| all.append(bars)).unwrap();
            from = to;
        }
        all.extend(aggregator.last_run());
        let expected: Vec<_> = ended.iter().chain(&forming).map(|bar| bar.sums).collect();
        let sums: Vec<_> = all.iter().map(|bar| bar.sums).collect();
        prop_assert_eq!(sums, expected);
    }

    #[test]
    fn integers_on_the_grid_give_the_same_bars(trades in any_walk(1), settings in any_settings()) {
        let grid = |values: &[f64]| values.iter().map(|x| (x * 1e8).round() as i64).collect::<Vec<_>>();
        let (price, quantity) = (grid(&trades.price), grid(&trades.quantity));
        let bytes = bitmap(&trades.is_sell, 0);
        let mut ticks = trades.ticks(&bytes, 0);
        ticks.price = Values::Grid(&price);
        ticks.quantity = Some(Values::Grid(&quantity));
        let mut builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
        let (mut all, mut bars) = (Vec::new(), Vec::new());
        builder.begin();
        builder.push(&ticks, None, &mut bars, &mut |bars| all.append(bars)).unwrap();
        let (ended, forming) = naive::bars(&trades, &vec![0; trades.len()], &settings);
        assert_same(&all, &ended);
        assert_same(&builder.partial(), &forming);
    }

    #[test]
    fn a_refused_push_changes_nothing(
        mut trades in any_walk(4),
        run in prop_oneof![Just(1usize), 2usize..400],
        settings in any_settings(),
        at in any::<prop::sample::Index>(),
        fault in 0usize..6,
        is_keyed in any::<bool>(),
    ) {
        hold_keys(&mut trades, run);
        let codes = codes_of(&trades);
        let codes = is_keyed.then_some(codes.as_slice());
        let half = trades.len() / 2;
        let mut bad = trades.clone();
        let row = half + at.index(trades.len() - half);
        match fault {
            0 => bad.price[row] = f64::NAN,
            1 => bad.price[row] = -1.0,
            2 => bad.quantity[row] = f64::INFINITY,
            3 => bad.last_id[row] = bad.first_id[row] - 1,
            4 => bad.price[row] = 1e-9,
            _ => bad.quantity[row] = 9.3e10,
        }
        let bytes = bitmap(&bad.is_sell, 0);
        let ticks = bad.ticks(&bytes, 0);
        let mut builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
        let (mut all, mut bars) = (Vec::new(), Vec::new());
        builder.begin();
        builder.push(&ticks.slice(0, half), codes.map(|codes| &codes[..half]), &mut bars, &mut |bars| all.append(bars)).unwrap();
        builder.commit();
        let before = builder.save();
        let error = take(&mut builder, &[(ticks.slice(half, bad.len()), codes.map(|codes| &codes[half..]))]);
        prop_assert_eq!(error.unwrap_err().row, (row - half) as u64);
        prop_assert_eq!(builder.save(), before);
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let trades = crate::trades::walk(50_000, 42, 60_000.0, 5);
    for one_in in [1, 3, 700] {
        check_instruction_sets(&trades.clone().without_aggressor(one_in));
    }
    check_instruction_sets(&trades);
}

fn check_instruction_sets(trades: &Trades) {
    let codes = codes_of(trades);
    let settings = Settings {
        rule: RuleName::Open,
        thresholds: [10, 50, 250].map(|dbps| Threshold::try_from(dbps).unwrap()).to_vec(),
        unit: TimeUnit::Microseconds,
        reset: Some(Reset::Month),
        max_gap: Some(80_000_000_000),
        is_gated: true,
        keeps_unfinished: true,
    };
    let (ended, forming) = naive::bars(trades, &vec![0; trades.len()], &settings);
    let (keyed_ended, keyed_forming) = naive::bars(trades, &codes, &settings);
    assert!(ended.iter().any(|bar| bar.ended_by == Some(Cause::Gap)));
    assert!(ended.iter().any(|bar| bar.ended_by == Some(Cause::Reset)));
    for set in InstructionSet::ALL {
        if InstructionSet::force(Some(set)) {
            let (all, partial) = build(trades, None, &settings, &[10_000], false);
            assert_same(&all, &ended);
            assert_same(&partial, &forming);
            let (all, partial) = build(trades, Some(&codes), &settings, &[9_999], false);
            assert_same(&all, &keyed_ended);
            assert_same(&partial, &keyed_forming);
        }
    }
    InstructionSet::force(None);
}
