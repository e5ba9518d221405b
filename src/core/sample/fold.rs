//! The fold of records into features, beside that into sums: for all keys, push by push.

use std::sync::Arc;

use crate::core::bar::{Bar, Sums};
use crate::core::checkpoint::{Reader, unusable};
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, MOST_HELD};
use crate::core::sample::key::{Chunk, KeyFeatures, ThresholdFeatures, Work};
use crate::core::sample::plan::Plan;
use crate::core::sample::records::{Buffer, Piece, Uses};
use crate::core::sample::ring::Ring;
use crate::core::sample::summary::Summary;
use crate::core::simd::InstructionSet;
use crate::core::window::{LONGEST_WINDOW, MOST_BARS, Openings, Window};

/// Position of the next record of a key whose state was read. Only distances matter.
const RESUMED: u64 = 1 << 62;

/// Features of all keys, in order of their first appearance.
#[derive(Clone, Debug)]
pub struct FeatureFold {
    plan: Arc<Plan>,
    thresholds: usize,
    keys: Vec<KeyFeatures>,
    /// Keys at the start of the push.
    count_at_begin: usize,
    /// Features at the start of the push, of the keys that it touched.
    journal: Vec<(usize, Vec<ThresholdFeatures>)>,
    touched_in: Vec<u64>,
    push: u64,
    work: Work,
}

/// The bars of one key: how far its records go, and the sums of its forming bars.
pub struct KeySums {
    pub last_time: i64,
    pub sums: Vec<Sums>,
}

impl FeatureFold {
    pub fn new(plan: Plan, thresholds: usize) -> Self {
        let work = Work::new(&plan);
        Self {
            plan: Arc::new(plan),
            thresholds,
            keys: Vec::new(),
            count_at_begin: 0,
            journal: Vec::new(),
            touched_in: Vec::new(),
            push: 0,
            work,
        }
    }

    /// Starts a push from the current state.
    pub fn begin(&mut self) {
        self.count_at_begin = self.keys.len();
        self.journal.clear();
        self.push += 1;
    }

    /// Restores the state at the start of the push and starts another.
    pub fn roll_back(&mut self) {
        self.keys.truncate(self.count_at_begin);
        for (key, thresholds) in self.journal.drain(..) {
            if let Some(features) = self.keys.get_mut(key) {
                features.thresholds = thresholds;
                features.ring.roll_back();
            }
        }
        self.work.cut_windows = 0;
        self.begin();
    }

    /// Windows that reached the limit of records, since the last call.
    pub fn take_cut_windows(&mut self) -> u64 {
        std::mem::take(&mut self.work.cut_windows)
    }

    /// Makes sure that a key has features, and a copy of them to roll back to.
    fn touch(&mut self, key: usize) {
        if self.keys.len() <= key {
            let (plan, thresholds) = (&self.plan, self.thresholds);
            self.keys.resize_with(key + 1, || KeyFeatures::new(plan, thresholds, 0));
        }
        if key >= self.count_at_begin {
            return;
        }
        if self.touched_in.len() < self.count_at_begin {
            self.touched_in.resize(self.count_at_begin, 0);
        }
        if self.touched_in[key] != self.push {
            self.touched_in[key] = self.push;
            self.keys[key].ring.begin();
            self.journal.push((key, self.keys[key].thresholds.clone()));
        }
    }

    /// Follows the bars of a key through a chunk; `ended` are those that ended in it.
    pub fn step(&mut self, key: u32, chunk: &Chunk, ended: &mut [Bar]) {
        let key = key as usize;
        self.touch(key);
        if let Some(features) = self.keys.get_mut(key) {
            features.step(&self.plan, chunk, ended, &mut self.work);
        }
    }

    /// Values of a forming bar.
    pub fn partial(&self, key: usize, threshold: usize, sums: &Sums) -> Option<Box<[Cell]>> {
        self.keys.get(key)?.partial(&self.plan, threshold, sums)
    }

    /// The state between pushes, as bytes.
    pub fn save(&self, out: &mut Vec<u8>) {
        for key in &self.keys {
            let end = key.ring.end();
            for state in &key.thresholds {
                // Writing cannot fail.
                transfer_state(&mut state.clone(), &self.plan, end, &mut Codec::Save(out)).unwrap_or_default();
            }
            let mut pieces = Vec::new();
            key.ring.pieces(key.ring.first(), end, &mut pieces);
            let mut records = Buffer::default();
            pieces.iter().for_each(|piece| records.append(piece));
            transfer_records(&mut records, &self.plan, &mut Codec::Save(out)).unwrap_or_default();
        }
    }

    /// Replaces the state by one that was saved; `keys` are the sums of the same state.
    ///
    /// # Errors
    /// When no trades lead to such a state. This one is then unchanged.
    pub fn load(&mut self, reader: &mut Reader, keys: &[KeySums]) -> Result<(), CoreError> {
        let read = keys.iter().map(|sums| load_key(&self.plan, reader, sums));
        self.keys = read.collect::<Result<_, _>>()?;
        self.work.cut_windows = 0;
        self.begin();
        Ok(())
    }
}

