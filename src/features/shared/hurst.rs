//! Hurst exponent by detrended fluctuation analysis of order 1 on price changes (Peng et al., 1994).
//!
//! The slope of `ln F(s)` on `ln s` over the scales `8·2^j` and `12·2^j` up to a quarter of the records.
//! `F²(s)` is the mean squared residual of least-squares lines in segments of `s` prices from the left;
//! the remainder is dropped. Undefined when any of them is 0. About 0.5 for a random walk.
//!
//! A segment with `S = Σe`, `Q = Σe²` and `M = Σke`, where `e` is a price less the first of the sample and
//! `k` counts from 0, has the residual `(AC - B²) / (Cs)` with `A = sQ - S²`, `B = sM - s(s-1)/2·S` and
//! `C = s²(s²-1)/12`, all of them integers. The sums are differences of sums over the whole sample, so
//! that a record costs the same whatever the number of scales.

use crate::core::arithmetic::wide::{Int, Wide};
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::{ANY, Definition, records};

pub const HURST: Definition = records("exponent", Inputs::NONE, ANY, 128, Formula::Records(&FLUCTUATION, 0));

const FLUCTUATION: Entry<dyn RecordFamily> =
    Entry { name: "fluctuation", uses: Uses::PRICE, new: || Box::new(Fluctuation::default()) };

/// Exponents of two of the smallest scales, 8 and 12, which are 1 and 3 times these powers.
const SMALLEST: [(u64, u32); 2] = [(1, 3), (3, 2)];
const MOST_SCALES: usize = 62;

/// Sums over the first records of a sample.
#[derive(Clone, Copy, Debug, Default)]
struct Prefix {
    count: u64,
    values: i128,
    squares: Int<3>,
    moments: Int<3>,
}

/// Fluctuation at one scale.
#[derive(Clone, Copy, Debug, Default)]
struct Scale {
    /// Sum of `AC - B²` over segments.
    total: Wide,
    /// Sums at the end of the last segment.
    done: Prefix,
    shape: Shape,
}

/// What follows from the number of records of a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    len: u64,
    /// `C`, and most bits of the reach of prices with which the sums of a segment fit 64 bits and its total
    /// 128; none for a long segment.
    narrow: Option<(i64, u32)>,
}

impl Shape {
    fn new(len: u64) -> Self {
        let bits = bits(len);
        // Prices differ by at most twice the reach. The first moment has 1 + 2·bits more, `AC` three times these.
        let of_reach = 61u32.saturating_sub(2 * bits).min(62u32.saturating_sub(3 * bits));
        let narrow = (len <= LARGEST_NARROW).then(|| {
            let square = (len * len) as i64;
            (square / 4 * (square - 1) / 3, of_reach)
        });
        Self { len, narrow }
    }
}

