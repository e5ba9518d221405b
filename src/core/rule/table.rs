//! The table of rules, and the searches of a key by any of them.

use crate::core::bar::Sums;
use crate::core::rule::threshold::Threshold;
use crate::core::rule::{Rule, Scan, high_low, open};
use crate::core::search::{Cut, ThresholdSearch};
use crate::core::simd::intrinsics::{HERE, prefetch};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $text:literal by $rule:ty;)+) => {
        /// A rule by name.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum RuleName {
            $($(#[$doc])* $name,)+
        }

        impl RuleName {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name of the rule in arguments.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
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

        /// Searches of a key by one rule, one for each threshold.
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

            /// Resumes searches of forming bars from their sums; with empty sums there is no bar.
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

            /// Prefetches the searches.
            #[inline]
            pub fn prefetch(&self) {
                match self {
                    $(Self::$name(searches) => prefetch::<HERE, _>(searches),)+
                }
            }

            /// Lists the ends of bars between rows of a chunk.
            #[inline]
            pub fn search(&mut self, thresholds: &[Threshold], scan: Scan, rows: (usize, usize), cuts: &mut Vec<Cut>) {
                match self {
                    $(Self::$name(searches) => {
                        for (index, (search, threshold)) in searches.iter_mut().zip(thresholds).enumerate() {
                            search.search((index as u16, *threshold), scan, rows, cuts);
                        }
                    })+
                }
            }

            /// Ends every forming bar and passes the position of its threshold to `ended`.
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

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|rule| rule.name() == name);
        known.copied().ok_or_else(|| format!("there is no rule `{name}`"))
    }
}
