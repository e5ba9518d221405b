//! Memory of the sides of orders: autocorrelation at lags 1 and 5 with the mean of all, entropy in bits
//! of a side given the two before it, and the longest run of one side.
//!
//! Independent fair sides give 0, 0 and nearly 1 bit (0.985 at 200 orders); a side kept with probability
//! 0.9 gives 0.8, 0.328 and 0.469. Undefined when all sides are equal, except for the entropy. Orders
//! without an aggressor are left out.

use crate::core::arithmetic::wide::Int;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, float, integer};
use crate::core::sample::orders::Orders;
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::signed_share;
use crate::features::shared::{Definition, SHARE, SIGNED_SHARE, orders, whole};

/// Least numbers of orders with an aggressor.
const LEAST_CORRELATED: u32 = 50;
const LEAST_ENTROPY: u32 = 200;

const fn autocorrelation(at: usize) -> Definition {
    orders("ratio", Inputs::SIDE, SIGNED_SHARE, LEAST_CORRELATED, Formula::Orders(&SIGNS, at))
}

pub const SIGN_AUTOCORR_1: Definition = autocorrelation(0);
pub const SIGN_AUTOCORR_5: Definition = autocorrelation(1);
pub const SIGN_ENTROPY: Definition = orders("bits", Inputs::SIDE, SHARE, LEAST_ENTROPY, Formula::Orders(&SIGNS, 2));
pub const RUN_LENGTH_MAX: Definition =
    whole(orders("orders", Inputs::SIDE, (Some(1.0), None), 1, Formula::Orders(&SIGNS, 3)));

const SIGNS: Entry<dyn OrderFamily> =
    Entry { name: "signs", uses: Uses { side: true, ..Uses::TIME }, new: || Box::new(Signs::default()) };

const LONG_LAG: usize = 5;

#[derive(Clone, Debug, Default)]
struct Signs {
    count: u64,
    sum: i64,
    /// Sums of products at both lags.
    products: [i64; 2],
    first: [i8; LONG_LAG],
    /// The side of order `i` is at `i % 5`.
    last: [i8; LONG_LAG],
    /// Frequencies of three successive sides, the latest in the lowest bit.
    words: [u64; 8],
    run: u64,
    longest: u64,
}

impl Signs {
    /// The side so many orders back; 0 without one.
    fn back(&self, orders: u64) -> i8 {
        if orders <= self.count { self.last[((self.count - orders) % LONG_LAG as u64) as usize] } else { 0 }
    }

    fn add(&mut self, sides: impl Iterator<Item = i8>) {
        let [mut a, mut b, mut c, mut d, mut e] = [1, 2, 3, 4, 5].map(|orders| i64::from(self.back(orders)));
        let Self { mut count, mut sum, mut products, mut words, mut run, mut longest, .. } = *self;
        let mut word = usize::from(a > 0) | usize::from(b > 0) << 1;
        for side in sides {
            if let Some(first) = self.first.get_mut(count as usize) {
                *first = side;
            }
            let side = i64::from(side);
            products[0] += side * a;
            products[1] += side * e;
            word = (word << 1 | usize::from(side > 0)) & 7;
            words[word] += u64::from(count >= 2);
            run = if side == a { run + 1 } else { 1 };
            longest = longest.max(run);
            (a, b, c, d, e) = (side, a, b, c, d);
            sum += side;
            count += 1;
        }
        for (back, side) in (1..).zip([a, b, c, d, e]).filter(|(back, _)| *back <= count) {
            self.last[((count - back) % LONG_LAG as u64) as usize] = side as i8;
        }
        let (first, last) = (self.first, self.last);
        *self = Self { count, sum, products, first, last, words, run, longest };
    }

    /// Autocorrelation, with numerator and denominator times the square of the count.
    fn autocorrelation(&self, lag: u64, products: i64) -> Option<f64> {
        if self.count < LEAST_CORRELATED.into() {
            return None;
        }
        let sides = |sides: &mut dyn Iterator<Item = i8>| sides.map(i64::from).sum::<i64>();
        let head = sides(&mut self.first[..lag as usize].iter().copied());
        let back = |back| self.last[((self.count - back) % LONG_LAG as u64) as usize];
        let tail = sides(&mut (1..=lag).map(back));
        let (n, total) = (i128::from(self.count), i128::from(self.sum));
        let ends = 2 * total - i128::from(head + tail);
        let squared = Int::<2>::from(n * n);
        let variance = squared.wide() - Int::<2>::from(total * total).wide();
        let centred = squared.by(products.into()) - Int::<2>::from(n * total).by(ends)
            + Int::<2>::from(total * total).by(n - i128::from(lag));
        signed_share(centred.to_f64(), variance.by(n).to_f64())
    }

    fn entropy(&self) -> Option<f64> {
        if self.count < LEAST_ENTROPY.into() {
            return None;
        }
        let total = (self.count - 2) as f64;
        let mut entropy = 0.0;
        for (word, count) in self.words.iter().enumerate() {
            let heads = self.words[word & !1] + self.words[word | 1];
            if *count > 0 {
                entropy -= *count as f64 / total * libm::log2(*count as f64 / heads as f64);
            }
        }
        Some(entropy.clamp(0.0, 1.0))
    }
}

impl Family for Signs {
    fn value(&self, column: usize, _: &Summary) -> Cell {
        match column {
            0 => float(self.autocorrelation(1, self.products[0])),
            1 => float(self.autocorrelation(LONG_LAG as u64, self.products[1])),
            2 => float(self.entropy()),
            _ => integer((self.longest > 0).then_some(self.longest as i64)),
        }
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.count(&mut self.count)?;
        codec.signed_count(&mut self.sum)?;
        self.products.iter_mut().try_for_each(|sum| codec.signed_count(sum))?;
        self.first.iter_mut().chain(&mut self.last).try_for_each(|side| codec.side(side))?;
        self.words.iter_mut().try_for_each(|count| codec.count(count))?;
        codec.count(&mut self.run)?;
        codec.count(&mut self.longest)
    }
}

impl OrderFamily for Signs {
    fn absorb(&mut self, orders: &Orders) {
        self.add(orders.list.iter().map(|order| order.side).filter(|side| *side != 0));
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}
