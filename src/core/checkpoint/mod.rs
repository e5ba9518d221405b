//! Checkpoints: a state as bytes, with version and checksum. Equal states give equal bytes, and a state
//! without features those of version 1.
//!
//! Layout: magic, version, header length, header (text of the caller), state length, state,
//! SHA-256 of all before it. Integers are little-endian.

mod plausible;
mod state;

use sha2::{Digest, Sha256};

use crate::core::error::CoreError;

const MAGIC: &[u8; 8] = b"rangebar";
/// Version of a state that consists of sums.
pub const VERSION: u32 = 1;
/// Version of a state that has features computed record by record as well.
pub const VERSION_WITH_FEATURES: u32 = 2;
const DIGEST_BYTES: usize = 32;

/// The error for a checkpoint that cannot be used.
pub fn unusable(reason: &str) -> CoreError {
    CoreError::Checkpoint { reason: reason.to_owned() }
}

/// Joins a header and a state to a checkpoint.
pub fn seal(version: u32, header: &str, state: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + header.len() + state.len() + 64);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&version.to_le_bytes());
    for part in [header.as_bytes(), state] {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    out
}

/// Splits a checkpoint into version, header and state.
///
/// # Errors
/// When a byte was changed, cut or added, or the version is unknown.
pub fn open(bytes: &[u8]) -> Result<(u32, &str, &[u8]), CoreError> {
    let body_len = bytes.len().checked_sub(DIGEST_BYTES).ok_or_else(|| unusable("it is too short"))?;
    let (body, digest) = bytes.split_at(body_len);
    let mut reader = Reader(body);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(unusable("these bytes are not a checkpoint of this library"));
    }
    if Sha256::digest(body).as_slice() != digest {
        return Err(unusable("its checksum does not match: it was altered or cut"));
    }
    let version = u32::from_le_bytes(reader.array()?);
    if !(VERSION..=VERSION_WITH_FEATURES).contains(&version) {
        let known = format!("this library reads versions {VERSION} to {VERSION_WITH_FEATURES}");
        return Err(unusable(&format!("it has version {version}, {known}")));
    }
    let header = reader.part()?;
    let state = reader.part()?;
    if !reader.0.is_empty() {
        return Err(unusable("it has bytes after its end"));
    }
    let header = std::str::from_utf8(header).map_err(|_| unusable("its header is not text"))?;
    Ok((version, header, state))
}

/// Reader of values from the front of a slice.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], CoreError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(|| unusable("it ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CoreError> {
        self.take(N)?.try_into().map_err(|_| unusable("it ends too early"))
    }

    /// Checks that nothing is left of a state.
    ///
    /// # Errors
    /// When something is.
    pub fn end(&self) -> Result<(), CoreError> {
        if self.0.is_empty() { Ok(()) } else { Err(unusable("it was taken with other settings")) }
    }

    pub fn part(&mut self) -> Result<&'a [u8], CoreError> {
        let len = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(len).map_err(|_| unusable("it ends too early"))?)
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
            _ => Err(unusable("it holds an impossible value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_altered_byte_is_refused() {
        let sealed = seal(VERSION, "{}", &[1, 2, 3]);
        assert_eq!(open(&sealed).unwrap(), (VERSION, "{}", [1u8, 2, 3].as_slice()));
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
