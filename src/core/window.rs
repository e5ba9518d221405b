//! The look-back window: which records before the opening of a bar it holds.

use crate::core::time::TimeUnit;

/// Most records of a window; a longer one is cut to its newest.
pub const LONGEST_WINDOW: u64 = 10_000;
/// Most bars of a window.
pub const MOST_BARS: u64 = 100;

/// Extent of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// So many records.
    Records(u64),
    /// The records since the opening of the last bar but so many.
    Bars(u64),
    /// The records of so many units of time.
    Time(u64),
}

impl Window {
    /// The window of a duration.
    pub fn of_nanoseconds(nanoseconds: u64, unit: TimeUnit) -> Self {
        Self::Time(nanoseconds / unit.nanoseconds().unsigned_abs())
    }

    /// Whether a window may have been cut to [`LONGEST_WINDOW`] records: one of a number of records never is.
    pub fn is_cut(&self, records: u64) -> bool {
        !matches!(self, Self::Records(_)) && records == LONGEST_WINDOW
    }

    /// Most records of such a window.
    pub fn most_records(&self) -> u64 {
        match self {
            Self::Records(records) => (*records).min(LONGEST_WINDOW),
            Self::Bars(_) | Self::Time(_) => LONGEST_WINDOW,
        }
    }
}

/// Opening records of the last closed bars of a stretch, for windows of bars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openings(pub Vec<u64>);

impl Openings {
    /// Adds the opening of a bar that has closed, and keeps the last few.
    pub fn add(&mut self, position: u64, most: u64) {
        self.0.push(position);
        let surplus = self.0.len().saturating_sub(most as usize);
        self.0.drain(..surplus);
    }

    /// Forgets bars of earlier stretches.
    pub fn start_stretch(&mut self, position: u64) {
        self.0.retain(|opened| *opened >= position);
    }

    /// First record of the window of a bar that opens now; `None` if no bar of the stretch has closed.
    pub fn first(&self) -> Option<u64> {
        self.0.first().copied()
    }

    /// What [`Self::first`] will be when the bar that opened at `forming` has closed.
    pub fn first_after(&self, forming: u64, most: u64) -> u64 {
        let is_full = self.0.len() as u64 >= most;
        self.0.get(usize::from(is_full)).copied().unwrap_or(forming)
    }
}
