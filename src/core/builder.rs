//! The state machine behind every door: pieces of columns in, ended bars out.

use super::admit::{Last, Names, Wording, check_record, overflow_error, unexplained};
use super::bar::{Bar, Overflow};
use super::buckets::{Buckets, Filled, LARGEST_BLOCK};
use super::error::DataError;
use super::fold::FoldError;
use super::lanes::LONGEST_SPAN;
use super::search::Cut;
use super::simd::InstructionSet;
use super::state::{KeyFold, KeySearch, Output, Rows, Settings};
use super::ticks::Ticks;

/// Takes the bars that ended so far and leaves the vector empty.
pub type Flush<'a> = &'a mut dyn FnMut(&mut Vec<Bar>);

/// From this many records to a change of key on, records need no putting together.
const LONG_RUN: usize = 40;

/// State of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyState {
    pub search: KeySearch,
    pub fold: KeyFold,
}

impl KeyState {
    pub fn new(settings: &Settings) -> Self {
        let thresholds = settings.thresholds.len();
        Self { search: KeySearch::new(settings.rule, thresholds), fold: KeyFold::new(thresholds) }
    }
}

/// Range bars of one or many keys at one or many thresholds, push by push.
///
/// A push is `begin`, any number of `push` calls with the pieces of its columns, then `commit`, or
/// `roll_back` after an error, which restores the state at `begin`.
#[derive(Debug)]
pub struct RangeBarBuilder {
    pub(super) settings: Settings,
    pub(super) names: Names,
    pub(super) is_absolute: bool,
    pub(super) states: Vec<KeyState>,
    /// Input rows over all pushes.
    pub(super) rows: u64,
    rows_at_begin: u64,
    states_at_begin: usize,
    /// States as they were before this push, for the keys it touched.
    journal: Vec<(usize, KeyState)>,
    is_journaled: Vec<bool>,
    cuts: Vec<Cut>,
    buckets: Buckets,
}

