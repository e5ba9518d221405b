//! The state machine of all entry points: pieces of columns in, ended bars out.

use crate::core::bar::Bar;
use crate::core::diagnose::{FaultContext, Names, check_record, limit_error, overflow_error, unexplained};
use crate::core::error::DataError;
use crate::core::fold::FoldError;
use crate::core::keys::buckets::{Buckets, Filled, block_size};
use crate::core::keys::fills::FillWatch;
use crate::core::keys::states::KeyStates;
use crate::core::sample::fold::FeatureFold;
use crate::core::sample::key::Chunk;
use crate::core::sample::plan::Plan;
use crate::core::search::Cut;
use crate::core::simd::InstructionSet;
use crate::core::simd::fold::LONGEST_SPAN;
use crate::core::simd::intrinsics::{HERE, NEXT_LINE, prefetch};
use crate::core::state::{KeyState, Output, Rows, Settings};
use crate::core::ticks::Ticks;

/// Takes the bars that ended so far and leaves the vector empty.
pub type Flush<'a> = &'a mut dyn FnMut(&mut Vec<Bar>);

/// Most forming bars, that is keys times thresholds: about 1 GB at 232 bytes each.
pub const MOST_FORMING_BARS: usize = 1 << 22;

/// Records per change of key from which on they are processed as they come, without buckets.
const LONG_RUN: usize = 40;

/// Range bars of one or many keys at one or many thresholds, push by push.
///
/// A push is `begin`, any number of `push` calls with the pieces of its columns, then `commit`, or
/// `roll_back` after an error, which restores the state at `begin`. After an error `retrace` returns
/// whether the same pieces must be pushed again to find the row at fault.
#[derive(Debug)]
pub struct RangeBarBuilder {
    settings: Settings,
    names: Names,
    is_absolute: bool,
    states: KeyStates,
    /// Input rows over all pushes.
    rows: u64,
    rows_at_begin: u64,
    /// First row of the block that the quick pass refused.
    suspect: Option<u64>,
    /// Row from which on records are processed one at a time.
    retraced_from: Option<u64>,
    cuts: Vec<Cut>,
    /// Rows at which resets and gaps take effect.
    starts: Vec<u32>,
    buckets: Buckets,
    fills: FillWatch,
    features: Option<Box<FeatureFold>>,
}

impl RangeBarBuilder {
    pub fn new(settings: Settings, names: Names, is_absolute: bool) -> Self {
        Self {
            settings,
            names,
            is_absolute,
            states: KeyStates::default(),
            rows: 0,
            rows_at_begin: 0,
            suspect: None,
            retraced_from: None,
            cuts: Vec::new(),
            starts: Vec::new(),
            buckets: Buckets::default(),
            fills: FillWatch::default(),
            features: None,
        }
    }

    /// Computes the features of a plan as well, from the first record on.
    pub fn compute(&mut self, plan: Plan) {
        self.features = Some(Box::new(FeatureFold::new(plan, self.settings.thresholds.len())));
    }

    /// The state of the features, if any are computed.
    pub fn features(&self) -> Option<&FeatureFold> {
        self.features.as_deref()
    }

    /// Look-back windows that reached the limit of records, since the last call.
    pub fn take_cut_windows(&mut self) -> u64 {
        self.features.as_mut().map_or(0, |features| features.take_cut_windows())
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Input rows over all pushes.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Keys over all pushes.
    pub fn key_count(&self) -> usize {
        self.states.as_slice().len()
    }

    /// States of the keys in order of their first appearance.
    pub fn states(&self) -> &[KeyState] {
        self.states.as_slice()
    }

    /// Replaces the state between pushes: the rows so far and the states of their keys.
    pub fn restore(&mut self, rows: u64, states: Vec<KeyState>, features: Option<FeatureFold>) {
        self.rows = rows;
        self.states.replace(states);
        self.features = features.map(Box::new);
        self.commit();
    }

    /// Notes from now on, or no longer, whose fills do not follow those of the record before them.
    pub fn watch_fills(&mut self, is_on: bool) {
        self.fills = FillWatch::new(is_on);
    }

    /// Keys in which a record was noted since the last call, at most a few.
    pub fn take_noted_keys(&mut self) -> Vec<u32> {
        self.fills.take()
    }

    /// Emits unfinished bars as well from now on, as labels require.
    pub fn keep_unfinished(&mut self) {
        self.settings.keeps_unfinished = true;
    }

    /// Starts a push.
    pub fn begin(&mut self) {
        self.rows_at_begin = self.rows;
        self.states.begin();
        if let Some(features) = &mut self.features {
            features.begin();
        }
    }

    /// Makes the push final.
    pub fn commit(&mut self) {
        (self.suspect, self.retraced_from) = (None, None);
        self.begin();
    }

    /// Restores the state at `begin`.
    pub fn roll_back(&mut self) {
        self.states.roll_back();
        if let Some(features) = &mut self.features {
            features.roll_back();
        }
        self.rows = self.rows_at_begin;
        self.fills.take();
        (self.suspect, self.retraced_from) = (None, None);
    }

    /// Names and row numbers for messages of the current push.
    pub fn fault_context(&self) -> FaultContext<'_> {
        FaultContext {
            names: &self.names,
            unit: self.settings.unit,
            push_row: self.rows_at_begin,
            is_absolute: self.is_absolute,
        }
    }

