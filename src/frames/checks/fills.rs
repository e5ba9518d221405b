//! Fills that two records count: their spans of trade ids overlap.
//!
//! The core notes the keys in which a record does not follow the one before it, which costs almost
//! nothing. Only then are the spans compared here, exactly.

use std::ops::Range;

use polars::prelude::*;

use crate::core::builder::RangeBarBuilder;
use crate::frames::error::FrameError;
use crate::frames::keys::Keyer;
use crate::frames::options::{Options, Role};

/// Records of earlier pushes that are compared with those of later ones.
const RECENT: usize = 1_024;
/// Runs of rising ids in one push. Trades with more of them are in another order than that of ids.
const MOST_RUNS: usize = 64;
/// Pushes in which ids may run back without an overlap before they are no longer compared.
const MOST_FALSE_ALARMS: u8 = 4;

/// Two records whose spans overlap, by row over all pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Overlap {
    earlier: Span,
    later: Span,
}

/// The fills of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    row: u64,
    first: i64,
    last: i64,
}

/// The last records without keys, and what was found.
#[derive(Debug, Default)]
pub struct Fills {
    is_on: bool,
    recent: Vec<Span>,
    false_alarms: u8,
    found: Option<String>,
}

impl Fills {
    pub fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }

    /// Compares the fills of a push, if the core has noted a key in it.
    ///
    /// # Errors
    /// When Polars cannot read a column, which the types rule out.
    pub fn compare(
        &mut self,
        builder: &mut RangeBarBuilder,
        options: &Options,
        inputs: &[Series],
        (keys, keyer): (&[Series], &mut Keyer),
    ) -> Result<(), FrameError> {
        let column = |role| options.position(role).map(|at| &inputs[at]);
        let (true, Some(first), Some(last)) = (self.is_on, column(Role::FirstTradeId), column(Role::LastTradeId))
        else {
            return Ok(());
        };
        let first_row = builder.rows() - first.len() as u64;
        let noted = builder.take_noted_keys();
        if !noted.is_empty() {
            let found = if keys.is_empty() {
                let all: Vec<Span> = self.recent.iter().copied().chain(spans(first, last, first_row)?).collect();
                first_overlap(&all)
            } else {
                let codes = keyer.codes(keys)?;
                first_overlap_of_keys(&spans(first, last, first_row)?.collect::<Vec<_>>(), &codes, &noted)
            };
            self.conclude(found.map(|overlap| describe(options, overlap, builder)));
            builder.watch_fills(self.is_on);
        }
        if keys.is_empty() && self.is_on {
            self.keep(first, last, first_row)?;
        }
        Ok(())
    }

    /// Takes the message about the overlap that was found.
    pub fn take(&mut self) -> Option<String> {
        self.found.take()
    }

    /// Whether further pushes are compared.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// What a push changes besides the records kept: whether pushes are compared, and the false alarms.
    pub fn mark(&self) -> (bool, u8) {
        (self.is_on, self.false_alarms)
    }

    /// Forgets a push that was refused: its records, from this row on, and what was found in it.
    pub fn forget(&mut self, row: u64, mark: (bool, u8)) {
        self.recent.retain(|span| span.row < row);
        (self.is_on, self.false_alarms) = mark;
        self.found = None;
    }

    /// Keeps the last of these records, for the next push.
    fn keep(&mut self, first: &Series, last: &Series, first_row: u64) -> PolarsResult<()> {
        let kept = first.len().min(RECENT);
        let skipped = first.len() - kept;
        // Emptied in large steps, so that short pushes move few records.
        if self.recent.len() + kept > 2 * RECENT {
            self.recent.drain(..(self.recent.len() + kept - RECENT).min(self.recent.len()));
        }
        let tail = |ids: &Series| ids.slice(skipped as i64, kept);
        self.recent.extend(spans(&tail(first), &tail(last), first_row + skipped as u64)?);
        Ok(())
    }

    /// Records the outcome of a comparison, after which further pushes may not be worth comparing.
    fn conclude(&mut self, found: Option<String>) {
        self.false_alarms += u8::from(found.is_none());
        self.is_on = found.is_none() && self.false_alarms < MOST_FALSE_ALARMS;
        self.found = found;
    }
}

