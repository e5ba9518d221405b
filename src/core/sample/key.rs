//! The features of one key: its forming bars, their windows, and the records that can still be needed.

use crate::core::bar::{Bar, Cause, Sums};
use crate::core::sample::family::{Cell, MOST_HELD};
use crate::core::sample::forming::FormingSample;
use crate::core::sample::orders::Order;
use crate::core::sample::plan::Plan;
use crate::core::sample::records::{Before, Buffer, Piece, Uses};
use crate::core::sample::ring::Ring;
use crate::core::sample::summary::Summary;
use crate::core::search::Cut;
use crate::core::simd::InstructionSet;
use crate::core::ticks::Ticks;
use crate::core::window::{LONGEST_WINDOW, Openings, Window};

/// The features of a forming bar, and the openings of those before it.
#[derive(Clone, Debug)]
pub struct ThresholdFeatures {
    pub forming: FormingSample,
    /// Position of its first record.
    pub opened: u64,
    /// Values of its window.
    pub window: Vec<Cell>,
    pub openings: Openings,
}

/// The features of a key.
#[derive(Clone, Debug)]
pub struct KeyFeatures {
    pub ring: Ring,
    pub thresholds: Vec<ThresholdFeatures>,
}

/// Rows of a key that the search has cut and the fold has admitted.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    pub ticks: &'a Ticks<'a>,
    pub cuts: &'a [Cut],
    /// Rows at which a stretch begins, in order.
    pub breaks: &'a [u32],
    /// Whether the rows after the last cut belong to no bar.
    pub is_outside: bool,
    pub keeps_unfinished: bool,
}

/// Buffers, for use by one key after another.
#[derive(Clone, Debug)]
pub struct Work {
    rows: Converted,
    orders: Vec<Order>,
    done: Vec<usize>,
    /// Families of a window.
    window: FormingSample,
    /// Windows that reached the limit of records.
    pub cut_windows: u64,
}

/// Rows of a chunk whose prices, sizes and sides have been converted: those in a row that were needed so far.
#[derive(Clone, Debug, Default)]
struct Converted {
    /// Times are those of the chunk.
    records: Buffer,
    from: usize,
    to: usize,
}

impl Converted {
    fn clear(&mut self) {
        self.records.clear();
        (self.from, self.to) = (0, 0);
    }

    /// The rows `from..to`.
    fn rows<'a>(&'a mut self, chunk: &Chunk<'a>, uses: Uses, from: usize, to: usize) -> Piece<'a> {
        if from < self.from || from > self.to {
            self.clear();
            (self.from, self.to) = (from, from);
        }
        if to > self.to {
            self.records.convert(chunk.ticks, uses, self.to, to);
            self.to = to;
        }
        self.known(chunk, from, to)
    }

    /// The rows `from..to`, which have been converted.
    fn known<'a>(&'a self, chunk: &Chunk<'a>, from: usize, to: usize) -> Piece<'a> {
        let records = self.records.piece().slice(from - self.from, to - self.from);
        Piece { time: &chunk.ticks.time[from..to], ..records }
    }
}

impl Work {
    pub fn new(plan: &Plan) -> Self {
        Self {
            rows: Converted::default(),
            orders: Vec::new(),
            done: Vec::new(),
            window: FormingSample::new(&plan.before),
            cut_windows: 0,
        }
    }
}

impl ThresholdFeatures {
    pub fn new(plan: &Plan) -> Self {
        Self { forming: FormingSample::new(&plan.bar), opened: 0, window: Vec::new(), openings: Openings::default() }
    }
}

impl KeyFeatures {
    /// Features of a key, the next record of which has a position.
    pub fn new(plan: &Plan, thresholds: usize, position: u64) -> Self {
        Self {
            ring: Ring::new(position, plan.longest()),
            thresholds: (0..thresholds).map(|_| ThresholdFeatures::new(plan)).collect(),
        }
    }