    /// Processes a piece; `codes` are its keys, numbered by first appearance over all pushes.
    ///
    /// # Errors
    /// When a record is invalid. The error names its row if [`Self::retrace`] returns false; the caller
    /// must then roll back.
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
        self.states.touch(key, &self.settings);
        let set = InstructionSet::current();
        let mut from = 0;
        while from < ticks.len() {
            let to = ticks.len().min(from + LONGEST_SPAN);
            let chunk = ticks.slice(from, to);
            if self.is_retracing() {
                return Err(self.retrace_rows(&chunk, |_| key, bars));
            }
            if self.step(set, &chunk, Rows::From(self.rows), key, bars).is_err() {
                return Err(self.doubt());
            }
            flush(bars);
            self.rows += chunk.len() as u64;
            from = to;
        }
        Ok(())
    }

    /// Processes one chunk of one key: search, then fold.
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
        self.starts.clear();
        let state = self.states.get_mut(key);
        let last_fill = state.search.last.map(|record| record.fill_id);
        if !state.search.scan(&self.settings, set, chunk, rows, (&mut self.cuts, &mut self.starts)) {
            return Err(FoldError::Record);
        }
        let ended = bars.len();
        let mut out = Output { bars, rows, key };
        let from = state.fold.fold(set, chunk, &self.cuts, self.settings.keeps_unfinished, &mut out)?;
        state.fold.absorb(set, chunk, from, chunk.len())?;
        // The fold has read these columns, so that they are still in a cache.
        self.fills.note(set, chunk, key, last_fill);
        if self.features.is_some() {
            self.step_features(chunk, key, &mut bars[ended..]);
        }
        Ok(())
    }

    /// Computes the features of a chunk that the fold has admitted.
    fn step_features(&mut self, chunk: &Ticks, key: u32, ended: &mut [Bar]) {
        // A push that is retraced will be rolled back.
        if let (Some(features), None) = (&mut self.features, self.retraced_from) {
            let chunk = Chunk {
                ticks: chunk,
                cuts: &self.cuts,
                breaks: &self.starts,
                is_outside: false,
                keeps_unfinished: self.settings.keeps_unfinished,
            };
            features.step(key, &chunk, ended);
        }
    }

    /// Records that the block at the current row was refused. The error is provisional.
    fn doubt(&mut self) -> DataError {
        self.suspect = Some(self.rows);
        unexplained(self.fault_context().row(self.rows))
    }

    /// Most keys for this number of thresholds.
    pub fn most_keys(&self) -> usize {
        (MOST_FORMING_BARS / self.settings.thresholds.len().max(1)).max(1)
    }

    /// The largest key of a block.
    ///
    /// # Errors
    /// When there are more keys than the limit of forming bars allows.
    fn largest_key(&self, codes: &[u32]) -> Result<u32, DataError> {
        let most_keys = self.most_keys();
        let is_above = |code: &u32| *code as usize >= most_keys;
        // One pass without a branch; the row is searched only after an error.
        let largest = codes.iter().copied().fold(0, u32::max);
        if !is_above(&largest) {
            return Ok(largest);
        }
        let row = self.rows + codes.iter().position(is_above).unwrap_or_default() as u64;
        let thresholds = self.settings.thresholds.len();
        Err(limit_error(most_keys + 1, thresholds, MOST_FORMING_BARS, self.fault_context().row(row)))
    }

    fn push_keyed(&mut self, ticks: &Ticks, codes: &[u32], bars: &mut Vec<Bar>, flush: Flush) -> Result<(), DataError> {
        let mut from = 0;
        while from < ticks.len() {
            let to = ticks.len().min(from + block_size(self.key_count()));
            let (block, codes) = (ticks.slice(from, to), &codes[from..to]);
            let largest = self.largest_key(codes)?;
            if self.is_retracing() {
                return Err(self.retrace_rows(&block, |at| codes[at], bars));
            }
            let changes = codes.iter().zip(&codes[1..]).filter(|(code, next)| code != next).count();
            if changes * LONG_RUN < codes.len() {
                self.push_runs(&block, codes, bars, flush)?;
            } else {
                self.push_block(&block, codes, largest, bars, flush)?;
            }
            from = to;
        }
        Ok(())
    }

    /// Processes a block in which keys seldom change, run by run.
    fn push_runs(&mut self, block: &Ticks, codes: &[u32], bars: &mut Vec<Bar>, flush: Flush) -> Result<(), DataError> {
        let mut from = 0;
        for run in codes.chunk_by(|code, next| code == next) {
            let to = from + run.len();
            self.push_key(&block.slice(from, to), run[0], bars, flush)?;
            from = to;
        }
        Ok(())
    }

    /// Processes a block of several keys, sorted into one bucket per key.
    fn push_block(
        &mut self,
        block: &Ticks,
        codes: &[u32],
        largest: u32,
        bars: &mut Vec<Bar>,
        flush: Flush,
    ) -> Result<(), DataError> {
        let mut buckets = std::mem::take(&mut self.buckets);
        let result = self.push_buckets(block, codes, largest, &mut buckets, bars);
        self.buckets = buckets;
        if result.is_err() {
            return Err(self.doubt());
        }
        bars.sort_by_key(|bar| bar.end_row);
        flush(bars);
        self.rows += block.len() as u64;
        Ok(())
    }

    fn push_buckets(
        &mut self,
        block: &Ticks,
        codes: &[u32],
        largest: u32,
        buckets: &mut Buckets,
        bars: &mut Vec<Bar>,
    ) -> Result<(), FoldError> {
        buckets.start(block, codes, largest as usize + 1);
        let mut from = 0;
        while let Filled::Full { row, slot } = buckets.fill(InstructionSet::current(), block, codes, from) {
            self.push_bucket(block, buckets, slot, bars)?;
            from = row;
        }
        for slot in 0..buckets.count() {
            self.fetch(buckets, slot);
            self.push_bucket(block, buckets, slot, bars)?;
        }
        Ok(())
    }

    /// Prefetches the data of the next buckets: with many keys, most of it is not in a cache.
    #[inline]
    fn fetch(&self, buckets: &Buckets, slot: usize) {
        const AHEAD: usize = 8;
        let state = |slot| self.states.as_slice().get(buckets.key(slot) as usize..).unwrap_or_default();
        prefetch::<HERE, _>(state(slot + 2 * AHEAD));
        prefetch::<NEXT_LINE, _>(state(slot + 2 * AHEAD));
        if let Some(state) = state(slot + AHEAD).first() {
            state.search.searches.prefetch();
            prefetch::<HERE, _>(&state.fold.thresholds);
            prefetch::<NEXT_LINE, _>(&state.fold.thresholds);
        }
        buckets.fetch(slot + AHEAD);
    }

    /// Folds a bucket and empties it.
    fn push_bucket(
        &mut self,
        block: &Ticks,
        buckets: &mut Buckets,
        slot: usize,
        bars: &mut Vec<Bar>,
    ) -> Result<(), FoldError> {
        if buckets.is_empty(slot) {
            return Ok(());
        }
        let key = buckets.key(slot);
        self.states.touch(key, &self.settings);
        let set = InstructionSet::current();
        let (chunk, rows) = buckets.bucket(set, block, slot);
        let rows = Rows::Listed(self.rows, rows);
        self.step(set, &chunk, rows, key, bars)?;
        buckets.clear(slot);
        Ok(())
    }
}