fn bits(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

#[derive(Clone, Debug, Default)]
struct Fluctuation {
    sums: Prefix,
    /// Largest distance from the first price, at least.
    reach: u64,
    scales: [Vec<Scale>; 2],
}

impl Prefix {
    /// Adds a value, at a number of records that the caller raises.
    #[inline(always)]
    fn add(&mut self, value: i64) {
        self.values += i128::from(value);
        let size = u128::from(value.unsigned_abs());
        self.squares.add_unsigned(size * size);
        self.moments.add_signed(i128::from(value) * i128::from(self.count));
        self.count += 1;
    }

    /// Adds four values.
    #[inline(always)]
    fn add_four(&mut self, values: [i64; 4]) {
        let [a, b, c, d] = values.map(i128::from);
        let sum = a + b + c + d;
        let squares = values.map(|value| {
            let size = u128::from(value.unsigned_abs());
            size * size
        });
        self.values += sum;
        // Below 2^126 each.
        self.squares.add_unsigned(squares[0] + squares[1]);
        self.squares.add_unsigned(squares[2] + squares[3]);
        self.moments.add_signed(b + 2 * c + 3 * d);
        match i64::try_from(sum) {
            Ok(narrow) => self.moments.add_signed(i128::from(narrow) * i128::from(self.count)),
            Err(_) => self.moments = self.moments + Int::<2>::from(sum).by(self.count.into()).to(),
        }
        self.count += 4;
    }
}

/// The low two words, in which differences that fit them are exact.
fn low<const N: usize>(value: &Int<N>) -> i128 {
    (u128::from(value.0[0]) | u128::from(value.0[1]) << 64) as i128
}

/// The largest scale whose `C` fits 64 bits.
const LARGEST_NARROW: u64 = 1 << 15;

impl Scale {
    /// Adds the segment that ends at `end`, of prices with a reach of so many bits.
    #[inline]
    fn add(&mut self, end: &Prefix, reach: u32) {
        match self.shape.narrow {
            Some((c, most)) if reach <= most => self.add_narrow(c, end),
            _ => self.add_wide(end),
        }
        self.done = *end;
    }

    #[inline]
    fn add_narrow(&mut self, c: i64, end: &Prefix) {
        let (done, len) = (&self.done, self.shape.len as i64);
        let product = |left: i64, right: i64| i128::from(left) * i128::from(right);
        let sum = end.values.wrapping_sub(done.values) as i64;
        let squares = low(&end.squares).wrapping_sub(low(&done.squares));
        let moments = low(&end.moments).wrapping_sub(low(&done.moments));
        let moment = moments.wrapping_sub(product(done.count as i64, sum)) as i64;
        let a = squares.wrapping_mul(len.into()).wrapping_sub(product(sum, sum));
        let b = product(moment, len) - product(sum, len * (len - 1) / 2);
        self.total.add_signed(a.wrapping_mul(c.into()).wrapping_sub(b.wrapping_mul(b)));
    }

    #[cold]
    #[inline(never)]
    fn add_wide(&mut self, end: &Prefix) {
        let (done, len) = (&self.done, self.shape.len);
        let sum = Int::<2>::from(end.values.wrapping_sub(done.values));
        let squares = end.squares - done.squares;
        let moments = (end.moments - done.moments).wide() - sum.by(i128::from(done.count));
        let (a, b, c) = Self::parts(len, &sum, &squares, &moments);
        self.total = self.total + a.times(&c) - b.square();
    }

    fn parts(len: u64, sum: &Int<2>, squares: &Int<3>, moments: &Wide) -> (Wide, Wide, Wide) {
        let s = i128::from(len);
        let a = squares.by(s) - sum.square();
        let b = moments.by(s) - sum.by(s * (s - 1) / 2);
        let (first, second) = if s % 3 == 0 { (s / 12 * s, s * s - 1) } else { (s / 4 * s, (s * s - 1) / 3) };
        (a, b, Int::<2>::from(first).by(second))
    }
}

impl Fluctuation {
    /// Ends the segments that end with the last record.
    fn end_segments(&mut self) {
        let (count, reach) = (self.sums.count, bits(self.reach));
        for ((factor, smallest), scales) in SMALLEST.into_iter().zip(&mut self.scales) {
            let (twos, is_multiple) = (count.trailing_zeros(), count.is_multiple_of(factor));
            for exponent in smallest..=twos {
                let len = factor << exponent;
                if !is_multiple || len > count {
                    break;
                }
                let at = (exponent - smallest) as usize;
                if at == scales.len() {
                    scales.push(Scale { shape: Shape::new(len), ..Scale::default() });
                }
                if let Some(scale) = scales.get_mut(at) {
                    scale.add(&self.sums, reach);
                }
            }
        }
    }

    /// `ln s` and `ln F(s)` of every scale, in ascending order; `None` if one is undefined.
    fn points(&self, records: u64) -> Option<Vec<(f64, f64)>> {
        let mut points = Vec::new();
        for at in 0..MOST_SCALES {
            for ((factor, smallest), scales) in SMALLEST.into_iter().zip(&self.scales) {
                let len = factor << (smallest as usize + at).min(60);
                if len > records / 4 {
                    return Some(points);
                }
                let total = scales.get(at)?.total.to_f64();
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
        (self.sums, self.reach) = (Prefix::default(), 0);
        self.scales.iter_mut().for_each(Vec::clear);
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        transfer_prefix(&mut self.sums, codec)?;
        codec.word(&mut self.reach)?;
        for ((factor, smallest), scales) in SMALLEST.into_iter().zip(&mut self.scales) {
            codec.list(scales, MOST_SCALES, |codec, scale: &mut Scale| {
                codec.int(&mut scale.total)?;
                transfer_prefix(&mut scale.done, codec)
            })?;
            for (scale, exponent) in scales.iter_mut().zip(smallest..) {
                scale.shape = Shape::new(factor << exponent.min(MOST_SCALES as u32 - 2));
            }
        }
        Ok(())
    }
}

fn transfer_prefix(prefix: &mut Prefix, codec: &mut Codec) -> Result<(), CoreError> {
    codec.count(&mut prefix.count)?;
    codec.sum(&mut prefix.values)?;
    codec.int(&mut prefix.squares)?;
    codec.int(&mut prefix.moments)
}

impl RecordFamily for Fluctuation {
    fn absorb(&mut self, records: &Records) {
        let open = records.open();
        let reach = |reach: u64, price: &i64| reach.max(price.abs_diff(open));
        self.reach = records.piece.price.iter().fold(self.reach, reach);
        let distance = |price: &i64| price.wrapping_sub(open);
        // All scales are multiples of 4, so that four records can be added at once.
        let ahead = ((4 - self.sums.count % 4) % 4) as usize;
        let (head, rest) = records.piece.price.split_at(ahead.min(records.piece.len()));
        head.iter().for_each(|price| self.sums.add(distance(price)));
        if self.sums.count.is_multiple_of(4) && !head.is_empty() {
            self.end_segments();
        }
        let (groups, tail) = rest.as_chunks::<4>();
        for group in groups {
            self.sums.add_four(group.each_ref().map(distance));
            self.end_segments();
        }
        tail.iter().for_each(|price| self.sums.add(distance(price)));
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}
