//! Records of several keys parted into one bucket a key, order kept, every column read once.
//!
//! A full bucket is folded and emptied, so that a key's records come in spans long enough for the
//! quick fold however many keys take turns.

use bytemuck::cast_slice;

use super::simd::{self, prefetch};
use super::ticks::{Bits, Ticks, Values};

/// Most records of a block.
pub const LARGEST_BLOCK: usize = 1 << 15;
/// Up to this many keys, buckets are long.
const FEW_KEYS: usize = 64;
/// Up to this many keys, a key's number is its bucket.
const DIRECT_KEYS: usize = 4_096;
const LONG: usize = 256;
const SHORT: usize = 24;
/// Cells from one column of a bucket to the next. An odd number of cache lines: after a round one,
/// all columns of all buckets would fall into the same lines of the first cache.
const LONG_STRIDE: usize = LONG + LINE;
const SHORT_STRIDE: usize = SHORT + 2 * LINE;
const LINE: usize = 8;
/// Time, price, quantity, three ids, and row with side.
const COLUMNS: usize = 7;

/// Buckets of a block; the buffers are used again for the next one.
#[derive(Debug, Default)]
pub struct Buckets {
    is_long: bool,
    lens: Vec<u32>,
    /// Bit patterns: bucket by bucket, in it column by column.
    cells: Vec<u64>,
    rows: Vec<u32>,
    side: Vec<u8>,
    /// Bucket of each row, and key of each bucket, where keys are many.
    slots: Vec<u32>,
    keys: Vec<u32>,
    slot_of_key: Vec<u32>,
}

/// How far a filling came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    All,
    /// The record at `row` found its bucket full.
    Full {
        row: usize,
        slot: usize,
    },
}

/// Columns of a block as bit patterns, absent ones stood in for by the times.
struct Sources<'a> {
    columns: [&'a [u64]; COLUMNS - 1],
    side: Bits<'a>,
}

fn patterns(values: Values<'_>) -> &[u64] {
    match values {
        Values::Float(values) => cast_slice(values),
        Values::Grid(values) => cast_slice(values),
    }
}

/// Bit patterns as what they were in `like`.
fn values_like<'a>(cells: &'a [u64], like: Values) -> Values<'a> {
    match like {
        Values::Float(_) => Values::Float(cast_slice(cells)),
        Values::Grid(_) => Values::Grid(cast_slice(cells)),
    }
}

impl<'a> Sources<'a> {
    fn of(block: &Ticks<'a>, from: usize) -> Self {
        let time = cast_slice(block.time);
        let ids = |ids: Option<&'a [i64]>| ids.map_or(time, cast_slice);
        let quantity = block.quantity.map_or(time, patterns);
        let [agg_id, first_id, last_id] = [block.agg_id, block.first_id, block.last_id].map(ids);
        let columns = [time, patterns(block.price), quantity, agg_id, first_id, last_id].map(|cells| &cells[from..]);
        let side = block.is_buyer_maker.map_or(Bits { bytes: &[], offset: 0 }, |bits| bits.slice(from));
        Self { columns, side }
    }
}

impl Buckets {
    /// Makes room for the keys of a block.
    pub fn start(&mut self, codes: &[u32]) {
        const UNKNOWN: u32 = u32::MAX;
        let key_count = codes.iter().max().map_or(0, |code| *code as usize + 1);
        self.keys.clear();
        self.slots.clear();
        let slot_count = if key_count <= DIRECT_KEYS {
            key_count
        } else {
            self.slot_of_key.resize(key_count.max(self.slot_of_key.len()), UNKNOWN);
            for code in codes {
                let slot = &mut self.slot_of_key[*code as usize];
                if *slot == UNKNOWN {
                    *slot = self.keys.len() as u32;
                    self.keys.push(*code);
                }
                self.slots.push(*slot);
            }
            self.keys.iter().for_each(|key| self.slot_of_key[*key as usize] = UNKNOWN);
            self.keys.len()
        };
        self.is_long = slot_count <= FEW_KEYS;
        self.lens.clear();
        self.lens.resize(slot_count, 0);
        let size = slot_count * COLUMNS * self.stride();
        if self.cells.len() < size {
            self.cells.resize(size, 0);
        }
    }

    fn stride(&self) -> usize {
        if self.is_long { LONG_STRIDE } else { SHORT_STRIDE }
    }

    pub fn count(&self) -> usize {
        self.lens.len()
    }

    /// Key of a bucket.
    pub fn key(&self, slot: usize) -> u32 {
        self.keys.get(slot).copied().unwrap_or(slot as u32)
    }

    /// Puts the records from row `from` on into their buckets.
    pub fn fill(&mut self, block: &Ticks, codes: &[u32], from: usize) -> Filled {
        let sources = Sources::of(block, from);
        let slots = if self.slots.is_empty() { &codes[from..] } else { &self.slots[from..] };
        let (lens, cells) = (&mut self.lens, &mut self.cells);
        let full = if self.is_long {
            spread::<LONG, LONG_STRIDE>(slots, &sources, lens, cells, from)
        } else {
            spread::<SHORT, SHORT_STRIDE>(slots, &sources, lens, cells, from)
        };
        match full {
            Some((row, slot)) => Filled::Full { row: from + row, slot },
            None => Filled::All,
        }
    }

