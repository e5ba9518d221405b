//! Quotients of exact sums as doubles.

use crate::core::arithmetic::wide::Int;

/// `numerator / denominator`; `None` if the denominator is 0.
#[inline]
pub fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator != 0.0).then(|| numerator / denominator)
}

/// [`ratio`], at most 1 and at least -1: rounding alone must not carry it further.
#[inline]
pub fn signed_share(numerator: f64, denominator: f64) -> Option<f64> {
    ratio(numerator, denominator).map(|value| value.clamp(-1.0, 1.0))
}

/// [`ratio`] in [0, 1].
#[inline]
pub fn share(numerator: f64, denominator: f64) -> Option<f64> {
    ratio(numerator, denominator).map(|value| value.clamp(0.0, 1.0))
}

/// `n` times the population standard deviation of `n` values with these sums.
pub fn scaled_deviation(count: i128, sum: i128, squares: &Int<3>) -> f64 {
    (squares.by(count) - Int::<2>::from(sum).square()).to_f64().sqrt()
}
