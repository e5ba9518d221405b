//! Exact sums of powers, and the standardised moments that follow from them.

use crate::core::arithmetic::wide::{Int, Wide};
use crate::core::simd::{InstructionSet, Kernel, on};

/// Sums of the first four powers of integers of 64 bits, of up to 2^62 of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerSums {
    pub first: i128,
    pub second: Int<3>,
    pub third: Int<4>,
    pub fourth: Int<5>,
}

/// Values that are added at once, so that narrow sums of them cannot overflow.
const AT_ONCE: usize = 4_096;

/// The square of an integer of two words.
fn square(value: u128) -> Int<5> {
    let (low, high) = (u128::from(value as u64), value >> 64);
    let mut sum = Int::<5>::default();
    sum.add_unsigned(low * low);
    let middle = low * high;
    let mut shifted = Int::<5>([0, (middle << 1) as u64, (middle >> 63) as u64, (middle >> 127) as u64, 0]);
    let top = high * high;
    let mut upper = Int::<3>([shifted.0[2], shifted.0[3], 0]);
    upper.add_unsigned(top);
    shifted.0[2..].copy_from_slice(&upper.0);
    sum + shifted
}

/// The product of integers of two words and one.
fn product(value: u128, factor: u64) -> Int<4> {
    let low = u128::from(value as u64) * u128::from(factor);
    let high = (value >> 64) * u128::from(factor) + (low >> 64);
    Int([low as u64, high as u64, (high >> 64) as u64, 0])
}

/// Values of a column that are added at once, with sums of 64 bits for products of parts of 29.
const LANES_AT_ONCE: usize = 64;
const PART_BITS: u32 = 29;
const PART: u64 = (1 << PART_BITS) - 1;

/// Adds values of a column.
struct AddAll<'a> {
    sums: &'a mut PowerSums,
    values: &'a [i64],
}

impl Kernel for AddAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut total = Narrow::default();
        for some in self.values.chunks(LANES_AT_ONCE) {
            let bits = some.iter().fold(0, |bits, value| bits | *value as u64);
            if bits > PART {
                if bits >> 32 == 0 {
                    some.iter().for_each(|value| self.sums.add_medium(*value));
                } else {
                    some.iter().for_each(|value| self.sums.add_one(*value));
                }
                continue;
            }
            // The square is `low + high·2^29`.
            let [mut first, mut second, mut third, mut third_high] = [0u64; 4];
            let [mut fourth, mut fourth_middle, mut fourth_high] = [0u64; 3];
            for value in some {
                let value = *value as u64 & PART;
                let square = value * value;
                let (low, high) = (square & PART, square >> PART_BITS & PART);
                first += value;
                second = second.wrapping_add(square);
                third = third.wrapping_add(value * low);
                third_high = third_high.wrapping_add(value * high);
                fourth = fourth.wrapping_add(low * low);
                fourth_middle = fourth_middle.wrapping_add(low * high);
                fourth_high = fourth_high.wrapping_add(high * high);
            }
            let part = |value: u64, parts: u32| u128::from(value) << (PART_BITS * parts);
            total.first += i128::from(first);
            total.second += u128::from(second);
            total.third += part(third, 0) + part(third_high, 1);
            let (sum, has_more) = total.fourth.overflowing_add(part(fourth, 0) + part(fourth_middle, 1) * 2);
            let (sum, has_too) = sum.overflowing_add(part(fourth_high, 2));
            total.fourth = sum;
            total.overflows += u64::from(has_more) + u64::from(has_too);
        }
        self.sums.first += total.first;
        self.sums.second.add_unsigned(total.second);
        self.sums.third.add_unsigned(total.third);
        self.sums.fourth.add_unsigned(total.fourth);
        self.sums.fourth = self.sums.fourth + Int([0, 0, total.overflows, 0, 0]);
    }
}

/// Sums of powers of values that are not negative, below 2^29 and fewer than 2^40.
#[derive(Default)]
struct Narrow {
    first: i128,
    second: u128,
    third: u128,
    fourth: u128,
    overflows: u64,
}

impl PowerSums {
    /// Adds values.
    pub fn add(&mut self, values: impl Iterator<Item = i64> + Clone) {
        let mut rest = values;
        loop {
            let some = rest.clone().take(AT_ONCE);
            let (bits, count) = some.clone().fold((0, 0), |(bits, count), x| (bits | x.unsigned_abs(), count + 1));
            if count == 0 {
                return;
            }
            if bits < 1 << 29 {
                self.add_narrow(some)
            } else if bits < 1 << 32 {
                some.for_each(|value| self.add_medium(value))
            } else {
                some.for_each(|value| self.add_one(value))
            }
            if count < AT_ONCE {
                return;
            }
            rest.nth(AT_ONCE - 1);
        }
    }

