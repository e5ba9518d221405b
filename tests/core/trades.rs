//! Owned trades for tests, and strategies that generate them.

use proptest::prelude::*;
use rangebar_polars::core::bar::Bar;
use rangebar_polars::core::builder::RangeBarBuilder;
use rangebar_polars::core::error::DataError;
use rangebar_polars::core::ticks::{Bits, Ticks, Values};

/// Trades in columns.
#[derive(Clone, Debug, Default)]
pub struct Trades {
    pub time: Vec<i64>,
    pub price: Vec<f64>,
    pub quantity: Vec<f64>,
    pub is_sell: Vec<bool>,
    pub is_unsided: Vec<bool>,
    /// Bitmap of `is_unsided` from its first bit on; empty if no record is.
    pub unsided: Vec<u8>,
    pub agg_id: Vec<i64>,
    pub first_id: Vec<i64>,
    pub last_id: Vec<i64>,
    pub key: Vec<u32>,
}

/// The bitmap of a column of flags, starting at bit `offset`.
pub fn bitmap(flags: &[bool], offset: usize) -> Vec<u8> {
    let mut bytes = vec![0xffu8; (flags.len() + offset) / 8 + 1];
    for (row, flag) in flags.iter().enumerate() {
        let bit = row + offset;
        bytes[bit / 8] = bytes[bit / 8] & !(1 << (bit % 8)) | u8::from(*flag) << (bit % 8);
    }
    bytes
}

impl Trades {
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Removes the aggressor from one record in `one_in`.
    pub fn without_aggressor(mut self, one_in: u64) -> Self {
        self.is_unsided = (0..self.len() as u64).map(|row| (row * row + 7 * row).is_multiple_of(one_in)).collect();
        self.is_sell.iter_mut().zip(&self.is_unsided).for_each(|(is_sell, is_unsided)| *is_sell &= !is_unsided);
        self.unsided = bitmap(&self.is_unsided, 0);
        self
    }

    pub fn ticks<'a>(&'a self, bytes: &'a [u8], offset: usize) -> Ticks<'a> {
        Ticks {
            time: &self.time,
            price: Values::Float(&self.price),
            quantity: Some(Values::Float(&self.quantity)),
            is_buyer_maker: Some(Bits { bytes, offset }),
            unsided: (!self.unsided.is_empty()).then_some(Bits { bytes: &self.unsided, offset: 0 }),
            agg_id: Some(&self.agg_id),
            first_id: Some(&self.first_id),
            last_id: Some(&self.last_id),
        }
    }
}

/// A random walk from a seed, with equal times, odd sizes and jumps.
pub fn walk(rows: usize, seed: u64, scale: f64, keys: u32) -> Trades {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut trades = Trades::default();
    let (mut time, mut level, mut id) = (1_709_000_000_000_000i64, 1.0f64, -5i64);
    for row in 0..rows {
        let bits = random();
        let pause = if bits.is_multiple_of(977) { 90_000_000_000 } else { (bits >> 8 & 0xff) as i64 };
        time += if bits & 3 == 0 { 0 } else { pause };
        level *= 1.0 + ((bits >> 16 & 0xff) as f64 - 127.5) * 4e-6;
        if bits.is_multiple_of(1009) {
            level *= 1.02;
        }
        trades.time.push(time);
        trades.price.push((level * scale * 1e8).round().max(1.0) / 1e8);
        let quantity = match bits >> 30 & 7 {
            0 => 0.0,
            1 => 12_345_678.900_000_01,
            // Exact halves of a grid unit.
            2 => ((bits >> 33 & 0xff) as f64 + 0.5) / 1e8,
            _ => (bits >> 33 & 0xffff) as f64 / 1e4,
        };
        trades.quantity.push(quantity);
        trades.is_sell.push(bits >> 50 & 1 == 1);
        trades.is_unsided.push(false);
        trades.agg_id.push(row as i64 * 2 + (bits >> 51 & 1) as i64);
        trades.first_id.push(id);
        id += (bits >> 52 & 7) as i64;
        trades.last_id.push(id);
        id += 1;
        trades.key.push((bits >> 55) as u32 % keys);
    }
    trades
}

/// Walks of any length up to a few chunks, at price scales from dust to beyond the quick range.
pub fn any_walk(keys: u32) -> impl Strategy<Value = Trades> {
    let scale = prop_oneof![Just(1e-6), Just(0.5), Just(60_000.0), Just(44_999_000.0), Just(9e8)];
    let rows = prop_oneof![1usize..200, 1usize..12_000];
    let one_in = prop_oneof![3 => Just(0u64), 1 => Just(1), 1 => Just(2), 1 => 3u64..40, 1 => 500u64..5_000];
    (rows, any::<u64>(), scale, one_in).prop_map(move |(rows, seed, scale, one_in)| {
        let trades = walk(rows, seed, scale, keys);
        if one_in == 0 { trades } else { trades.without_aggressor(one_in) }
    })
}

/// One piece of a push and its keys.
pub type Piece<'a> = (Ticks<'a>, Option<&'a [u32]>);

/// Processes pieces as one push, as the entry points do: all of it, or nothing and the row at fault.
pub fn take(builder: &mut RangeBarBuilder, pieces: &[Piece]) -> Result<Vec<Bar>, DataError> {
    let walk = |builder: &mut RangeBarBuilder| {
        let (mut all, mut bars) = (Vec::new(), Vec::new());
        builder.begin();
        for (ticks, codes) in pieces {
            builder.push(ticks, *codes, &mut bars, &mut |bars| all.append(bars))?;
        }
        Ok(all)
    };
    let mut result = walk(builder);
    if result.is_err() && builder.retrace() {
        result = walk(builder);
        assert!(result.is_err(), "only the quick pass refuses");
    }
    if result.is_ok() {
        builder.commit()
    } else {
        builder.roll_back()
    }
    result
}
