//! Trades of a record as columns: times in microseconds, prices, quantities, three ids, sides.

use std::borrow::Cow;

use bytemuck::Pod;

use crate::core::ticks::{Bits, Ticks, Values};

/// Trades as columns, borrowed from a record if its bytes lie as the processor needs them.
#[derive(Clone, Debug, Default)]
pub struct TradeColumns<'a> {
    pub time: Cow<'a, [i64]>,
    pub price: Cow<'a, [f64]>,
    pub quantity: Cow<'a, [f64]>,
    pub agg_id: Cow<'a, [i64]>,
    pub first_id: Cow<'a, [i64]>,
    pub last_id: Cow<'a, [i64]>,
    /// 1 where the buyer was the maker, else 0.
    pub side: Cow<'a, [u8]>,
}

/// The next column of a payload.
fn next<'a, T: Pod>(payload: &mut &'a [u8], rows: usize, read: fn([u8; 8]) -> T) -> Option<Cow<'a, [T]>> {
    let (column, rest) = payload.split_at_checked(8 * rows)?;
    *payload = rest;
    if cfg!(target_endian = "little")
        && let Ok(values) = bytemuck::try_cast_slice(column)
    {
        return Some(Cow::Borrowed(values));
    }
    let (values, _) = column.as_chunks();
    Some(Cow::Owned(values.iter().map(|bytes| read(*bytes)).collect()))
}

impl<'a> TradeColumns<'a> {
    /// The columns of the payload of a record; `None` if it does not hold so many trades.
    pub fn of(mut payload: &'a [u8], rows: usize) -> Option<Self> {
        let rest = &mut payload;
        let columns = Self {
            time: next(rest, rows, i64::from_le_bytes)?,
            price: next(rest, rows, f64::from_le_bytes)?,
            quantity: next(rest, rows, f64::from_le_bytes)?,
            agg_id: next(rest, rows, i64::from_le_bytes)?,
            first_id: next(rest, rows, i64::from_le_bytes)?,
            last_id: next(rest, rows, i64::from_le_bytes)?,
            side: Cow::Borrowed(*rest),
        };
        let are_sides = columns.side.len() == rows && columns.side.iter().all(|side| *side <= 1);
        are_sides.then_some(columns)
    }

    pub fn len(&self) -> usize {
        self.time.len()
    }

    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// Appends trades.
    pub fn extend(&mut self, other: &TradeColumns) {
        self.time.to_mut().extend_from_slice(&other.time);
        self.price.to_mut().extend_from_slice(&other.price);
        self.quantity.to_mut().extend_from_slice(&other.quantity);
        self.agg_id.to_mut().extend_from_slice(&other.agg_id);
        self.first_id.to_mut().extend_from_slice(&other.first_id);
        self.last_id.to_mut().extend_from_slice(&other.last_id);
        self.side.to_mut().extend_from_slice(&other.side);
    }

    /// The payload of a record of these trades.
    pub fn payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * super::record::Kind::Trades.width());
        let mut put =
            |values: &mut dyn Iterator<Item = [u8; 8]>| values.for_each(|bytes| out.extend_from_slice(&bytes));
        put(&mut self.time.iter().map(|value| value.to_le_bytes()));
        put(&mut self.price.iter().map(|value| value.to_le_bytes()));
        put(&mut self.quantity.iter().map(|value| value.to_le_bytes()));
        put(&mut self.agg_id.iter().map(|value| value.to_le_bytes()));
        put(&mut self.first_id.iter().map(|value| value.to_le_bytes()));
        put(&mut self.last_id.iter().map(|value| value.to_le_bytes()));
        out.extend_from_slice(&self.side);
        out
    }

    /// The sides as bits, least significant bit first.
    pub fn side_bits(&self) -> Vec<u8> {
        let eight = |sides: &[u8]| sides.iter().rev().fold(0u8, |bits, side| bits << 1 | side);
        self.side.chunks(8).map(eight).collect()
    }

    /// The trades as input of the core, with the bits of their sides.
    pub fn ticks<'b>(&'b self, side_bits: &'b [u8]) -> Ticks<'b> {
        Ticks {
            time: &self.time,
            price: Values::Float(&self.price),
            quantity: Some(Values::Float(&self.quantity)),
            is_buyer_maker: Some(Bits { bytes: side_bits, offset: 0 }),
            unsided: None,
            agg_id: Some(&self.agg_id),
            first_id: Some(&self.first_id),
            last_id: Some(&self.last_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(rows: usize) -> TradeColumns<'static> {
        let ints = |from: i64| (0..rows as i64).map(|row| from + row).collect::<Vec<_>>();
        let floats = |from: f64| (0..rows).map(|row| from + row as f64 / 7.0).collect::<Vec<_>>();
        TradeColumns {
            time: ints(1 << 50).into(),
            price: floats(100.0).into(),
            quantity: floats(0.0).into(),
            agg_id: ints(5).into(),
            first_id: ints(-3).into(),
            last_id: ints(i64::MAX - 100).into(),
            side: (0..rows).map(|row| u8::from(row % 3 == 0)).collect::<Vec<_>>().into(),
        }
    }

    #[test]
    fn columns_are_the_same_at_any_address() {
        for rows in [0, 1, 7, 8, 9, 65] {
            let columns = example(rows);
            let payload = columns.payload();
            assert_eq!(payload.len(), 49 * rows);
            for shift in 0..8 {
                let shifted = [vec![0; shift], payload.clone()].concat();
                let found = TradeColumns::of(&shifted[shift..], rows).unwrap();
                assert_eq!(found.payload(), payload);
                let bits = found.side_bits();
                let ticks = found.ticks(&bits);
                assert_eq!(ticks.len(), rows);
                assert!((0..rows).all(|row| ticks.is_buyer_maker.unwrap().get(row) == (row % 3 == 0)));
            }
        }
    }

    #[test]
    fn a_side_is_0_or_1_and_no_byte_is_left_over() {
        let mut payload = example(3).payload();
        assert!(TradeColumns::of(&payload, 2).is_none());
        payload.push(0);
        assert!(TradeColumns::of(&payload, 3).is_none());
        payload.pop();
        payload[49 * 3 - 1] = 2;
        assert!(TradeColumns::of(&payload, 3).is_none());
    }
}
