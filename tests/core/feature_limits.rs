//! Laws of the features at the limits: bars of more records than a window or a chunk has, prices, sizes
//! and times of any number of bits, many keys, and records of no bar.

use proptest::prelude::*;
use rangebar_polars::core::aggregate::{Aggregator, Ids};
use rangebar_polars::core::bar::Bar;
use rangebar_polars::core::columns::Column;
use rangebar_polars::core::diagnose::Names;
use rangebar_polars::core::rule::threshold::Threshold;
use rangebar_polars::core::simd::InstructionSet;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::ticks::{Bits, Ticks, Values};
use rangebar_polars::core::time::Reset;
use rangebar_polars::core::window::Window;

use crate::features::{
    UNIT, any_columns, any_window, assert_equal, build, builder, columns, first_record, pairs, plan_of, settings,
};
use crate::properties::codes_of;
use crate::trades::{Piece, Trades, bitmap, take, walk};

/// Settings whose bars have from a few records to tens of thousands.
fn long_settings() -> impl Strategy<Value = Settings> {
    let dbps = prop_oneof![Just(vec![12_000]), Just(vec![150, 12_000]), Just(vec![100_000, 4_000, 300])];
    let reset = prop_oneof![3 => Just(None), 1 => Just(Some(Reset::Day))];
    (dbps, reset, any::<bool>(), any::<bool>()).prop_map(|(dbps, reset, is_gated, keeps_unfinished)| Settings {
        is_gated,
        keeps_unfinished,
        ..settings(&dbps, reset, None)
    })
}

/// Records with grid values of any size.
#[derive(Clone, Debug)]
struct Extremes {
    time: Vec<i64>,
    price: Vec<i64>,
    size: Vec<i64>,
    is_sell: Vec<u8>,
    unsided: Vec<u8>,
}

impl Extremes {
    /// Records whose prices, sizes and steps of time have at most so many bits: with runs of small
    /// numbers, or all near the largest.
    fn new(rows: usize, seed: u64, bits: [u32; 3], are_large: bool) -> Self {
        let mut state = seed | 1;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut all = Self { time: vec![], price: vec![], size: vec![], is_sell: vec![], unsided: vec![] };
        let (mut sells, mut unsided) = (Vec::new(), Vec::new());
        let (mut time, mut is_small, mut left) = (i64::MIN / 2, false, u64::MAX / 2);
        for _ in 0..rows {
            let word = random();
            if word.is_multiple_of(97) {
                is_small = !is_small;
            }
            let mut number = |bits: u32| {
                let most = (1u64 << bits) - 1;
                match random() % 8 {
                    _ if are_large => most - (random() & most & 3),
                    0 => 0,
                    1 => most,
                    2 => most - 1,
                    3 => (most >> 1) + 1,
                    _ if is_small => random() & most & 0xff,
                    4 => random() & most >> (random() % u64::from(bits)),
                    _ => random() & most,
                }
            };
            let [price, size, pause] = bits.map(&mut number);
            let pause = if word & 3 == 0 { 0 } else { pause.min(left / 16) };
            left -= pause;
            time += pause as i64;
            all.time.push(time);
            all.price.push(price.max(1) as i64);
            all.size.push(size as i64);
            unsided.push(word >> 20 & 7 == 0);
            sells.push(word >> 30 & 1 == 1 && word >> 20 & 7 != 0);
        }
        (all.is_sell, all.unsided) = (bitmap(&sells, 0), bitmap(&unsided, 0));
        all
    }

    fn ticks(&self) -> Ticks<'_> {
        Ticks {
            time: &self.time,
            price: Values::Grid(&self.price),
            quantity: Some(Values::Grid(&self.size)),
            is_buyer_maker: Some(Bits { bytes: &self.is_sell, offset: 0 }),
            unsided: Some(Bits { bytes: &self.unsided, offset: 0 }),
            agg_id: None,
            first_id: None,
            last_id: None,
        }
    }
}

fn any_extremes() -> impl Strategy<Value = Extremes> {
    // A price times a size and the number of records has at most 126 bits.
    let bits = prop_oneof![
        1 => prop::sample::select(&[[63u32, 50, 50], [50, 63, 62], [62, 51, 20]]),
        // Near the numbers of bits up to which sums are narrow.
        3 => prop::sample::select(&[[61u32, 40, 30], [40, 60, 58], [54, 53, 28], [31, 33, 26], [33, 53, 20]]),
        1 => (1u32..64, 1u32..52, 1u32..63).prop_map(|(price, size, time)| [price, size, time]),
        1 => (1u32..52, 1u32..64, 1u32..63).prop_map(|(price, size, time)| [price, size, time]),
    ];
    let rows = prop_oneof![2 => 1usize..400, 2 => 400usize..6_000, 1 => Just(4_096)];
    (rows, any::<u64>(), bits, prop::bool::weighted(0.3))
        .prop_map(|(rows, seed, bits, are_large)| Extremes::new(rows, seed, bits, are_large))
}