impl RangeBarBuilder {
    pub fn new(settings: Settings, names: Names, is_absolute: bool) -> Self {
        Self {
            settings,
            names,
            is_absolute,
            states: Vec::new(),
            rows: 0,
            rows_at_begin: 0,
            states_at_begin: 0,
            journal: Vec::new(),
            is_journaled: Vec::new(),
            cuts: Vec::new(),
            buckets: Buckets::default(),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Gives out all bars from here on, as labels need.
    pub fn keep_unfinished(&mut self) {
        self.settings.keeps_unfinished = true;
    }

    /// Starts a push.
    pub fn begin(&mut self) {
        self.rows_at_begin = self.rows;
        self.states_at_begin = self.states.len();
        self.journal.clear();
        self.is_journaled.clear();
        self.is_journaled.resize(self.states.len(), false);
    }

    /// Makes the push final.
    pub fn commit(&mut self) {
        self.begin();
    }

    /// Restores the state at `begin`.
    pub fn roll_back(&mut self) {
        self.states.truncate(self.states_at_begin);
        for (key, state) in self.journal.drain(..) {
            self.states[key] = state;
        }
        self.rows = self.rows_at_begin;
        self.begin();
    }

    /// How messages of the current push count rows.
    pub fn wording(&self) -> Wording<'_> {
        Wording {
            names: &self.names,
            unit: self.settings.unit,
            push_row: self.rows_at_begin,
            is_absolute: self.is_absolute,
        }
    }

    /// Takes a piece; `codes` are its keys, numbered by first appearance over all pushes.
    ///
    /// # Errors
    /// At the first record that is refused; the caller must then roll back.
    pub fn push(
        &mut self,
        ticks: &Ticks,
        codes: Option<&[u32]>,
        bars: &mut Vec<Bar>,
        flush: Flush,
    ) -> Result<(), DataError> {
        match codes {
            None => self.push_key(ticks, 0, bars, flush),
            Some(codes) => self.push_keyed(ticks, codes, bars, flush),
        }
    }

    fn push_key(&mut self, ticks: &Ticks, key: u32, bars: &mut Vec<Bar>, flush: Flush) -> Result<(), DataError> {
        self.touch(key);
        let set = InstructionSet::current();
        let mut from = 0;
        while from < ticks.len() {
            let to = ticks.len().min(from + LONGEST_SPAN);
            let chunk = ticks.slice(from, to);
            let last = self.states[key as usize].search.last;
            let rows = Rows::From(self.rows);
            self.step(set, &chunk, rows, key, bars).map_err(|error| self.explain(&chunk, last, error))?;
            flush(bars);
            self.rows += chunk.len() as u64;
            from = to;
        }
        Ok(())
    }

    /// One chunk of one key: search, then fold.
    #[inline]
    fn step(
        &mut self,
        set: InstructionSet,
        chunk: &Ticks,
        rows: Rows,
        key: u32,
        bars: &mut Vec<Bar>,
    ) -> Result<(), FoldError> {
        self.cuts.clear();
        let state = &mut self.states[key as usize];
        if !state.search.scan(&self.settings, set, chunk, rows, &mut self.cuts) {
            return Err(FoldError::Record(chunk.len() - 1));
        }
        let mut out = Output { bars, rows, key };
        state.fold.fold(set, chunk, &self.cuts, self.settings.keeps_unfinished, &mut out)
    }

    fn make_states(&mut self, key: u32) {
        if self.states.len() <= key as usize {
            let settings = &self.settings;
            self.states.resize_with(key as usize + 1, || KeyState::new(settings));
        }
    }

    /// Makes sure a key has a state and a way back.
    fn touch(&mut self, key: u32) {
        self.make_states(key);
        let key = key as usize;
        if self.is_journaled.get(key) == Some(&false) {
            self.is_journaled[key] = true;
            self.journal.push((key, self.states[key].clone()));
        }
    }

    fn push_keyed(&mut self, ticks: &Ticks, codes: &[u32], bars: &mut Vec<Bar>, flush: Flush) -> Result<(), DataError> {
        let mut from = 0;
        while from < ticks.len() {
            let to = ticks.len().min(from + LARGEST_BLOCK);
            let (block, codes) = (ticks.slice(from, to), &codes[from..to]);
            let changes = codes.iter().zip(&codes[1..]).filter(|(code, next)| code != next).count();
            if changes * LONG_RUN < codes.len() {
                self.push_runs(&block, codes, bars, flush)?;
            } else {
                self.push_block(&block, codes, bars, flush)?;
            }
            from = to;
        }
        Ok(())
    }

    /// A block in which keys seldom change: its records are together already.
    fn push_runs(&mut self, block: &Ticks, codes: &[u32], bars: &mut Vec<Bar>, flush: Flush) -> Result<(), DataError> {
        let mut from = 0;
        for run in codes.chunk_by(|code, next| code == next) {
            let to = from + run.len();
            self.push_key(&block.slice(from, to), run[0], bars, flush)?;
            from = to;
        }
        Ok(())
    }

    /// A block of several keys: each key's records are put together and take the one-key path.
    fn push_block(&mut self, block: &Ticks, codes: &[u32], bars: &mut Vec<Bar>, flush: Flush) -> Result<(), DataError> {
        let mut buckets = std::mem::take(&mut self.buckets);
        let mut lasts = Vec::new();
        let result = self.push_buckets(block, codes, &mut buckets, &mut lasts, bars);
        self.buckets = buckets;
        result.map_err(|fault| self.explain_keyed(block, codes, lasts, fault))?;
        bars.sort_by_key(|bar| bar.end_row);
        flush(bars);
        self.rows += block.len() as u64;
        Ok(())
    }

    fn push_buckets(
        &mut self,
        block: &Ticks,
        codes: &[u32],
        buckets: &mut Buckets,
        lasts: &mut Vec<Option<Last>>,
        bars: &mut Vec<Bar>,
    ) -> Result<(), BlockFault> {
        let largest = codes.iter().fold(0, |largest, code| largest.max(*code));
        buckets.start(block, codes, largest as usize + 1);
        // The last record of every key there may be is noted for messages.
        self.make_states(largest);
        lasts.extend(self.states.iter().map(|state| state.search.last));
        let mut from = 0;
        while let Filled::Full { row, slot } = buckets.fill(InstructionSet::current(), block, codes, from) {
            self.push_bucket(block, buckets, slot, bars)?;
            from = row;
        }
        (0..buckets.count()).try_for_each(|slot| self.push_bucket(block, buckets, slot, bars))
    }

    /// Folds a bucket and empties it.
    fn push_bucket(
        &mut self,
        block: &Ticks,
        buckets: &mut Buckets,
        slot: usize,
        bars: &mut Vec<Bar>,
    ) -> Result<(), BlockFault> {
        if buckets.is_bare(slot) {
            return Ok(());
        }
        let key = buckets.key(slot);
        self.touch(key);
        let set = InstructionSet::current();
        let (chunk, rows) = buckets.bucket(set, block, slot);
        let rows = Rows::Listed(self.rows, rows);
        self.step(set, &chunk, rows, key, bars).map_err(|error| match error {
            FoldError::Record(_) => BlockFault { overflow: None },
            FoldError::Overflow(row, what) => BlockFault { overflow: Some((rows.input_row(row), what)) },
        })?;
        buckets.clear(slot);
        Ok(())
    }

    /// Words the first fault of a chunk.
    fn explain(&self, chunk: &Ticks, mut last: Option<Last>, error: FoldError) -> DataError {
        let wording = self.wording();
        for at in 0..chunk.len() {
            let row = self.rows + at as u64;
            if let Err(fault) = check_record(chunk, at, row, last, wording) {
                return fault;
            }
            if let FoldError::Overflow(overflow_row, what) = error
                && overflow_row == at
            {
                return overflow_error(what, wording.row(row), wording);
            }
            last = Some(Last::of(chunk, at, row));
        }
        unexplained(wording.row(self.rows))
    }

    /// Words the first fault of a block of several keys.
    fn explain_keyed(
        &self,
        block: &Ticks,
        codes: &[u32],
        mut lasts: Vec<Option<Last>>,
        fault: BlockFault,
    ) -> DataError {
        let wording = self.wording();
        for (at, code) in codes.iter().enumerate() {
            let row = self.rows + at as u64;
            let last = &mut lasts[*code as usize];
            if let Err(error) = check_record(block, at, row, *last, wording) {
                return error;
            }
            match fault.overflow {
                Some((overflow_row, what)) if overflow_row == row => {
                    return overflow_error(what, wording.row(row), wording);
                }
                _ => *last = Some(Last::of(block, at, row)),
            }
        }
        unexplained(wording.row(self.rows))
    }
}

/// Why a block of several keys was refused.
struct BlockFault {
    /// Input row and kind of an overflow; else a record is at fault.
    overflow: Option<(u64, Overflow)>,
}

impl RangeBarBuilder {
    /// The forming bars: by first appearance of the key, then thresholds.
    pub fn partial(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        for (key, state) in self.states.iter().enumerate() {
            for (lane, fold) in state.fold.lanes.iter().enumerate().filter(|(_, fold)| !fold.sums.is_empty()) {
                bars.push(Bar {
                    sums: fold.sums,
                    end_row: self.rows.saturating_sub(1),
                    key: key as u32,
                    lane: lane as u16,
                    bar_id: fold.next_id,
                    ended_by: None,
                });
            }
        }
        bars
    }
}