    /// Adds values of a column.
    pub fn add_all(&mut self, set: InstructionSet, values: &[i64]) {
        on(set, AddAll { sums: self, values });
    }

    fn add_narrow(&mut self, values: impl Iterator<Item = i64>) {
        let (mut first, mut second, mut third, mut fourth) = (0i64, 0u128, 0i128, 0u128);
        for value in values {
            let square = (value * value) as u64;
            first += value;
            second += u128::from(square);
            third += i128::from(value) * i128::from(square);
            fourth += u128::from(square) * u128::from(square);
        }
        self.first += i128::from(first);
        self.second.add_unsigned(second);
        self.third.add_signed(third);
        self.fourth.add_unsigned(fourth);
    }

    /// Adds a value below 2^32.
    #[inline(always)]
    fn add_medium(&mut self, value: i64) {
        let size = value.unsigned_abs();
        let square = size * size;
        self.first += i128::from(value);
        self.second.add_unsigned(square.into());
        self.third.add_signed(i128::from(value) * i128::from(square));
        self.fourth.add_unsigned(u128::from(square) * u128::from(square));
    }

    fn add_one(&mut self, value: i64) {
        let size = value.unsigned_abs();
        let squared = u128::from(size) * u128::from(size);
        let cube = product(squared, size);
        self.first += i128::from(value);
        self.second.add_unsigned(squared);
        self.third = if value < 0 { self.third - cube } else { self.third + cube };
        self.fourth = self.fourth + square(squared);
    }

    /// `n^2` times the population variance.
    fn variance(&self, count: i128) -> Wide {
        self.second.by(count) - Wide::from(self.first).square()
    }

    /// Skewness of a population; `None` if all values are equal.
    pub fn skew(&self, count: u64) -> Option<f64> {
        let (n, first) = (i128::from(count), Int::<2>::from(self.first));
        let variance = self.variance(n).to_f64();
        let third = self.third.by(n).by(n) - self.second.times(&first).by(3 * n) + first.square().times(&first).by(2);
        (variance > 0.0).then(|| third.to_f64() / (variance * variance.sqrt()))
    }

    /// Excess kurtosis of a population; `None` if all values are equal.
    pub fn excess_kurtosis(&self, count: u64) -> Option<f64> {
        let (n, first) = (i128::from(count), Int::<2>::from(self.first));
        let (square, variance) = (first.square(), self.variance(n).to_f64());
        let fourth = self.fourth.by(n).by(n).by(n) - self.third.times(&first).by(n).by(4 * n)
            + self.second.times(&square).by(6 * n)
            - square.times(&square).by(3);
        (variance > 0.0).then(|| fourth.to_f64() / (variance * variance) - 3.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn narrow_and_wide_sums_agree(values in prop::collection::vec(-(1i64 << 29)..1 << 29, 1..50), shift in 0u32..6) {
            let (mut all, mut single) = (PowerSums::default(), PowerSums::default());
            let values: Vec<i64> = values.iter().map(|value| value << shift).collect();
            all.add(values.iter().copied());
            values.iter().for_each(|value| single.add_one(*value));
            prop_assert_eq!(all, single);
        }

        #[test]
        fn columns_are_added_as_single_values(values in prop::collection::vec(0i64..1 << 36, 0..300), shift in 0u32..30) {
            let values: Vec<i64> = values.iter().map(|value| value >> shift).collect();
            let mut single = PowerSums::default();
            values.iter().for_each(|value| single.add_one(*value));
            for set in InstructionSet::ALL.into_iter().filter(|set| *set <= InstructionSet::detected()) {
                let mut all = PowerSums::default();
                all.add_all(set, &values);
                prop_assert_eq!(all, single);
            }
        }

        #[test]
        fn powers_are_products(value in any::<i64>()) {
            let mut sums = PowerSums::default();
            sums.add([value].into_iter());
            let x = Int::<2>::from(i128::from(value));
            prop_assert_eq!(sums.second.wide(), x.square());
            prop_assert_eq!(sums.third.wide(), x.square().times(&x));
            prop_assert_eq!(sums.fourth.wide(), x.square().square());
        }
    }

    #[test]
    fn moments_by_hand() {
        let mut sums = PowerSums::default();
        sums.add([1, 2, 3, 4].into_iter());
        assert_eq!(sums.skew(4), Some(0.0));
        assert!((sums.excess_kurtosis(4).unwrap() + 1.36).abs() < 1e-15);
        let mut equal = PowerSums::default();
        equal.add([7; 5].into_iter());
        assert_eq!((equal.skew(5), equal.excess_kurtosis(5)), (None, None));
    }
}