/// Pushes records in parts of these lengths, resumed from a checkpoint after each if wanted.
fn bar_of_all(
    records: &Extremes,
    columns: &[&'static Column],
    lengths: &[usize],
    is_resumed: bool,
) -> (Vec<Bar>, Vec<u8>) {
    let mut settings = settings(&[1], None, None);
    settings.thresholds = vec![Threshold::of_grid(i64::MAX).unwrap()];
    let window = Window::Bars(1);
    let mut made = builder(&settings, columns, window);
    let (ticks, mut from) = (records.ticks(), 0);
    for length in lengths.iter().cycle() {
        if from >= ticks.len() {
            break;
        }
        let to = ticks.len().min(from + length);
        assert!(take(&mut made, &[(ticks.slice(from, to), None)]).unwrap().is_empty());
        if is_resumed {
            let saved = made.save();
            made = builder(&settings, columns, window);
            made.load(&saved, ticks.inputs()).unwrap();
            assert_eq!(made.save(), saved);
        }
        from = to;
    }
    (made.partial(), made.save())
}

/// Bars of runs of ids, of which 0 is no bar, in pieces of these lengths.
fn runs(ticks: &Ticks, ids: &[u32], (columns, window): (&[&'static Column], Window), lengths: &[usize]) -> Vec<Bar> {
    let mut aggregator = Aggregator::new(UNIT, Names::default(), false);
    aggregator.compute(plan_of(columns, window));
    let validity = bitmap(&ids.iter().map(|id| *id > 0).collect::<Vec<_>>(), 0);
    let (mut all, mut out, mut from) = (Vec::new(), Vec::new(), 0);
    for length in lengths.iter().cycle() {
        if from >= ids.len() {
            break;
        }
        let to = ids.len().min(from + length);
        aggregator.begin();
        let bits = Bits { bytes: &validity, offset: 0 }.slice(from);
        let part = Ids { values: &ids[from..to], validity: Some(bits) };
        aggregator.push(&ticks.slice(from, to), part, &mut out, &mut |bars| all.append(bars)).unwrap();
        from = to;
    }
    all.extend(aggregator.last_run());
    all
}

/// Ids of runs of these lengths, of which some are no bar.
fn ids_of(rows: usize, lengths: &[(usize, bool)]) -> Vec<u32> {
    let ids = lengths.iter().cycle().zip(1u32..);
    let ids = ids.flat_map(|((length, is_bar), id)| std::iter::repeat_n(if *is_bar { id } else { 0 }, *length));
    ids.take(rows).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn long_bars_have_the_same_bits_for_any_chunking(
        (rows, seed) in (8_000usize..22_000, any::<u64>()),
        settings in long_settings(),
        columns in any_columns(),
        window in prop_oneof![1 => any_window(), 1 => (1u64..100).prop_map(Window::Bars)],
        lengths in prop::collection::vec(prop_oneof![1usize..300, 1usize..9_000], 1..6),
        is_resumed in any::<bool>(),
    ) {
        let trades = walk(rows, seed, 60_000.0, 1);
        let (whole, partial, state) = build((&trades, None), &settings, (&columns, window), &[usize::MAX >> 1], false);
        let lengths: Vec<usize> = lengths.iter().map(|length| (*length).max(rows / 40)).collect();
        let (cut, forming, same) = build((&trades, None), &settings, (&columns, window), &lengths, is_resumed);
        assert_equal(&whole, &cut);
        assert_equal(&partial, &forming);
        prop_assert_eq!(state, same);
    }

    #[test]
    fn numbers_of_any_size_have_the_same_bits_for_any_chunking(
        records in any_extremes(),
        lengths in prop_oneof![Just(vec![1usize]), prop::collection::vec(1usize..700, 1..6)],
        is_resumed in any::<bool>(),
    ) {
        let columns = columns(&["intra", "order", "large", "realized", "glosten", "huang", "adverse", "upside", "two", "var",
            "unchanged", "rev", "sweep", "sign", "run", "delta", "high", "low", "twap", "vwap_sd", "open_", "burst", "interval", "max_"]);
        let (whole, state) = bar_of_all(&records, &columns, &[usize::MAX >> 1], false);
        let is_short = is_resumed && records.time.len() > 600 && lengths == [1];
        let lengths = if is_short { vec![9] } else { lengths };
        let (cut, same) = bar_of_all(&records, &columns, &lengths, is_resumed);
        assert_equal(&whole, &cut);
        prop_assert_eq!(state, same);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_window_of_numbers_of_any_size_is_the_bar_before(
        records in any_extremes(),
        shape in prop::collection::vec((1usize..3_000, Just(true)), 2..6),
    ) {
        let (before, bar) = pairs();
        let both: Vec<_> = before.iter().chain(&bar).copied().collect();
        let ids = ids_of(records.time.len(), &shape);
        let all = runs(&records.ticks(), &ids, (&both, Window::Bars(1)), &[1_500]);
        for pair in all.windows(2) {
            let (earlier, later) = (pair[0].values.as_ref().unwrap(), pair[1].values.as_ref().unwrap());
            prop_assert_eq!(&earlier[before.len()..], &later[..before.len()]);
        }
    }
}

/// A walk over so many keys, of which those of higher numbers appear late.
fn walk_of_keys(rows: usize, seed: u64, keys: u32) -> (Trades, Vec<u32>) {
    let mut trades = walk(rows, seed, 60_000.0, keys);
    for row in 0..rows {
        // At most one key in 12 rows is new, and half of the rows are of the first two.
        let most = (row / 12 + 1) as u32;
        trades.key[row] = if trades.key[row] & 1 == 0 { trades.key[row] % most } else { row as u32 & 1 };
    }
    let codes = codes_of(&trades);
    (trades, codes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn many_keys_are_apart_and_restored(
        (rows, seed) in (2_000usize..12_000, any::<u64>()),
        keys in prop_oneof![Just(40u32), Just(300), Just(1_500)],
        window in any_window(),
        dbps in prop_oneof![Just(vec![60]), Just(vec![20, 2_000])],
        half in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        is_resumed in any::<bool>(),
    ) {
        let (trades, codes) = walk_of_keys(rows, seed, keys);
        let (settings, all) = (settings(&dbps, None, None), columns(&["lookback", "intra_bull", "intra_hurst", "order", "var"]));
        let half = half.index(rows);
        let (whole, partial, state) = build((&trades, Some(&codes)), &settings, (&all, window), &[rows], false);
        let mut bad = trades.clone();
        bad.price[half + at.index(rows - half)] = -1.0;
        let (bytes, bad_bytes) = (bitmap(&trades.is_sell, 0), bitmap(&bad.is_sell, 0));
        let mut made = builder(&settings, &all, window);
        let part = |from: usize, to: usize| (trades.ticks(&bytes, 0).slice(from, to), Some(&codes[from..to]));
        let mut bars = take(&mut made, &[part(0, half)]).unwrap();
        let before = made.save();
        let bad_part: Piece = (bad.ticks(&bad_bytes, 0).slice(half, rows), Some(&codes[half..]));
        take(&mut made, &[bad_part]).unwrap_err();
        prop_assert_eq!(&made.save(), &before);
        if is_resumed {
            made = builder(&settings, &all, window);
            made.load(&before, trades.ticks(&bytes, 0).inputs()).unwrap();
        }
        // In two pieces of one push.
        let quarter = half + (rows - half) / 3;
        bars.extend(take(&mut made, &[part(half, quarter), part(quarter, rows)]).unwrap());
        let sorted = |mut bars: Vec<Bar>| {
            bars.sort_by_key(|bar| (bar.end_row, bar.key, bar.threshold));
            bars
        };
        assert_equal(&sorted(bars), &sorted(whole));
        assert_equal(&made.partial(), &partial);
        prop_assert_eq!(made.save(), state);
    }

    #[test]
    fn a_refused_push_of_long_bars_changes_nothing(
        (rows, seed) in (11_000usize..20_000, any::<u64>()),
        settings in long_settings(),
        window in any_window(),
        columns in any_columns(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 2..4),
        at in any::<prop::sample::Index>(),
    ) {
        let trades = walk(rows, seed, 60_000.0, 1);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows)).chain([0, rows]).collect();
        cuts.sort_unstable();
        let bytes = bitmap(&trades.is_sell, 0);
        let ticks = trades.ticks(&bytes, 0);
        let (whole, partial, state) = build((&trades, None), &settings, (&columns, window), &[usize::MAX >> 1], false);
        let (mut made, mut all) = (builder(&settings, &columns, window), Vec::new());
        for cut in cuts.windows(2) {
            let mut bad = trades.clone();
            if cut[1] < rows {
                let row = cut[1] + at.index(rows - cut[1]);
                bad.price[row] = f64::NAN;
                let bad: Piece = (bad.ticks(&bytes, 0).slice(cut[0], rows), None);
                let before = made.save();
                take(&mut made, &[bad]).unwrap_err();
                prop_assert_eq!(made.save(), before);
            }
            all.extend(take(&mut made, &[(ticks.slice(cut[0], cut[1]), None)]).unwrap());
        }
        assert_equal(&all, &whole);
        assert_equal(&made.partial(), &partial);
        prop_assert_eq!(made.save(), state);
    }

    #[test]
    fn runs_among_records_of_no_bar_have_the_same_bits_for_any_chunking(
        (rows, seed) in (1usize..25_000, any::<u64>()),
        shape in prop::collection::vec((prop_oneof![4 => 1usize..40, 2 => 1usize..3_000, 1 => Just(4_096), 1 => 9_000usize..12_000], prop::bool::weighted(0.7)), 1..9),
        columns in any_columns(),
        window in any_window(),
        lengths in prop::collection::vec(1usize..6_000, 1..5),
    ) {
        let (trades, ids) = (walk(rows, seed, 60_000.0, 1), ids_of(rows, &shape));
        let bytes = bitmap(&trades.is_sell, 0);
        let ticks = trades.ticks(&bytes, 0);
        let lengths: Vec<usize> = lengths.iter().map(|length| (*length).max(rows / 300)).collect();
        let whole = runs(&ticks, &ids, (&columns, window), &[rows]);
        let cut = runs(&ticks, &ids, (&columns, window), &lengths);
        assert_equal(&whole, &cut);
    }

    #[test]
    fn windows_of_runs_hold_the_records_of_no_bar(
        (rows, seed) in (1usize..25_000, any::<u64>()),
        shape in prop::collection::vec((prop_oneof![4 => 1usize..40, 2 => 1usize..3_000, 1 => 9_000usize..12_000], prop::bool::weighted(0.7)), 1..9),
        window in any_window(),
        lengths in prop::collection::vec(1usize..6_000, 1..5),
    ) {
        let (trades, ids) = (walk(rows, seed, 60_000.0, 1), ids_of(rows, &shape));
        let bytes = bitmap(&trades.is_sell, 0);
        let counted = columns(&["lookback_trade_count"]);
        let lengths: Vec<usize> = lengths.iter().map(|length| (*length).max(rows / 300)).collect();
        let got = runs(&trades.ticks(&bytes, 0), &ids, (&counted, window), &lengths);
        let opened: Vec<usize> = (0..rows).filter(|row| ids[*row] > 0 && (*row == 0 || ids[*row] != ids[row - 1])).collect();
        prop_assert_eq!(got.len(), opened.len());
        for (index, (bar, at)) in got.iter().zip(&opened).enumerate() {
            let first = first_record(&trades, window, 0, &opened[..index], *at);
            prop_assert_eq!(bar.values.as_ref().unwrap()[0], (at - first) as u64);
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_values() {
    let extremes = [[40, 40, 40], [63, 50, 50], [50, 63, 62]].map(|bits| Extremes::new(6_000, 11, bits, false));
    let (trades, all) = (walk(30_000, 42, 60_000.0, 1).without_aggressor(9), columns(&[""]));
    let settings = settings(&[30, 12_000], None, None);
    let values = |set| {
        InstructionSet::force(Some(set)).then(|| {
            let (bars, partial, _) = build((&trades, None), &settings, (&all, Window::Bars(3)), &[7_000], false);
            let wide = extremes.iter().flat_map(|records| {
                let ids = ids_of(records.time.len(), &[(1_000, true), (1, true), (4_999, true)]);
                runs(&records.ticks(), &ids, (&all, Window::Records(10_000)), &[usize::MAX >> 1])
            });
            let bars = bars.into_iter().chain(partial).chain(wide);
            bars.map(|bar| bar.values.unwrap()).collect::<Vec<_>>()
        })
    };
    let expected = values(InstructionSet::Baseline).unwrap();
    for set in InstructionSet::ALL {
        if let Some(values) = values(set) {
            assert_eq!(values, expected, "{set:?}");
        }
    }
    InstructionSet::force(None);
}
