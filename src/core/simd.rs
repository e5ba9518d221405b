//! Run-time choice of the instruction set, and prefetch. All of the crate's `unsafe` is here.
//!
//! Each kernel is one generic body, compiled once per instruction set; the arithmetic is integer or
//! exact, so that every path gives the same bits.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering};

use super::bar::Sums;
use super::lanes::{QuickSpan, fold_lanes};
use super::order::scan_lanes;
use super::search::first_outside_lanes;

/// Instruction sets with a path of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum InstructionSet {
    Baseline = 1,
    Avx2 = 2,
    Avx512 = 3,
}

/// 0 while nothing is forced.
static FORCED: AtomicU8 = AtomicU8::new(0);

impl InstructionSet {
    pub const ALL: [Self; 3] = [Self::Baseline, Self::Avx2, Self::Avx512];

    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The widest set of this processor.
    pub fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("bmi2")
            {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }

    /// The set in use: the forced one, else the widest.
    pub fn current() -> Self {
        match FORCED.load(Ordering::Relaxed) {
            1 => Self::Baseline,
            2 => Self::Avx2,
            3 => Self::Avx512,
            _ => Self::detected(),
        }
    }

    /// Forces a set for tests, `None` frees the choice. False when this processor lacks it.
    pub fn force(set: Option<Self>) -> bool {
        let is_possible = set.is_none_or(|wanted| wanted <= Self::detected());
        if is_possible {
            FORCED.store(set.map_or(0, |wanted| wanted as u8), Ordering::Relaxed);
        }
        is_possible
    }
}

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

#[cfg(target_arch = "x86_64")]
mod paths {
    use super::{QuickSpan, Sums, first_outside_lanes, fold_lanes, scan_lanes};

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
    pub fn scan_avx2(time: &[i64]) -> Option<u64> {
        scan_lanes(time)
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub fn scan_avx512(time: &[i64]) -> Option<u64> {
        scan_lanes(time)
    }
}

/// The quick fold on the given set.
#[inline]
pub fn fold(set: InstructionSet, span: &QuickSpan) -> Option<Sums> {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: a set is only in use where the processor was seen to have its features.
        InstructionSet::Avx512 => return unsafe { paths::fold_avx512(span) },
        InstructionSet::Avx2 => return unsafe { paths::fold_avx2(span) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    fold_lanes(span)
}

/// Row of the first price not strictly between the bounds; the length where there is none.
#[inline]
pub fn first_outside(set: InstructionSet, price: &[f64], lower: f64, upper: f64) -> usize {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: as above.
        InstructionSet::Avx512 => return unsafe { paths::first_outside_avx512(price, lower, upper) },
        InstructionSet::Avx2 => return unsafe { paths::first_outside_avx2(price, lower, upper) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    first_outside_lanes(price, lower, upper)
}

/// Largest step between neighbouring times; `None` when one runs back.
#[inline]
pub fn widest_step(set: InstructionSet, time: &[i64]) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    match set {
        // SAFETY: as above.
        InstructionSet::Avx512 => return unsafe { paths::scan_avx512(time) },
        InstructionSet::Avx2 => return unsafe { paths::scan_avx2(time) },
        InstructionSet::Baseline => {}
    }
    let _ = set;
    scan_lanes(time)
}
