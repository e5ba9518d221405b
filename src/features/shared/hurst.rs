//! Hurst exponent by detrended fluctuation analysis of order 1 on price changes (Peng et al., 1994).
//!
//! The slope of `ln F(s)` on `ln s` over the scales `8·2^j` and `12·2^j` up to a quarter of the records.
//! `F²(s)` is the mean squared residual of least-squares lines in segments of `s` prices from the left;
//! the remainder is dropped. Undefined when any of them is 0. About 0.5 for a random walk.
//!
//! A segment with `S = Σe`, `Q = Σe²` and `B = Σ(2k - s + 1)e`, where `e` is a price less the first of the
//! sample and `k` counts from 0, has the residual `(C(sQ - S²) - s²/4·B²) / (Cs)` with `C = s²(s²-1)/12`, all
//! of them integers. So a scale needs the sums of `S²` and `B²` over its segments, and a segment is joined
//! from the two of half its length: a record costs the same whatever the number of scales.

use std::marker::PhantomData;

use crate::core::arithmetic::wide::{Int, Wide};
use crate::core::checkpoint::unusable;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::simd::{Kernel, on};
use crate::core::ticks::Inputs;
use crate::features::shared::segments::{
    BLOCK, Block, EMPTY, GROUP, Long, NARROW_BITS, SHORT_BITS, Segment, Short, Squares,
};
use crate::features::shared::{ANY, Definition, records};

pub const HURST: Definition = records("exponent", Inputs::NONE, ANY, 128, Formula::Records(&FLUCTUATION, 0));

const FLUCTUATION: Entry<dyn RecordFamily> =
    Entry { name: "fluctuation", uses: Uses::PRICE, new: || Box::new(Fluctuation::default()) };

const MOST_SCALES: usize = 60;

/// A scale.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// Segments of the level below that wait for another one to be joined.
    pending: [Segment; 2],
    waiting: usize,
    /// Sums of squares over the segments.
    sums: Wide,
    slopes: Wide,
    /// Sum of squared distances up to the end of the last segment.
    squares: Int<3>,
}

/// The scales that are powers of two times the smallest one.
#[derive(Clone, Debug, Default)]
struct Ladder {
    levels: Vec<Level>,
}

/// Groups that make a segment of the smallest scale of each ladder.
const SMALLEST: [usize; 2] = [2, 3];

/// What a level of a ladder joins: how many segments, of how many records.
fn shape(smallest: usize, at: usize) -> (usize, u64) {
    let group = GROUP as u64;
    if at == 0 { (smallest, group) } else { (2, (group * smallest as u64) << (at - 1).min(MOST_SCALES)) }
}

impl Ladder {
    fn level(&mut self, at: usize) -> &mut Level {
        if at == self.levels.len() {
            self.levels.push(Level::default());
        }
        &mut self.levels[at]
    }

    /// Adds a segment of those that a level joins; `squares` is the sum up to its end.
    fn add(&mut self, smallest: usize, mut at: usize, mut segment: Segment, squares: &Int<3>) {
        loop {
            let (parts, len) = shape(smallest, at);
            let level = self.level(at);
            if level.waiting + 1 < parts {
                level.pending[level.waiting] = segment;
                level.waiting += 1;
                return;
            }
            let [first, second] = level.pending;
            segment = if parts == 2 { first.join(&[segment], len) } else { first.join(&[second, segment], len) };
            level.waiting = 0;
            level.sums = level.sums + Int::<2>::from(segment.sum).square();
            level.slopes = level.slopes + segment.slope.square();
            level.squares = *squares;
            at += 1;
        }
    }

