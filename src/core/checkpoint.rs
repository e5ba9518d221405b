//! State to bytes and back: versioned, checked, the same state giving the same bytes.
//!
//! Layout: magic, version, header length, header (text of the caller), state length, state,
//! SHA-256 of all before it. Integers are little-endian.

use sha2::{Digest, Sha256};

use crate::core::bar::Sums;
use crate::core::builder::{KeyState, RangeBarBuilder};
use crate::core::diagnose::Last;
use crate::core::error::CoreError;
use crate::core::plausible::Bounds;
use crate::core::rule::Searches;
use crate::core::state::{KeyFold, KeySearch, LaneFold, Settings};
use crate::core::ticks::Inputs;

const MAGIC: &[u8; 8] = b"rangebar";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;

/// A checkpoint that cannot be used, and why.
pub fn refuse(reason: &str) -> CoreError {
    CoreError::Checkpoint { reason: reason.to_owned() }
}

/// Wraps a header and a state.
pub fn seal(header: &str, state: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + header.len() + state.len() + 64);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    for part in [header.as_bytes(), state] {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    out
}

/// The header and the state of a checkpoint.
///
/// # Errors
/// When a byte was changed, cut or added, or the version is another.
pub fn open(bytes: &[u8]) -> Result<(&str, &[u8]), CoreError> {
    let body_len = bytes.len().checked_sub(DIGEST_BYTES).ok_or_else(|| refuse("it is too short"))?;
    let (body, digest) = bytes.split_at(body_len);
    let mut reader = Reader(body);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(refuse("these bytes are not a checkpoint of this library"));
    }
    if Sha256::digest(body).as_slice() != digest {
        return Err(refuse("its checksum does not match: it was altered or cut"));
    }
    let version = u32::from_le_bytes(reader.array()?);
    if version != VERSION {
        return Err(refuse(&format!("it has version {version}, this library reads version {VERSION}")));
    }
    let header = reader.part()?;
    let state = reader.part()?;
    if !reader.0.is_empty() {
        return Err(refuse("it has bytes after its end"));
    }
    let header = std::str::from_utf8(header).map_err(|_| refuse("its header is not text"))?;
    Ok((header, state))
}

/// Reads values off the front of a slice.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], CoreError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(|| refuse("it ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CoreError> {
        self.take(N)?.try_into().map_err(|_| refuse("it ends too early"))
    }

    pub fn part(&mut self) -> Result<&'a [u8], CoreError> {
        let len = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(len).map_err(|_| refuse("it ends too early"))?)
    }

    pub fn u8(&mut self) -> Result<u8, CoreError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u32(&mut self) -> Result<u32, CoreError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, CoreError> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, CoreError> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn i128(&mut self) -> Result<i128, CoreError> {
        self.array().map(i128::from_le_bytes)
    }

    fn optional<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, CoreError>) -> Result<Option<T>, CoreError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(refuse("it holds an impossible value")),
        }
    }
}

fn put_optional(out: &mut Vec<u8>, parts: Option<&[i64]>) {
    out.push(u8::from(parts.is_some()));
    for part in parts.into_iter().flatten() {
        out.extend_from_slice(&part.to_le_bytes());
    }
}

