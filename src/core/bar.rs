//! Bars: exact sums of consecutive records, mergeable in order.

/// Exact sums of consecutive records. Merging neighbours gives the sums of the whole, bit for bit,
/// so chunking cannot change a bar.
///
/// Volumes are on the 1e-8 grid, turnovers on the 1e-16 grid. A record is bought or sold by its
/// aggressor, or unsided where there was none. Buys are the total less the other two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub records: i64,
    pub open_time: i64,
    pub close_time: i64,
    pub open: i64,
    pub high: i64,
    pub low: i64,
    pub close: i64,
    pub fills: i64,
    pub sell_fills: i64,
    pub first_agg_id: i64,
    pub last_agg_id: i64,
    pub first_id: i64,
    pub last_id: i64,
    pub volume: i128,
    pub sell_volume: i128,
    pub turnover: i128,
    pub sell_turnover: i128,
    pub unsided_fills: i64,
    pub unsided_volume: i128,
    pub unsided_turnover: i128,
}

/// A sum that overflowed its integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    Turnover,
    Fills,
    /// Bars of one key and threshold.
    Bars,
}

impl Sums {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    #[inline]
    pub fn buy_fills(&self) -> i64 {
        self.fills - self.sell_fills - self.unsided_fills
    }

    #[inline]
    pub fn buy_volume(&self) -> i128 {
        self.volume - self.sell_volume - self.unsided_volume
    }

    #[inline]
    pub fn buy_turnover(&self) -> i128 {
        self.turnover - self.sell_turnover - self.unsided_turnover
    }

    /// Appends the sums of the records that follow.
    ///
    /// # Errors
    /// When the turnover overflows 128 bits or the fills overflow 64; `self` is then unchanged.
    #[inline]
    pub fn absorb(&mut self, next: &Sums) -> Result<(), Overflow> {
        if self.is_empty() {
            *self = *next;
            return Ok(());
        }
        let turnover = self.turnover.checked_add(next.turnover).ok_or(Overflow::Turnover)?;
        let fills = self.fills.checked_add(next.fills).ok_or(Overflow::Fills)?;
        self.turnover = turnover;
        self.fills = fills;
        // Parts of the sums above, so they cannot overflow.
        self.sell_turnover += next.sell_turnover;
        self.sell_fills += next.sell_fills;
        self.unsided_turnover += next.unsided_turnover;
        self.unsided_fills += next.unsided_fills;
        self.unsided_volume += next.unsided_volume;
        self.records += next.records;
        self.volume += next.volume;
        self.sell_volume += next.sell_volume;
        self.high = self.high.max(next.high);
        self.low = self.low.min(next.low);
        self.close = next.close;
        self.close_time = next.close_time;
        self.last_agg_id = next.last_agg_id;
        self.last_id = next.last_id;
        Ok(())
    }
}

/// What ended a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The price reached the band.
    Threshold,
    /// A calendar boundary.
    Reset,
    /// A gap longer than `max_gap`.
    Gap,
    /// A change of the bar id (aggregate).
    Run,
    /// Records that belong to no bar (aggregate).
    Discard,
}

/// A bar as it is emitted.
#[derive(Clone, Debug)]
pub struct Bar {
    pub sums: Sums,
    /// Input row that ended the bar, counted over all pushes.
    pub end_row: u64,
    /// Code of the key in order of first appearance.
    pub key: u32,
    /// Position of the threshold in the settings.
    pub threshold: u16,
    pub bar_id: u32,
    /// `None` while the bar is forming.
    pub ended_by: Option<Cause>,
    /// Values of the computed columns that were requested, if any, in the order of the catalogue.
    pub values: Option<Box<[u64]>>,
}
