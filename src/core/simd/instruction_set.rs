//! Run-time choice of the instruction set.

use std::sync::atomic::{AtomicU8, Ordering};

/// Instruction sets with kernels of their own.
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

    /// The widest instruction set of this processor.
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

    /// The instruction set in use: the forced one, or the widest.
    pub fn current() -> Self {
        match FORCED.load(Ordering::Relaxed) {
            1 => Self::Baseline,
            2 => Self::Avx2,
            3 => Self::Avx512,
            _ => Self::detected(),
        }
    }

    /// Forces an instruction set, for tests; `None` restores the automatic choice. Returns false if
    /// this processor does not have it.
    pub fn force(set: Option<Self>) -> bool {
        let is_possible = set.is_none_or(|set| set <= Self::detected());
        if is_possible {
            FORCED.store(set.map_or(0, |set| set as u8), Ordering::Relaxed);
        }
        is_possible
    }
}