/// The first record of some keys whose fills overlap those of an earlier record of its key.
fn first_overlap_of_keys(spans: &[Span], codes: &[u32], keys: &[u32]) -> Option<Overlap> {
    let of_key = |key: u32| {
        let spans = spans.iter().zip(codes).filter(|(_, code)| **code == key);
        spans.map(|(span, _)| *span).collect::<Vec<_>>()
    };
    keys.iter().filter_map(|key| first_overlap(&of_key(*key))).min_by_key(|overlap| overlap.later.row)
}

/// The first record whose fills overlap those of an earlier one.
fn first_overlap(spans: &[Span]) -> Option<Overlap> {
    let runs = rising_runs(spans);
    runs.iter().enumerate().find_map(|(index, run)| {
        let earlier = runs[..index].iter().filter_map(|before| meeting(spans, before.clone(), run.clone()));
        let (at, before) = earlier.min()?;
        Some(Overlap { earlier: spans[before], later: spans[at] })
    })
}

/// Splits records where a span does not follow the one before it.
fn rising_runs(spans: &[Span]) -> Vec<Range<usize>> {
    let breaks = (1..spans.len()).filter(|at| spans[*at].first <= spans[at - 1].last);
    let mut runs = Vec::new();
    let mut from = 0;
    for at in breaks.take(MOST_RUNS) {
        runs.push(from..at);
        from = at;
    }
    if runs.len() < MOST_RUNS {
        runs.push(from..spans.len());
    }
    runs
}

/// The first record of a run that overlaps one of an earlier run, and that record.
fn meeting(spans: &[Span], before: Range<usize>, run: Range<usize>) -> Option<(usize, usize)> {
    let first = spans.get(run.start)?.first;
    let mut earlier = before.start + spans[before.clone()].partition_point(|span| span.last < first);
    let mut later = run.start;
    while earlier < before.end && later < run.end {
        if spans[earlier].last < spans[later].first {
            earlier += 1;
        } else if spans[later].last < spans[earlier].first {
            later += 1;
        } else {
            return Some((later, earlier));
        }
    }
    None
}

/// The spans of two columns of ids, from a row on.
///
/// # Errors
/// When a column is not of integers.
fn spans(first: &Series, last: &Series, first_row: u64) -> PolarsResult<impl ExactSizeIterator<Item = Span>> {
    let column = |ids: &Series| ids.cast(&DataType::Int64).map(|ids| ids.rechunk());
    let (first, last) = (column(first)?, column(last)?);
    let (first, last) = (first.i64()?.clone(), last.i64()?.clone());
    Ok((0..first.len()).map(move |at| Span {
        row: first_row + at as u64,
        first: first.get(at).unwrap_or_default(),
        last: last.get(at).unwrap_or_default(),
    }))
}

fn describe(options: &Options, overlap: Overlap, builder: &RangeBarBuilder) -> String {
    let (context, Overlap { earlier, later }) = (builder.fault_context(), overlap);
    let (first, last) = (options.name(Role::FirstTradeId), options.name(Role::LastTradeId));
    format!(
        "the fills of two records overlap and are counted twice: `{first}` to `{last}` are {} to {} at row {}, and {} to \
         {} in {}\n\nhint: drop one of them; where the ids are the same: `.unique([\"{first}\", \"{last}\"], \
         keep=\"first\", maintain_order=True)`",
        later.first,
        later.last,
        context.row(later.row),
        earlier.first,
        earlier.last,
        if earlier.row < context.push_row && !context.is_absolute {
            "an earlier push".to_owned()
        } else {
            format!("row {}", context.row(earlier.row))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: &[(i64, i64)]) -> Vec<Span> {
        ids.iter()
            .enumerate()
            .map(|(row, (first, last))| Span { row: row as u64, first: *first, last: *last })
            .collect()
    }

    #[test]
    fn the_first_overlap_in_the_order_of_rows_is_found() {
        let rows = |ids: &[(i64, i64)]| first_overlap(&of(ids)).map(|found| (found.later.row, found.earlier.row));
        assert_eq!(rows(&[(1, 2), (3, 5), (6, 6)]), None);
        assert_eq!(rows(&[(1, 2), (3, 5), (5, 6)]), Some((2, 1)));
        assert_eq!(rows(&[(10, 12), (1, 3), (4, 6), (20, 20)]), None);
        assert_eq!(rows(&[(10, 12), (20, 22), (1, 3), (4, 6), (12, 14), (1, 1)]), Some((4, 0)));
        assert_eq!(rows(&[(10, 12), (1, 3), (2, 2), (11, 11)]), Some((2, 1)));
    }
}