fn put_sums(out: &mut Vec<u8>, sums: &Sums) {
    for value in narrow_sums(sums) {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for value in [sums.volume, sums.sell_volume, sums.turnover, sums.sell_turnover] {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn narrow_sums(sums: &Sums) -> [i64; 13] {
    [
        sums.records,
        sums.open_time,
        sums.close_time,
        sums.open,
        sums.high,
        sums.low,
        sums.close,
        sums.fills,
        sums.sell_fills,
        sums.first_agg_id,
        sums.last_agg_id,
        sums.first_id,
        sums.last_id,
    ]
}

fn read_sums(reader: &mut Reader) -> Result<Sums, CoreError> {
    Ok(Sums {
        records: reader.i64()?,
        open_time: reader.i64()?,
        close_time: reader.i64()?,
        open: reader.i64()?,
        high: reader.i64()?,
        low: reader.i64()?,
        close: reader.i64()?,
        fills: reader.i64()?,
        sell_fills: reader.i64()?,
        first_agg_id: reader.i64()?,
        last_agg_id: reader.i64()?,
        first_id: reader.i64()?,
        last_id: reader.i64()?,
        volume: reader.i128()?,
        sell_volume: reader.i128()?,
        turnover: reader.i128()?,
        sell_turnover: reader.i128()?,
    })
}

fn put_key(out: &mut Vec<u8>, state: &KeyState) {
    let last = state.search.last.map(|last| [last.time, last.agg_id, last.row as i64]);
    put_optional(out, last.as_ref().map(<[i64; 3]>::as_slice));
    put_optional(out, state.search.segment_end.as_ref().map(std::slice::from_ref));
    for fold in &state.fold.lanes {
        // What the search remembers follows from the sums.
        let opening = (!fold.sums.is_empty()).then_some([fold.sums.open_time, fold.sums.open]);
        put_optional(out, opening.as_ref().map(<[i64; 2]>::as_slice));
        out.extend_from_slice(&fold.next_id.to_le_bytes());
        put_sums(out, &fold.sums);
    }
}

fn read_key(reader: &mut Reader, settings: &Settings) -> Result<KeyState, CoreError> {
    let last = reader.optional(|reader| Ok(Last { time: reader.i64()?, agg_id: reader.i64()?, row: reader.u64()? }))?;
    let segment_end = reader.optional(Reader::i64)?;
    let mut lanes = Vec::new();
    for _ in &settings.thresholds {
        let opening = reader.optional(|reader| Ok((reader.i64()?, reader.i64()?)))?;
        let lane = LaneFold { next_id: reader.u32()?, sums: read_sums(reader)? };
        if opening != (!lane.sums.is_empty()).then_some((lane.sums.open_time, lane.sums.open)) {
            return Err(refuse("a forming bar does not fit its opening"));
        }
        lanes.push(lane);
    }
    let forming = settings.thresholds.iter().copied().zip(lanes.iter().map(|lane| &lane.sums));
    let searches = Searches::resume(settings.rule, forming);
    Ok(KeyState { search: KeySearch { last, segment_end, searches }, fold: KeyFold { lanes } })
}

impl RangeBarBuilder {
    /// The state between pushes, as bytes.
    pub fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&(self.states.len() as u64).to_le_bytes());
        for state in &self.states {
            put_key(&mut out, state);
        }
        out
    }

    /// Takes over a saved state; settings and bound columns must be those it was saved under.
    ///
    /// # Errors
    /// When the bytes are not a state that trades can lead to under these settings; nothing is
    /// changed then.
    pub fn load(&mut self, bytes: &[u8], inputs: Inputs) -> Result<(), CoreError> {
        let mut reader = Reader(bytes);
        let rows = reader.u64()?;
        let count = reader.u64()?;
        let mut states = Vec::new();
        for _ in 0..count {
            if states.len() >= self.most_keys() {
                return Err(refuse("it has more keys than a builder takes"));
            }
            states.push(read_key(&mut reader, &self.settings)?);
        }
        if !reader.0.is_empty() {
            return Err(refuse("it was taken with other settings"));
        }
        let bounds = Bounds { settings: &self.settings, inputs, rows };
        bounds.check(&states).map_err(refuse)?;
        self.rows = rows;
        self.states = states;
        self.commit();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_altered_byte_is_refused() {
        let sealed = seal("{}", &[1, 2, 3]);
        assert_eq!(open(&sealed).unwrap(), ("{}", [1u8, 2, 3].as_slice()));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(open(&altered).is_err(), "byte {at}");
            assert!(open(&sealed[..at]).is_err(), "cut at {at}");
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert!(open(&longer).is_err());
    }
}
