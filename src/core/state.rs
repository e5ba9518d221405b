//! State of one key: the search and the fold, which communicate by cuts.

use crate::core::bar::{Bar, Cause, Overflow, Sums};
use crate::core::diagnose::Last;
use crate::core::fold::{FoldError, check, fold};
use crate::core::rule::Scan;
use crate::core::rule::table::{RuleName, Searches};
use crate::core::rule::threshold::Threshold;
use crate::core::search::Cut;
use crate::core::simd::{self, InstructionSet};
use crate::core::ticks::Ticks;
use crate::core::time::{Reset, TimeUnit};

/// Settings that decide the bars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub rule: RuleName,
    pub thresholds: Vec<Threshold>,
    pub unit: TimeUnit,
    pub reset: Option<Reset>,
    /// Longest gap inside a bar, in units of time.
    pub max_gap: Option<u64>,
    /// Whether a bar can close only at a time later than its opening time.
    pub is_gated: bool,
    /// Whether bars are emitted that ended before the threshold was reached.
    pub keeps_unfinished: bool,
}

/// Input rows of the records of a chunk.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    From(u64),
    Listed(u64, &'a [u32]),
}

impl Rows<'_> {
    /// Input row of a record of the chunk.
    #[inline]
    pub fn input_row(&self, at: usize) -> u64 {
        match self {
            Self::From(first) => first + at as u64,
            Self::Listed(first, rows) => first + u64::from(rows.get(at).copied().unwrap_or_default()),
        }
    }

    #[inline]
    #[must_use]
    pub fn skip(&self, rows: usize) -> Self {
        match self {
            Self::From(first) => Self::From(first + rows as u64),
            Self::Listed(first, listed) => Self::Listed(*first, &listed[rows..]),
        }
    }
}

/// The search of a key: where bars end.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySearch {
    pub last: Option<Last>,
    pub segment_end: Option<i64>,
    pub searches: Searches,
}

impl KeySearch {
    pub fn new(rule: RuleName, thresholds: usize) -> Self {
        Self { last: None, segment_end: None, searches: Searches::new(rule, thresholds) }
    }

    /// Searches a chunk and lists the ends of bars in output order, and the rows at which resets and gaps
    /// take effect.
    ///
    /// Returns false if the chunk does not follow the last one, or if it is out of order and there are
    /// resets or gaps to find, which require order. In other cases the fold detects disorder.
    pub fn scan(
        &mut self,
        settings: &Settings,
        set: InstructionSet,
        ticks: &Ticks,
        rows: Rows,
        (cuts, starts): (&mut Vec<Cut>, &mut Vec<u32>),
    ) -> bool {
        let Some(first) = ticks.time.first() else { return true };
        let is_joined = self.last.is_none_or(|before| {
            *first >= before.time && ticks.agg_id.and_then(<[i64]>::first).is_none_or(|id| *id > before.agg_id)
        });
        if !is_joined {
            return false;
        }
        let scan = Scan { ticks, set, is_gated: settings.is_gated };
        if settings.reset.is_none() && settings.max_gap.is_none() {
            self.search(settings, scan, (0, ticks.len()), cuts);
        } else {
            let Some(widest_step) = simd::widest_step(set, ticks.time) else { return false };
            self.search_between_breaks(settings, scan, widest_step, (cuts, starts));
        }
        if self.searches.len() > 1 {
            cuts.sort_unstable_by_key(Cut::order);
        }
        let at = ticks.len() - 1;
        self.last = Some(Last::of(ticks, at, rows.input_row(at)));
        true
    }

    #[inline]
    fn search(&mut self, settings: &Settings, scan: Scan, rows: (usize, usize), cuts: &mut Vec<Cut>) {
        self.searches.search(&settings.thresholds, scan, rows, cuts);
    }

    fn search_between_breaks(
        &mut self,
        settings: &Settings,
        scan: Scan,
        widest_step: u64,
        (cuts, starts): (&mut Vec<Cut>, &mut Vec<u32>),
    ) {
        let breaks = self.breaks(settings, scan.ticks.time, widest_step);
        starts.extend(breaks.iter().map(|(at, _)| *at as u32));
        let mut from = 0;
        for (at, cause) in breaks {
            self.search(settings, scan, (from, at), cuts);
            self.searches.end(|threshold| cuts.push(Cut { at: at as u32, threshold, cause }));
            from = at;
        }
        self.search(settings, scan, (from, scan.ticks.len()), cuts);
    }

