//! Order of a time column and of the spans of fills, in lanes.

const LANES: usize = 8;

/// Largest step between neighbouring times; `None` if a time decreases. Inlined into one function
/// per instruction set.
#[inline(always)]
pub fn scan_lanes(time: &[i64]) -> Option<u64> {
    let later = &time[time.len().min(1)..];
    let (blocks, rest) = later.as_chunks::<LANES>();
    let (before_blocks, _) = time.as_chunks::<LANES>();
    let (mut back, mut widest) = ([0i64; LANES], [0u64; LANES]);
    for (block, before) in blocks.iter().zip(before_blocks) {
        for lane in 0..LANES {
            back[lane] |= i64::from(block[lane] < before[lane]);
            widest[lane] = widest[lane].max(block[lane].wrapping_sub(before[lane]) as u64);
        }
    }
    let done = later.len() - rest.len();
    let mut is_back = back != [0; LANES];
    let mut step = widest.into_iter().fold(0, u64::max);
    for (value, before) in rest.iter().zip(&time[done..]) {
        is_back |= value < before;
        step = step.max(value.wrapping_sub(*before) as u64);
    }
    (!is_back).then_some(step)
}

/// Whether the fills of a record do not come after those of the record before it.
#[inline(always)]
pub fn is_overlapping_lanes(first: &[i64], last: &[i64]) -> bool {
    let later = first.get(1..).unwrap_or_default();
    // Without a branch, and over slices as they are, which compilers turn into vectors best.
    later.iter().zip(last).fold(0, |any, (first, before)| any | i64::from(first <= before)) != 0
}