    /// Follows the bars through a chunk and gives those that ended their values.
    pub fn step(&mut self, plan: &Plan, chunk: &Chunk, ended: &mut [Bar], work: &mut Work) {
        work.rows.clear();
        if plan.reads_all() {
            work.rows.rows(chunk, plan.uses(), 0, chunk.ticks.len());
        }
        work.done.clear();
        work.done.resize(self.thresholds.len(), 0);
        let mut ended = ended.iter_mut();
        for cut in chunk.cuts {
            let (threshold, at) = (usize::from(cut.threshold), cut.at as usize);
            let from = work.done.get_mut(threshold).map_or(at, |done| std::mem::replace(done, at));
            let is_emitted = match cut.cause {
                Cause::Discard => continue,
                Cause::Threshold | Cause::Run => true,
                Cause::Reset | Cause::Gap => chunk.keeps_unfinished,
            };
            self.absorb(plan, chunk, threshold, (from, at), work);
            let bar = if is_emitted { ended.next() } else { None };
            self.end(plan, chunk, cut, bar, work);
        }
        if !chunk.is_outside {
            for threshold in 0..self.thresholds.len() {
                let from = work.done[threshold];
                self.absorb(plan, chunk, threshold, (from, chunk.ticks.len()), work);
            }
        }
        self.hold(plan, chunk, work);
    }

    /// Adds rows to the forming bar, and opens one if there is none.
    fn absorb(&mut self, plan: &Plan, chunk: &Chunk, threshold: usize, rows: (usize, usize), work: &mut Work) {
        let (from, to) = rows;
        if from == to || threshold >= self.thresholds.len() {
            return;
        }
        if self.thresholds[threshold].forming.is_empty() {
            self.open(plan, chunk, threshold, from, work);
        }
        let forming = &mut self.thresholds[threshold].forming;
        if plan.bar.is_fed() {
            forming.absorb(&work.rows.known(chunk, from, to), &mut work.orders);
        } else {
            // Only the number of records matters.
            forming.before.advance(&Piece { time: &chunk.ticks.time[from..to], ..Piece::default() });
        }
    }

    /// Opens a bar at a row and evaluates its window.
    fn open(&mut self, plan: &Plan, chunk: &Chunk, threshold: usize, row: usize, work: &mut Work) {
        let started = self.stretch_start(chunk, row);
        let position = self.ring.end() + row as u64;
        let state = &mut self.thresholds[threshold];
        state.opened = position;
        if plan.before.is_empty() {
            return;
        }
        state.openings.start_stretch(started.unwrap_or_default());
        let floor = started.unwrap_or(self.ring.first());
        let first = match plan.window {
            Window::Records(records) => position.saturating_sub(records),
            Window::Bars(_) => state.openings.first().unwrap_or(position),
            Window::Time(span) => since(&self.ring, chunk.ticks.time, row, chunk.ticks.time[row], span),
        };
        let first = first.max(position.saturating_sub(LONGEST_WINDOW)).max(floor);
        work.cut_windows += u64::from(plan.window.is_cut(position - first));
        let mut summary = Summary::empty(plan.unit);
        let mut values = std::mem::take(&mut state.window);
        values.clear();
        values.reserve(plan.before.len() + plan.bar.len());
        let set = InstructionSet::current();
        let Work { rows, orders, window, .. } = work;
        for piece in pieces(&self.ring, plan, chunk, (first, position), rows) {
            summary.add(set, &piece);
            window.absorb(&piece, orders);
        }
        window.finish(&plan.before, summary, &[], &mut values);
        self.thresholds[threshold].window = values;
    }

    /// First record of the stretch of a row, if the stretch begins in this chunk.
    fn stretch_start(&self, chunk: &Chunk, row: usize) -> Option<u64> {
        let started = chunk.breaks.iter().rfind(|start| **start as usize <= row);
        started.map(|start| self.ring.end() + u64::from(*start))
    }

    fn end(&mut self, plan: &Plan, chunk: &Chunk, cut: &Cut, bar: Option<&mut Bar>, work: &mut Work) {
        let at = cut.at as usize;
        let Some(state) = self.thresholds.get_mut(usize::from(cut.threshold)) else { return };
        if let Some(bar) = bar {
            let until = self.ring.end() + at as u64;
            let row = state.opened.saturating_sub(self.ring.end()) as usize;
            let rows = if plan.is_held() { work.rows.known(chunk, row, at) } else { Piece::default() };
            bar.values = Some(finish(state, &self.ring, plan, &bar.sums, until, &rows).into_boxed_slice());
        } else {
            state.forming.reset();
        }
        if let (Some(most), Cause::Threshold | Cause::Run) = (plan.bars_before(), cut.cause) {
            state.openings.add(state.opened, most);
        }
    }

    /// Values of a forming bar, which goes on.
    pub fn partial(&self, plan: &Plan, threshold: usize, sums: &Sums) -> Option<Box<[Cell]>> {
        let mut state = self.thresholds.get(threshold)?.clone();
        Some(finish(&mut state, &self.ring, plan, sums, self.ring.end(), &Piece::default()).into_boxed_slice())
    }

