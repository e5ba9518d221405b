//! Keys of `group_by` to small numbers, by first appearance over all pushes, and back.

use std::collections::HashMap;

use polars::prelude::*;
use polars_arrow::array::{Array, Utf8ViewArray, View};

use super::error::FrameError;
use super::options::{Options, Role};
use crate::core::checkpoint::Reader;
use crate::core::error::CoreError;

/// Refuses key types without a cheap exact form.
///
/// # Errors
/// A sentence with the cast to write.
pub fn check_type(name: &str, dtype: &DataType) -> Result<(), FrameError> {
    let is_narrow = dtype.is_integer() && !matches!(dtype, DataType::Int128 | DataType::UInt128);
    let is_taken = matches!(
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
    if is_narrow || is_taken {
        return Ok(());
    }
    Err(FrameError::Type(format!(
        "`{name}` cannot be a key: {dtype} is not taken\n\nhint: cast it: `pl.col(\"{name}\").cast(pl.String)`"
    )))
}

/// Slots of a small table that is looked into before a hash map.
const CACHE_SLOTS: usize = 512;
/// A slot that holds no code.
const EMPTY: u32 = u32::MAX;

/// A map to codes with a quick look at recent keys.
#[derive(Debug)]
struct Codes<K> {
    map: HashMap<K, u32>,
    cache: Vec<(K, u32)>,
}

impl<K: Copy + Default + Eq + std::hash::Hash> Codes<K> {
    fn new() -> Self {
        Self { map: HashMap::new(), cache: vec![(K::default(), EMPTY); CACHE_SLOTS] }
    }

    /// The code of a key; a new one takes `next` and moves it on.
    #[inline]
    fn get_or_add(&mut self, key: K, mix: u64, next: &mut u32) -> u32 {
        let slot = (mix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize % CACHE_SLOTS;
        let (known, code) = self.cache[slot];
        if code != EMPTY && known == key { code } else { self.look_up(key, slot, next) }
    }

    #[cold]
    fn look_up(&mut self, key: K, slot: usize, next: &mut u32) -> u32 {
        let code = *self.map.entry(key).or_insert(*next);
        *next = (*next).max(code + 1);
        self.cache[slot] = (key, code);
        code
    }

    /// Forgets the codes from `count` on.
    fn truncate(&mut self, count: u32) {
        self.map.retain(|_, code| *code < count);
        self.cache.fill((K::default(), EMPTY));
    }
}

/// Numbers the values of one key column by first appearance.
#[derive(Debug)]
struct KeyColumn {
    /// Short strings by their 16 bytes in the view, other types by their 64 bits.
    short: Codes<u128>,
    long: HashMap<String, u32>,
    null: Option<u32>,
    next: u32,
}

impl KeyColumn {
    fn new() -> Self {
        Self { short: Codes::new(), long: HashMap::new(), null: None, next: 0 }
    }

    fn add(next: &mut u32) -> u32 {
        *next += 1;
        *next - 1
    }

    fn null_code(&mut self) -> u32 {
        *self.null.get_or_insert_with(|| Self::add(&mut self.next))
    }

    fn long_code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.long.get(text) {
            return *code;
        }
        let code = Self::add(&mut self.next);
        self.long.insert(text.to_owned(), code);
        code
    }

    fn text_code(&mut self, text: &str) -> u32 {
        match u8::try_from(text.len()) {
            Ok(len) if usize::from(len) <= View::MAX_INLINE_SIZE as usize => {
                let mut inline = [0u8; 16];
                inline[0] = len;
                inline[4..4 + text.len()].copy_from_slice(text.as_bytes());
                self.inline_code(u128::from_le_bytes(inline))
            }
            _ => self.long_code(text),
        }
    }

    #[inline]
    fn inline_code(&mut self, key: u128) -> u32 {
        self.short.get_or_add(key, key as u64 ^ (key >> 64) as u64, &mut self.next)
    }

    /// Forgets the codes from `count` on.
    fn truncate(&mut self, count: u32) {
        self.short.truncate(count);
        self.long.retain(|_, code| *code < count);
        self.null = self.null.filter(|code| *code < count);
        self.next = count;
    }

    fn view_codes(&mut self, chunk: &Utf8ViewArray, out: &mut Vec<u32>) {
        let is_plain = chunk.null_count() == 0;
        for (row, view) in chunk.views().iter().enumerate() {
            let code = if is_plain && view.is_inline() {
                self.inline_code(view.as_u128())
            } else {
                match chunk.get(row) {
                    Some(text) => self.text_code(text),
                    None => self.null_code(),
                }
            };
            out.push(code);
        }
    }

    /// Codes of a column; equal values have equal codes, over all pushes.
    fn codes(&mut self, series: &Series) -> PolarsResult<Vec<u32>> {
        let mut out = Vec::with_capacity(series.len());
        match series.dtype() {
            DataType::String => {
                for chunk in series.str()?.downcast_iter() {
                    self.view_codes(chunk, &mut out);
                }
            }
            DataType::Categorical(_, mapping) | DataType::Enum(_, mapping) => {
                // Physical numbers may differ from frame to frame; the text does not.
                let physical = series.to_physical_repr().cast(&DataType::UInt32)?;
                let mut known: Vec<u32> = Vec::new();
                for number in physical.u32()?.iter() {
                    out.push(match number {
                        None => self.null_code(),
                        Some(number) => self.category_code(number, &mut known, mapping),
                    });
                }
            }
            _ => {
                for bits in bits_of(series)?.u64()?.iter() {
                    out.push(match bits {
                        None => self.null_code(),
                        Some(bits) => self.short.get_or_add(u128::from(bits), bits, &mut self.next),
                    });
                }
            }
        }
        Ok(out)
    }

    #[inline]
    fn category_code(&mut self, number: u32, known: &mut Vec<u32>, mapping: &CategoricalMapping) -> u32 {
        let at = number as usize;
        if at >= known.len() {
            known.resize(at + 1, EMPTY);
        }
        if known[at] == EMPTY {
            known[at] = match mapping.cat_to_str(number) {
                Some(text) => self.text_code(text),
                None => self.null_code(),
            };
        }
        known[at]
    }
}

/// A fixed-width column as 64-bit patterns, one pattern a value.
fn bits_of(series: &Series) -> PolarsResult<Series> {
    let physical = series.to_physical_repr();
    match physical.dtype() {
        DataType::Float64 | DataType::Float32 => {
            let wide = physical.cast(&DataType::Float64)?;
            // One zero and one not-a-number, as Polars groups them.
            let canonical = |x: f64| {
                if x == 0.0 {
                    0.0f64
                } else if x.is_nan() {
                    f64::NAN
                } else {
                    x
                }
            };
            let bits = wide.f64()?.iter().map(|x| x.map(|x| canonical(x).to_bits()));
            Ok(UInt64Chunked::from_iter_options(series.name().clone(), bits).into_series())
        }
        DataType::UInt64 => Ok(physical.into_owned()),
        _ => {
            let wide = physical.cast(&DataType::Int64)?;
            let bits = wide.i64()?.iter().map(|x| x.map(|x| x as u64));
            Ok(UInt64Chunked::from_iter_options(series.name().clone(), bits).into_series())
        }
    }
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
    /// One less than columns: each joins a column to those before it.
    pairs: Vec<Pairs>,
    /// One row per key, in order of code; owns its values.
    table: Vec<Series>,
    key_count: usize,
}

impl Keyer {
    pub fn new(key_columns: usize) -> Self {
        Self {
            columns: (0..key_columns).map(|_| KeyColumn::new()).collect(),
            pairs: (1..key_columns).map(|_| Pairs { codes: Codes::new(), next: 0 }).collect(),
            table: Vec::new(),
            key_count: 0,
        }
    }

    /// The key columns of a push, in the order of the roles.
    pub fn select(options: &Options, inputs: &[Series]) -> Vec<Series> {
        let keys = options.roles.iter().zip(inputs).filter(|(role, _)| **role == Role::Key);
        keys.map(|(_, series)| series.clone()).collect()
    }

    /// Codes of the rows; new keys enter the table.
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
                    let pair = |(a, b): (u32, u32)| codes.get_or_add((a, b), u64::from(a) << 32 | u64::from(b), next);
                    left.into_iter().zip(own).map(pair).collect()
                }
            });
        }
        let codes = codes.unwrap_or_default();
        let mut first_rows: Vec<IdxSize> = Vec::new();
        let mut next = self.key_count;
        for (row, code) in codes.iter().enumerate() {
            if *code as usize == next {
                first_rows.push(row as IdxSize);
                next += 1;
            }
        }
        self.append(keys, first_rows)?;
        Ok(codes)
    }

    fn append(&mut self, keys: &[Series], rows: Vec<IdxSize>) -> PolarsResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let count = rows.len();
        let rows = IdxCa::from_vec("rows".into(), rows);
        let taken = keys.iter().map(|series| series.take(&rows)).collect::<PolarsResult<Vec<_>>>()?;
        if self.table.is_empty() {
            self.table = taken;
        } else {
            for (column, new) in self.table.iter_mut().zip(&taken) {
                column.append(new)?;
            }
        }
        self.key_count += count;
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.key_count
    }

    /// Forgets the keys from `count` on, after a push that was refused.
    pub fn truncate(&mut self, count: usize) {
        if self.key_count > count {
            // Only the last codes are positions in the table; those of inner columns may stay.
            match (self.pairs.last_mut(), self.columns.last_mut()) {
                (Some(pairs), _) => {
                    pairs.codes.truncate(count as u32);
                    pairs.next = count as u32;
                }
                (None, Some(column)) => column.truncate(count as u32),
                (None, None) => {}
            }
            for column in &mut self.table {
                *column = column.slice(0, count);
            }
            self.key_count = count;
        }
    }

    /// Key columns for the given codes.
    ///
    /// # Errors
    /// When Polars cannot gather.
    pub fn values(&self, codes: Vec<u32>, names: &[&str], empty: &[Series]) -> PolarsResult<Vec<Series>> {
        let codes: Vec<IdxSize> = codes.into_iter().map(IdxSize::from).collect();
        let rows = IdxCa::from_vec("rows".into(), codes);
        let table = if self.table.is_empty() { empty } else { &self.table };
        let gather = |(series, name): (&Series, &&str)| Ok(series.take(&rows)?.with_name((*name).into()));
        table.iter().zip(names).map(gather).collect()
    }

    /// The keys as bytes.
    ///
    /// # Errors
    /// When Polars cannot read the table.
    pub fn save(&self) -> PolarsResult<Vec<u8>> {
        let mut out = (self.key_count as u64).to_le_bytes().to_vec();
        for column in &self.table {
            for value in encode(column)? {
                match value {
                    None => out.extend_from_slice(&u64::MAX.to_le_bytes()),
                    Some(bytes) => {
                        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                        out.extend_from_slice(&bytes);
                    }
                }
            }
        }
        Ok(out)
    }

    /// Reads saved keys back; `empty` gives the types.
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
                values.push(if len == u64::MAX { None } else { Some(reader.take(len as usize)?) });
            }
            keys.push(decode(&values, series)?);
        }
        let codes = self.codes(&keys)?;
        if !reader.0.is_empty() || codes.iter().enumerate().any(|(row, code)| row != *code as usize) {
            let reason = "its keys do not fit".to_owned();
            return Err(CoreError::Checkpoint { reason }.into());
        }
        Ok(())
    }
}

