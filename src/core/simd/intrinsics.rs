//! Instructions that every processor of a kind has: prefetch, and pairs of words.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_unpackhi_epi64, _mm_unpacklo_epi64};

/// The values themselves.
pub const HERE: usize = 0;
/// What follows a cache line of values.
pub const NEXT_LINE: usize = 64;
/// How far ahead a stream of its own is fetched, in bytes: hardware prefetch stops at page ends.
pub const ALONE: usize = 4_096;
/// How far ahead each of several streams read together is fetched.
pub const TOGETHER: usize = 512;

/// Asks for the cache line `BYTES` after these values. Reads nothing, so any address will do.
#[inline(always)]
pub fn prefetch<const BYTES: usize, T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = values.as_ptr().cast::<i8>().wrapping_add(BYTES);
        // SAFETY: a prefetch is a hint; it cannot fault and changes no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// The first words of both and the second words of both.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn zip(a: __m128i, b: __m128i) -> (__m128i, __m128i) {
    // SAFETY: every processor of this kind has the instructions.
    unsafe { (_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)) }
}
