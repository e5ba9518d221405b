//! Laws of the features: with any chunking, keys, thresholds and checkpoints they have the same bits,
//! windows hold the records that a search of all records finds, and a refused push changes nothing.

use proptest::prelude::*;
use rangebar_polars::core::aggregate::{Aggregator, Ids};
use rangebar_polars::core::bar::{Bar, Cause};
use rangebar_polars::core::builder::RangeBarBuilder;
use rangebar_polars::core::columns::Column;
use rangebar_polars::core::diagnose::Names;
use rangebar_polars::core::rule::table::RuleName;
use rangebar_polars::core::rule::threshold::Threshold;
use rangebar_polars::core::sample::plan::Plan;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::ticks::Inputs;
use rangebar_polars::core::time::{Reset, TimeUnit};
use rangebar_polars::core::window::Window;
use rangebar_polars::features::{catalogue, computed, plan};

use crate::naive;
use crate::properties::{assert_same, codes_of};
use crate::trades::{Trades, any_walk, bitmap, take, walk};

pub const UNIT: TimeUnit = TimeUnit::Microseconds;

pub fn inputs() -> Inputs {
    let all = [Inputs::FLOW, Inputs::UNSIDED, Inputs::AGG_ID, Inputs::FILLS];
    all.into_iter().fold(Inputs::NONE, Inputs::with)
}

/// Computed columns whose name has one of these beginnings.
pub fn columns(beginnings: &[&str]) -> Vec<&'static Column> {
    let is_wanted = |column: &&Column| beginnings.iter().any(|text| column.name.starts_with(text));
    computed(catalogue(), inputs()).filter(is_wanted).collect()
}

pub fn plan_of(columns: &[&Column], window: Window) -> Plan {
    plan(columns, inputs(), window, UNIT).unwrap()
}

pub fn settings(dbps: &[u32], reset: Option<Reset>, max_gap: Option<u64>) -> Settings {
    let thresholds = dbps.iter().map(|dbps| Threshold::try_from(*dbps).unwrap()).collect();
    Settings { rule: RuleName::Open, thresholds, unit: UNIT, reset, max_gap, is_gated: true, keeps_unfinished: true }
}

pub fn builder(settings: &Settings, columns: &[&Column], window: Window) -> RangeBarBuilder {
    let mut builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
    builder.compute(plan_of(columns, window));
    builder
}

/// Pushes trades in parts of these lengths, resumed from a checkpoint after each if wanted.
pub fn build(
    (trades, codes): (&Trades, Option<&[u32]>),
    settings: &Settings,
    (columns, window): (&[&Column], Window),
    lengths: &[usize],
    is_resumed: bool,
) -> (Vec<Bar>, Vec<Bar>, Vec<u8>) {
    let mut all = Vec::new();
    let mut made = builder(settings, columns, window);
    let bytes = bitmap(&trades.is_sell, 3);
    let ticks = trades.ticks(&bytes, 3);
    let mut from = 0;
    for length in lengths.iter().cycle() {
        if from >= trades.len() {
            break;
        }
        let to = trades.len().min(from + length);
        all.extend(take(&mut made, &[(ticks.slice(from, to), codes.map(|codes| &codes[from..to]))]).unwrap());
        if is_resumed {
            let saved = made.save();
            made = builder(settings, columns, window);
            made.load(&saved, inputs()).unwrap();
            assert_eq!(made.save(), saved);
        }
        from = to;
    }
    let partial = made.partial();
    (all, partial, made.save())
}

pub fn assert_equal(left: &[Bar], right: &[Bar]) {
    assert_same(left, right);
    for (a, b) in left.iter().zip(right) {
        assert_eq!(a.values, b.values);
    }
}

pub fn any_window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1u64..400).prop_map(Window::Records),
        (1u64..8).prop_map(Window::Records),
        Just(Window::Records(10_000)),
        (1u64..5).prop_map(Window::Bars),
        (0u64..100_000).prop_map(Window::Time),
        Just(Window::Time(1 << 40)),
    ]
}

