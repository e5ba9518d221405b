//! Records of several keys sorted into one bucket per key, in order, with every column read once.
//!
//! A full bucket is folded and emptied, so that the records of a key come in spans long enough for
//! the quick fold, however many keys alternate.

use bytemuck::cast_slice;

use crate::core::simd::intrinsics::{HERE, NEXT_LINE, prefetch};
use crate::core::simd::transpose::{COLUMNS, LANES, Record, Room, Spreading, Unpacked};
use crate::core::simd::{self, InstructionSet};
use crate::core::ticks::{Bits, Ticks, Values};

/// Most records of a block with few keys, and with many. A longer block has more records per key, but
/// the records of few keys should stay in the cache.
const BLOCKS: (usize, usize) = (1 << 15, 1 << 18);
/// Up to this many keys, the code of a key is its bucket, and all buckets have the same capacity.
const FEW_KEYS: usize = 512;
/// Numbers of keys, and the capacity of a bucket up to that number. To empty a bucket costs as much as
/// about thirty records, but longer columns do not fit the first cache.
const CAPACITIES: [(usize, usize); 2] = [(64, LARGEST_BUCKET), (FEW_KEYS, 128)];
const LARGEST_BUCKET: usize = 256;

/// Most records of a block for a number of keys.
pub fn block_size(key_count: usize) -> usize {
    const RECORDS_PER_KEY: usize = 32;
    if key_count <= FEW_KEYS { BLOCKS.0 } else { (key_count * RECORDS_PER_KEY).clamp(BLOCKS.0, BLOCKS.1) }
}

/// Buckets of a block. The buffers are reused for the next block.
#[derive(Debug, Default)]
pub struct Buckets {
    /// Whether records have ids; without ids they take half a cache line each.
    has_ids: bool,
    rooms: Vec<Room>,
    /// Start of each bucket.
    firsts: Vec<u32>,
    records: Vec<Record>,
    unpacked: Unpacked,
    /// Rows of a bucket without an aggressor, as a bitmap.
    unsided: Vec<u8>,
    /// Bucket of each row, and key of each bucket, if there are many keys.
    slots: Vec<u32>,
    keys: Vec<u32>,
    slot_of_key: Vec<u32>,
}

/// Outcome of filling buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    All,
    /// The bucket of the record at `row` is full.
    Full {
        row: usize,
        slot: usize,
    },
}

fn patterns(values: Values<'_>) -> &[u64] {
    match values {
        Values::Float(values) => cast_slice(values),
        Values::Grid(values) => cast_slice(values),
    }
}

/// Bit patterns as values of the same kind as `like`.
fn values_like<'a>(cells: &'a [u64], like: Values) -> Values<'a> {
    match like {
        Values::Float(_) => Values::Float(cast_slice(cells)),
        Values::Grid(_) => Values::Grid(cast_slice(cells)),
    }
}

/// Columns of a block as bit patterns, with the times in place of absent columns.
fn columns<'a>(block: &Ticks<'a>, from: usize) -> [&'a [u64]; COLUMNS] {
    let time = cast_slice(block.time);
    let ids = |ids: Option<&'a [i64]>| ids.map_or(time, cast_slice);
    let quantity = block.quantity.map_or(time, patterns);
    let [agg_id, first_id, last_id] = [block.agg_id, block.first_id, block.last_id].map(ids);
    [time, patterns(block.price), quantity, agg_id, first_id, last_id].map(|cells| &cells[from..])
}

impl Buckets {
    /// Allocates buckets for the keys of a block, all of them below `key_count`.
    pub fn start(&mut self, block: &Ticks, codes: &[u32], key_count: usize) {
        self.has_ids = block.agg_id.or(block.first_id).or(block.last_id).is_some();
        self.keys.clear();
        self.slots.clear();
        self.rooms.clear();
        self.firsts.clear();
        match CAPACITIES.iter().find(|(keys, _)| key_count <= *keys) {
            Some((_, capacity)) => self.allocate_equal(key_count, *capacity),
            None => self.allocate_counted(codes, key_count),
        }
        // Whole lanes are read, which may end after the last record.
        let size = self.rooms.last().map_or(0, |room| room.end as usize) + LANES;
        if self.records.len() < size {
            self.records.resize(size, Record::default());
        }
        self.unpacked.reserve(LARGEST_BUCKET / LANES);
    }