fn load_key(plan: &Plan, reader: &mut Reader, key: &KeySums) -> Result<KeyFeatures, CoreError> {
    let mut features = KeyFeatures::new(plan, key.sums.len(), RESUMED);
    for (state, sums) in features.thresholds.iter_mut().zip(&key.sums) {
        if !sums.is_empty() {
            state.resume(sums, RESUMED);
        }
        transfer_state(state, plan, RESUMED, &mut Codec::Load(reader))?;
    }
    let mut records = Buffer::default();
    transfer_records(&mut records, plan, &mut Codec::Load(reader))?;
    check_records(&records, key.last_time)?;
    let position = RESUMED - records.len() as u64;
    if position < features.needed(plan, RESUMED, RESUMED - LONGEST_WINDOW) {
        return Err(unusable("it holds more records than its features can need"));
    }
    let forming = features.thresholds.iter().filter(|state| !state.forming.is_empty());
    let mut held = forming.filter(|state| plan.is_held() && state.forming.before.count <= MOST_HELD);
    if held.any(|state| state.opened < position) {
        return Err(unusable("records of a forming bar are missing"));
    }
    for (state, sums) in features.thresholds.iter().zip(&key.sums) {
        // A bar that began earlier is longer than what is held.
        if !sums.is_empty() && state.opened >= position {
            let from = (state.opened - position) as usize;
            check_bar(&records.piece().slice(from, records.len()), plan, sums)?;
        }
    }
    features.ring = Ring::new(position, plan.longest());
    features.ring.pass(records.len() as u64);
    features.ring.append(&records.piece());
    Ok(features)
}

/// Writes or reads the features of a bar, whose sums say whether it is forming.
fn transfer_state(state: &mut ThresholdFeatures, plan: &Plan, end: u64, codec: &mut Codec) -> Result<(), CoreError> {
    if !state.forming.is_empty() {
        state.forming.transfer(codec)?;
        state.window.resize(plan.before.len(), 0);
        state.window.iter_mut().try_for_each(|cell| codec.word(cell))?;
    }
    let Window::Bars(most) = plan.window else { return Ok(()) };
    codec.list(&mut state.openings.0, most.min(MOST_BARS) as usize, |codec, opened| {
        let mut distance = end - *opened;
        codec.count(&mut distance)?;
        *opened = end - distance;
        Ok(())
    })?;
    let until = if state.forming.is_empty() { end } else { state.opened };
    let opened = &state.openings.0;
    let is_rising = opened.windows(2).all(|pair| pair[0] < pair[1]) && opened.last().is_none_or(|last| *last < until);
    if !is_rising {
        return Err(unusable("the openings of its bars are out of order"));
    }
    if plan.bars_before().is_none() {
        // Nothing needs them.
        state.openings = Openings::default();
    }
    Ok(())
}

fn transfer_records(records: &mut Buffer, plan: &Plan, codec: &mut Codec) -> Result<(), CoreError> {
    let most = plan.longest().max(LONGEST_WINDOW) as usize;
    codec.list(&mut records.time, most, Codec::long)?;
    let len = records.time.len();
    let uses = plan.uses();
    records.price.resize(if uses.price { len } else { 0 }, 0);
    records.price.iter_mut().try_for_each(|price| codec.price(price))?;
    records.size.resize(if uses.size { len } else { 0 }, 0);
    records.size.iter_mut().try_for_each(|size| codec.price(size))?;
    records.side.resize(if uses.side { len } else { 0 }, 0);
    records.side.iter_mut().try_for_each(|side| codec.side(side))
}

fn check_records(records: &Buffer, last_time: i64) -> Result<(), CoreError> {
    let is_ordered = records.time.is_sorted() && records.time.last().is_none_or(|last| *last == last_time);
    let has_prices = records.price.iter().all(|price| *price > 0);
    if is_ordered && has_prices { Ok(()) } else { Err(unusable("its records contradict each other")) }
}

/// Checks that the records of a forming bar have its sums, as far as their columns are read.
fn check_bar(records: &Piece, plan: &Plan, sums: &Sums) -> Result<(), CoreError> {
    let (mut held, bar) = (Summary::empty(plan.unit), Summary::of_bar(sums, 0, plan.unit));
    held.add(InstructionSet::current(), records);
    let Uses { price, size, side } = plan.uses();
    let times = |sample: &Summary| (sample.open_time, sample.close_time);
    let prices = |sample: &Summary| (sample.open, sample.high, sample.low, sample.close);
    let flow = |sample: &Summary| (sample.sided_volume, sample.net_volume);
    let agree = times(&held) == times(&bar)
        && (!price || prices(&held) == prices(&bar))
        && (!size || held.volume == bar.volume)
        && (!(size && side) || flow(&held) == flow(&bar))
        && (!(price && size) || held.turnover == bar.turnover);
    if agree { Ok(()) } else { Err(unusable("the records of a forming bar do not have its sums")) }
}