pub fn any_columns() -> impl Strategy<Value = Vec<&'static Column>> {
    prop_oneof![
        3 => Just(columns(&[""])),
        1 => Just(columns(&["lookback"])),
        1 => Just(columns(&["intra"])),
        2 => prop::sample::subsequence(columns(&[""]), 1..6),
    ]
}

pub fn any_settings() -> impl Strategy<Value = Settings> {
    let dbps = prop_oneof![Just(vec![30]), Just(vec![60, 20]), Just(vec![500]), Just(vec![1_000, 200])];
    let reset = prop_oneof![Just(None), Just(Some(Reset::Day))];
    let max_gap = prop_oneof![Just(None), Just(Some(200)), Just(Some(80_000_000_000))];
    (dbps, reset, max_gap).prop_map(|(dbps, reset, max_gap)| settings(&dbps, reset, max_gap))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_chunking_gives_the_same_bits(
        trades in any_walk(1),
        settings in any_settings(),
        columns in any_columns(),
        window in any_window(),
        lengths in prop::collection::vec(1usize..3_000, 1..6),
        is_resumed in any::<bool>(),
    ) {
        let trades = (&trades, None);
        let (whole, partial, state) = build(trades, &settings, (&columns, window), &[usize::MAX >> 1], false);
        let (cut, forming, same) = build(trades, &settings, (&columns, window), &lengths, is_resumed);
        assert_equal(&whole, &cut);
        assert_equal(&partial, &forming);
        prop_assert_eq!(state, same);
    }

    #[test]
    fn a_checkpoint_after_every_record_changes_nothing(
        rows in 1usize..300,
        seed in any::<u64>(),
        settings in any_settings(),
        window in any_window(),
    ) {
        let (trades, all) = (walk(rows, seed, 60_000.0, 1), columns(&[""]));
        let (whole, partial, _) = build((&trades, None), &settings, (&all, window), &[rows], false);
        let (cut, forming, _) = build((&trades, None), &settings, (&all, window), &[1], true);
        assert_equal(&whole, &cut);
        assert_equal(&partial, &forming);
    }

    #[test]
    fn keys_and_thresholds_are_apart(
        trades in any_walk(3),
        settings in any_settings(),
        window in any_window(),
        lengths in prop::collection::vec(1usize..9_000, 1..4),
        is_resumed in any::<bool>(),
    ) {
        let (codes, columns) = (codes_of(&trades), columns(&[""]));
        let (all, _, _) = build((&trades, Some(&codes)), &settings, (&columns, window), &lengths, is_resumed);
        for key in 0..codes.iter().max().map_or(0, |code| code + 1) {
            let own = pick(&trades, |row| codes[row] == key);
            for (index, threshold) in settings.thresholds.iter().enumerate() {
                let alone = Settings { thresholds: vec![*threshold], ..settings.clone() };
                let (expected, _, _) = build((&own, None), &alone, (&columns, window), &[own.len()], false);
                let is_own = |bar: &&Bar| bar.key == key && usize::from(bar.threshold) == index;
                let got: Vec<_> = all.iter().filter(is_own).map(|bar| (bar.sums, bar.values.clone())).collect();
                let expected: Vec<_> = expected.into_iter().map(|bar| (bar.sums, bar.values)).collect();
                prop_assert_eq!(got, expected);
            }
        }
    }

    #[test]
    fn a_column_does_not_depend_on_others(trades in any_walk(1), at in any::<prop::sample::Index>()) {
        let (settings, window, all) = (settings(&[60], None, None), Window::Records(150), columns(&[""]));
        let (bars, _, _) = build((&trades, None), &settings, (&all, window), &[4_000], false);
        let one = at.index(all.len());
        let (alone, _, _) = build((&trades, None), &settings, (&all[one..=one], window), &[4_000], false);
        for (bar, alone) in bars.iter().zip(&alone) {
            prop_assert_eq!(bar.values.as_ref().unwrap()[one], alone.values.as_ref().unwrap()[0]);
        }
    }

    #[test]
    fn windows_hold_the_records_that_a_search_finds(
        trades in any_walk(1),
        settings in any_settings(),
        window in any_window(),
        lengths in prop::collection::vec(1usize..3_000, 1..6),
        is_resumed in any::<bool>(),
    ) {
        assert_windows(&trades, &settings, window, &lengths, is_resumed);
    }

    #[test]
    fn windows_of_more_records_than_are_held_are_cut_to_the_newest(
        (rows, seed) in (15_000usize..40_000, any::<u64>()),
        dbps in prop_oneof![Just(2_000u32), Just(5_000), Just(12_000)],
        window in prop_oneof![4 => (1u64..8).prop_map(Window::Bars), 1 => Just(Window::Time(1 << 40))],
        lengths in prop::collection::vec(1usize..6_000, 1..6),
        is_resumed in any::<bool>(),
    ) {
        assert_windows(&walk(rows, seed, 60_000.0, 1), &settings(&[dbps], None, None), window, &lengths, is_resumed);
    }

    #[test]
    fn a_window_of_one_bar_is_the_bar_before(trades in any_walk(1), dbps in prop_oneof![Just(20u32), Just(90)]) {
        let (before, bar) = pairs();
        let mut both = before.clone();
        both.extend(&bar);
        let settings = settings(&[dbps], None, None);
        let (all, _, _) = build((&trades, None), &settings, (&both, Window::Bars(1)), &[700, 1, 5_000], false);
        for pair in all.windows(2) {
            let (earlier, later) = (pair[0].values.as_ref().unwrap(), pair[1].values.as_ref().unwrap());
            if pair[0].sums.records <= 10_000 {
                prop_assert_eq!(&earlier[before.len()..], &later[..before.len()]);
            }
        }
    }

    #[test]
    fn runs_have_the_values_of_bars(trades in any_walk(1), window in any_window(), length in 1usize..3_000) {
        let (settings, columns) = (settings(&[60], None, None), columns(&[""]));
        let (ended, forming, _) = build((&trades, None), &settings, (&columns, window), &[trades.len()], false);
        let bars: Vec<&Bar> = ended.iter().chain(&forming).collect();
        let ids = bars.iter().enumerate().flat_map(|(id, bar)| std::iter::repeat_n(id as u32, bar.sums.records as usize));
        let ids: Vec<u32> = ids.collect();
        let mut aggregator = Aggregator::new(UNIT, Names::default(), false);
        aggregator.compute(plan_of(&columns, window));
        let bytes = bitmap(&trades.is_sell, 0);
        let (ticks, mut all, mut out) = (trades.ticks(&bytes, 0), Vec::new(), Vec::new());
        for from in (0..trades.len()).step_by(length) {
            let to = trades.len().min(from + length);
            aggregator.begin();
            let ids = Ids { values: &ids[from..to], validity: None };
            aggregator.push(&ticks.slice(from, to), ids, &mut out, &mut |bars| all.append(bars)).unwrap();
        }
        all.extend(aggregator.last_run());
        prop_assert_eq!(all.len(), bars.len());
        for (run, bar) in all.iter().zip(bars) {
            prop_assert_eq!(&run.values, &bar.values);
        }
    }

    #[test]
    fn a_refused_push_changes_nothing(
        trades in any_walk(2),
        settings in any_settings(),
        window in any_window(),
        at in any::<prop::sample::Index>(),
        is_keyed in any::<bool>(),
    ) {
        let all = columns(&[""]);
        let codes = codes_of(&trades);
        let codes = is_keyed.then_some(codes.as_slice());
        let half = trades.len() / 2;
        let mut bad = trades.clone();
        bad.price[half + at.index(trades.len() - half)] = f64::NAN;
        let bytes = bitmap(&bad.is_sell, 0);
        let part = |from: usize, to: usize| (bad.ticks(&bytes, 0).slice(from, to), codes.map(|codes| &codes[from..to]));
        let mut made = builder(&settings, &all, window);
        take(&mut made, &[part(0, half)]).unwrap();
        let before = made.save();
        take(&mut made, &[part(half, bad.len())]).unwrap_err();
        prop_assert_eq!(made.save(), before);
        let good = bitmap(&trades.is_sell, 0);
        let rest = (trades.ticks(&good, 0).slice(half, trades.len()), codes.map(|codes| &codes[half..]));
        let ended = take(&mut made, &[rest]).unwrap();
        let (whole, partial, _) = build((&trades, codes), &settings, (&all, window), &[half.max(1), trades.len()], false);
        assert_equal(&ended, &whole[whole.len() - ended.len()..]);
        assert_equal(&made.partial(), &partial);
    }

    #[test]
    fn an_altered_state_is_refused_or_a_state(
        trades in any_walk(2),
        settings in any_settings(),
        window in any_window(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0u8..4), 1..60),
    ) {
        let (all, codes, bytes) = (columns(&[""]), codes_of(&trades), bitmap(&trades.is_sell, 0));
        let mut made = builder(&settings, &all, window);
        take(&mut made, &[(trades.ticks(&bytes, 0), Some(&codes))]).unwrap();
        let state = made.save();
        for (at, word, change) in changes {
            let (mut altered, at) = (state.clone(), at.index(state.len() - 8));
            let old = u64::from_le_bytes(altered[at..at + 8].try_into().unwrap());
            let new = [old.wrapping_add(1), old ^ 1 << 63, u64::MAX, word][usize::from(change)];
            altered[at..at + 8].copy_from_slice(&new.to_le_bytes());
            let mut other = builder(&settings, &all, window);
            if other.load(&altered, inputs()).is_ok() {
                other.partial();
                let more = walk(300, 3, 1e6, 1);
                let bytes = bitmap(&more.is_sell, 0);
                // The trades may be refused, because their times may decrease.
                let _ = take(&mut other, &[(more.ticks(&bytes, 0), None)]);
            }
        }
    }
}

