//! Signed integers of 64 bits times any number, for sums of products that no native type holds.
//!
//! Arithmetic wraps as in any two's complement integer; callers choose widths at which it cannot.

use std::ops::{Add, Neg, Sub};

/// A two's complement integer of `N` words, the least significant first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int<const N: usize>(pub [u64; N]);

/// Wide enough for every final expression of a feature.
pub type Wide = Int<8>;

impl<const N: usize> Default for Int<N> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<const N: usize> From<i128> for Int<N> {
    #[inline]
    fn from(value: i128) -> Self {
        let mut words = [if value < 0 { u64::MAX } else { 0 }; N];
        words[0] = value as u64;
        if N > 1 {
            words[1] = (value >> 64) as u64;
        }
        Self(words)
    }
}

impl<const N: usize> Int<N> {
    pub const ZERO: Self = Self([0; N]);

    #[inline]
    pub fn is_negative(&self) -> bool {
        self.0[N - 1] >> 63 == 1
    }

    #[inline]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; N]
    }

    /// The same value in another width, which must hold it.
    #[inline]
    #[must_use]
    pub fn to<const M: usize>(&self) -> Int<M> {
        let mut words = [if self.is_negative() { u64::MAX } else { 0 }; M];
        for (word, own) in words.iter_mut().zip(&self.0) {
            *word = *own;
        }
        Int(words)
    }

    #[inline]
    pub fn wide(&self) -> Wide {
        self.to()
    }

    /// The value, if it fits two words.
    #[inline]
    pub fn narrow(&self) -> Option<i128> {
        let value = (u128::from(self.0[0]) | u128::from(*self.0.get(1)?) << 64) as i128;
        let sign = if value < 0 { u64::MAX } else { 0 };
        self.0[2..].iter().all(|word| *word == sign).then_some(value)
    }

    /// Adds an unsigned integer of two words.
    #[inline]
    pub fn add_unsigned(&mut self, value: u128) {
        let (low, carry) = self.0[0].overflowing_add(value as u64);
        self.0[0] = low;
        let (high, first) = self.0[1].overflowing_add((value >> 64) as u64);
        let (high, second) = high.overflowing_add(u64::from(carry));
        self.0[1] = high;
        self.carry(2, first | second);
    }

    /// Adds a signed integer of two words.
    #[inline]
    pub fn add_signed(&mut self, value: i128) {
        self.add_unsigned(value as u128);
        if value < 0 {
            // Minus one in the words above.
            for word in &mut self.0[2..] {
                let (next, has_borrowed) = word.overflowing_sub(1);
                *word = next;
                if !has_borrowed {
                    break;
                }
            }
        }
    }

    /// Adds the square of an integer of two words.
    #[inline]
    pub fn add_square(&mut self, value: i128) {
        match u64::try_from(value.unsigned_abs()) {
            Ok(narrow) => self.add_unsigned(u128::from(narrow) * u128::from(narrow)),
            Err(_) => *self = *self + Int::<2>::from(value).square().to(),
        }
    }

    /// Adds a product.
    #[inline]
    pub fn add_product(&mut self, left: i64, right: i128) {
        match i64::try_from(right) {
            Ok(narrow) => self.add_signed(i128::from(left) * i128::from(narrow)),
            Err(_) => *self = *self + Int::<2>::from(right).by(left.into()).to(),
        }
    }

    #[inline]
    fn carry(&mut self, from: usize, mut is_set: bool) {
        for word in self.0.iter_mut().skip(from) {
            if !is_set {
                break;
            }
            (*word, is_set) = word.overflowing_add(1);
        }
    }

    /// The absolute value and whether the number is negative.
    #[inline]
    fn magnitude(self) -> (Self, bool) {
        if self.is_negative() { (-self, true) } else { (self, false) }
    }

    #[inline]
    fn used(&self) -> usize {
        self.0.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1)
    }

    /// The product, which must fit [`Wide`].
    pub fn times<const M: usize>(&self, other: &Int<M>) -> Wide {
        let ((left, is_minus), (right, is_other_minus)) = (self.magnitude(), other.magnitude());
        let mut words = [0u64; 8];
        for (at, word) in left.0[..left.used()].iter().enumerate() {
            let mut carry = 0u128;
            let used = right.used();
            for (offset, factor) in right.0[..used].iter().enumerate() {
                let Some(out) = words.get_mut(at + offset) else { break };
                carry += u128::from(*word) * u128::from(*factor) + u128::from(*out);
                *out = carry as u64;
                carry >>= 64;
            }
            if let Some(out) = words.get_mut(at + used) {
                *out = carry as u64;
            }
        }
        if is_minus != is_other_minus { -Int(words) } else { Int(words) }
    }

    /// The product with an integer of two words.
    #[inline]
    pub fn by(&self, factor: i128) -> Wide {
        match u64::try_from(factor.unsigned_abs()) {
            Ok(size) => self.by_word(size, factor < 0),
            Err(_) => self.times(&Int::<2>::from(factor)),
        }
    }

    /// The product with one word, or its negative.
    fn by_word(&self, factor: u64, is_minus: bool) -> Wide {
        let (size, is_negative) = self.magnitude();
        let mut words = [0u64; 8];
        let mut carry = 0u128;
        for (out, word) in words.iter_mut().zip(size.0) {
            carry += u128::from(word) * u128::from(factor);
            *out = carry as u64;
            carry >>= 64;
        }
        if let Some(out) = words.get_mut(N) {
            *out = carry as u64;
        }
        if is_negative == is_minus { Int(words) } else { -Int(words) }
    }

    pub fn square(&self) -> Wide {
        self.times(self)
    }

    /// The nearest double, ties to even.
    pub fn to_f64(&self) -> f64 {
        let (size, is_minus) = self.magnitude();
        let used = size.used();
        let rounded = match used {
            0 => 0.0,
            1 => size.0[0] as f64,
            _ => {
                let (high, low) = (size.0[used - 1], size.0[used - 2]);
                let zeros = high.leading_zeros();
                let top = if zeros == 0 { high } else { high << zeros | low >> (64 - zeros) };
                let lost = if zeros == 0 { low } else { low << zeros };
                let is_inexact = lost != 0 || size.0[..used - 2].iter().any(|word| *word != 0);
                // The last of 64 bits is below the last place of the result, so it can be sticky.
                (top | u64::from(is_inexact)) as f64 * power_of_two(64 * (used as u32 - 1) - zeros)
            }
        };
        if is_minus { -rounded } else { rounded }
    }
}

