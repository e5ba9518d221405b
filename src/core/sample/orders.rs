//! Orders: maximal runs of consecutive records of one time and side, which is what one taker sent.

use crate::core::sample::records::Piece;

/// An order, with what changed since the order before it in the sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub time: i64,
    /// Last price.
    pub price: i64,
    pub size: i128,
    pub records: u64,
    /// First price less the last price of the order before; 0 for the first order, as below.
    pub gap: i64,
    /// Last price less that of the order before.
    pub change: i64,
    /// Time since the order before.
    pub interval: u64,
    pub side: i8,
    /// Side of the order before.
    pub side_before: i8,
}

/// Consecutive orders of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Orders<'a> {
    pub list: &'a [Order],
    /// Orders of the sample before these.
    pub count: u64,
}

impl<'a> Orders<'a> {
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
    /// The last order, which the next record may continue; without records, its number of records is 0.
    pub last: Order,
}

/// Orders that are passed on at once, so that they stay in the cache.
pub const ORDERS_AT_ONCE: usize = 256;

impl OrderCutter {
    /// Orders of the sample so far.
    pub fn total(&self) -> u64 {
        self.count + u64::from(self.last.records > 0)
    }

    /// Cuts records into orders and passes on those that ended, a few at a time.
    pub fn cut(&mut self, piece: &Piece, buffer: &mut Vec<Order>, pass: &mut dyn FnMut(&Orders)) {
        buffer.clear();
        let mut last = self.last;
        for (row, (time, price)) in piece.time.iter().zip(piece.price).enumerate() {
            let side = piece.side.get(row).copied().unwrap_or_default();
            let size = piece.size.get(row).copied().unwrap_or_default();
            if last.records > 0 && last.time == *time && last.side == side {
                last.change = last.change.wrapping_add(if self.is_first() { 0 } else { price.wrapping_sub(last.price) });
                last.price = *price;
                last.size += i128::from(size);
                last.records += 1;
                continue;
            }
            let mut next = Order { time: *time, price: *price, size: size.into(), records: 1, side, ..Order::default() };
            if last.records > 0 {
                buffer.push(last);
                next.gap = price.wrapping_sub(last.price);
                next.change = next.gap;
                next.interval = time.wrapping_sub(last.time) as u64;
                next.side_before = last.side;
                self.count += 1;
                if buffer.len() == ORDERS_AT_ONCE {
                    self.pass(buffer, pass);
                }
            }
            last = next;
        }
        self.last = last;
        self.pass(buffer, pass);
    }

    /// Whether the last order is the first of the sample.
    #[inline]
    fn is_first(&self) -> bool {
        self.count == 0
    }

    fn pass(&self, buffer: &mut Vec<Order>, pass: &mut dyn FnMut(&Orders)) {
        if !buffer.is_empty() {
            pass(&Orders { list: buffer, count: self.count - buffer.len() as u64 });
            buffer.clear();
        }
    }
}
