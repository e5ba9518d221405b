//! The kernels compiled for AVX2 and AVX-512.

use std::arch::x86_64::*;

use crate::core::bar::Sums;
use crate::core::simd::fold::{QuickSpan, fold_lanes};
use crate::core::simd::kernel::Kernel;
use crate::core::simd::order::{is_overlapping_lanes, scan_lanes};
use crate::core::simd::search::{first_extreme_lanes, first_outside_lanes};
use crate::core::simd::transpose::{HALF, LANES, Lines, Record, Spreading, Unpacked, spread_lanes, unpack_lanes};

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn fold_avx2(span: &QuickSpan) -> Option<Sums> {
    fold_lanes(span)
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn fold_avx512(span: &QuickSpan) -> Option<Sums> {
    fold_lanes(span)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn first_outside_avx2(price: &[f64], lower: f64, upper: f64) -> usize {
    first_outside_lanes(price, lower, upper)
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn first_outside_avx512(price: &[f64], lower: f64, upper: f64) -> usize {
    first_outside_lanes(price, lower, upper)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn first_extreme_avx2(price: &[f64], high: f64, low: f64) -> usize {
    first_extreme_lanes(price, high, low)
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn first_extreme_avx512(price: &[f64], high: f64, low: f64) -> usize {
    first_extreme_lanes(price, high, low)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn scan_avx2(time: &[i64]) -> Option<u64> {
    scan_lanes(time)
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn scan_avx512(time: &[i64]) -> Option<u64> {
    scan_lanes(time)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn is_overlapping_avx2(first: &[i64], last: &[i64]) -> bool {
    is_overlapping_lanes(first, last)
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn is_overlapping_avx512(first: &[i64], last: &[i64]) -> bool {
    is_overlapping_lanes(first, last)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn spread_avx2(spreading: &mut Spreading) -> Option<usize> {
    spread_lanes::<Avx2>(spreading)
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn spread_avx512(spreading: &mut Spreading) -> Option<usize> {
    spread_lanes::<Avx512>(spreading)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn unpack_avx2(records: &[Record], has_ids: bool, out: &mut Unpacked) {
    unpack_lanes::<Avx2>(records, has_ids, out);
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn unpack_avx512(records: &[Record], has_ids: bool, out: &mut Unpacked) {
    unpack_lanes::<Avx512>(records, has_ids, out);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

struct Avx2;

/// SAFETY of all blocks: used only by the functions above, which enable the features. Loads and
/// stores are of whole arrays and need no alignment.
impl Lines for Avx2 {
    type Line = [__m256i; 2];

    #[inline(always)]
    fn load(words: &[u64; LANES]) -> Self::Line {
        let words: *const __m256i = words.as_ptr().cast();
        unsafe { [_mm256_loadu_si256(words), _mm256_loadu_si256(words.add(1))] }
    }

    #[inline(always)]
    fn marks(row: u64, sides: u8) -> Self::Line {
        unsafe { [marks_avx2(row, sides), marks_avx2(row + 4, sides >> 4)] }
    }

    #[inline(always)]
    fn transpose(lines: [Self::Line; LANES]) -> [Self::Line; LANES] {
        unsafe { transpose_avx2(lines) }
    }

    #[inline(always)]
    fn store(line: Self::Line, words: &mut [u64; LANES]) {
        let words: *mut __m256i = words.as_mut_ptr().cast();
        unsafe {
            _mm256_storeu_si256(words, line[0]);
            _mm256_storeu_si256(words.add(1), line[1]);
        }
    }

    #[inline(always)]
    fn load_half(words: &[u64; HALF]) -> Self::Line {
        unsafe { [_mm256_loadu_si256(words.as_ptr().cast()); 2] }
    }

    #[inline(always)]
    fn store_half(line: Self::Line, words: &mut [u64; HALF]) {
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), line[0]) }
    }
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn marks_avx2(row: u64, sides: u8) -> __m256i {
    let bits = _mm256_srlv_epi64(_mm256_set1_epi64x(i64::from(sides)), _mm256_set_epi64x(3, 2, 1, 0));
    let rows = _mm256_add_epi64(_mm256_set1_epi64x((row << 1) as i64), _mm256_set_epi64x(6, 4, 2, 0));
    _mm256_or_si256(rows, _mm256_and_si256(bits, _mm256_set1_epi64x(1)))
}

/// Transposes four squares of four words, and exchanges the two off the diagonal.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn transpose_avx2(lines: [[__m256i; 2]; LANES]) -> [[__m256i; 2]; LANES] {
    let mut transposed = lines;
    for (side, other) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let row = side * 4;
        let (a, b, c, d) = (lines[row][other], lines[row + 1][other], lines[row + 2][other], lines[row + 3][other]);
        let (ab, cd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d));
        let (odd_ab, odd_cd) = (_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d));
        let row = other * 4;
        transposed[row][side] = _mm256_permute2x128_si256::<0x20>(ab, cd);
        transposed[row + 1][side] = _mm256_permute2x128_si256::<0x20>(odd_ab, odd_cd);
        transposed[row + 2][side] = _mm256_permute2x128_si256::<0x31>(ab, cd);
        transposed[row + 3][side] = _mm256_permute2x128_si256::<0x31>(odd_ab, odd_cd);
    }
    transposed
}

struct Avx512;

/// Shuffle masks for the even and the odd pairs of words.
const EVEN: i32 = 0x88;
const ODD: i32 = 0xdd;

/// SAFETY of all blocks: as for [`Avx2`].
impl Lines for Avx512 {
    type Line = __m512i;

    #[inline(always)]
    fn load(words: &[u64; LANES]) -> Self::Line {
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }

    #[inline(always)]
    fn marks(row: u64, sides: u8) -> Self::Line {
        unsafe { marks_avx512(row, sides) }
    }

    #[inline(always)]
    fn transpose(lines: [Self::Line; LANES]) -> [Self::Line; LANES] {
        unsafe { transpose_avx512(lines) }
    }

    #[inline(always)]
    fn store(line: Self::Line, words: &mut [u64; LANES]) {
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), line) }
    }

    #[inline(always)]
    fn load_half(words: &[u64; HALF]) -> Self::Line {
        unsafe { _mm512_castsi256_si512(_mm256_loadu_si256(words.as_ptr().cast())) }
    }

    #[inline(always)]
    fn store_half(line: Self::Line, words: &mut [u64; HALF]) {
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), _mm512_castsi512_si256(line)) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
fn marks_avx512(row: u64, sides: u8) -> __m512i {
    let rows = _mm512_set1_epi64((row << 1) as i64);
    let rows = _mm512_add_epi64(rows, _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0));
    _mm512_mask_add_epi64(rows, sides, rows, _mm512_set1_epi64(1))
}

/// Transposes in three steps, by words, pairs of words and groups of four.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
fn transpose_avx512(w: [__m512i; LANES]) -> [__m512i; LANES] {
    let (even_01, odd_01) = (_mm512_unpacklo_epi64(w[0], w[1]), _mm512_unpackhi_epi64(w[0], w[1]));
    let (even_23, odd_23) = (_mm512_unpacklo_epi64(w[2], w[3]), _mm512_unpackhi_epi64(w[2], w[3]));
    let (even_45, odd_45) = (_mm512_unpacklo_epi64(w[4], w[5]), _mm512_unpackhi_epi64(w[4], w[5]));
    let (even_67, odd_67) = (_mm512_unpacklo_epi64(w[6], w[7]), _mm512_unpackhi_epi64(w[6], w[7]));
    let (a, b) = (_mm512_shuffle_i64x2::<EVEN>(even_01, even_23), _mm512_shuffle_i64x2::<EVEN>(even_45, even_67));
    let (c, d) = (_mm512_shuffle_i64x2::<EVEN>(odd_01, odd_23), _mm512_shuffle_i64x2::<EVEN>(odd_45, odd_67));
    let (e, f) = (_mm512_shuffle_i64x2::<ODD>(even_01, even_23), _mm512_shuffle_i64x2::<ODD>(even_45, even_67));
    let (g, h) = (_mm512_shuffle_i64x2::<ODD>(odd_01, odd_23), _mm512_shuffle_i64x2::<ODD>(odd_45, odd_67));
    let [first, second] = [_mm512_shuffle_i64x2::<EVEN>(a, b), _mm512_shuffle_i64x2::<EVEN>(c, d)];
    let [third, fourth] = [_mm512_shuffle_i64x2::<EVEN>(e, f), _mm512_shuffle_i64x2::<EVEN>(g, h)];
    [
        first,
        second,
        third,
        fourth,
        _mm512_shuffle_i64x2::<ODD>(a, b),
        _mm512_shuffle_i64x2::<ODD>(c, d),
        _mm512_shuffle_i64x2::<ODD>(e, f),
        _mm512_shuffle_i64x2::<ODD>(g, h),
    ]
}
