//! Codes of key values: small integers by first appearance.

use std::sync::{Arc, Weak};

use polars::prelude::*;
use polars_arrow::array::{Array, PrimitiveArray, Utf8ViewArray, View};
use polars_arrow::types::NativeType;

use crate::core::keys::codes::{Codes, TextCodes};
use crate::core::simd::intrinsics::{ALONE, prefetch};

/// A category or a view that has no code yet.
const EMPTY: u32 = u32::MAX;

/// Codes of the values of one key column.
#[derive(Debug, Default)]
pub struct KeyColumn {
    /// Short strings by the 16 bytes of their view.
    short: Codes<u128>,
    /// Types of at most 64 bits.
    numbers: Codes<u64>,
    long: TextCodes,
    categories: Categories,
    null: Option<u32>,
    /// The next code.
    pub next: u32,
}

impl KeyColumn {
    fn add(next: &mut u32) -> u32 {
        *next += 1;
        *next - 1
    }

    fn null_code(&mut self) -> u32 {
        *self.null.get_or_insert_with(|| Self::add(&mut self.next))
    }

    fn long_code(&mut self, text: &str) -> u32 {
        self.long.get_or_add(text, &mut self.next)
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
        self.short.get_or_add(key, &mut self.next)
    }

    /// Forgets the codes from `count` on.
    pub fn truncate(&mut self, count: u32) {
        self.short.truncate(count);
        self.numbers.truncate(count);
        self.long.truncate(count);
        self.categories = Categories::default();
        self.null = self.null.filter(|code| *code < count);
        self.next = count;
    }

    fn view_codes(&mut self, chunk: &Utf8ViewArray, out: &mut Vec<u32>) {
        let is_short = chunk.null_count() == 0 && chunk.data_buffers().is_empty();
        if !is_short {
            self.mixed_view_codes(chunk, out);
            return;
        }
        const LINE: usize = 4;
        let from = out.len();
        out.resize(from + chunk.len(), EMPTY);
        let is_far = self.short.is_far();
        for (views, codes) in chunk.views().chunks(LINE).zip(out[from..].chunks_mut(LINE)) {
            prefetch::<ALONE, _>(views);
            if is_far {
                views.iter().for_each(|view| self.short.fetch(view.as_u128()));
            }
            for (view, code) in views.iter().zip(codes) {
                *code = self.inline_code(view.as_u128());
            }
        }
    }

    /// Codes of strings of any length, and of nulls.
    fn mixed_view_codes(&mut self, chunk: &Utf8ViewArray, out: &mut Vec<u32>) {
        let mut recent = RecentViews::new(chunk.len());
        for (row, view) in chunk.views().iter().enumerate() {
            let is_null = chunk.validity().is_some_and(|validity| !validity.get_bit(row));
            out.push(if is_null {
                self.null_code()
            } else if view.is_inline() {
                self.inline_code(view.as_u128())
            } else {
                recent.get_or_read(view.as_u128(), || self.long_code(chunk.value(row)))
            });
        }
    }

    fn number_codes<T: NativeType>(&mut self, chunk: &PrimitiveArray<T>, bits: impl Fn(T) -> u64, out: &mut Vec<u32>) {
        const GROUP: usize = 16;
        if chunk.null_count() > 0 {
            for value in chunk.iter() {
                out.push(match value {
                    Some(value) => self.numbers.get_or_add(bits(*value), &mut self.next),
                    None => self.null_code(),
                });
            }
            return;
        }
        let (numbers, next) = (&mut self.numbers, &mut self.next);
        for values in chunk.values().chunks(GROUP) {
            if numbers.is_far() {
                values.iter().for_each(|value| numbers.fetch(bits(*value)));
            }
            out.extend(values.iter().map(|value| numbers.get_or_add(bits(*value), next)));
        }
    }

    fn category_codes<T>(&mut self, chunk: &PrimitiveArray<T>, mapping: &CategoricalMapping, out: &mut Vec<u32>)
    where
        T: NativeType + Into<u32>,
    {
        let code = |column: &mut Self, number: u32| match column.categories.codes.get(number as usize) {
            Some(code) if *code != EMPTY => *code,
            _ => column.new_category(number, mapping),
        };
        if chunk.null_count() == 0 {
            out.extend(chunk.values().iter().map(|number| code(self, (*number).into())));
        } else {
            for number in chunk.iter() {
                out.push(match number {
                    Some(number) => code(self, (*number).into()),
                    None => self.null_code(),
                });
            }
        }
    }