/// The second pass over a refused push, which finds the first row at fault.
///
/// The quick passes fold whole spans, several keys one after another, so they know that a block of
/// rows has a fault, but not where. The second pass starts from the state before the push, processes
/// the pieces before that block as quickly as the first pass, and then one record at a time in input
/// order. The row that it names is therefore the first with an invalid value or an overflowing sum,
/// however the trades are split and whatever other keys and thresholds there are.
impl RangeBarBuilder {
    /// Restores the state at `begin` and returns true if the same pieces must be pushed again to
    /// find the row at fault. The bars of that second push must be discarded.
    pub fn retrace(&mut self) -> bool {
        let Some(suspect) = self.suspect else { return false };
        self.roll_back();
        self.retraced_from = Some(suspect);
        true
    }

    #[inline]
    fn is_retracing(&self) -> bool {
        self.retraced_from.is_some_and(|row| self.rows >= row)
    }

    /// Finds the first fault of a refused block.
    fn retrace_rows(&mut self, block: &Ticks, key: impl Fn(usize) -> u32, bars: &mut Vec<Bar>) -> DataError {
        for at in 0..block.len() {
            if let Err(fault) = self.retrace_row(&block.slice(at, at + 1), key(at), bars) {
                return fault;
            }
        }
        unexplained(self.fault_context().row(self.rows))
    }

