//! Number of calls of expressions in this process, for tests of what a plan runs.

use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Counts a call.
pub fn note() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

/// Calls so far.
pub fn count() -> u64 {
    CALLS.load(Ordering::Relaxed)
}
