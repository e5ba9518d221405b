//! A value for use by several threads, one at a time, and safe after a fork.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::frames::error::FrameError;

/// Bits of the number of threads; the bits above them hold the process id.
const COUNT_BITS: u32 = 32;

/// A mutex that detects whether a fork copied it while it was in use.
///
/// A forked child has the memory of its parent but not its threads. A mutex that another thread held
/// stays locked for ever, and its value may be inconsistent. Therefore the threads that hold or await
/// the mutex are counted together with their process id in one word, which a child can check.
#[derive(Debug)]
pub struct Exclusive<T> {
    users: AtomicU64,
    value: Mutex<T>,
}

/// Counts a thread until it is dropped.
struct Turn<'a>(&'a AtomicU64);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T> Exclusive<T> {
    pub fn new(value: T) -> Self {
        Self { users: AtomicU64::new(0), value: Mutex::new(value) }
    }

    fn turn(&self) -> Result<Turn<'_>, FrameError> {
        let own = u64::from(process::id()) << COUNT_BITS;
        let count = |word: u64| word & ((1 << COUNT_BITS) - 1);
        let joined = self.users.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| match count(word) {
            0 => Some(own | 1),
            _ if word >> COUNT_BITS == own >> COUNT_BITS => Some(word + 1),
            _ => None,
        });
        match joined {
            Ok(_) => Ok(Turn(&self.users)),
            Err(_) => Err(FrameError::Forked(
                "the builder was in use in another thread when this process was forked, so its state is lost here\n\n\
                 hint: take a `checkpoint()` before the fork and resume from it, or start processes with \"spawn\""
                    .to_owned(),
            )),
        }
    }

    /// Runs a function on the value, exclusively. The caller must have released the GIL: a thread that
    /// waits here with the GIL would block the thread that works.
    ///
    /// # Errors
    /// In a process that was forked while another thread used the value.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Result<R, FrameError> {
        let _turn = self.turn()?;
        // The lock is poisoned only by a bug of the core, which does not panic on user data.
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work(&mut value))
    }
}
