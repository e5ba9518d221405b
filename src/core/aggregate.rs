//! The fold without the search: bars that the caller defines by an integer id per record.

use std::collections::HashSet;

use crate::core::bar::{Bar, Cause, Sums};
use crate::core::builder::Flush;
use crate::core::diagnose::{FaultContext, Last, Names, check_record, overflow_error, unexplained};
use crate::core::error::DataError;
use crate::core::fold::{FoldError, check, fold};
use crate::core::rule::table::RuleName;
use crate::core::sample::fold::FeatureFold;
use crate::core::sample::key::Chunk;
use crate::core::sample::plan::Plan;
use crate::core::search::Cut;
use crate::core::simd::InstructionSet;
use crate::core::simd::fold::LONGEST_SPAN;
use crate::core::state::{KeyFold, KeySearch, Output, Rows, Settings};
use crate::core::ticks::{Bits, Ticks};
use crate::core::time::TimeUnit;

/// Bar ids of a piece in the integer type of their column; a cleared validity bit means "no bar".
#[derive(Clone, Copy, Debug)]
pub struct Ids<'a, T> {
    pub values: &'a [T],
    pub validity: Option<Bits<'a>>,
}

impl<T: Copy> Ids<'_, T> {
    #[inline]
    fn get(&self, row: usize) -> Option<T> {
        self.validity.is_none_or(|bits| bits.get(row)).then(|| self.values[row])
    }
}

/// Bars from runs of equal ids, push by push.
#[derive(Clone, Debug)]
pub struct Aggregator {
    settings: Settings,
    names: Names,
    is_absolute: bool,
    search: KeySearch,
    fold: KeyFold,
    rows: u64,
    push_row: u64,
    /// Id of the run that holds the last record; the outer `None` before the first record.
    current: Option<Option<i128>>,
    /// Ids of the runs so far, in order of appearance.
    run_ids: Vec<i128>,
    /// The same ids as a set, created when an id is first not above all before it.
    seen: Option<HashSet<i128>>,
    highest: Option<i128>,
    cuts: Vec<Cut>,
    features: Option<Box<FeatureFold>>,
}

impl Aggregator {
    pub fn new(unit: TimeUnit, names: Names, is_absolute: bool) -> Self {
        let settings = Settings {
            rule: RuleName::default(),
            thresholds: Vec::new(),
            unit,
            reset: None,
            max_gap: None,
            is_gated: false,
            keeps_unfinished: true,
        };
        Self {
            settings,
            names,
            is_absolute,
            search: KeySearch::new(RuleName::default(), 0),
            fold: KeyFold::new(1),
            rows: 0,
            push_row: 0,
            current: None,
            run_ids: Vec::new(),
            seen: None,
            highest: None,
            cuts: Vec::new(),
            features: None,
        }
    }

    /// Computes the features of a plan as well, from the first record on.
    pub fn compute(&mut self, plan: Plan) {
        self.features = Some(Box::new(FeatureFold::new(plan, 1)));
    }

    /// Look-back windows that reached the limit of records, since the last call.
    pub fn take_cut_windows(&mut self) -> u64 {
        self.features.as_mut().map_or(0, |features| features.take_cut_windows())
    }

    /// Starts a push. It cannot be rolled back: clone the aggregator first if that is needed.
    pub fn begin(&mut self) {
        self.push_row = self.rows;
        if let Some(features) = &mut self.features {
            features.begin();
        }
    }

    /// Ids of the runs so far; the `bar_id` of a bar is an index into them.
    pub fn run_ids(&self) -> &[i128] {
        &self.run_ids
    }

