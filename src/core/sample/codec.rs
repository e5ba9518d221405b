//! One description of a state for both directions, to bytes and back.

use crate::core::arithmetic::powers::PowerSums;
use crate::core::arithmetic::wide::Int;
use crate::core::checkpoint::{Reader, unusable};
use crate::core::error::CoreError;

/// Largest count and largest absolute sum of a state that is read; sums of trades stay below, and nothing
/// that is added later can then overflow.
const LARGEST_COUNT: u64 = 1 << 62;
const LARGEST_SUM: u128 = 1 << 126;

/// Writes values, or replaces them by those that it reads.
pub enum Codec<'a, 'b> {
    Save(&'a mut Vec<u8>),
    Load(&'a mut Reader<'b>),
}

impl Codec<'_, '_> {
    pub fn is_load(&self) -> bool {
        matches!(self, Self::Load(_))
    }

    /// Any 64 bits.
    ///
    /// # Errors
    /// When the bytes end, as for all functions here.
    pub fn word(&mut self, value: &mut u64) -> Result<(), CoreError> {
        match self {
            Self::Save(out) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Load(reader) => *value = reader.u64()?,
        }
        Ok(())
    }

    /// # Errors
    /// As above.
    pub fn long(&mut self, value: &mut i64) -> Result<(), CoreError> {
        let mut word = *value as u64;
        self.word(&mut word)?;
        *value = word as i64;
        Ok(())
    }

    /// A price or size on the grid.
    ///
    /// # Errors
    /// When it is negative.
    pub fn price(&mut self, value: &mut i64) -> Result<(), CoreError> {
        self.long(value)?;
        if *value < 0 { Err(unusable("a price or size of a feature is negative")) } else { Ok(()) }
    }

    /// A number of records or orders.
    ///
    /// # Errors
    /// When it is impossibly large.
    pub fn count(&mut self, value: &mut u64) -> Result<(), CoreError> {
        self.word(value)?;
        if *value > LARGEST_COUNT { Err(unusable("a feature counts too much")) } else { Ok(()) }
    }

    /// A sum of sides.
    ///
    /// # Errors
    /// As above.
    pub fn signed_count(&mut self, value: &mut i64) -> Result<(), CoreError> {
        self.long(value)?;
        if value.unsigned_abs() > LARGEST_COUNT { Err(unusable("a feature counts too much")) } else { Ok(()) }
    }

    /// # Errors
    /// When a byte is not -1, 0 or 1.
    pub fn side(&mut self, value: &mut i8) -> Result<(), CoreError> {
        match self {
            Self::Save(out) => out.push(*value as u8),
            Self::Load(reader) => *value = reader.u8()? as i8,
        }
        if (-1..=1).contains(value) { Ok(()) } else { Err(unusable("a feature has an impossible side")) }
    }

    /// # Errors
    /// When a byte is not 0 or 1.
    pub fn flag(&mut self, value: &mut bool) -> Result<(), CoreError> {
        let mut byte = i8::from(*value);
        self.side(&mut byte)?;
        *value = byte == 1;
        if byte < 0 { Err(unusable("a flag of a feature is neither set nor clear")) } else { Ok(()) }
    }

    /// # Errors
    /// When it is impossibly large.
    pub fn sum(&mut self, value: &mut i128) -> Result<(), CoreError> {
        match self {
            Self::Save(out) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Load(reader) => *value = reader.i128()?,
        }
        if value.unsigned_abs() > LARGEST_SUM { Err(unusable("a sum of a feature is too large")) } else { Ok(()) }
    }

    /// # Errors
    /// As above.
    pub fn int<const N: usize>(&mut self, value: &mut Int<N>) -> Result<(), CoreError> {
        value.0.iter_mut().try_for_each(|word| self.word(word))
    }

    /// # Errors
    /// As above.
    pub fn powers(&mut self, value: &mut PowerSums) -> Result<(), CoreError> {
        self.sum(&mut value.first)?;
        self.int(&mut value.second)?;
        self.int(&mut value.third)?;
        self.int(&mut value.fourth)
    }

    /// A list with its length, which is at most `most`.
    ///
    /// # Errors
    /// When it is longer.
    pub fn list<T: Clone + Default>(
        &mut self,
        values: &mut Vec<T>,
        most: usize,
        mut one: impl FnMut(&mut Self, &mut T) -> Result<(), CoreError>,
    ) -> Result<(), CoreError> {
        let mut count = values.len() as u64;
        self.word(&mut count)?;
        if self.is_load() {
            values.clear();
        }
        if count > most as u64 {
            return Err(unusable("a list of a feature is too long"));
        }
        for at in 0..count as usize {
            if self.is_load() {
                values.push(T::default());
            }
            if let Some(value) = values.get_mut(at) {
                one(self, value)?;
            }
        }
        Ok(())
    }
}
