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
    /// Orders, at most [`ORDERS_AT_ONCE`], after so many others of the sample.
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
        records: impl Iterator<Item = (i64, i64, i64, i8)>,
        buffer: &mut Vec<Order>,
        mut pass: impl FnMut(&Orders),
    ) {
        buffer.clear();
        let Self { mut count, mut is_open, time: mut last_time, mut last } = *self;
        for (time, price, size, side) in records {
            if is_open && last_time == time && last.side == side {
                let change = if count == 0 { 0 } else { price.wrapping_sub(last.price) };
                last.change = last.change.wrapping_add(change);
                last.price = price;
                last.size += i128::from(size);
                last.is_sweep = true;
                continue;
            }
            let mut next = Order { size: size.into(), price, side, ..Order::default() };
            if is_open {
                next.gap = price.wrapping_sub(last.price);
                next.change = next.gap;
                next.interval = time.wrapping_sub(last_time) as u64;
                next.side_before = last.side;
                buffer.push(last);
                count += 1;
                if buffer.len() == ORDERS_AT_ONCE {
                    pass(&Orders::new(buffer, count - ORDERS_AT_ONCE as u64));
                    buffer.clear();
                }
            }
            (is_open, last_time, last) = (true, time, next);
        }
        *self = Self { count, is_open, time: last_time, last };
        if !buffer.is_empty() {
            pass(&Orders::new(buffer, count - buffer.len() as u64));
            buffer.clear();
        }
    }
}