#[inline]
fn power_of_two(exponent: u32) -> f64 {
    f64::from_bits(u64::from(exponent + 1023) << 52)
}

impl<const N: usize> Add for Int<N> {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        let mut words = self.0;
        let mut carry = 0;
        for (word, addend) in words.iter_mut().zip(other.0) {
            let sum = u128::from(*word) + u128::from(addend) + carry;
            (*word, carry) = (sum as u64, sum >> 64);
        }
        Self(words)
    }
}

impl<const N: usize> Neg for Int<N> {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        let mut negated = Self(self.0.map(|word| !word));
        negated.carry(0, true);
        negated
    }
}

impl<const N: usize> Sub for Int<N> {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from_parts(high: i128, low: u128) -> Int<4> {
        let mut value = Int::<4>([0, 0, high as u64, (high >> 64) as u64]);
        value.add_unsigned(low);
        value
    }

    #[test]
    fn halves_go_to_even() {
        let tie = |last: i128| Int::<4>::from((1i128 << 100) + (last << 47));
        // The last place of 2^100 is 2^48.
        assert_eq!(tie(1).to_f64(), 2f64.powi(100));
        assert_eq!(tie(3).to_f64(), (2f64.powi(52) + 2.0) * 2f64.powi(48));
        let above = tie(1) + Int::from(1i128);
        assert_eq!(above.to_f64(), (2f64.powi(52) + 1.0) * 2f64.powi(48));
        assert_eq!((-above).to_f64(), -above.to_f64());
    }

    proptest! {
        #[test]
        fn native_results_agree(left in any::<i64>(), right in any::<i64>(), shift in 0u32..60, value in any::<i128>()) {
            let (a, b) = (i128::from(left >> shift), i128::from(right));
            let (x, y) = (Int::<3>::from(a), Int::<5>::from(b));
            prop_assert_eq!(x.times(&y), Wide::from(a * b));
            prop_assert_eq!(x.wide() - y.wide(), Wide::from(a - b));
            prop_assert_eq!(Int::<3>::from(value).to_f64(), value as f64);
            prop_assert_eq!(Int::<3>::from(value).narrow(), Some(value));
            prop_assert_eq!(x.times(&y).times(&Int::<2>::from(1i128 << 70)).narrow(), (a * b).checked_mul(1 << 70));
            let mut sum = x;
            sum.add_signed(value >> 1);
            prop_assert_eq!(sum.wide(), Wide::from(a) + Wide::from(value >> 1));
        }

        #[test]
        fn products_distribute(a in any::<(i128, u128)>(), b in any::<(i128, u128)>(), c in any::<i128>()) {
            let (a, b) = (from_parts(a.0 >> 4, a.1), from_parts(b.0 >> 4, b.1));
            prop_assert_eq!((a + b).by(c), a.by(c) + b.by(c));
            prop_assert_eq!((a - b).by(c), a.by(c) - b.by(c));
            prop_assert_eq!(a.times(&b), b.times(&a));
            for factor in [c, c >> 63, c >> 64, c >> 100] {
                prop_assert_eq!(a.by(factor), a.times(&Int::<2>::from(factor)));
            }
            prop_assert_eq!((a.wide() + b.wide() - b.wide()).to::<4>(), a);
        }
    }
}