    /// Takes the rows of the chunk that a later window or column can need into the ring.
    fn hold(&mut self, plan: &Plan, chunk: &Chunk, work: &mut Work) {
        let len = chunk.ticks.len();
        let (start, end) = (self.ring.end(), self.ring.end() + len as u64);
        let started = self.stretch_start(chunk, len.saturating_sub(1)).unwrap_or_default();
        self.thresholds.iter_mut().for_each(|state| state.openings.start_stretch(started));
        let of_time = match (plan.window, chunk.ticks.time.last()) {
            (Window::Time(span), Some(last)) => since(&self.ring, chunk.ticks.time, len, *last, span),
            _ => end,
        };
        let needed = self.needed(plan, end, of_time).max(started);
        self.ring.pass(len as u64);
        self.ring.forget(needed);
        if needed >= end {
            return;
        }
        let from = needed.saturating_sub(start) as usize;
        self.ring.append(&work.rows.rows(chunk, plan.uses(), from, len));
    }

    /// First record that can be needed when the records end at `end`; `of_time` is that of a window of time.
    pub fn needed(&self, plan: &Plan, end: u64, of_time: u64) -> u64 {
        let forming = || self.thresholds.iter().filter(|state| !state.forming.is_empty());
        let of_windows = match plan.window {
            _ if plan.before.is_empty() => end,
            Window::Records(records) => end.saturating_sub(records),
            Window::Time(_) => of_time,
            Window::Bars(most) => {
                let first = |state: &ThresholdFeatures| {
                    if state.forming.is_empty() {
                        state.openings.first().unwrap_or(end)
                    } else {
                        state.openings.first_after(state.opened, most)
                    }
                };
                self.thresholds.iter().map(first).min().unwrap_or(end)
            }
        };
        let of_windows = of_windows.max(end.saturating_sub(LONGEST_WINDOW));
        let of_bars = forming().filter(|state| plan.is_held() && state.forming.before.count <= MOST_HELD);
        of_bars.map(|state| state.opened).min().unwrap_or(end).min(of_windows)
    }
}

/// First record before `row` of a chunk whose time is at most `span` before `time`.
fn since(ring: &Ring, times: &[i64], row: usize, time: i64, span: u64) -> u64 {
    let earliest = time.saturating_sub(i64::try_from(span).unwrap_or(i64::MAX));
    let held = ring.first_since(earliest);
    let rows = &times[..row];
    if held < ring.end() { held } else { held + rows.partition_point(|instant| *instant < earliest) as u64 }
}

/// The records `from..to`, of which the last may be rows of the chunk.
fn pieces<'a>(
    ring: &'a Ring,
    plan: &Plan,
    chunk: &Chunk<'a>,
    (from, to): (u64, u64),
    rows: &'a mut Converted,
) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    ring.pieces(from, to, &mut pieces);
    let row = |position: u64| position.saturating_sub(ring.end()) as usize;
    if row(from) < row(to) {
        pieces.push(rows.rows(chunk, plan.uses(), row(from), row(to)));
    }
    pieces
}

/// Values of a bar that ends at a position, the last records of which are rows of the chunk, and a fresh state.
fn finish(state: &mut ThresholdFeatures, ring: &Ring, plan: &Plan, sums: &Sums, until: u64, rows: &Piece) -> Vec<Cell> {
    let summary = Summary::of_bar(sums, 0, plan.unit);
    let mut pieces = Vec::new();
    if plan.is_held() && sums.records as u64 <= MOST_HELD {
        ring.pieces(state.opened, until, &mut pieces);
        pieces.push(*rows);
    }
    let held: Vec<Vec<Cell>> = plan.bar.held.iter().map(|held| held.values(&pieces, &summary)).collect();
    let mut values = std::mem::take(&mut state.window);
    state.forming.finish(&plan.bar, summary, &held, &mut values);
    values
}

impl ThresholdFeatures {
    /// Resumes a forming bar of these sums whose last record is the one before `end`.
    pub fn resume(&mut self, sums: &Sums, end: u64) {
        self.opened = end - sums.records as u64;
        self.forming.before = Before {
            count: sums.records as u64,
            open_time: sums.open_time,
            open: sums.open,
            time: sums.close_time,
            price: sums.close,
        };
    }
}
