//! Keys of `group_by` as small integers by first appearance over all pushes, and back.

mod bytes;
mod codes;
mod table;

use polars::prelude::*;

use crate::core::checkpoint::{Reader, unusable};
use crate::core::keys::codes::Codes;
use crate::frames::error::FrameError;
use crate::frames::keys::bytes::decode;
use crate::frames::keys::codes::KeyColumn;
use crate::frames::keys::table::KeyTable;
use crate::frames::options::{Options, Role};

/// Checks that a type of keys has a cheap exact form.
///
/// # Errors
/// When it has not. The message has the cast to write.
pub fn check_type(name: &str, dtype: &DataType) -> Result<(), FrameError> {
    let is_narrow = dtype.is_integer() && !matches!(dtype, DataType::Int128 | DataType::UInt128);
    let is_supported = matches!(
        dtype,
        DataType::Boolean
            | DataType::Float64
            | DataType::Float32
            | DataType::String
            | DataType::Categorical(_, _)
            | DataType::Enum(_, _)
            | DataType::Date
            | DataType::Datetime(_, _)
            | DataType::Duration(_)
            | DataType::Time
    );
    if is_narrow || is_supported {
        return Ok(());
    }
    Err(FrameError::Type(format!(
        "`{name}` cannot be a key: {dtype:?} is not supported\n\nhint: cast it: `pl.col(\"{name}\").cast(pl.String)`"
    )))
}

/// Codes of the combinations of two code columns.
#[derive(Debug)]
struct Pairs {
    codes: Codes<(u32, u32)>,
    next: u32,
}

/// The keys seen so far.
#[derive(Debug)]
pub struct Keyer {
    columns: Vec<KeyColumn>,
    /// One for each column after the first, which joins it to the columns before it.
    pairs: Vec<Pairs>,
    table: KeyTable,
}

impl Keyer {
    /// A keyer without keys; `empty` has names and types of the key columns.
    pub fn new(empty: &[Series]) -> Self {
        Self {
            columns: empty.iter().map(|_| KeyColumn::default()).collect(),
            pairs: empty.iter().skip(1).map(|_| Pairs { codes: Codes::default(), next: 0 }).collect(),
            table: KeyTable::new(empty),
        }
    }

    /// The key columns of a push, in the order of the roles.
    pub fn select(options: &Options, inputs: &[Series]) -> Vec<Series> {
        let keys = options.roles.iter().zip(inputs).filter(|(role, _)| **role == Role::Key);
        keys.map(|(_, series)| series.clone()).collect()
    }

    /// Codes of the rows. New keys are added to the table.
    ///
    /// # Errors
    /// When Polars cannot read a key column.
    pub fn codes(&mut self, keys: &[Series]) -> Result<Vec<u32>, FrameError> {
        let mut codes: Option<Vec<u32>> = None;
        for (index, (column, series)) in self.columns.iter_mut().zip(keys).enumerate() {
            let own = column.codes(series)?;
            codes = Some(match codes {
                None => own,
                Some(left) => {
                    let Pairs { codes, next } = &mut self.pairs[index - 1];
                    left.into_iter().zip(own).map(|pair| codes.get_or_add(pair, next)).collect()
                }
            });
        }
        let codes = codes.unwrap_or_default();
        if self.next_code() == self.count() {
            return Ok(codes);
        }
        let mut first_rows: Vec<IdxSize> = Vec::new();
        let mut next = self.count();
        for (row, code) in codes.iter().enumerate() {
            if *code as usize == next {
                first_rows.push(row as IdxSize);
                next += 1;
            }
        }
        self.table.append(keys, &IdxCa::from_vec("rows".into(), first_rows))?;
        Ok(codes)
    }

    /// Number of codes assigned so far.
    fn next_code(&self) -> usize {
        let next = match (self.pairs.last(), self.columns.last()) {
            (Some(pairs), _) => pairs.next,
            (None, Some(column)) => column.next,
            (None, None) => 0,
        };
        next as usize
    }

    pub fn count(&self) -> usize {
        self.table.count()
    }

    /// Forgets the keys from `count` on, after a push that was refused.
    pub fn truncate(&mut self, count: usize) {
        if self.count() > count {
            // Only the last codes are rows of the table; the codes of inner columns may stay.
            match (self.pairs.last_mut(), self.columns.last_mut()) {
                (Some(pairs), _) => {
                    pairs.codes.truncate(count as u32);
                    pairs.next = count as u32;
                }
                (None, Some(column)) => column.truncate(count as u32),
                (None, None) => {}
            }
            self.table.truncate(count);
        }
    }

    /// Key columns for these codes, in buffers of their own.
    ///
    /// # Errors
    /// When Polars rejects a column, which the types rule out.
    pub fn values(&self, codes: &[u32]) -> PolarsResult<Vec<Series>> {
        self.table.gather(codes)
    }

    /// The keys as bytes.
    pub fn save(&self) -> Vec<u8> {
        let mut out = (self.count() as u64).to_le_bytes().to_vec();
        self.table.write(&mut out);
        out
    }

    /// Restores saved keys; `empty` has their types.
    ///
    /// # Errors
    /// When the bytes are not keys of these types.
    pub fn load(&mut self, bytes: &[u8], empty: &[Series]) -> Result<(), FrameError> {
        let mut reader = Reader(bytes);
        let count = reader.u64()?;
        let mut keys = Vec::new();
        for series in empty {
            let mut values = Vec::new();
            for _ in 0..count {
                let len = reader.u64()?;
                let len = usize::try_from(len).ok();
                values.push(match len {
                    None | Some(usize::MAX) => None,
                    Some(len) => Some(reader.take(len)?),
                });
            }
            keys.push(decode(&values, series)?);
        }
        let codes = self.codes(&keys)?;
        if !reader.0.is_empty() || codes.iter().enumerate().any(|(row, code)| row != *code as usize) {
            return Err(unusable("its keys are not distinct").into());
        }
        Ok(())
    }
}