/// The rows of a predicate.
fn pick(trades: &Trades, is_picked: impl Fn(usize) -> bool) -> Trades {
    let rows: Vec<usize> = (0..trades.len()).filter(|row| is_picked(*row)).collect();
    let longs = |column: &[i64]| rows.iter().map(|row| column[*row]).collect::<Vec<_>>();
    let floats = |column: &[f64]| rows.iter().map(|row| column[*row]).collect::<Vec<_>>();
    let flags = |column: &[bool]| rows.iter().map(|row| column[*row]).collect::<Vec<_>>();
    let is_unsided = flags(&trades.is_unsided);
    Trades {
        time: longs(&trades.time),
        price: floats(&trades.price),
        quantity: floats(&trades.quantity),
        is_sell: flags(&trades.is_sell),
        unsided: if trades.unsided.is_empty() { Vec::new() } else { bitmap(&is_unsided, 0) },
        is_unsided,
        agg_id: longs(&trades.agg_id),
        first_id: longs(&trades.first_id),
        last_id: longs(&trades.last_id),
        key: Vec::new(),
    }
}

/// Checks that windows hold the records that a search of all records finds.
fn assert_windows(trades: &Trades, settings: &Settings, window: Window, lengths: &[usize], is_resumed: bool) {
    let codes = vec![0; trades.len()];
    let (ended, forming) = naive::bars(trades, &codes, settings);
    let counted = columns(&["lookback_trade_count", "lookback_duration_us"]);
    let (all, partial, _) = build((trades, None), settings, (&counted, window), lengths, is_resumed);
    let stretches = stretches(trades, settings);
    for (index, _) in settings.thresholds.iter().enumerate() {
        let of_threshold = |bars: &[Bar]| {
            let own = bars.iter().filter(|bar| usize::from(bar.threshold) == index);
            own.cloned().collect::<Vec<_>>()
        };
        let expected: Vec<Bar> = of_threshold(&ended).into_iter().chain(of_threshold(&forming)).collect();
        let got: Vec<Bar> = of_threshold(&all).into_iter().chain(of_threshold(&partial)).collect();
        let (mut at, mut opened) = (0, Vec::new());
        for (bar, got) in expected.iter().zip(&got) {
            let stretch = stretches.iter().copied().filter(|start| *start <= at).max().unwrap();
            let first = first_record(trades, window, stretch, &opened, at);
            let values = got.values.as_ref().unwrap();
            assert_eq!(values[0], (at - first) as u64);
            let duration = if first == at { i64::MIN } else { trades.time[at - 1] - trades.time[first] };
            assert_eq!(values[1] as i64, duration);
            if bar.ended_by == Some(Cause::Threshold) {
                opened.push(at);
            }
            at += bar.sums.records as usize;
        }
    }
}