    #[cold]
    fn new_category(&mut self, number: u32, mapping: &CategoricalMapping) -> u32 {
        let code = match mapping.cat_to_str(number) {
            Some(text) => self.text_code(text),
            None => self.null_code(),
        };
        let (at, codes) = (number as usize, &mut self.categories.codes);
        if at >= codes.len() {
            codes.resize(at + 1, EMPTY);
        }
        codes[at] = code;
        code
    }

    /// Codes of a column; equal values have equal codes, over all pushes.
    ///
    /// # Errors
    /// When Polars cannot read the column.
    pub fn codes(&mut self, series: &Series) -> PolarsResult<Vec<u32>> {
        let mut out = Vec::with_capacity(series.len());
        let physical = series.to_physical_repr();
        match series.dtype() {
            DataType::String => series.str()?.downcast_iter().for_each(|chunk| self.view_codes(chunk, &mut out)),
            DataType::Categorical(_, mapping) | DataType::Enum(_, mapping) => {
                self.categories.start(mapping);
                match physical.dtype() {
                    DataType::UInt8 => {
                        physical.u8()?.downcast_iter().for_each(|chunk| self.category_codes(chunk, mapping, &mut out));
                    }
                    DataType::UInt16 => {
                        physical.u16()?.downcast_iter().for_each(|chunk| self.category_codes(chunk, mapping, &mut out));
                    }
                    _ => {
                        physical.u32()?.downcast_iter().for_each(|chunk| self.category_codes(chunk, mapping, &mut out))
                    }
                }
            }
            DataType::Float64 | DataType::Float32 => {
                let wide = physical.cast(&DataType::Float64)?;
                wide.f64()?.downcast_iter().for_each(|chunk| self.number_codes(chunk, float_bits, &mut out));
            }
            DataType::UInt64 => {
                physical.u64()?.downcast_iter().for_each(|chunk| self.number_codes(chunk, |x| x, &mut out));
            }
            _ => {
                let wide = physical.cast(&DataType::Int64)?;
                wide.i64()?.downcast_iter().for_each(|chunk| self.number_codes(chunk, |x| x as u64, &mut out));
            }
        }
        Ok(out)
    }
}

/// Codes of the categories by their numbers in one mapping.
#[derive(Debug, Default)]
struct Categories {
    codes: Vec<u32>,
    /// Only identifies the mapping: it does not keep its texts alive.
    mapping: Weak<CategoricalMapping>,
}

impl Categories {
    /// Forgets the codes if they are of another mapping: numbers differ between mappings, texts do not.
    fn start(&mut self, mapping: &Arc<CategoricalMapping>) {
        if !std::ptr::eq(self.mapping.as_ptr(), Arc::as_ptr(mapping)) {
            *self = Self { codes: Vec::new(), mapping: Arc::downgrade(mapping) };
        }
    }
}

/// Codes of views of long strings in one chunk, in which equal views refer to the same string. Gathered
/// columns, and columns read from a dictionary, repeat views.
struct RecentViews {
    slots: Vec<(u128, u32)>,
    /// Views that were not found. After too many of them, the cache is dropped.
    misses: usize,
}

impl RecentViews {
    const SLOTS: usize = 256;

    fn new(rows: usize) -> Self {
        let slots = if rows < 4 * Self::SLOTS { 0 } else { Self::SLOTS };
        Self { slots: vec![(0, EMPTY); slots], misses: 0 }
    }

    #[inline]
    fn get_or_read(&mut self, view: u128, read: impl FnOnce() -> u32) -> u32 {
        // The second half of a view locates the string.
        let location = (view >> 64) as u64;
        let at = location.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - Self::SLOTS.ilog2());
        match self.slots.get_mut(at as usize) {
            Some((known, code)) if (*known == view) & (*code != EMPTY) => *code,
            Some(slot) => {
                let code = read();
                *slot = (view, code);
                self.misses += 1;
                if self.misses > 4 * Self::SLOTS {
                    self.slots.clear();
                }
                code
            }
            None => read(),
        }
    }
}

/// One bit pattern per value: a single zero and a single NaN, as Polars groups them.
pub fn float_bits(x: f64) -> u64 {
    let canonical = if x == 0.0 {
        0.0
    } else if x.is_nan() {
        f64::NAN
    } else {
        x
    };
    canonical.to_bits()
}