fn is_text(dtype: &DataType) -> bool {
    matches!(dtype, DataType::String | DataType::Categorical(_, _) | DataType::Enum(_, _))
}

fn encode(series: &Series) -> PolarsResult<Vec<Option<Vec<u8>>>> {
    if is_text(series.dtype()) {
        let text = series.cast(&DataType::String)?;
        return Ok(text.str()?.iter().map(|text| text.map(|text| text.as_bytes().to_vec())).collect());
    }
    let bits = bits_of(series)?;
    Ok(bits.u64()?.iter().map(|bits| bits.map(|bits| bits.to_le_bytes().to_vec())).collect())
}

fn decode(values: &[Option<&[u8]>], empty: &Series) -> Result<Series, FrameError> {
    let refuse = || FrameError::from(CoreError::Checkpoint { reason: "its keys cannot be read".to_owned() });
    let name = empty.name().clone();
    if is_text(empty.dtype()) {
        let text = values.iter().map(|value| value.map(std::str::from_utf8).transpose()).collect::<Result<Vec<_>, _>>();
        let text = text.map_err(|_| refuse())?;
        return Ok(StringChunked::from_iter_options(name, text.into_iter())
            .into_series()
            .strict_cast(empty.dtype())?);
    }
    let word =
        |value: &Option<&[u8]>| value.map(<[u8; 8]>::try_from).transpose().map(|bytes| bytes.map(u64::from_le_bytes));
    let bits = values.iter().map(word).collect::<Result<Vec<_>, _>>().map_err(|_| refuse())?;
    let physical = match empty.dtype() {
        DataType::Float64 | DataType::Float32 => {
            Float64Chunked::from_iter_options(name, bits.into_iter().map(|bits| bits.map(f64::from_bits))).into_series()
        }
        DataType::UInt64 => UInt64Chunked::from_iter_options(name, bits.into_iter()).into_series(),
        _ => Int64Chunked::from_iter_options(name, bits.into_iter().map(|bits| bits.map(|bits| bits as i64)))
            .into_series(),
    };
    Ok(physical.strict_cast(&empty.dtype().to_physical())?.strict_cast(empty.dtype())?)
}
