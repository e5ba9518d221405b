//! Records of several keys sorted into runs of one key each, order kept.

use super::simd::Ahead;
use super::ticks::{Bits, Ticks, Values};

/// One key's records in a sorted block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub key: u32,
    pub from: usize,
    pub to: usize,
}

/// Most rows of a block.
pub const LARGEST_BLOCK: usize = 8_192;
/// Length of the buffers: whatever a 16-bit position says, it is inside, so that the loops below
/// need no check.
const POSITIONS: usize = 1 << 16;

/// A stable counting sort of a block by key; its buffers are used again for the next one.
#[derive(Debug, Default)]
pub struct Grouping {
    /// Records of a key in this block; all zero between blocks.
    counts: Vec<u16>,
    /// Sorted position of each row.
    places: Vec<u16>,
    /// Row of each sorted position.
    rows: Vec<u16>,
    pub groups: Vec<Group>,
}

impl Grouping {
    pub fn sort(&mut self, codes: &[u32]) {
        self.count(codes);
        self.places.resize(codes.len(), 0);
        self.rows.resize(POSITIONS, 0);
        let Some((rows, _)) = self.rows.split_first_chunk_mut::<POSITIONS>() else { return };
        for ((row, code), place) in codes.iter().enumerate().zip(&mut self.places) {
            let next = &mut self.counts[*code as usize];
            *place = *next;
            rows[usize::from(*next)] = row as u16;
            *next += 1;
        }
        for group in &self.groups {
            self.counts[group.key as usize] = 0;
        }
    }

    /// Finds the groups and leaves in `counts` where each one starts.
    fn count(&mut self, codes: &[u32]) {
        self.groups.clear();
        let key_count = codes.iter().max().map_or(0, |code| *code as usize + 1);
        if key_count > self.counts.len() {
            self.counts.resize(key_count, 0);
        }
        for code in codes {
            let count = &mut self.counts[*code as usize];
            if *count == 0 {
                self.groups.push(Group { key: *code, from: 0, to: 0 });
            }
            *count += 1;
        }
        let mut from = 0;
        for group in &mut self.groups {
            let count = &mut self.counts[group.key as usize];
            (group.from, group.to) = (from, from + usize::from(*count));
            *count = from as u16;
            from = group.to;
        }
    }

    /// Rows of the block, in sorted order.
    pub fn rows(&self) -> &[u16] {
        &self.rows
    }
}

/// Buffers for the sorted columns of a block.
#[derive(Debug, Default)]
pub struct Scratch {
    time: Vec<i64>,
    price: ValueBuffer,
    quantity: ValueBuffer,
    flags: Vec<u8>,
    side: Vec<u8>,
    agg_id: Vec<i64>,
    first_id: Vec<i64>,
    last_id: Vec<i64>,
}

#[derive(Debug, Default)]
struct ValueBuffer {
    floats: Vec<f64>,
    grids: Vec<i64>,
}

impl ValueBuffer {
    fn scatter(&mut self, values: Values, places: &[u16], next: Ahead) -> Values<'_> {
        match values {
            Values::Float(values) => Values::Float(scatter(&mut self.floats, values, places, next)),
            Values::Grid(values) => Values::Grid(scatter(&mut self.grids, values, places, next)),
        }
    }
}

/// Reads in order and writes to as many places as there are keys, kinder to the cache than the
/// other way round; meanwhile the next column is fetched.
fn scatter<'a, T: Copy + Default>(buffer: &'a mut Vec<T>, values: &[T], places: &[u16], next: Ahead) -> &'a [T] {
    const LINE: usize = 8;
    buffer.resize(POSITIONS, T::default());
    let Some((sorted, _)) = buffer.split_first_chunk_mut::<POSITIONS>() else { return &[] };
    let (lines, rest) = values.as_chunks::<LINE>();
    let (line_places, rest_places) = places.as_chunks::<LINE>();
    for (line, (values, places)) in lines.iter().zip(line_places).enumerate() {
        next.fetch(line);
        for lane in 0..LINE {
            sorted[usize::from(places[lane])] = values[lane];
        }
    }
    for (value, place) in rest.iter().zip(rest_places) {
        sorted[usize::from(*place)] = *value;
    }
    &sorted[..values.len()]
}

