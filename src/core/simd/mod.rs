//! Vector kernels, chosen at run time. All `unsafe` code of the crate is in this folder.
//!
//! Each kernel is one generic body, compiled once per instruction set; the arithmetic is integer or
//! exact, so that every path gives the same bits.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx;
pub mod fold;
mod instruction_set;
pub mod intrinsics;
mod kernel;
pub mod order;
pub mod search;
pub mod transpose;

pub use crate::core::simd::instruction_set::InstructionSet;
pub use crate::core::simd::kernel::Kernel;

use crate::core::bar::Sums;
use crate::core::simd::fold::{QuickSpan, fold_lanes};
use crate::core::simd::order::{is_overlapping_lanes, scan_lanes};
use crate::core::simd::search::{first_extreme_lanes, first_outside_lanes};
use crate::core::simd::transpose::{Baseline, Record, Spreading, Unpacked, spread_lanes, unpack_lanes};

/// Runs a computation on an instruction set.
#[inline]
pub fn on<K: Kernel>(set: InstructionSet, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: an instruction set is used only after its features were detected.
        InstructionSet::Avx512 => return unsafe { avx::run_avx512(kernel) },
        InstructionSet::Avx2 => return unsafe { avx::run_avx2(kernel) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    kernel.run()
}

/// Folds a span on an instruction set; `None` if it must be folded record by record.
#[inline]
pub fn fold(set: InstructionSet, span: &QuickSpan) -> Option<Sums> {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: an instruction set is used only after its features were detected.
        InstructionSet::Avx512 => return unsafe { avx::fold_avx512(span) },
        InstructionSet::Avx2 => return unsafe { avx::fold_avx2(span) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    fold_lanes(span)
}

/// Row of the first price not strictly between the bounds; the length if there is none.
#[inline]
pub fn first_outside(set: InstructionSet, price: &[f64], lower: f64, upper: f64) -> usize {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: as above.
        InstructionSet::Avx512 => return unsafe { avx::first_outside_avx512(price, lower, upper) },
        InstructionSet::Avx2 => return unsafe { avx::first_outside_avx2(price, lower, upper) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    first_outside_lanes(price, lower, upper)
}

/// Number of rows in whole blocks before the first block with a price above `high` or below `low`.
#[inline]
pub fn first_extreme(set: InstructionSet, price: &[f64], high: f64, low: f64) -> usize {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: as above.
        InstructionSet::Avx512 => return unsafe { avx::first_extreme_avx512(price, high, low) },
        InstructionSet::Avx2 => return unsafe { avx::first_extreme_avx2(price, high, low) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    first_extreme_lanes(price, high, low)
}

/// Largest step between neighbouring times; `None` if a time decreases.
#[inline]
pub fn widest_step(set: InstructionSet, time: &[i64]) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: as above.
        InstructionSet::Avx512 => return unsafe { avx::scan_avx512(time) },
        InstructionSet::Avx2 => return unsafe { avx::scan_avx2(time) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    scan_lanes(time)
}

/// Whether the fills of a record do not come after those of the record before it.
#[inline]
pub fn is_overlapping(set: InstructionSet, first: &[i64], last: &[i64]) -> bool {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: as above.
        InstructionSet::Avx512 => return unsafe { avx::is_overlapping_avx512(first, last) },
        InstructionSet::Avx2 => return unsafe { avx::is_overlapping_avx2(first, last) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    is_overlapping_lanes(first, last)
}

/// Puts rows into their buckets. Returns the first row whose bucket is full.
#[inline]
pub fn spread(set: InstructionSet, spreading: &mut Spreading) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: as above.
        InstructionSet::Avx512 => return unsafe { avx::spread_avx512(spreading) },
        InstructionSet::Avx2 => return unsafe { avx::spread_avx2(spreading) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    spread_lanes::<Baseline>(spreading)
}

/// Transposes records back into columns.
#[inline]
pub fn unpack(set: InstructionSet, records: &[Record], has_ids: bool, out: &mut Unpacked) {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: as above.
        InstructionSet::Avx512 => return unsafe { avx::unpack_avx512(records, has_ids, out) },
        InstructionSet::Avx2 => return unsafe { avx::unpack_avx2(records, has_ids, out) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    unpack_lanes::<Baseline>(records, has_ids, out);
}
