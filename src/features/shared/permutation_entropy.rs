//! Permutation entropy of Bandt and Pompe (2002) of three successive prices, over `ln 6`.
//!
//! Ties rank in the order of time. 0 for a monotonic path, 1 for noise, 0.967 for a random walk.

use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::simd::{Kernel, on};
use crate::core::ticks::Inputs;
use crate::features::shared::{Definition, SHARE, records};

pub const PERMUTATION_ENTROPY: Definition = records("ratio", Inputs::NONE, SHARE, 60, Formula::Records(&PATTERNS, 0));

const PATTERNS: Entry<dyn RecordFamily> =
    Entry { name: "patterns", uses: Uses::PRICE, new: || Box::new(Patterns::default()) };

/// Frequencies of the patterns, of which two of the eight cannot occur.
#[derive(Clone, Debug, Default)]
struct Patterns {
    counts: [u64; 8],
    /// The price before the last one.
    earlier: i64,
}

#[inline(always)]
fn pattern(first: i64, second: i64, third: i64) -> usize {
    usize::from(first <= second) | usize::from(second <= third) << 1 | usize::from(first <= third) << 2
}

impl Family for Patterns {
    fn value(&self, _: usize, summary: &Summary) -> Cell {
        let total = (summary.records - 2) as f64;
        let mut entropy = 0.0;
        for count in self.counts {
            if count > 0 {
                let frequency = count as f64 / total;
                entropy -= frequency * libm::log(frequency);
            }
        }
        float(Some((entropy / libm::log(6.0)).clamp(0.0, 1.0)))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        self.counts.iter_mut().try_for_each(|count| codec.count(count))?;
        codec.price(&mut self.earlier)
    }
}

/// Frequencies of the patterns of prices.
struct Count<'a> {
    price: &'a [i64],
}

impl Kernel for Count<'_> {
    type Output = [u64; 8];

    #[inline(always)]
    fn run(self) -> Self::Output {
        let (seconds, thirds) = (self.price.get(1..).unwrap_or_default(), self.price.get(2..).unwrap_or_default());
        // How often prices do not fall: from first to second, second to third, both, and the first or the second
        // of them and from first to third. Two steps up are one, and so are two down.
        let [mut early, mut late, mut both, mut early_over, mut late_over] = [0u64; 5];
        for ((first, second), third) in self.price.iter().zip(seconds).zip(thirds) {
            let (up, up_again) = (u64::from(first <= second), u64::from(second <= third));
            let over = u64::from(first <= third);
            early += up;
            late += up_again;
            both += up & up_again;
            early_over += up & over;
            late_over += up_again & over;
        }
        let neither = thirds.len() as u64 + both - early - late;
        [neither, early - early_over, late - late_over, 0, 0, early_over - both, late_over - both, both]
    }
}

impl RecordFamily for Patterns {
    fn absorb(&mut self, records: &Records) {
        let (price, before) = (records.piece.price, records.before);
        let Some(first) = price.first() else { return };
        if before.count >= 2 {
            self.counts[pattern(self.earlier, before.price, *first)] += 1;
        }
        if let (Some(second), true) = (price.get(1), before.count >= 1) {
            self.counts[pattern(before.price, *first, *second)] += 1;
        }
        for (count, more) in self.counts.iter_mut().zip(on(records.set, Count { price })) {
            *count += more;
        }
        self.earlier = match price {
            [.., earlier, _] => *earlier,
            _ => before.price,
        };
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}
