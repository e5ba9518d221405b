//! Computations with a body of their own.

/// A computation that is compiled once per instruction set.
pub trait Kernel {
    type Output;

    /// Computes; every implementation must be `#[inline(always)]`.
    fn run(self) -> Self::Output;
}
