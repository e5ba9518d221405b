//! The header of a journal.
//!
//! Layout: magic (8 bytes), schema (u32), day (i32, days since 1970-01-01), number (u32), 4 zero bytes,
//! `follows_id` (i64), 28 zero bytes, crc32 of all before it (u32).

/// Length of a header.
pub const HEADER_BYTES: usize = 64;
/// Version of the layout that this library writes.
pub const SCHEMA: u32 = 1;

const MAGIC: &[u8; 8] = b"rbjrnl\r\n";
const CHECKED: usize = HEADER_BYTES - 4;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub schema: u32,
    /// Days since 1970-01-01.
    pub day: i32,
    /// Number of the file among those of its day.
    pub number: u32,
    /// The id that was applied before the first record.
    pub follows_id: i64,
}

impl Header {
    /// A header of the layout that this library writes.
    pub fn new(day: i32, number: u32, follows_id: i64) -> Self {
        Self { schema: SCHEMA, day, number, follows_id }
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&self.schema.to_le_bytes());
        out[12..16].copy_from_slice(&self.day.to_le_bytes());
        out[16..20].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.follows_id.to_le_bytes());
        let sum = crc32fast::hash(&out[..CHECKED]);
        out[CHECKED..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The header at the start of these bytes; `None` if they do not start with an intact one.
    ///
    /// Magic and checksum are in the same place in every schema, so that a newer one is told apart from
    /// a damaged file.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let u32_at = |at: usize| bytes[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        if &bytes[..8] != MAGIC || u32_at(CHECKED)? != crc32fast::hash(&bytes[..CHECKED]) {
            return None;
        }
        Some(Self {
            schema: u32_at(8)?,
            day: u32_at(12)? as i32,
            number: u32_at(16)?,
            follows_id: bytes[24..32].try_into().map(i64::from_le_bytes).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_not_with_any_bit_changed() {
        for header in [Header::new(0, 0, 0), Header::new(-1, u32::MAX, i64::MIN), Header::new(20_000, 3, 1 << 40)] {
            let bytes = header.encode();
            assert_eq!(Header::decode(&bytes), Some(header));
            assert_eq!(Header::decode(&bytes[..HEADER_BYTES - 1]), None);
            for bit in 0..8 * HEADER_BYTES {
                let mut other = bytes;
                other[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Header::decode(&other), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_schema_is_read_as_such() {
        let newer = Header { schema: 2, ..Header::new(1, 1, 1) };
        assert_eq!(Header::decode(&newer.encode()), Some(newer));
    }
}
