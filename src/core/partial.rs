//! The forming bars of a builder, as bars.

use crate::core::bar::Bar;
use crate::core::builder::RangeBarBuilder;

impl RangeBarBuilder {
    /// The forming bars, ordered by first appearance of the key, then by threshold.
    pub fn partial(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        for (key, state) in self.states().iter().enumerate() {
            for (threshold, fold) in state.fold.thresholds.iter().enumerate().filter(|(_, fold)| !fold.sums.is_empty())
            {
                bars.push(Bar {
                    sums: fold.sums,
                    end_row: self.rows().saturating_sub(1),
                    key: key as u32,
                    threshold: threshold as u16,
                    bar_id: fold.next_id,
                    ended_by: None,
                    values: self.features().and_then(|all| all.partial(key, threshold, &fold.sums)),
                });
            }
        }
        bars
    }
}
