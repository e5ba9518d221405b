//! Records of several keys sorted into runs of one key each, order kept.

use super::ticks::{Bits, Ticks, Values};

/// One key's records in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub key: u32,
    from: usize,
    to: usize,
}

/// The grouping of a block; its buffers are used again for the next one.
#[derive(Debug, Default)]
pub struct Grouping {
    /// Records of a key in this block; all zero between blocks.
    counts: Vec<u32>,
    rows: Vec<u32>,
    pub groups: Vec<Group>,
}

impl Grouping {
    /// Groups the rows of a block by key: a counting sort, stable.
    pub fn group(&mut self, codes: &[u32]) {
        self.groups.clear();
        for code in codes {
            let code = *code as usize;
            if code >= self.counts.len() {
                self.counts.resize(code + 1, 0);
            }
            if self.counts[code] == 0 {
                self.groups.push(Group { key: code as u32, from: 0, to: 0 });
            }
            self.counts[code] += 1;
        }
        let mut from = 0;
        for group in &mut self.groups {
            let count = &mut self.counts[group.key as usize];
            (group.from, group.to) = (from, from + *count as usize);
            // From here on the place of the key's next row.
            *count = from as u32;
            from = group.to;
        }
        self.rows.clear();
        self.rows.resize(codes.len(), 0);
        for (row, code) in codes.iter().enumerate() {
            let place = &mut self.counts[*code as usize];
            self.rows[*place as usize] = row as u32;
            *place += 1;
        }
        for group in &self.groups {
            self.counts[group.key as usize] = 0;
        }
    }

    pub fn rows(&self, group: &Group) -> &[u32] {
        &self.rows[group.from..group.to]
    }
}

/// Buffers for the gathered columns of one key.
#[derive(Debug, Default)]
pub struct Scratch {
    time: Vec<i64>,
    price: ValueBuffer,
    quantity: ValueBuffer,
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
    fn take(&mut self, values: Values, rows: &[u32]) -> Values<'_> {
        match values {
            Values::Float(values) => Values::Float(take(&mut self.floats, values, rows)),
            Values::Grid(values) => Values::Grid(take(&mut self.grids, values, rows)),
        }
    }
}

fn take<'a, T: Copy>(buffer: &'a mut Vec<T>, values: &[T], rows: &[u32]) -> &'a [T] {
    buffer.clear();
    buffer.extend(rows.iter().map(|row| values[*row as usize]));
    buffer
}

fn take_bits<'a>(buffer: &'a mut Vec<u8>, bits: Bits, rows: &[u32]) -> Bits<'a> {
    buffer.clear();
    buffer.extend(rows.chunks(8).map(|eight| {
        eight.iter().enumerate().fold(0, |byte, (bit, row)| byte | (u8::from(bits.get(*row as usize)) << bit))
    }));
    Bits { bytes: buffer, offset: 0 }
}

impl Scratch {
    /// The given rows of a block as columns of their own.
    pub fn take(&mut self, block: &Ticks, rows: &[u32]) -> Ticks<'_> {
        let Self { time, price, quantity, side, agg_id, first_id, last_id } = self;
        Ticks {
            time: take(time, block.time, rows),
            price: price.take(block.price, rows),
            quantity: block.quantity.map(|values| quantity.take(values, rows)),
            is_buyer_maker: block.is_buyer_maker.map(|bits| take_bits(side, bits, rows)),
            agg_id: block.agg_id.map(|ids| take(agg_id, ids, rows)),
            first_id: block.first_id.map(|ids| take(first_id, ids, rows)),
            last_id: block.last_id.map(|ids| take(last_id, ids, rows)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_order_inside_a_key() {
        let mut grouping = Grouping::default();
        for codes in [vec![3, 1, 3, 3, 0, 1], vec![0, 0], vec![]] {
            grouping.group(&codes);
            for group in &grouping.groups {
                let expected: Vec<u32> = (0..codes.len() as u32).filter(|row| codes[*row as usize] == group.key).collect();
                assert_eq!(grouping.rows(group), expected);
            }
        }
    }
}