    /// Gives every key a bucket of the same capacity.
    fn allocate_equal(&mut self, key_count: usize, capacity: usize) {
        self.firsts.extend((0..key_count).map(|slot| (slot * capacity) as u32));
        self.rooms.extend(self.firsts.iter().map(|at| Room { at: *at, end: at + capacity as u32 }));
    }

    /// Gives the keys of a block buckets in order of appearance, with capacity for their records.
    fn allocate_counted(&mut self, codes: &[u32], key_count: usize) {
        const UNKNOWN: u32 = u32::MAX;
        if self.slot_of_key.len() < key_count {
            self.slot_of_key.resize(key_count, UNKNOWN);
        }
        for code in codes {
            let slot = &mut self.slot_of_key[*code as usize];
            if *slot == UNKNOWN {
                *slot = self.keys.len() as u32;
                self.keys.push(*code);
                self.rooms.push(Room { at: 0, end: 0 });
            }
            self.slots.push(*slot);
            self.rooms[*slot as usize].end += 1;
        }
        self.keys.iter().for_each(|key| self.slot_of_key[*key as usize] = UNKNOWN);
        let mut at = 0;
        for room in &mut self.rooms {
            self.firsts.push(at);
            // Two records without ids share a line, and a bucket begins with a line.
            let end = at + room.end.min(LARGEST_BUCKET as u32).next_multiple_of(2);
            *room = Room { at, end };
            at = end;
        }
    }

    pub fn count(&self) -> usize {
        self.rooms.len()
    }

    /// Key of a bucket.
    pub fn key(&self, slot: usize) -> u32 {
        self.keys.get(slot).copied().unwrap_or(slot as u32)
    }

    /// Sorts the records from row `from` on into their buckets.
    pub fn fill(&mut self, set: InstructionSet, block: &Ticks, codes: &[u32], from: usize) -> Filled {
        let slots = if self.slots.is_empty() { &codes[from..] } else { &self.slots[from..] };
        let mut spreading = Spreading {
            columns: columns(block, from),
            has_ids: self.has_ids,
            side: block.is_buyer_maker.map_or(Bits { bytes: &[], offset: 0 }, |bits| bits.slice(from)),
            first_row: from,
            slots,
            rooms: &mut self.rooms,
            records: &mut self.records,
        };
        match simd::spread(set, &mut spreading) {
            Some(row) => Filled::Full { row: from + row, slot: slots[row] as usize },
            None => Filled::All,
        }
    }

    fn len(&self, slot: usize) -> usize {
        (self.rooms[slot].at - self.firsts[slot]) as usize
    }

    /// Prefetches the first records of a bucket.
    #[inline]
    pub fn fetch(&self, slot: usize) {
        let Some(first) = self.firsts.get(slot) else { return };
        let at = if self.has_ids { *first as usize } else { *first as usize / 2 };
        if let Some(records) = self.records.get(at..) {
            prefetch::<HERE, _>(records);
            prefetch::<NEXT_LINE, _>(records);
        }
    }

