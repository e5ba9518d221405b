//! Segments of prices for the detrended fluctuation analysis of `hurst`: their sums, and the joining of
//! short ones into long ones.
//!
//! `S = Σe` is the sum of a segment of `s` prices and `B = Σ(2k - s + 1)e` its slope, where `e` is a price less
//! the first of the sample and `k` counts from 0. Of two segments of `s` prices that follow each other, the
//! sum is that of both, and so is the slope, plus `s` times the difference of their sums.

use crate::core::arithmetic::wide::Int;

/// Records of the smallest segments, from which all others are joined.
pub const GROUP: usize = 4;
/// Groups that are added at once.
pub const BLOCK: usize = 64;
/// Most bits of the reach of prices with which the sums of a segment of a block fit 64 bits, and their
/// squares together 128: `B` is below `s²/2` times the reach.
pub const NARROW_BITS: u32 = 64 - 2 * (GROUP * BLOCK).ilog2() - 2;
/// With so few, the squares can be added in parts of 64 bits.
pub const SHORT_BITS: u32 = 2 * LIMB_BITS - 2 * (GROUP * BLOCK).ilog2() + 1;
const LIMB_BITS: u32 = 27;

/// A segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub sum: i128,
    pub slope: Int<3>,
}

impl Segment {
    pub fn of(sum: i64, slope: i64) -> Self {
        Self { sum: sum.into(), slope: Int::from(i128::from(slope)) }
    }

    pub fn of_group(prices: &[i64; GROUP], open: i64) -> Self {
        let [a, b, c, d] = prices.map(|price| i128::from(price.wrapping_sub(open)));
        Self { sum: a + b + c + d, slope: Int::from(3 * (d - a) + (c - b)) }
    }

    /// The first of several of a length, with the others after it.
    pub fn join(&self, others: &[Self], len: u64) -> Self {
        let (mut sum, mut slope) = (self.sum, self.slope);
        for other in others {
            sum = sum.wrapping_add(other.sum);
            slope = slope + other.slope;
        }
        let last = others.last().map_or(0, |last| last.sum);
        let apart = Int::<2>::from(last.wrapping_sub(self.sum));
        Self { sum, slope: slope + apart.by(i128::from(len) * others.len() as i128).to() }
    }
}

/// Segments whose sums fit 64 bits. There is room in front for those that wait.
#[derive(Clone, Copy)]
pub struct Narrow {
    pub sums: [i64; BLOCK + 2],
    pub slopes: [i64; BLOCK + 2],
}

pub const EMPTY: Narrow = Narrow { sums: [0; BLOCK + 2], slopes: [0; BLOCK + 2] };

/// A sum of at most 256 squares.
pub trait Squares: Copy + Default {
    /// The sums before each group of a block and after the last.
    type List: Default;

    fn add(&mut self, value: i64);
    fn total(&self) -> u128;
    fn fill(list: &mut Self::List, groups: &[[i64; GROUP]], open: i64);
    fn at(list: &Self::List, groups: usize) -> u128;
}

/// Of integers below 2^54, in parts: each square is `low + 2^28·middle + 2^54·high`.
#[derive(Clone, Copy, Default)]
pub struct Short {
    low: i64,
    middle: i64,
    high: i64,
}

impl Squares for Short {
    type List = Parts;

    #[inline(always)]
    fn add(&mut self, value: i64) {
        // The casts tell the compiler that a 32-bit multiplication suffices.
        let (high, low) = ((value >> LIMB_BITS) as i32 as i64, (value & ((1 << LIMB_BITS) - 1)) as i32 as i64);
        self.low = self.low.wrapping_add(low * low);
        self.middle = self.middle.wrapping_add(low * high);
        self.high = self.high.wrapping_add(high * high);
    }

    #[inline(always)]
    fn total(&self) -> u128 {
        let [low, middle, high] = [self.low, self.middle, self.high].map(i128::from);
        (low + (middle << (LIMB_BITS + 1)) + (high << (2 * LIMB_BITS))) as u128
    }

