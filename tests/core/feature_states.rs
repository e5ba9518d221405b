//! Forged states of features: records, openings and sums that no trades lead to are refused, and what is
//! accepted is a state like any other.

use rangebar_polars::core::columns::Column;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::window::Window;

use crate::features::{builder, columns, inputs, settings};
use crate::trades::{bitmap, take, walk};

#[test]
fn a_state_with_any_word_altered_is_refused_or_a_state() {
    const WORDS: [u64; 7] = [0, 1, 2, 3, 1 << 62, 0u64.wrapping_sub(1 << 62), i64::MAX as u64];
    let trades = walk(700, 1, 60_000.0, 1).without_aggressor(9);
    let later = walk(60, 3, 1e6, 1);
    let (bytes, later_bytes) = (bitmap(&trades.is_sell, 0), bitmap(&later.is_sell, 0));
    let (ticks, later_ticks) = (trades.ticks(&bytes, 0), later.ticks(&later_bytes, 0));
    let (settings, all) = (settings(&[100_000], None, None), columns(&[""]));
    let window = Window::Bars(2);
    let mut made = builder(&settings, &all, window);
    take(&mut made, &[(ticks, None)]).unwrap();
    let sums = made.save_sums().len();
    let state = made.save();
    // The records come last, and are many.
    let last = state.len() - 8;
    let offsets = (sums..last.min(sums + 4_600)).chain((sums + 4_600..last).step_by(61));
    let mut accepted = 0;
    for at in offsets {
        for word in WORDS {
            let mut altered = state.clone();
            altered[at..at + 8].copy_from_slice(&word.to_le_bytes());
            let mut other = builder(&settings, &all, window);
            if other.load(&altered, ticks.inputs()).is_ok() {
                accepted += 1;
                assert_eq!(other.save(), altered, "{at}");
                other.partial();
                // The trades may be refused, because their times may decrease.
                let _ = take(&mut other, &[(later_ticks, None)]);
            }
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}

/// A state, the number of its bytes before the held records, and their number.
struct Saved {
    settings: Settings,
    columns: Vec<&'static Column>,
    window: Window,
    bytes: Vec<u8>,
    head: usize,
    held: usize,
}

impl Saved {
    fn new(names: &[&str], dbps: u32, window: Window) -> Self {
        let (settings, columns) = (settings(&[dbps], None, None), columns(names));
        let trades = walk(900, 1, 60_000.0, 1);
        let bytes = bitmap(&trades.is_sell, 0);
        let mut made = builder(&settings, &columns, window);
        take(&mut made, &[(trades.ticks(&bytes, 0), None)]).unwrap();
        let bytes = made.save();
        Self { settings, columns, window, bytes, head: 0, held: 0 }
    }

    /// The state, which holds so many records.
    fn holding(mut self, held: usize) -> Self {
        (self.head, self.held) = (self.bytes.len() - 25 * held - 8, held);
        assert_eq!(self.word(self.head), held as u64);
        assert!(self.is_accepted(&self.bytes));
        self
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    fn is_accepted(&self, bytes: &[u8]) -> bool {
        let mut other = builder(&self.settings, &self.columns, self.window);
        other.load(bytes, inputs()).is_ok()
    }

    /// The state with a word replaced.
    fn with(&self, at: usize, word: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        bytes
    }

    /// The state with the oldest record left out, or there twice.
    fn with_records(&self, copies: usize) -> Vec<u8> {
        let mut bytes = self.with(self.head, (self.held + copies - 1) as u64)[..self.head + 8].to_vec();
        let mut at = self.head + 8;
        for width in [8, 8, 8, 1] {
            (0..copies).for_each(|_| bytes.extend(&self.bytes[at..at + width]));
            bytes.extend(&self.bytes[at + width..at + width * self.held]);
            at += width * self.held;
        }
        bytes
    }
}

#[test]
fn held_records_are_those_that_the_trades_leave() {
    // A bar that is longer than the window, so that its sums do not tell which records are held.
    let saved = Saved::new(&["lookback"], 100_000, Window::Records(50)).holding(50);
    let column = |number: usize| saved.head + 8 + 8 * number * saved.held;
    assert!(saved.is_accepted(&saved.with_records(0)), "a stretch may have begun there");
    assert!(!saved.is_accepted(&saved.with_records(2)), "more than the window");
    let last = saved.word(column(1) - 8);
    assert!(!saved.is_accepted(&saved.with(column(0), last + 1)), "times decrease");
    assert!(!saved.is_accepted(&saved.with(column(1) - 8, last + 1)), "another last time");
    assert!(!saved.is_accepted(&saved.with(column(1), 0)), "no price");
    assert!(!saved.is_accepted(&saved.with(column(2), u64::MAX)), "a negative size");
    assert!(saved.is_accepted(&saved.with(column(2), 5)), "any size");
    // Records that a column needs at the end of the bar.
    let saved = Saved::new(&["order_size", "intra_bull"], 100_000, Window::Records(1)).holding(900);
    assert!(!saved.is_accepted(&saved.with_records(0)), "a record of the bar is missing");
    assert!(!saved.is_accepted(&saved.with(saved.head + 8 + 16 * saved.held, 5)), "another volume");
}

#[test]
fn openings_are_in_order_and_no_more_than_the_window_has() {
    let saved = Saved::new(&["lookback"], 30, Window::Bars(3));
    // Three openings, then the records.
    let is_head = |held: usize| {
        let head = saved.bytes.len() - 25 * held - 8;
        saved.word(head) == held as u64 && saved.word(head - 32) == 3
    };
    let held = (1..900).find(|held| is_head(*held)).unwrap();
    let saved = saved.holding(held);
    let [first, second, last] = [24, 16, 8].map(|back| saved.word(saved.head - back));
    assert!(first > second && second > last && last > 1);
    // The next window begins at the second opening.
    assert_eq!(second, saved.held as u64);
    let at = saved.head - 24;
    assert!(saved.is_accepted(&saved.with(at, first + 1)));
    assert!(!saved.is_accepted(&saved.with(at, second)), "equal openings");
    assert!(!saved.is_accepted(&saved.with(at + 8, last - 1)), "a later one first");
    assert!(!saved.is_accepted(&saved.with(at + 16, 0)), "an opening after the forming bar");
    let mut longer = saved.with(at - 8, 4);
    longer.splice(at..at, (first + 1).to_le_bytes());
    assert!(!saved.is_accepted(&longer), "four openings");
}