    /// Adds a block after so many groups and squares.
    #[inline(always)]
    fn add_block<T: Squares>(
        &mut self,
        smallest: usize,
        block: &Block<T>,
        groups_before: u64,
        squares_before: &Int<3>,
    ) {
        let until = |groups: usize| {
            let mut squares = *squares_before;
            squares.add_unsigned(T::at(&block.squares, groups));
            squares
        };
        let (mut groups_of_block, mut spare) = (block.groups, EMPTY);
        let (mut now, mut next) = (&mut groups_of_block, &mut spare);
        let (mut count, mut at) = (block.count, 0);
        while count > 0 {
            let (parts, len) = shape(smallest, at);
            let groups = len as usize / GROUP;
            // Groups of the block up to the end of the first segment.
            let first = groups - (groups_before % groups as u64) as usize;
            if groups * parts > BLOCK {
                for row in 0..count {
                    let segment = Segment::of(now.sums[2 + row], now.slopes[2 + row]);
                    self.add(smallest, at, segment, &until((first + row * groups).min(block.count)));
                }
                return;
            }
            let level = self.level(at);
            let from = 2 - level.waiting;
            for (row, pending) in level.pending[..level.waiting].iter().enumerate() {
                (now.sums[from + row], now.slopes[from + row]) = (pending.sum as i64, pending.slope.0[0] as i64);
            }
            let (joined, left) = ((level.waiting + count) / parts, (level.waiting + count) % parts);
            let to = from + joined * parts;
            if joined > 0 {
                let (sums, slopes) = match parts {
                    2 => now.join::<T, 2>(from, to, len as i64, next),
                    _ => now.join::<T, 3>(from, to, len as i64, next),
                };
                level.sums.add_unsigned(sums.total());
                level.slopes.add_unsigned(slopes.total());
                level.squares = until((first + (to - 3) * groups).min(block.count));
            }
            for row in 0..left {
                level.pending[row] = Segment::of(now.sums[to + row], now.slopes[to + row]);
            }
            level.waiting = left;
            std::mem::swap(&mut now, &mut next);
            (count, at) = (joined, at + 1);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Fluctuation {
    /// Prices after the last whole group.
    tail: [i64; GROUP - 1],
    /// Sum of squared distances over whole groups.
    squares: Int<3>,
    /// Largest distance from the first price, at least.
    reach: u64,
    ladders: [Ladder; 2],
}

/// Adds groups of prices after so many others.
struct Add<'a, T> {
    fluctuation: &'a mut Fluctuation,
    groups: &'a [[i64; GROUP]],
    before: u64,
    open: i64,
    squares: PhantomData<T>,
}

impl<T: Squares> Kernel for Add<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { fluctuation, groups, mut before, open, .. } = self;
        let mut block: Block<T> = Block { groups: EMPTY, count: 0, squares: T::List::default() };
        for groups in groups.chunks(BLOCK) {
            block.fill(groups, open);
            for (ladder, smallest) in fluctuation.ladders.iter_mut().zip(SMALLEST) {
                ladder.add_block(smallest, &block, before, &fluctuation.squares);
            }
            fluctuation.squares.add_unsigned(T::at(&block.squares, groups.len()));
            before += groups.len() as u64;
        }
    }
}

impl Fluctuation {
    #[cold]
    #[inline(never)]
    fn add_wide(&mut self, groups: &[[i64; GROUP]], open: i64) {
        for group in groups {
            group.iter().for_each(|price| self.squares.add_square(price.wrapping_sub(open).into()));
            let segment = Segment::of_group(group, open);
            for (ladder, smallest) in self.ladders.iter_mut().zip(SMALLEST) {
                ladder.add(smallest, 0, segment, &self.squares);
            }
        }
    }

    /// `ln s` and `ln F(s)` of every scale, in ascending order; `None` if one is undefined.
    fn points(&self, records: u64) -> Option<Vec<(f64, f64)>> {
        let mut points = Vec::with_capacity(32);
        for at in 0..MOST_SCALES {
            for (ladder, smallest) in self.ladders.iter().zip(SMALLEST) {
                let (parts, len) = shape(smallest, at);
                let len = len * parts as u64;
                if len > records / 4 {
                    return Some(points);
                }
                let total = ladder.levels.get(at)?.total(len);
                let s = len as f64;
                let denominator = s * s * (s * s - 1.0) / 12.0 * s * (records / len) as f64 * s;
                if total <= 0.0 {
                    return None;
                }
                points.push((libm::log(s), 0.5 * libm::log(total / denominator)));
            }
        }
        Some(points)
    }
}