/// Rows at which a stretch begins.
fn stretches(trades: &Trades, settings: &Settings) -> Vec<usize> {
    let starts = (1..trades.len()).filter(|row| {
        let (before, now) = (trades.time[row - 1], trades.time[*row]);
        let day = |time: i64| time.div_euclid(86_400_000_000);
        let is_reset = settings.reset.is_some() && day(before) != day(now);
        is_reset || settings.max_gap.is_some_and(|gap| (now - before) as u64 > gap)
    });
    std::iter::once(0).chain(starts).collect()
}

/// The first record of a window, as the contract says it.
pub fn first_record(trades: &Trades, window: Window, stretch: usize, opened: &[usize], at: usize) -> usize {
    let own: Vec<usize> = opened.iter().copied().filter(|start| *start >= stretch).collect();
    let first = match window {
        Window::Records(records) => at.saturating_sub(records as usize),
        Window::Bars(bars) => {
            let last = own.len().saturating_sub(bars as usize);
            own.get(last).copied().unwrap_or(at)
        }
        Window::Time(span) => (0..=at).find(|row| trades.time[at] - trades.time[*row] <= span as i64).unwrap(),
    };
    first.max(stretch).max(at.saturating_sub(10_000))
}

/// Look-back columns that are those of a bar as well, and these.
pub fn pairs() -> (Vec<&'static Column>, Vec<&'static Column>) {
    let bar_name = |column: &Column| column.name.replacen("lookback", "intra", 1);
    let of_bar = columns(&["intra"]);
    let find = |column: &Column| of_bar.iter().find(|other| other.name == bar_name(column)).copied();
    let before: Vec<_> = columns(&["lookback"]);
    let before: Vec<_> = before.into_iter().filter(|column| !column.name.ends_with("count_imbalance")).collect();
    let both: Vec<_> = before.iter().filter_map(|column| Some((*column, find(column)?))).collect();
    assert_eq!(both.len(), 13);
    // In the order of the bars' columns, as a plan is.
    let mut sorted = both.clone();
    sorted.sort_by_key(|(_, bar)| of_bar.iter().position(|other| other.name == bar.name));
    sorted.into_iter().unzip()
}

#[test]
fn a_bar_that_is_too_long_has_no_held_values() {
    const HELD: usize = 1 << 20;
    for rows in [HELD, HELD + 1] {
        let mut trades = walk(rows, 5, 60_000.0, 1);
        trades.time = (0..rows as i64).collect();
        trades.price = (0..rows).map(|row| 100.0 + (row * row % 7) as f64 / 100.0).collect();
        let columns = columns(&["intra_bull_epoch_density", "order_size_p50", "order_count"]);
        let far = settings(&[100_000], None, None);
        // A state of exactly as many records as are held can be resumed.
        let (ended, partial, state) = build((&trades, None), &far, (&columns, Window::Records(1)), &[HELD, 1], true);
        assert!(ended.is_empty());
        let values = partial[0].values.as_ref().unwrap();
        let is_held = |at: usize| !f64::from_bits(values[at]).is_nan();
        assert_eq!((is_held(0), is_held(2)), (rows == HELD, rows == HELD));
        assert!(values[1] as i64 > 1_000);
        assert_eq!(state.len() > HELD, rows == HELD, "records are held as long as they are needed");
    }
}
