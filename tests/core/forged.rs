//! Altered states are refused, or are as valid as any other state.

use proptest::prelude::*;
use rangebar_polars::core::builder::RangeBarBuilder;
use rangebar_polars::core::diagnose::Names;
use rangebar_polars::core::rule::table::RuleName;
use rangebar_polars::core::rule::threshold::Threshold;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::ticks::Inputs;
use rangebar_polars::core::time::TimeUnit;

use crate::properties::{any_settings, codes_of};
use crate::trades::{any_walk, bitmap, take, walk};

const COLUMNS: [Inputs; 4] = [Inputs::FLOW, Inputs::UNSIDED, Inputs::AGG_ID, Inputs::FILLS];

fn all_inputs() -> Inputs {
    COLUMNS.into_iter().fold(Inputs::NONE, Inputs::with)
}

/// Loads a state, then pushes trades. Returns whether it was accepted. Nothing may overflow.
fn is_accepted(settings: &Settings, state: &[u8], inputs: Inputs) -> bool {
    let mut builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
    let empty = builder.save();
    if builder.load(state, inputs).is_err() {
        assert_eq!(builder.save(), empty);
        return false;
    }
    assert_eq!(builder.save(), state);
    for bar in builder.partial() {
        let sums = bar.sums;
        assert!(sums.low <= sums.open && sums.open <= sums.high && sums.low <= sums.close && sums.close <= sums.high);
        assert!(sums.records > 0 && (0..=sums.fills).contains(&sums.sell_fills));
        assert!((0..=sums.volume).contains(&sums.sell_volume) && (0..=sums.turnover).contains(&sums.sell_turnover));
        assert!((0..=sums.fills).contains(&sums.unsided_fills) && sums.buy_fills() >= 0);
        assert!(sums.unsided_volume >= 0 && sums.buy_volume() >= 0);
        assert!(sums.unsided_turnover >= 0 && sums.buy_turnover() >= 0);
    }
    let trades = walk(300, 3, 1e9, 1);
    let bytes = bitmap(&trades.is_sell, 0);
    // The trades may be refused, because their times may decrease.
    let _ = take(&mut builder, &[(trades.ticks(&bytes, 0), None)]);
    true
}

fn altered(state: &[u8], at: usize, word: u64, change: u8) -> Vec<u8> {
    let mut bytes = state.to_vec();
    let at = at.min(bytes.len() - 8);
    let old = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let new = match change {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old ^ 1 << 63,
        3 => 0,
        4 => u64::MAX,
        5 => old.wrapping_neg(),
        6 => i64::MAX as u64,
        _ => word,
    };
    bytes[at..at + 8].copy_from_slice(&new.to_le_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_altered_state_is_refused_or_a_state(
        trades in any_walk(3),
        settings in any_settings(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0u8..9), 1..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let (codes, bytes) = (codes_of(&trades), bitmap(&trades.is_sell, 0));
        let mut builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
        take(&mut builder, &[(trades.ticks(&bytes, 0), Some(&codes))]).unwrap();
        let state = builder.save();
        prop_assert!(is_accepted(&settings, &state, all_inputs()));
        prop_assert!(!is_accepted(&settings, &state[..cut.index(state.len())], all_inputs()));
        prop_assert!(!is_accepted(&settings, &[state.as_slice(), &[0]].concat(), all_inputs()));
        for (at, word, change) in &changes {
            is_accepted(&settings, &altered(&state, at.index(state.len()), *word, *change), all_inputs());
        }
        for (at, word, change) in changes {
            // Several changes at once, so that one can compensate for another.
            let once = altered(&state, at.index(state.len()), word, change);
            is_accepted(&settings, &altered(&once, at.index(state.len()) / 2, word, 1 - change % 2), all_inputs());
        }
    }
}

/// Bytes of the one bar of a state of one key and one threshold, in the order of the layout.
const FIELDS: [(&str, usize); 27] = [
    ("rows", 8),
    ("keys", 8),
    ("has last", 1),
    ("last time", 8),
    ("last id", 8),
    ("last row", 8),
    ("has segment end", 1),
    ("has opening", 1),
    ("opening time", 8),
    ("opening price", 8),
    ("next id", 4),
    ("records", 8),
    ("open time", 8),
    ("close time", 8),
    ("open", 8),
    ("high", 8),
    ("low", 8),
    ("close", 8),
    ("fills", 8),
    ("sell fills", 8),
    ("first agg id", 8),
    ("last agg id", 8),
    ("first id", 8),
    ("last id of fills", 8),
    ("volume", 16),
    ("sell volume", 16),
    ("turnover", 32),
];

/// What follows in a state whose bar has records without an aggressor.
const UNSIDED_FIELDS: [(&str, usize); 3] = [("unsided fills", 8), ("unsided volume", 16), ("unsided turnover", 16)];

/// The state of one record, and of one record without an aggressor.
fn single(settings: &Settings, is_unsided: bool) -> Vec<u8> {
    let mut trades = walk(1, 1, 1.0, 1);
    (trades.quantity[0], trades.is_sell[0]) = (2.0, true);
    (trades.agg_id[0], trades.first_id[0], trades.last_id[0]) = (7, 20, 29);
    if is_unsided {
        trades = trades.without_aggressor(1);
    }
    let bytes = bitmap(&trades.is_sell, 0);
    let mut builder = RangeBarBuilder::new(settings.clone(), Names::default(), false);
    take(&mut builder, &[(trades.ticks(&bytes, 0), None)]).unwrap();
    builder.save()
}

#[test]
fn every_field_is_checked_against_the_others() {
    let settings = Settings {
        rule: RuleName::Open,
        thresholds: vec![Threshold::try_from(100_000).unwrap()],
        unit: TimeUnit::Microseconds,
        reset: None,
        max_gap: None,
        is_gated: true,
        keeps_unfinished: false,
    };
    for is_unsided in [false, true] {
        let state = single(&settings, is_unsided);
        let more = if is_unsided { UNSIDED_FIELDS.as_slice() } else { &[] };
        let fields: Vec<_> = FIELDS.iter().chain(more).collect();
        assert_eq!(state.len(), fields.iter().map(|(_, len)| len).sum::<usize>());
        let mut at = 0;
        for (name, len) in fields {
            for change in [1i16, -1, 0x40] {
                let mut bytes = state.clone();
                bytes[at] = (i16::from(bytes[at]) + change) as u8;
                assert!(!is_accepted(&settings, &bytes, all_inputs()), "{name} {change}");
            }
            at += len;
        }
        for absent in COLUMNS.into_iter().filter(|absent| is_unsided || *absent != Inputs::UNSIDED) {
            let bound = COLUMNS.into_iter().filter(|input| *input != absent).fold(Inputs::NONE, Inputs::with);
            assert!(!is_accepted(&settings, &state, bound), "{absent:?}");
        }
    }
}