fn scatter_bits<'a>(flags: &mut Vec<u8>, packed: &'a mut Vec<u8>, bits: Bits, places: &[u16]) -> Bits<'a> {
    flags.clear();
    flags.resize(places.len().next_multiple_of(8), 0);
    for (block, eight) in places.chunks(8).enumerate() {
        let byte = bits.byte(block * 8);
        for (bit, place) in eight.iter().enumerate() {
            flags[usize::from(*place)] = byte >> bit & 1;
        }
    }
    // Eight bytes of 0 or 1 to eight bits: the product moves byte k's bit to bit 56 + k.
    const PACK: u64 = 0x0102_0408_1020_4080;
    let (eights, _) = flags.as_chunks::<8>();
    packed.clear();
    packed.extend(eights.iter().map(|eight| (u64::from_le_bytes(*eight).wrapping_mul(PACK) >> 56) as u8));
    Bits { bytes: packed, offset: 0 }
}

impl Scratch {
    /// The columns of a block in sorted order.
    pub fn sorted(&mut self, block: &Ticks, grouping: &Grouping) -> Ticks<'_> {
        let Self { time, price, quantity, flags, side, agg_id, first_id, last_id } = self;
        let places = &grouping.places;
        let ahead = |ids: Option<&[i64]>| Ahead::of(ids.unwrap_or(block.time));
        let after_price = block.quantity.map_or(ahead(block.agg_id), ahead_of);
        Ticks {
            time: scatter(time, block.time, places, ahead_of(block.price)),
            price: price.scatter(block.price, places, after_price),
            quantity: block.quantity.map(|values| quantity.scatter(values, places, ahead(block.agg_id))),
            is_buyer_maker: block.is_buyer_maker.map(|bits| scatter_bits(flags, side, bits, places)),
            agg_id: block.agg_id.map(|ids| scatter(agg_id, ids, places, ahead(block.first_id))),
            first_id: block.first_id.map(|ids| scatter(first_id, ids, places, ahead(block.last_id))),
            // The next block's times come last.
            last_id: block.last_id.map(|ids| scatter(last_id, ids, places, Ahead::of(&block.time[block.len()..]))),
        }
    }
}

fn ahead_of(values: Values) -> Ahead {
    match values {
        Values::Float(values) => Ahead::of(values),
        Values::Grid(values) => Ahead::of(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorting_by_key_keeps_rows_in_order(
            records in proptest::collection::vec((0u32..7, any::<i64>(), any::<bool>()), 1..200),
            offset in 0usize..8,
        ) {
            let codes: Vec<u32> = records.iter().map(|record| record.0).collect();
            let time: Vec<i64> = records.iter().map(|record| record.1).collect();
            let mut bytes = vec![0u8; records.len() / 8 + 2];
            for (row, record) in records.iter().enumerate() {
                bytes[(row + offset) / 8] |= u8::from(record.2) << ((row + offset) % 8);
            }
            let block = Ticks {
                time: &time,
                price: Values::Grid(&time),
                quantity: None,
                is_buyer_maker: Some(Bits { bytes: &bytes, offset }),
                agg_id: None,
                first_id: None,
                last_id: None,
            };
            let (mut grouping, mut scratch) = (Grouping::default(), Scratch::default());
            for _ in 0..2 {
                grouping.sort(&codes);
                let sorted = scratch.sorted(&block, &grouping);
                for group in &grouping.groups {
                    let expected: Vec<_> = records.iter().filter(|record| record.0 == group.key).collect();
                    prop_assert_eq!(group.to - group.from, expected.len());
                    for (at, record) in (group.from..group.to).zip(expected) {
                        prop_assert_eq!(sorted.time[at], record.1);
                        prop_assert_eq!(sorted.is_buyer_maker.unwrap().get(at), record.2);
                        prop_assert_eq!(time[usize::from(grouping.rows()[at])], record.1);
                    }
                }
            }
        }
    }
}