    /// The columns of a bucket that are bound in the block, and their rows in it.
    pub fn bucket(&mut self, block: &Ticks, slot: usize) -> (Ticks<'_>, &[u32]) {
        let (stride, len) = (self.stride(), self.lens[slot] as usize);
        let first = slot * COLUMNS * stride;
        let column = |index: usize| &self.cells[first + index * stride..first + index * stride + len];
        let marks = column(6);
        self.rows.clear();
        self.rows.extend(marks.iter().map(|mark| (mark >> 1) as u32));
        self.side.clear();
        self.side.extend(
            marks
                .chunks(8)
                .map(|eight| eight.iter().enumerate().fold(0, |byte, (bit, mark)| byte | ((*mark as u8 & 1) << bit))),
        );
        let ticks = Ticks {
            time: cast_slice(column(0)),
            price: values_like(column(1), block.price),
            quantity: block.quantity.map(|values| values_like(column(2), values)),
            is_buyer_maker: block.is_buyer_maker.map(|_| Bits { bytes: &self.side, offset: 0 }),
            agg_id: block.agg_id.map(|_| cast_slice(column(3))),
            first_id: block.first_id.map(|_| cast_slice(column(4))),
            last_id: block.last_id.map(|_| cast_slice(column(5))),
        };
        (ticks, &self.rows)
    }

    pub fn is_bare(&self, slot: usize) -> bool {
        self.lens[slot] == 0
    }

    pub fn clear(&mut self, slot: usize) {
        self.lens[slot] = 0;
    }
}

/// The pass itself: row and bucket of the first record that found its bucket full.
fn spread<const CAPACITY: usize, const STRIDE: usize>(
    slots: &[u32],
    from: &Sources,
    lens: &mut [u32],
    cells: &mut [u64],
    first_row: usize,
) -> Option<(usize, usize)> {
    let len = slots.len();
    let [time, price, quantity, agg_id, first_id, last_id] = from.columns.map(|column| &column[..len]);
    let mut byte = 0;
    for row in 0..len {
        if row % LINE == 0 {
            byte = from.side.byte(row);
            for column in [time, price, quantity, agg_id, first_id, last_id] {
                prefetch::<{ simd::TOGETHER }, _>(&column[row..]);
            }
        }
        let slot = slots[row] as usize;
        let place = &mut lens[slot];
        if *place as usize >= CAPACITY {
            return Some((row, slot));
        }
        let at = slot * (COLUMNS * STRIDE) + *place as usize;
        *place += 1;
        // One check for all columns.
        let cell = cells.get_mut(at..at + (COLUMNS - 1) * STRIDE + 1)?;
        cell[0] = time[row];
        cell[STRIDE] = price[row];
        cell[2 * STRIDE] = quantity[row];
        cell[3 * STRIDE] = agg_id[row];
        cell[4 * STRIDE] = first_id[row];
        cell[5 * STRIDE] = last_id[row];
        cell[6 * STRIDE] = ((first_row + row) as u64) << 1 | u64::from(byte & 1);
        byte >>= 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(codes: &[u32], time: &[i64], is_sell: &[bool], offset: usize) {
        let mut bytes = vec![0u8; codes.len() / 8 + 2];
        for (row, flag) in is_sell.iter().enumerate() {
            bytes[(row + offset) / 8] |= u8::from(*flag) << ((row + offset) % 8);
        }
        let block = Ticks {
            time,
            price: Values::Grid(time),
            quantity: None,
            is_buyer_maker: Some(Bits { bytes: &bytes, offset }),
            agg_id: None,
            first_id: None,
            last_id: Some(time),
        };
        let mut buckets = Buckets::default();
        let mut seen: Vec<Vec<usize>> = vec![Vec::new(); codes.iter().max().map_or(0, |code| *code as usize + 1)];
        let mut take = |buckets: &mut Buckets, slot: usize| {
            let key = buckets.key(slot) as usize;
            let (ticks, rows) = buckets.bucket(&block, slot);
            assert_eq!(ticks.len(), rows.len());
            for (at, row) in rows.iter().enumerate() {
                let row = *row as usize;
                assert_eq!((ticks.time[at], ticks.price.grid(at)), (time[row], Some(time[row])));
                assert_eq!(ticks.is_buyer_maker.unwrap().get(at), is_sell[row]);
                seen[key].push(row);
            }
            buckets.clear(slot);
        };
        buckets.start(codes);
        let mut from = 0;
        while let Filled::Full { row, slot } = buckets.fill(&block, codes, from) {
            take(&mut buckets, slot);
            from = row;
        }
        for slot in 0..buckets.count() {
            take(&mut buckets, slot);
        }
        for (key, rows) in seen.iter().enumerate() {
            let expected: Vec<usize> = (0..codes.len()).filter(|row| codes[*row] as usize == key).collect();
            assert_eq!(*rows, expected);
        }
    }

    proptest! {
        #[test]
        fn buckets_keep_the_order_of_each_key(
            records in proptest::collection::vec((0u32..5, any::<i64>(), any::<bool>()), 1..3_000),
            offset in 0usize..8,
            stride in prop_oneof![Just(1u32), Just(2_000)],
        ) {
            let codes: Vec<u32> = records.iter().map(|record| record.0 * stride).collect();
            let time: Vec<i64> = records.iter().map(|record| record.1).collect();
            let is_sell: Vec<bool> = records.iter().map(|record| record.2).collect();
            check(&codes, &time, &is_sell, offset);
        }
    }
}