    /// The records of a bucket as columns, and their rows in the block.
    pub fn bucket(&mut self, set: InstructionSet, block: &Ticks, slot: usize) -> (Ticks<'_>, &[u32]) {
        let (first, len) = (self.firsts[slot] as usize, self.len(slot));
        // Records after the last one are from earlier blocks, and are cut off.
        let (from, to) = (first, first + len.next_multiple_of(LANES));
        let records = if self.has_ids { &self.records[from..to] } else { &self.records[from / 2..to / 2] };
        simd::unpack(set, records, self.has_ids, &mut self.unpacked);
        let Unpacked { columns, rows, side } = &self.unpacked;
        let rows = &rows.as_flattened()[..len];
        if let Some(bits) = block.unsided {
            gather(bits, rows, &mut self.unsided);
        }
        let [time, price, quantity, agg_id, first_id, last_id] =
            columns.each_ref().map(|column| &column.as_flattened()[..len]);
        let ticks = Ticks {
            time: cast_slice(time),
            price: values_like(price, block.price),
            quantity: block.quantity.map(|values| values_like(quantity, values)),
            is_buyer_maker: block.is_buyer_maker.map(|_| Bits { bytes: side, offset: 0 }),
            unsided: block.unsided.map(|_| Bits { bytes: &self.unsided, offset: 0 }),
            agg_id: block.agg_id.map(|_| cast_slice(agg_id)),
            first_id: block.first_id.map(|_| cast_slice(first_id)),
            last_id: block.last_id.map(|_| cast_slice(last_id)),
        };
        (ticks, rows)
    }

    pub fn is_empty(&self, slot: usize) -> bool {
        self.len(slot) == 0
    }

    pub fn clear(&mut self, slot: usize) {
        self.rooms[slot].at = self.firsts[slot];
    }
}

/// The bits of some rows, as a bitmap.
fn gather(bits: Bits, rows: &[u32], out: &mut Vec<u8>) {
    let byte = |group: &[u32]| {
        group.iter().enumerate().fold(0, |byte, (lane, row)| byte | u8::from(bits.get(*row as usize)) << lane)
    };
    out.clear();
    out.extend(rows.chunks(8).map(byte));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(set: InstructionSet, codes: &[u32], time: &[i64], is_sell: &[bool], offset: usize, has_ids: bool) {
        let mut bytes = vec![0u8; codes.len() / 8 + 2];
        for (row, flag) in is_sell.iter().enumerate() {
            bytes[(row + offset) / 8] |= u8::from(*flag) << ((row + offset) % 8);
        }
        let block = Ticks {
            time,
            price: Values::Grid(time),
            quantity: None,
            is_buyer_maker: Some(Bits { bytes: &bytes, offset }),
            unsided: Some(Bits { bytes: &bytes, offset }),
            agg_id: None,
            first_id: None,
            last_id: has_ids.then_some(time),
        };
        let mut buckets = Buckets::default();
        let mut seen: Vec<Vec<usize>> = vec![Vec::new(); codes.iter().max().map_or(0, |code| *code as usize + 1)];
        let key_count = seen.len();
        let mut take = |buckets: &mut Buckets, slot: usize| {
            let key = buckets.key(slot) as usize;
            let (ticks, rows) = buckets.bucket(set, &block, slot);
            assert_eq!(ticks.len(), rows.len());
            for (at, row) in rows.iter().enumerate() {
                let row = *row as usize;
                assert_eq!((ticks.time[at], ticks.price.grid(at)), (time[row], Some(time[row])));
                assert_eq!(ticks.is_buyer_maker.unwrap().get(at), is_sell[row]);
                assert_eq!(ticks.unsided.unwrap().get(at), is_sell[row]);
                assert_eq!(ticks.last_id.map(|ids| ids[at]), has_ids.then(|| time[row]));
                seen[key].push(row);
            }
            buckets.clear(slot);
        };
        buckets.start(&block, codes, key_count);
        let mut from = 0;
        while let Filled::Full { row, slot } = buckets.fill(set, &block, codes, from) {
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
            has_ids in any::<bool>(),
            stride in prop_oneof![Just(1u32), Just(100), Just(2_000)],
        ) {
            let codes: Vec<u32> = records.iter().map(|record| record.0 * stride).collect();
            let time: Vec<i64> = records.iter().map(|record| record.1).collect();
            let is_sell: Vec<bool> = records.iter().map(|record| record.2).collect();
            for set in InstructionSet::ALL.into_iter().filter(|set| *set <= InstructionSet::detected()) {
                check(set, &codes, &time, &is_sell, offset, has_ids);
            }
        }
    }
}
