//! One record of a journal.
//!
//! Layout: kind (u8), 3 zero bytes, rows (u32), length of the payload (u32), crc32 of all before it and
//! of the payload (u32), payload. The length follows from kind and rows, so that a changed length is
//! found even if the record then reaches beyond the end of the file.

/// Length of a record without its payload.
pub const RECORD_BYTES: usize = 16;

const CHECKED: usize = RECORD_BYTES - 4;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Columns of trades that were applied.
    Trades = 1,
    /// Columns of spans of ids that are confirmed missing: first id, last id, reason.
    Missing = 2,
    /// Columns of trades whose ids were confirmed missing before.
    Late = 3,
    /// A revision as JSON; its rows are its bytes.
    Revision = 4,
    /// No trade of the day is expected any more.
    DayClosed = 5,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Trades, Self::Missing, Self::Late, Self::Revision, Self::DayClosed];

    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Bytes of a row.
    pub fn width(self) -> usize {
        match self {
            Self::Trades | Self::Late => 6 * 8 + 1,
            Self::Missing => 2 * 8 + 1,
            Self::Revision => 1,
            Self::DayClosed => 0,
        }
    }
}

/// Why bytes cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// They end within a record, as when the writer was cut off, or has not written all of it yet.
    Incomplete,
    /// They were not written like this, with what is wrong.
    Damaged(&'static str),
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: Kind,
    pub rows: usize,
    pub payload: &'a [u8],
}

/// A record of a payload; `None` if the payload has not the length of so many rows.
pub fn encode(kind: Kind, rows: u32, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok()?;
    if u64::from(rows) * kind.width() as u64 != u64::from(length) {
        return None;
    }
    let mut out = Vec::with_capacity(RECORD_BYTES + payload.len());
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    out.extend_from_slice(&rows.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    let sum = checksum(&out, payload);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(payload);
    Some(out)
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// The record at the start of these bytes, and the bytes after it.
///
/// # Errors
/// When there is no intact record.
pub fn decode(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), Stop> {
    let (head, rest) = bytes.split_at_checked(RECORD_BYTES).ok_or(Stop::Incomplete)?;
    let kind = Kind::of(head[0]).ok_or(Stop::Damaged("its kind is unknown"))?;
    let u32_at = |at: usize| head[at..at + 4].iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
    let (rows, length) = (u32_at(4) as usize, u32_at(8) as usize);
    if head[1..4] != [0; 3] || rows.checked_mul(kind.width()) != Some(length) {
        return Err(Stop::Damaged("its length does not fit its kind and rows"));
    }
    let (payload, rest) = rest.split_at_checked(length).ok_or(Stop::Incomplete)?;
    if checksum(&head[..CHECKED], payload) != u32_at(CHECKED) {
        return Err(Stop::Damaged("its checksum does not match"));
    }
    Ok((Record { kind, rows, payload }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(kind: Kind) -> Vec<u8> {
        let payload: Vec<u8> = (0..3 * kind.width()).map(|at| at as u8).collect();
        encode(kind, 3, &payload).unwrap()
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for kind in Kind::ALL {
            let mut bytes = example(kind);
            bytes.extend_from_slice(b"rest");
            let (record, rest) = decode(&bytes).unwrap();
            assert_eq!((record.kind, record.rows, rest), (kind, 3, b"rest".as_slice()));
            assert_eq!(record.payload.len(), 3 * kind.width());
            assert_eq!(encode(kind, 3, &[record.payload, &[0]].concat()), None);
        }
    }

    #[test]
    fn a_cut_record_is_incomplete_and_a_changed_bit_is_damage() {
        for kind in Kind::ALL {
            let bytes = example(kind);
            for length in 0..bytes.len() {
                assert_eq!(decode(&bytes[..length]), Err(Stop::Incomplete), "{kind:?} {length}");
            }
            for bit in 0..8 * bytes.len() {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(decode(&other), Err(Stop::Damaged(_))), "{kind:?} bit {bit}");
            }
        }
    }
}
