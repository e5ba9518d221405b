//! Instructions that need no run-time choice: prefetch and interleave.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_unpackhi_epi64, _mm_unpacklo_epi64};

/// Prefetches the values themselves.
pub const HERE: usize = 0;
/// Prefetches the next cache line.
pub const NEXT_LINE: usize = 64;
/// Bytes to prefetch ahead of a single stream: hardware prefetch stops at the end of a page.
pub const ALONE: usize = 4_096;
/// Bytes to prefetch ahead of each of several streams.
pub const TOGETHER: usize = 512;

/// Prefetches the cache line `BYTES` after these values. It reads nothing, so any address is valid.
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

/// Interleaves words: the first words of both, and the second words of both.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn zip(a: __m128i, b: __m128i) -> (__m128i, __m128i) {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { (_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)) }
}