impl Level {
    /// The sum of `Cs` times the residuals of its segments of a length.
    fn total(&self, len: u64) -> f64 {
        let s = i128::from(len);
        // `s²` is a multiple of 16, and `s` of 12 or `s² - 1` of 3.
        let (first, second) = if s % 3 == 0 { (s / 12 * s, s * s - 1) } else { (s / 4 * s, (s * s - 1) / 3) };
        if let Some(total) = self.narrow_total(s, first, second) {
            return total as f64;
        }
        let spread = self.squares.by(s) - self.sums;
        (spread.times(&Int::<2>::from(first).by(second)) - self.slopes.by(s * s / 4)).to_f64()
    }

    /// The total, if every part of it fits two words.
    fn narrow_total(&self, s: i128, first: i128, second: i128) -> Option<i128> {
        let spread = self.squares.narrow()?.checked_mul(s)?.checked_sub(self.sums.narrow()?)?;
        let trend = self.slopes.narrow()?.checked_mul(s * s / 4)?;
        first.checked_mul(second)?.checked_mul(spread)?.checked_sub(trend)
    }
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let products = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    products / points.iter().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum::<f64>()
}

impl Family for Fluctuation {
    fn value(&self, _: usize, summary: &Summary) -> Cell {
        float(self.points(summary.records as u64).map(|points| slope(&points)))
    }

    fn reset(&mut self) {
        (self.tail, self.squares, self.reach) = Default::default();
        self.ladders.iter_mut().for_each(|ladder| ladder.levels.clear());
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        self.tail.iter_mut().try_for_each(|price| codec.price(price))?;
        codec.int(&mut self.squares)?;
        codec.word(&mut self.reach)?;
        for (ladder, smallest) in self.ladders.iter_mut().zip(SMALLEST) {
            let mut at = 0;
            codec.list(&mut ladder.levels, MOST_SCALES, |codec, level: &mut Level| {
                at += 1;
                level.transfer(shape(smallest, at - 1).0, codec)
            })?;
        }
        Ok(())
    }
}

impl Level {
    fn transfer(&mut self, parts: usize, codec: &mut Codec) -> Result<(), CoreError> {
        let mut waiting = self.waiting as u64;
        codec.count(&mut waiting)?;
        if waiting >= parts as u64 {
            return Err(unusable("a scale of a feature waits for too many segments"));
        }
        self.waiting = waiting as usize;
        for segment in self.pending.iter_mut().take(self.waiting) {
            codec.sum(&mut segment.sum)?;
            codec.int(&mut segment.slope)?;
        }
        codec.int(&mut self.sums)?;
        codec.int(&mut self.slopes)?;
        codec.int(&mut self.squares)
    }
}