    #[inline(always)]
    fn fill(list: &mut Parts, groups: &[[i64; GROUP]], open: i64) {
        let [lows, middles, highs] = &mut list.0;
        let out = lows[1..].iter_mut().zip(&mut middles[1..]).zip(&mut highs[1..]);
        for ([a, b, c, d], ((low, middle), high)) in groups.iter().zip(out) {
            let mut squares = Self::default();
            [a, b, c, d].into_iter().for_each(|price| squares.add(price.wrapping_sub(open)));
            (*low, *middle, *high) = (squares.low, squares.middle, squares.high);
        }
        for part in &mut list.0 {
            let mut total = 0i64;
            for value in &mut part[1..=groups.len()] {
                total = total.wrapping_add(*value);
                *value = total;
            }
        }
    }

    #[inline(always)]
    fn at(list: &Parts, groups: usize) -> u128 {
        let [low, middle, high] = &list.0;
        Self { low: low[groups], middle: middle[groups], high: high[groups] }.total()
    }
}

/// Lists of the parts of [`Short`].
pub struct Parts([[i64; BLOCK + 1]; 3]);

impl Default for Parts {
    fn default() -> Self {
        Self([[0; BLOCK + 1]; 3])
    }
}

/// Of integers below 2^62.
#[derive(Clone, Copy, Default)]
pub struct Long(u128);

impl Squares for Long {
    type List = Totals;

    #[inline(always)]
    fn add(&mut self, value: i64) {
        self.0 = self.0.wrapping_add((i128::from(value) * i128::from(value)) as u128);
    }

    #[inline(always)]
    fn total(&self) -> u128 {
        self.0
    }

    #[inline(always)]
    fn fill(list: &mut Totals, groups: &[[i64; GROUP]], open: i64) {
        let mut total = Self::default();
        for (prices, out) in groups.iter().zip(&mut list.0[1..]) {
            prices.iter().for_each(|price| total.add(price.wrapping_sub(open)));
            *out = total.0;
        }
    }

    #[inline(always)]
    fn at(list: &Totals, groups: usize) -> u128 {
        list.0[groups]
    }
}

/// A list of [`Long`].
pub struct Totals([u128; BLOCK + 1]);

impl Default for Totals {
    fn default() -> Self {
        Self([0; BLOCK + 1])
    }
}

impl Narrow {
    /// Joins every `N` segments of a length in `from..to` into one from the third on, and adds up the squares of
    /// their sums and of their slopes.
    #[inline(always)]
    pub fn join<T: Squares, const N: usize>(&self, from: usize, to: usize, len: i64, out: &mut Self) -> (T, T) {
        let mut squares = (T::default(), T::default());
        let sums = self.sums[from..to].as_chunks::<N>().0;
        let slopes = self.slopes[from..to].as_chunks::<N>().0;
        let joined = out.sums[2..].iter_mut().zip(&mut out.slopes[2..]);
        for ((sums, slopes), (sum, slope)) in sums.iter().zip(slopes).zip(joined) {
            let of = |values: &[i64; N]| values.iter().fold(0i64, |sum, value| sum.wrapping_add(*value));
            let apart = sums[N - 1].wrapping_sub(sums[0]).wrapping_mul(len * (N as i64 - 1));
            (*sum, *slope) = (of(sums), of(slopes).wrapping_add(apart));
            squares.0.add(*sum);
            squares.1.add(*slope);
        }
        squares
    }
}

/// The groups of a block, and the sums of squares in it.
pub struct Block<T: Squares> {
    pub groups: Narrow,
    pub count: usize,
    pub squares: T::List,
}

impl<T: Squares> Block<T> {
    #[inline(always)]
    pub fn fill(&mut self, groups: &[[i64; GROUP]], open: i64) {
        self.count = groups.len();
        let out = self.groups.sums[2..].iter_mut().zip(&mut self.groups.slopes[2..]);
        for ([a, b, c, d], (sum, slope)) in groups.iter().zip(out) {
            let all = a.wrapping_add(*b).wrapping_add(c.wrapping_add(*d));
            *sum = all.wrapping_sub(open.wrapping_mul(GROUP as i64));
            *slope = d.wrapping_sub(*a).wrapping_mul(3).wrapping_add(c.wrapping_sub(*b));
        }
        T::fill(&mut self.squares, groups, open);
    }
}
