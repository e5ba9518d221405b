//! The values of the keys, one row per key in order of code.
//!
//! The table copies values, because it outlives every push, and a string column, even if gathered or
//! sliced, shares all buffers of the column that it was made from.

use polars::prelude::*;
use polars_arrow::array::{Utf8ViewArray, View};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::ArrowDataType;

use crate::frames::keys::bytes::{from_words, to_words};
use crate::frames::keys::codes::float_bits;

/// Values of one key column.
#[derive(Debug)]
struct KeyValues {
    /// An empty column with name and type.
    empty: Series,
    is_null: Vec<bool>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// All texts in one buffer, with the end of each.
    Texts { bytes: Vec<u8>, ends: Vec<usize> },
    /// Fixed-width types and categories as 64-bit words.
    Words(Vec<u64>),
}

/// The keys seen so far.
#[derive(Debug)]
pub struct KeyTable {
    columns: Vec<KeyValues>,
    len: usize,
}

impl KeyTable {
    /// A table without keys; `empty` has names and types of its columns.
    pub fn new(empty: &[Series]) -> Self {
        Self { columns: empty.iter().map(KeyValues::new).collect(), len: 0 }
    }

    pub fn count(&self) -> usize {
        self.len
    }

    /// Appends rows of the key columns.
    ///
    /// # Errors
    /// When a column has another type than the table.
    pub fn append(&mut self, keys: &[Series], rows: &IdxCa) -> PolarsResult<()> {
        for (column, series) in self.columns.iter_mut().zip(keys) {
            column.append(&series.take(rows)?)?;
        }
        self.len += rows.len();
        Ok(())
    }

    /// Forgets the rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(len));
        self.len = self.len.min(len);
    }

    /// Key columns for these codes, in buffers of their own.
    ///
    /// # Errors
    /// When Polars rejects a column, which the types rule out.
    pub fn gather(&self, codes: &[u32]) -> PolarsResult<Vec<Series>> {
        self.columns.iter().map(|column| column.gather(codes)).collect()
    }

    /// Writes all values, column by column: the length, or all bits set for null, and the value.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.columns.iter().for_each(|column| column.write(out));
    }
}

impl KeyValues {
    fn new(empty: &Series) -> Self {
        let values = if *empty.dtype() == DataType::String {
            Values::Texts { bytes: Vec::new(), ends: Vec::new() }
        } else {
            Values::Words(Vec::new())
        };
        Self { empty: empty.clone(), is_null: Vec::new(), values }
    }

    fn append(&mut self, new: &Series) -> PolarsResult<()> {
        let new = self.in_own_type(new)?;
        match &mut self.values {
            Values::Texts { bytes, ends } => {
                for text in new.str()?.iter() {
                    bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
                    ends.push(bytes.len());
                    self.is_null.push(text.is_none());
                }
            }
            Values::Words(words) => {
                for word in to_words(&new)? {
                    words.push(word.unwrap_or_default());
                    self.is_null.push(word.is_none());
                }
            }
        }
        Ok(())
    }

    /// The same values with the categories of the table, whose numbers are stored.
    fn in_own_type(&self, new: &Series) -> PolarsResult<Series> {
        match (mapping(new.dtype()), mapping(self.empty.dtype())) {
            (Some(theirs), Some(ours)) if !std::ptr::eq(theirs, ours) => {
                new.cast(&DataType::String)?.strict_cast(self.empty.dtype())
            }
            _ if new.dtype() != self.empty.dtype() => {
                let (name, own) = (self.empty.name(), self.empty.dtype());
                Err(polars_err!(SchemaMismatch: "key `{name}` is of type {:?}, but it was {own:?} before", new.dtype()))
            }
            _ => Ok(new.clone()),
        }
    }