impl RecordFamily for Fluctuation {
    fn absorb(&mut self, records: &Records) {
        let (open, price, before) = (records.open(), records.piece.price, records.before.count);
        let (highest, lowest) = records.extremes();
        self.reach = self.reach.max(highest.abs_diff(open)).max(lowest.abs_diff(open));
        let waiting = (before % GROUP as u64) as usize;
        let (head, rest) = price.split_at(((GROUP - waiting) % GROUP).min(price.len()));
        let mut group = [0; GROUP];
        group[..waiting].copy_from_slice(&self.tail[..waiting]);
        group[waiting..waiting + head.len()].copy_from_slice(head);
        let (groups, tail) = rest.as_chunks::<GROUP>();
        let reach = u64::BITS - self.reach.leading_zeros();
        let is_whole = waiting + head.len() == GROUP;
        let mut before = before / GROUP as u64;
        for groups in [if is_whole { std::slice::from_ref(&group) } else { &[] }, groups] {
            match reach {
                _ if groups.is_empty() => {}
                _ if reach <= SHORT_BITS => {
                    on(records.set, Add { fluctuation: self, groups, before, open, squares: PhantomData::<Short> });
                }
                _ if reach <= NARROW_BITS => {
                    on(records.set, Add { fluctuation: self, groups, before, open, squares: PhantomData::<Long> });
                }
                _ => self.add_wide(groups, open),
            }
            before += groups.len() as u64;
        }
        let left = if is_whole || waiting + head.len() == 0 { tail } else { &group[..waiting + head.len()] };
        self.tail = [0; GROUP - 1];
        self.tail[..left.len()].copy_from_slice(left);
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample::records::{Before, Piece};
    use crate::core::simd::InstructionSet;
    use proptest::prelude::*;

    /// The total of a scale, segment by segment with the sums of its prices.
    fn expected(price: &[i64], len: usize) -> Wide {
        let s = len as i128;
        let of_segment = |segment: &[i64]| {
            let distances = segment.iter().map(|value| i128::from(value - price[0]));
            let sum = Int::<2>::from(distances.clone().sum::<i128>());
            let moment: Wide = (0..).zip(distances.clone()).fold(Wide::ZERO, |sum, (k, e)| sum + Wide::from(e).by(k));
            let squares = distances.fold(Wide::ZERO, |sum, e| sum + Wide::from(e).square());
            let (a, b) = (squares.by(s) - sum.square(), moment.by(s) - sum.by(s * (s - 1) / 2));
            a.by(s * s * (s * s - 1) / 12) - b.square()
        };
        price.chunks_exact(len).fold(Wide::ZERO, |sum, segment| sum + of_segment(segment))
    }

    proptest! {
        #[test]
        fn totals_are_those_of_single_segments(
            steps in prop::collection::vec(any::<i64>(), 8..900),
            cuts in prop::collection::vec(1usize..700, 1..5),
            reach in prop::sample::select(&[2u32, 30, 38, 39, 40, 45, 46, 49, 61]),
            run in prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(24), 2 => Just(128)],
        ) {
            // Random prices, or runs of the farthest ones, which have the largest sums and slopes.
            let far = |row: usize| if (row / run).is_multiple_of(2) { 1 - (1i64 << reach) } else { (1 << reach) - 1 };
            let distances = steps.iter().enumerate().map(|(row, step)| match (row, run) {
                (_, 0) => step >> (63 - reach),
                (0, _) => 0,
                _ => far(row),
            });
            let price: Vec<i64> = distances.map(|distance| (1 << 62) + distance).collect();
            for set in InstructionSet::ALL.into_iter().filter(|set| *set <= InstructionSet::detected()) {
                let (mut fluctuation, mut before, mut from) = (Fluctuation::default(), Before::default(), 0);
                for cut in cuts.iter().cycle() {
                    let to = price.len().min(from + cut);
                    let piece = Piece { time: &price[from..to], price: &price[from..to], ..Piece::default() };
                    fluctuation.absorb(&Records { piece, before, set });
                    before.advance(&piece);
                    from = to;
                    if from == price.len() {
                        break;
                    }
                }
                for (ladder, smallest) in fluctuation.ladders.iter().zip(SMALLEST) {
                    for (at, level) in ladder.levels.iter().enumerate() {
                        let (parts, len) = shape(smallest, at);
                        let len = len * parts as u64;
                        if len <= price.len() as u64 {
                            prop_assert_eq!(level.total(len), expected(&price, len as usize).to_f64());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_level_waits_for_fewer_segments_than_it_joins() {
        for (parts, waiting) in [(2, 1), (2, 2), (3, 2), (3, 3)] {
            let mut bytes = Vec::new();
            let is_state = Level { waiting, ..Level::default() }.transfer(parts, &mut Codec::Save(&mut bytes)).is_ok();
            assert_eq!(is_state, waiting < parts);
        }
    }
}