    /// Input rows so far, over all pushes.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn fault_context(&self) -> FaultContext<'_> {
        FaultContext {
            names: &self.names,
            unit: self.settings.unit,
            push_row: self.push_row,
            is_absolute: self.is_absolute,
        }
    }

    /// Processes a piece with its ids.
    ///
    /// # Errors
    /// At the first record that is invalid, or whose id belongs to a bar that has ended.
    pub fn push<T: Copy + PartialEq + Into<i128>>(
        &mut self,
        ticks: &Ticks,
        ids: Ids<T>,
        bars: &mut Vec<Bar>,
        flush: Flush,
    ) -> Result<(), DataError> {
        let set = InstructionSet::current();
        let mut from = 0;
        while from < ticks.len() {
            let to = ticks.len().min(from + LONGEST_SPAN);
            let chunk = ticks.slice(from, to);
            let ids = Ids { values: &ids.values[from..to], validity: ids.validity.map(|bits| bits.slice(from)) };
            self.push_chunk(set, &chunk, ids, bars)?;
            flush(bars);
            self.rows += chunk.len() as u64;
            from = to;
        }
        Ok(())
    }

    fn push_chunk<T: Copy + PartialEq + Into<i128>>(
        &mut self,
        set: InstructionSet,
        chunk: &Ticks,
        ids: Ids<T>,
        bars: &mut Vec<Bar>,
    ) -> Result<(), DataError> {
        let (last, sums) = (self.search.last, self.forming());
        let rows = Rows::From(self.rows);
        self.cuts.clear();
        let is_ordered = self.search.scan(&self.settings, set, chunk, rows, (&mut self.cuts, &mut Vec::new()));
        let repeated = self.find_runs(ids);
        let outcome = if is_ordered {
            self.fold_runs(set, chunk, &mut Output { bars, rows, key: 0 })
        } else {
            Err(FoldError::Record)
        };
        match (outcome, repeated) {
            (Ok(()), None) => Ok(()),
            (_, repeated) => Err(self.explain(set, chunk, ids, (last, sums), repeated)),
        }
    }

    /// Folds the records that belong to a bar and checks the others.
    fn fold_runs(&mut self, set: InstructionSet, chunk: &Ticks, out: &mut Output) -> Result<(), FoldError> {
        let ended = out.bars.len();
        let from = self.fold.fold(set, chunk, &self.cuts, true, out)?;
        let is_outside = self.current == Some(None);
        if is_outside {
            check(set, chunk, from, chunk.len())?;
        } else {
            self.fold.absorb(set, chunk, from, chunk.len())?;
        }
        if let Some(features) = &mut self.features {
            let chunk = Chunk { ticks: chunk, cuts: &self.cuts, breaks: &[], is_outside, keeps_unfinished: true };
            features.step(0, &chunk, &mut out.bars[ended..]);
        }
        Ok(())
    }

    /// Sums of the forming bar.
    fn forming(&self) -> Sums {
        self.fold.thresholds.first().map_or_else(Sums::default, |fold| fold.sums)
    }

    /// Lists the ends of runs. Returns row and id of the first run whose id has occurred before.
    fn find_runs<T: Copy + PartialEq + Into<i128>>(&mut self, ids: Ids<T>) -> Option<(usize, i128)> {
        let mut row = 0;
        while row < ids.values.len() {
            let id: Option<i128> = ids.get(row).map(Into::into);
            if self.current != Some(id) {
                self.end_run(row);
                self.current = Some(id);
                if let Some(id) = id
                    && !self.start_run(id)
                {
                    return Some((row, id));
                }
            }
            row = run_end(ids, row);
        }
        None
    }

    fn end_run(&mut self, row: usize) {
        let cause = match self.current {
            None => return,
            Some(None) => Cause::Discard,
            Some(Some(_)) => Cause::Run,
        };
        self.cuts.push(Cut { at: row as u32, threshold: 0, cause });
    }

    /// Records a new run. Returns false if its id has occurred before.
    fn start_run(&mut self, id: i128) -> bool {
        if self.highest.is_none_or(|highest| id > highest) {
            self.highest = Some(id);
        } else {
            let run_ids = &self.run_ids;
            let seen = self.seen.get_or_insert_with(|| run_ids.iter().copied().collect());
            if seen.contains(&id) {
                return false;
            }
        }
        if let Some(seen) = &mut self.seen {
            seen.insert(id);
        }
        self.run_ids.push(id);
        true
    }

    /// The last run as a bar, if the last record is in a run.
    pub fn last_run(&self) -> Option<Bar> {
        let fold = self.fold.thresholds.first()?;
        let is_in_run = matches!(self.current, Some(Some(_))) && !fold.sums.is_empty();
        is_in_run.then(|| Bar {
            sums: fold.sums,
            end_row: self.rows.saturating_sub(1),
            key: 0,
            threshold: 0,
            bar_id: fold.next_id,
            ended_by: None,
            values: self.features.as_ref().and_then(|all| all.partial(0, 0, &fold.sums)),
        })
    }

    /// Finds the first fault of a chunk, record by record from the state before it.
    fn explain<T: Copy + PartialEq + Into<i128>>(
        &self,
        set: InstructionSet,
        chunk: &Ticks,
        ids: Ids<T>,
        (mut last, mut sums): (Option<Last>, Sums),
        repeated: Option<(usize, i128)>,
    ) -> DataError {
        let context = self.fault_context();
        let mut cuts = self.cuts.iter().map(|cut| cut.at as usize).peekable();
        for at in 0..chunk.len() {
            let row = self.rows + at as u64;
            let number = context.row(row);
            if let Err(fault) = check_record(chunk, at, row, last, context) {
                return fault;
            }
            match repeated {
                Some((repeated_at, id)) if repeated_at == at => return self.repeated(number, id),
                _ => {}
            }
            if cuts.next_if_eq(&at).is_some() {
                sums = Sums::default();
            }
            let outcome = match ids.get(at) {
                Some(_) => fold(set, chunk, at, at + 1).and_then(|record| Ok(sums.absorb(&record)?)),
                None => Ok(()),
            };
            if let Err(FoldError::Overflow(what)) = outcome {
                return overflow_error(what, number, context);
            }
            last = Some(Last::of(chunk, at, row));
        }
        unexplained(context.row(self.rows))
    }

    fn repeated(&self, number: u64, id: i128) -> DataError {
        DataError::order(
            number,
            format!(
                "`{}` is `{id}` again at row {number}, after that bar had ended\n\nhint: a bar is a run of equal ids; \
                 sort the trades so that the records of each bar are adjacent, or number the runs: \
                 `pl.col({0:?}).rle_id()`",
                self.names.bar_id
            ),
        )
    }
}

/// First row after `from` with another id, searched in blocks.
#[inline]
fn run_end<T: Copy + PartialEq>(ids: Ids<T>, from: usize) -> usize {
    const BLOCK: usize = 64;
    let first = ids.get(from);
    let len = ids.values.len();
    let mut row = from + 1;
    if let (Some(first), None) = (first, ids.validity) {
        while let Some(block) = ids.values.get(row..row + BLOCK) {
            let mut is_other = false;
            for value in block {
                is_other |= *value != first;
            }
            if is_other {
                break;
            }
            row += BLOCK;
        }
    }
    while row < len && ids.get(row) == first {
        row += 1;
    }
    row
}