    fn truncate(&mut self, len: usize) {
        self.is_null.truncate(len);
        match &mut self.values {
            Values::Texts { bytes, ends } => {
                ends.truncate(len);
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::Words(words) => words.truncate(len),
        }
    }

    fn is_null(&self, code: u32) -> bool {
        self.is_null.get(code as usize).copied().unwrap_or(true)
    }

    fn gather(&self, codes: &[u32]) -> PolarsResult<Series> {
        if codes.is_empty() {
            return Ok(self.empty.clone());
        }
        match &self.values {
            Values::Words(words) => {
                let word = |code: &u32| words.get(*code as usize).copied().filter(|_| !self.is_null(*code));
                from_words(codes.iter().map(word), &self.empty)
            }
            Values::Texts { bytes, ends } => {
                // Each text is copied once; rows of the same key share it.
                let Distinct { codes, positions } = Distinct::of(codes, self.is_null.len());
                let texts = codes.iter().map(|code| (text_at(bytes, ends, *code), self.is_null(*code)));
                let texts = Series::from_arrow(self.empty.name().clone(), compact(texts)?.boxed())?;
                texts.take(&IdxCa::from_vec("positions".into(), positions))
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let is_float = self.empty.dtype().is_float();
        let categories = mapping(self.empty.dtype());
        for code in 0..self.is_null.len() as u32 {
            if self.is_null(code) {
                out.extend_from_slice(&u64::MAX.to_le_bytes());
                continue;
            }
            let word_bytes;
            let value = match &self.values {
                Values::Texts { bytes, ends } => text_at(bytes, ends, code),
                Values::Words(words) => {
                    let word = words[code as usize];
                    match categories {
                        Some(mapping) => mapping.cat_to_str(word as u32).unwrap_or_default().as_bytes(),
                        None => {
                            let word = if is_float { float_bits(f64::from_bits(word)) } else { word };
                            word_bytes = word.to_le_bytes();
                            &word_bytes
                        }
                    }
                }
            };
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            out.extend_from_slice(value);
        }
    }
}

fn mapping(dtype: &DataType) -> Option<&CategoricalMapping> {
    match dtype {
        DataType::Categorical(_, mapping) | DataType::Enum(_, mapping) => Some(mapping),
        _ => None,
    }
}

fn text_at<'a>(bytes: &'a [u8], ends: &[usize], code: u32) -> &'a [u8] {
    let at = code as usize;
    let from = at.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    let to = ends.get(at).copied().unwrap_or(from);
    bytes.get(from..to).unwrap_or_default()
}

/// The distinct codes of rows, and the position of each row among them.
struct Distinct {
    codes: Vec<u32>,
    positions: Vec<IdxSize>,
}

impl Distinct {
    /// Takes time in proportion to the rows, not to the keys.
    fn of(codes: &[u32], key_count: usize) -> Self {
        const NONE: IdxSize = IdxSize::MAX;
        const KEYS_PER_ROW: usize = 4;
        if key_count > codes.len().saturating_mul(KEYS_PER_ROW) {
            let mut distinct = codes.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            let position = |code: &u32| distinct.partition_point(|other| other < code) as IdxSize;
            let positions = codes.iter().map(position).collect();
            return Self { codes: distinct, positions };
        }
        let mut distinct = Vec::new();
        let mut position_of = vec![NONE; key_count];
        let position = |code: &u32| {
            let position = &mut position_of[*code as usize];
            if *position == NONE {
                *position = distinct.len() as IdxSize;
                distinct.push(*code);
            }
            *position
        };
        let positions = codes.iter().map(position).collect();
        Self { codes: distinct, positions }
    }
}

/// Builds an array from texts and null flags, with buffers that hold nothing else.
fn compact<'a>(texts: impl Iterator<Item = (&'a [u8], bool)>) -> PolarsResult<Utf8ViewArray> {
    const LARGEST_BUFFER: usize = i32::MAX as usize;
    let (mut views, mut is_valid) = (Vec::new(), Vec::new());
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    for (text, is_null) in texts {
        is_valid.push(!is_null);
        if text.len() <= View::MAX_INLINE_SIZE as usize {
            views.push(View::new_inline(text));
            continue;
        }
        if buffers.last().is_none_or(|buffer| buffer.len() + text.len() > LARGEST_BUFFER) {
            buffers.push(Vec::new());
        }
        let index = buffers.len() - 1;
        let buffer = &mut buffers[index];
        views.push(View::new_from_bytes(text, index as u32, buffer.len() as u32));
        buffer.extend_from_slice(text);
    }
    buffers.iter_mut().for_each(Vec::shrink_to_fit);
    let buffers: Vec<_> = buffers.into_iter().map(Into::into).collect();
    let validity = is_valid.contains(&false).then(|| Bitmap::from_iter(is_valid));
    Utf8ViewArray::try_new(ArrowDataType::Utf8View, views.into(), buffers.into(), validity)
}
