//! The second pass over a refused push: it finds the first row at fault.
//!
//! The quick passes fold whole spans, several keys one after the other, so they know that a block of
//! rows holds a fault, but not where. The second pass starts from the state before the push, takes
//! the pieces before that block as quickly as the first pass did, and then one record at a time in
//! input order. The row it names is therefore the first at which a value is refused or a sum leaves
//! its type, however the trades are cut and whatever other keys and thresholds there are.

use crate::core::bar::Bar;
use crate::core::builder::RangeBarBuilder;
use crate::core::diagnose::{check_record, overflow_error, unexplained};
use crate::core::error::DataError;
use crate::core::fold::FoldError;
use crate::core::simd::InstructionSet;
use crate::core::state::Rows;
use crate::core::ticks::Ticks;

impl RangeBarBuilder {
    /// Restores the state at `begin` and returns true if the same pieces must be pushed again to
    /// find the row at fault. The bars they give are then to be thrown away.
    pub fn retrace(&mut self) -> bool {
        let Some(suspect) = self.suspect else { return false };
        self.roll_back();
        self.retraced_from = Some(suspect);
        true
    }

    #[inline]
    pub(super) fn is_retracing(&self) -> bool {
        self.retraced_from.is_some_and(|row| self.rows >= row)
    }

    /// The first fault of a refused block, each of whose records has a key.
    pub(super) fn retrace_rows(&mut self, block: &Ticks, key: impl Fn(usize) -> u32, bars: &mut Vec<Bar>) -> DataError {
        for at in 0..block.len() {
            if let Err(fault) = self.retrace_row(&block.slice(at, at + 1), key(at), bars) {
                return fault;
            }
        }
        unexplained(self.wording().row(self.rows))
    }

    fn retrace_row(&mut self, record: &Ticks, key: u32, bars: &mut Vec<Bar>) -> Result<(), DataError> {
        self.touch(key);
        let (row, last) = (self.rows, self.states[key as usize].search.last);
        check_record(record, 0, row, last, self.wording())?;
        let outcome = self.step(InstructionSet::current(), record, Rows::From(row), key, bars);
        bars.clear();
        let wording = self.wording();
        outcome.map_err(|error| match error {
            FoldError::Record => unexplained(wording.row(row)),
            FoldError::Overflow(what) => overflow_error(what, wording.row(row), wording),
        })?;
        self.rows += 1;
        Ok(())
    }
}
