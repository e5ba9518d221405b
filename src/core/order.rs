//! Order inside a chunk: times must not decrease, ids must increase.

use super::simd;

/// What a pass over the order columns saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderScan {
    pub is_ordered: bool,
    /// Largest step between neighbouring times; meaningful when ordered.
    pub widest_step: u64,
}

/// The pass itself; inlined into one function per instruction set.
#[inline(always)]
pub fn scan_lanes(time: &[i64], ids: Option<&[i64]>) -> OrderScan {
    let (is_time_ordered, widest_step) = scan_time(time);
    let is_ordered = is_time_ordered && ids.is_none_or(scan_ids);
    OrderScan { is_ordered, widest_step }
}

#[inline(always)]
fn scan_time(time: &[i64]) -> (bool, u64) {
    const LANES: usize = 8;
    let mut back = [false; LANES];
    let mut widest = [0u64; LANES];
    let later = &time[time.len().min(1)..];
    let (blocks, rest) = later.as_chunks::<LANES>();
    let (before_blocks, _) = time.as_chunks::<LANES>();
    for (row, (block, before)) in blocks.iter().zip(before_blocks).enumerate() {
        simd::prefetch(time, row * LANES);
        for lane in 0..LANES {
            back[lane] |= block[lane] < before[lane];
            widest[lane] = widest[lane].max(block[lane].wrapping_sub(before[lane]) as u64);
        }
    }
    let mut is_back = back.iter().any(|lane| *lane);
    let mut widest_step = widest.iter().copied().max().unwrap_or(0);
    let done = later.len() - rest.len();
    for (value, before) in rest.iter().zip(&time[done..]) {
        is_back |= value < before;
        widest_step = widest_step.max(value.wrapping_sub(*before) as u64);
    }
    (!is_back, widest_step)
}

#[inline(always)]
fn scan_ids(ids: &[i64]) -> bool {
    const LANES: usize = 8;
    let mut back = [false; LANES];
    let later = &ids[ids.len().min(1)..];
    let (blocks, rest) = later.as_chunks::<LANES>();
    let (before_blocks, _) = ids.as_chunks::<LANES>();
    for (row, (block, before)) in blocks.iter().zip(before_blocks).enumerate() {
        simd::prefetch(ids, row * LANES);
        for lane in 0..LANES {
            back[lane] |= block[lane] <= before[lane];
        }
    }
    let done = later.len() - rest.len();
    !back.iter().any(|lane| *lane) && rest.iter().zip(&ids[done..]).all(|(value, before)| value > before)
}