    fn retrace_row(&mut self, record: &Ticks, key: u32, bars: &mut Vec<Bar>) -> Result<(), DataError> {
        self.states.touch(key, &self.settings);
        let (row, last) = (self.rows, self.states.get_mut(key).search.last);
        check_record(record, 0, row, last, self.fault_context())?;
        let outcome = self.step(InstructionSet::current(), record, Rows::From(row), key, bars);
        bars.clear();
        let context = self.fault_context();
        outcome.map_err(|error| match error {
            FoldError::Record => unexplained(context.row(row)),
            FoldError::Overflow(what) => overflow_error(what, context.row(row), context),
        })?;
        self.rows += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rule::table::RuleName;
    use crate::core::rule::threshold::Threshold;
    use crate::core::ticks::Values;
    use crate::core::time::TimeUnit;

    const KEYS: u32 = 50_000;

    fn builder() -> RangeBarBuilder {
        let settings = Settings {
            rule: RuleName::default(),
            thresholds: vec![Threshold::try_from(250).unwrap()],
            unit: TimeUnit::Microseconds,
            reset: None,
            max_gap: None,
            is_gated: true,
            keeps_unfinished: false,
        };
        RangeBarBuilder::new(settings, Names::default(), false)
    }

    fn push(builder: &mut RangeBarBuilder, time: i64, codes: &[u32]) -> Result<(), DataError> {
        let (time, price) = (vec![time; codes.len()], vec![100_0000_0000; codes.len()]);
        let ticks = Ticks {
            time: &time,
            price: Values::Grid(&price),
            quantity: None,
            is_buyer_maker: None,
            unsided: None,
            agg_id: None,
            first_id: None,
            last_id: None,
        };
        builder.push(&ticks, Some(codes), &mut Vec::new(), &mut |bars| bars.clear())
    }

    #[test]
    fn a_push_copies_the_states_of_its_own_keys_only() {
        let mut builder = builder();
        let all: Vec<u32> = (0..KEYS).collect();
        builder.begin();
        push(&mut builder, 1, &all).unwrap();
        assert!(builder.states.copied() == 0, "new keys are cut off");
        builder.commit();
        let some: Vec<u32> = (0..100).map(|at| at * 400).collect();
        builder.begin();
        push(&mut builder, 2, &[some.clone(), some.clone()].concat()).unwrap();
        assert_eq!(builder.states.copied(), some.len());
        builder.commit();
        assert!(builder.states.copied() == 0);
        builder.begin();
        push(&mut builder, 3, &some[..7]).unwrap();
        assert_eq!(builder.states.copied(), 7);
        let before = builder.states().to_vec();
        builder.commit();
        builder.begin();
        push(&mut builder, 4, &[some[3], KEYS, some[5]]).unwrap();
        assert!(push(&mut builder, 2, &[some[9], some[3]]).is_err());
        builder.roll_back();
        assert_eq!(builder.states(), before);
    }
}
