//! Orders: maximal runs of consecutive records of one time and side, which is what one taker sent.

use crate::core::sample::records::Piece;

/// An order, with what changed since the order before it in the sample. A line of the cache holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub size: i128,
    /// Last price.
    pub price: i64,
    /// First price less the last price of the order before; 0 for the first order, as below.
    pub gap: i64,
    /// Last price less that of the order before.
    pub change: i64,
    /// Time since the order before.
    pub interval: u64,
    pub side: i8,
    /// Side of the order before.
    pub side_before: i8,
    /// Whether it has several records.
    pub is_sweep: bool,
}

/// Consecutive orders of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Orders<'a> {
    pub list: &'a [Order],
    /// Orders of the sample before these.
    pub count: u64,
    /// Whether every number of these orders is so small that sums of products of two of them, one for each
    /// order, fit an `i128`.
    pub is_narrow: bool,
}

/// Orders that are passed on at once, so that they stay in the cache.
pub const ORDERS_AT_ONCE: usize = 256;
/// Bits of the numbers of narrow orders: 2 · 59 and 8 for the number of orders are below 127.
const NARROW_BITS: u32 = 59;

impl<'a> Orders<'a> {
    /// At most [`ORDERS_AT_ONCE`] orders, which `count` others of the sample precede.
    pub fn new(list: &'a [Order], count: u64) -> Self {
        let bits = list.iter().fold(0, |bits, order| {
            let [change, gap] = [order.change, order.gap].map(i64::unsigned_abs);
            bits | u128::from(change | gap | order.interval) | order.size.unsigned_abs()
        });
        Self { list, count, is_narrow: bits >> NARROW_BITS == 0 }
    }

    /// The orders that have one before them.
    #[inline]
    pub fn later(&self) -> &'a [Order] {
        if self.count == 0 { self.list.get(1..).unwrap_or_default() } else { self.list }
    }
}

/// Joins the records of a sample into orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderCutter {
    /// Orders that have ended.
    pub count: u64,
    /// Whether there is a last order, which the next record may continue, and its time.
    pub is_open: bool,
    pub time: i64,
    pub last: Order,
}

impl OrderCutter {
    /// Orders of the sample so far.
    pub fn total(&self) -> u64 {
        self.count + u64::from(self.is_open)
    }

    /// Cuts records into orders and passes on those that ended, a few at a time.
    #[inline]
    pub fn cut(&mut self, piece: &Piece, buffer: &mut Vec<Order>, pass: impl FnMut(&Orders)) {
        let prices = piece.time.iter().zip(piece.price);
        match (piece.size.is_empty(), piece.side.is_empty()) {
            (true, true) => self.run(prices.map(|(time, price)| (*time, *price, 0, 0)), buffer, pass),
            (true, false) => {
                let records = prices.zip(piece.side);
                self.run(records.map(|((time, price), side)| (*time, *price, 0, *side)), buffer, pass);
            }
            (false, true) => {
                let records = prices.zip(piece.size);
                self.run(records.map(|((time, price), size)| (*time, *price, *size, 0)), buffer, pass);
            }
            (false, false) => {
                let records = prices.zip(piece.size).zip(piece.side);
                let record = |(((time, price), size), side): (((&i64, &i64), &i64), &i8)| (*time, *price, *size, *side);
                self.run(records.map(record), buffer, pass);
            }
        }
    }

    #[inline(always)]
    fn run(
        &mut self,
        mut records: impl Iterator<Item = (i64, i64, i64, i8)>,
        buffer: &mut Vec<Order>,
        mut pass: impl FnMut(&Orders),
    ) {
        if !self.is_open {
            let Some((time, price, size, side)) = records.next() else { return };
            (self.is_open, self.time) = (true, time);
            self.last = Order { size: size.into(), price, side, ..Order::default() };
        }
        buffer.resize(ORDERS_AT_ONCE + 1, Order::default());
        let Self { mut count, mut time, last, .. } = *self;
        let Order { mut size, mut price, mut gap, mut change, mut interval, mut side, mut side_before, .. } = last;
        // The last order is written again and again, and stays once another one begins: without a branch that
        // depends on the trades. That of the first order of the sample has no change.
        let mut ended = 0;
        let mut is_later = i64::from(count > 0);
        buffer[0] = last;
        for (next_time, next_price, more, next_side) in records {
            let is_new = (time != next_time) | (side != next_side);
            let step = next_price.wrapping_sub(price);
            let moved = change.wrapping_add(step.wrapping_mul(is_later));
            size = if is_new { 0 } else { size } + i128::from(more);
            gap = if is_new { step } else { gap };
            change = if is_new { step } else { moved };
            interval = if is_new { next_time.wrapping_sub(time) as u64 } else { interval };
            side_before = if is_new { side } else { side_before };
            (time, price, side) = (next_time, next_price, next_side);
            is_later |= i64::from(is_new);
            ended += usize::from(is_new);
            if ended == ORDERS_AT_ONCE {
                pass(&Orders::new(&buffer[..ended], count));
                count += ended as u64;
                ended = 0;
            }
            // Field by field: all of them are in registers.
            let slot = &mut buffer[ended];
            slot.size = size;
            slot.price = price;
            slot.gap = gap;
            slot.change = change;
            slot.interval = interval;
            slot.side = side;
            slot.side_before = side_before;
            slot.is_sweep = !is_new;
        }
        let last = buffer[ended];
        if ended > 0 {
            pass(&Orders::new(&buffer[..ended], count));
        }
        *self = Self { count: count + ended as u64, is_open: true, time, last };
    }
}