    /// Rows at which a reset or a gap ends the bar; on the same row, the reset wins.
    fn breaks(&mut self, settings: &Settings, time: &[i64], widest_step: u64) -> Vec<(usize, Cause)> {
        let mut breaks = Vec::new();
        if let Some(reset) = settings.reset {
            let mut end = self.segment_end.unwrap_or_else(|| reset.next_after(time[0], settings.unit));
            let mut from = 0;
            loop {
                // There is no boundary at the largest time.
                from += time[from..].partition_point(|instant| *instant < end || end == i64::MAX);
                let Some(instant) = time.get(from) else { break };
                breaks.push((from, Cause::Reset));
                end = reset.next_after(*instant, settings.unit);
            }
            self.segment_end = Some(end);
        }
        if let Some(max_gap) = settings.max_gap {
            let step = |later: i64, earlier: i64| later.wrapping_sub(earlier) as u64;
            if self.last.is_some_and(|last| step(time[0], last.time) > max_gap) {
                breaks.push((0, Cause::Gap));
            }
            if widest_step > max_gap {
                let gaps = time.windows(2).enumerate().filter(|(_, pair)| step(pair[1], pair[0]) > max_gap);
                breaks.extend(gaps.map(|(row, _)| (row + 1, Cause::Gap)));
            }
            breaks.sort_by_key(|(row, cause)| (*row, *cause == Cause::Gap));
            breaks.dedup_by_key(|(row, _)| *row);
        }
        breaks
    }
}

/// The fold for one threshold: the sums of the forming bar and the id of the next bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThresholdFold {
    pub sums: Sums,
    pub next_id: u32,
}

/// The fold of a key: the sums of its forming bars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFold {
    pub thresholds: Vec<ThresholdFold>,
}

impl KeyFold {
    pub fn new(thresholds: usize) -> Self {
        Self { thresholds: vec![ThresholdFold::default(); thresholds] }
    }

    /// Folds a chunk up to its last cut and appends the bars that ended. Returns the row of the last
    /// cut: the caller passes the rows from there on to [`Self::absorb`].
    ///
    /// Every record is folded once, whatever the number of thresholds: the cuts of all thresholds
    /// split the chunk, and the sums of each part are merged into each forming bar. Records that
    /// belong to no bar are only checked.
    ///
    /// # Errors
    /// When a record is invalid or a sum overflows. The state is then unusable, and the caller must
    /// restore it.
    pub fn fold(
        &mut self,
        set: InstructionSet,
        ticks: &Ticks,
        cuts: &[Cut],
        keeps_unfinished: bool,
        out: &mut Output,
    ) -> Result<usize, FoldError> {
        let mut from = 0;
        for cut in cuts {
            let at = cut.at as usize;
            if cut.cause == Cause::Discard {
                check(set, ticks, from, at)?;
            } else {
                self.absorb(set, ticks, from, at)?;
            }
            from = at;
            self.end(cut, keeps_unfinished, out)?;
        }
        Ok(from)
    }

    /// Merges the rows `from..to` into the forming bars.
    ///
    /// # Errors
    /// As for [`Self::fold`].
    #[inline]
    pub fn absorb(&mut self, set: InstructionSet, ticks: &Ticks, from: usize, to: usize) -> Result<(), FoldError> {
        if from == to {
            return Ok(());
        }
        let sums = fold(set, ticks, from, to)?;
        for fold in &mut self.thresholds {
            fold.sums.absorb(&sums)?;
        }
        Ok(())
    }

    #[inline]
    fn end(&mut self, cut: &Cut, keeps_unfinished: bool, out: &mut Output) -> Result<(), Overflow> {
        let Some(fold) = self.thresholds.get_mut(usize::from(cut.threshold)) else { return Ok(()) };
        let is_emitted = match cut.cause {
            Cause::Threshold | Cause::Run => true,
            Cause::Reset | Cause::Gap => keeps_unfinished,
            Cause::Discard => false,
        };
        if is_emitted {
            out.bars.push(Bar {
                sums: fold.sums,
                end_row: out.rows.input_row(cut.end_row()),
                key: out.key,
                threshold: cut.threshold,
                bar_id: fold.next_id,
                ended_by: Some(cut.cause),
                values: None,
            });
            fold.next_id = fold.next_id.checked_add(1).ok_or(Overflow::Bars)?;
        }
        fold.sums = Sums::default();
        Ok(())
    }
}

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

/// Destination of ended bars.
pub struct Output<'a> {
    pub bars: &'a mut Vec<Bar>,
    pub rows: Rows<'a>,
    pub key: u32,
}
