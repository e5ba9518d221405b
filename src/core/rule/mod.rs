//! Rules: where a bar ends.
//!
//! A rule is one file that implements [`Rule`], and one line of the table at the end of this file.
//! The search, the checkpoint and the entry points know rules by that table alone.

mod high_low;
mod open;

use crate::core::bar::Sums;
use crate::core::search::{Cut, Scan, ThresholdSearch};
use crate::core::simd;
use crate::core::units::Threshold;

/// A closing rule.
///
/// The closing record belongs to the bar that it closes; the next record opens the next bar. A rule
/// decides by prices and the opening time alone, so that a bar's end never depends on how the
/// records are cut into chunks.
pub trait Rule {
    /// What the rule remembers of a forming bar.
    type State: Copy + PartialEq + std::fmt::Debug;

    /// State of a bar that opens at a grid price and must move by `distance` grid units.
    fn open(price: i64, distance: u64) -> Self::State;

    /// State of a forming bar, from its sums.
    fn resume(sums: &Sums, distance: u64) -> Self::State;

    /// Whether a bar that has not closed may have these sums, which are not empty.
    fn may_be_forming(sums: &Sums, distance: u64, is_gated: bool) -> bool;

    /// First row of `from..to` at which the bar closes.
    ///
    /// The state then holds all rows before it, or all rows where the bar closes at none. Rows
    /// without a grid price are skipped: the fold refuses them.
    fn first_close(state: &mut Self::State, scan: Scan, opening_time: i64, rows: (usize, usize)) -> Option<usize>;
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $word:literal by $rule:ty;)+) => {
        /// Name of a rule.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum RuleName {
            $($(#[$doc])* $name,)+
        }

        impl RuleName {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word by which users name the rule.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }

        impl RuleName {
            /// Whether a bar that has not closed may have these sums, which are not empty.
            pub fn may_be_forming(self, sums: &Sums, threshold: Threshold, is_gated: bool) -> bool {
                let distance = threshold.distance(sums.open);
                match self {
                    $(Self::$name => <$rule>::may_be_forming(sums, distance, is_gated),)+
                }
            }
        }

        /// Searches of a key, one for each threshold, all by one rule.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Searches {
            $($name(Vec<ThresholdSearch<$rule>>),)+
        }

        impl Searches {
            pub fn new(rule: RuleName, thresholds: usize) -> Self {
                match rule {
                    $(RuleName::$name => Self::$name(vec![ThresholdSearch::default(); thresholds]),)+
                }
            }

            /// Searches of forming bars, from their sums; empty sums belong to no bar.
            pub fn resume<'a>(rule: RuleName, forming: impl Iterator<Item = (Threshold, &'a Sums)>) -> Self {
                match rule {
                    $(RuleName::$name => {
                        Self::$name(forming.map(|(threshold, sums)| ThresholdSearch::resume(threshold, sums)).collect())
                    })+
                }
            }

            pub fn len(&self) -> usize {
                match self {
                    $(Self::$name(searches) => searches.len(),)+
                }
            }

            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Asks for the searches before they are needed.
            #[inline]
            pub fn prefetch(&self) {
                match self {
                    $(Self::$name(searches) => simd::prefetch::<{ simd::HERE }, _>(searches),)+
                }
            }

            /// Lists the ends of bars between rows of a chunk.
            #[inline]
            pub fn search(&mut self, thresholds: &[Threshold], scan: Scan, rows: (usize, usize), cuts: &mut Vec<Cut>) {
                match self {
                    $(Self::$name(searches) => {
                        for (index, (search, threshold)) in searches.iter_mut().zip(thresholds).enumerate() {
                            search.search(*threshold, scan, rows, index as u16, cuts);
                        }
                    })+
                }
            }

            /// Ends every forming bar; the positions of the thresholds that had one.
            pub fn end(&mut self, mut ended: impl FnMut(u16)) {
                match self {
                    $(Self::$name(searches) => {
                        for (index, search) in searches.iter_mut().enumerate() {
                            if search.end() {
                                ended(index as u16);
                            }
                        }
                    })+
                }
            }
        }
    };
}

rules! {
    /// The distance from the opening price reaches the threshold.
    #[default]
    Open = "open" by open::Open;
    /// The distance between the highest and the lowest price reaches the threshold.
    HighLow = "high_low" by high_low::HighLow;
}

impl std::str::FromStr for RuleName {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|rule| rule.word() == word);
        known.copied().ok_or_else(|| format!("there is no rule `{word}`"))
    }
}
