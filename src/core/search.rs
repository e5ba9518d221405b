//! The search: it finds where bars end from prices and times alone. The fold then computes the bars.

use crate::core::bar::{Cause, Sums};
use crate::core::rule::threshold::Threshold;
use crate::core::rule::{Rule, Scan};

/// The end of a bar, between two rows of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The bar's records are the rows before this one.
    pub at: u32,
    /// Position of the threshold in the settings.
    pub threshold: u16,
    pub cause: Cause,
}

impl Cut {
    /// Row of the chunk that ended the bar: its last record, or the first record after a boundary.
    #[inline]
    pub fn end_row(&self) -> usize {
        match self.cause {
            Cause::Threshold => (self.at as usize).saturating_sub(1),
            // The record before may be in an earlier chunk.
            Cause::Run | Cause::Reset | Cause::Gap | Cause::Discard => self.at as usize,
        }
    }

    /// Sort key of the output: bars closed by the row before, then bars ended by this row, then by
    /// threshold.
    #[inline]
    pub fn order(&self) -> (u32, bool, u16) {
        (self.at, !matches!(self.cause, Cause::Threshold | Cause::Run), self.threshold)
    }
}

/// The search for one threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThresholdSearch<R: Rule> {
    forming: Option<Forming<R::State>>,
}

/// A bar that has opened.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Forming<S> {
    time: i64,
    state: S,
}

impl<R: Rule> Default for ThresholdSearch<R> {
    fn default() -> Self {
        Self { forming: None }
    }
}

impl<R: Rule> ThresholdSearch<R> {
    /// Resumes the search in a forming bar from its sums; with empty sums there is no bar.
    pub fn resume(threshold: Threshold, sums: &Sums) -> Self {
        let state = || R::resume(sums, threshold.distance(sums.open));
        Self { forming: (!sums.is_empty()).then(|| Forming { time: sums.open_time, state: state() }) }
    }

    /// Ends the forming bar. Returns whether there was one.
    pub fn end(&mut self) -> bool {
        self.forming.take().is_some()
    }

    /// Searches the rows `from..to` of a chunk, between two boundaries.
    ///
    /// Rows without a grid price are skipped; the fold refuses them.
    #[inline]
    pub fn search(
        &mut self,
        (index, threshold): (u16, Threshold),
        scan: Scan,
        (from, to): (usize, usize),
        cuts: &mut Vec<Cut>,
    ) {
        let mut row = from;
        while row < to {
            let Some(Forming { time, state }) = &mut self.forming else {
                if let Some(price) = scan.ticks.price.grid(row) {
                    let state = R::open(price, threshold.distance(price));
                    self.forming = Some(Forming { time: scan.ticks.time[row], state });
                }
                row += 1;
                continue;
            };
            let Some(end) = R::first_close(state, scan, *time, (row, to)) else { return };
            self.forming = None;
            row = end + 1;
            cuts.push(Cut { at: row as u32, threshold: index, cause: Cause::Threshold });
        }
    }
}
