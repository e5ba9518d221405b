//! Key values to small numbers by first appearance.

use std::collections::HashMap;

use polars::prelude::*;
use polars_arrow::array::{Array, PrimitiveArray, Utf8ViewArray, View};

use crate::core::numbering::Codes;
use crate::core::simd::{self, prefetch};

/// A category that has no code yet.
const EMPTY: u32 = u32::MAX;

/// Numbers the values of one key column by first appearance.
#[derive(Debug, Default)]
pub struct KeyColumn {
    /// Short strings by their 16 bytes in the view.
    short: Codes<u128>,
    /// Types of at most 64 bits.
    numbers: Codes<u64>,
    long: HashMap<String, u32>,
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
        self.short.get_or_add(key, &mut self.next)
    }

    /// Forgets the codes from `count` on.
    pub fn truncate(&mut self, count: u32) {
        self.short.truncate(count);
        self.numbers.truncate(count);
        self.long.retain(|_, code| *code < count);
        self.null = self.null.filter(|code| *code < count);
        self.next = count;
    }

    fn view_codes(&mut self, chunk: &Utf8ViewArray, out: &mut Vec<u32>) {
        let is_short = chunk.null_count() == 0 && chunk.data_buffers().is_empty();
        if !is_short {
            for text in chunk.iter() {
                out.push(match text {
                    Some(text) => self.text_code(text),
                    None => self.null_code(),
                });
            }
            return;
        }
        const LINE: usize = 4;
        let from = out.len();
        out.resize(from + chunk.len(), EMPTY);
        for (views, codes) in chunk.views().chunks(LINE).zip(out[from..].chunks_mut(LINE)) {
            prefetch::<{ simd::ALONE }, _>(views);
            for (view, code) in views.iter().zip(codes) {
                *code = self.inline_code(view.as_u128());
            }
        }
    }

    fn number_codes<T>(&mut self, chunk: &PrimitiveArray<T>, bits: impl Fn(T) -> u64, out: &mut Vec<u32>)
    where
        T: polars_arrow::types::NativeType,
    {
        let code = |column: &mut Self, value: T| column.numbers.get_or_add(bits(value), &mut column.next);
        if chunk.null_count() == 0 {
            out.extend(chunk.values().iter().map(|value| code(self, *value)));
        } else {
            for value in chunk.iter() {
                out.push(match value {
                    Some(value) => code(self, *value),
                    None => self.null_code(),
                });
            }
        }
    }

    fn category_codes<T>(&mut self, chunk: &PrimitiveArray<T>, known: &mut Known, out: &mut Vec<u32>)
    where
        T: polars_arrow::types::NativeType + Into<u32>,
    {
        let code = |column: &mut Self, known: &mut Known, number: u32| match known.codes.get(number as usize) {
            Some(code) if *code != EMPTY => *code,
            _ => column.new_category(number, known),
        };
        if chunk.null_count() == 0 {
            out.extend(chunk.values().iter().map(|number| code(self, known, (*number).into())));
        } else {
            for number in chunk.iter() {
                out.push(match number {
                    Some(number) => code(self, known, (*number).into()),
                    None => self.null_code(),
                });
            }
        }
    }

    #[cold]
    fn new_category(&mut self, number: u32, known: &mut Known) -> u32 {
        let at = number as usize;
        if at >= known.codes.len() {
            known.codes.resize(at + 1, EMPTY);
        }
        let code = match known.mapping.cat_to_str(number) {
            Some(text) => self.text_code(text),
            None => self.null_code(),
        };
        known.codes[at] = code;
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
                // Physical numbers may differ from frame to frame; the text does not.
                let known = &mut Known { codes: Vec::new(), mapping };
                match physical.dtype() {
                    DataType::UInt8 => {
                        physical.u8()?.downcast_iter().for_each(|chunk| self.category_codes(chunk, known, &mut out));
                    }
                    DataType::UInt16 => {
                        physical.u16()?.downcast_iter().for_each(|chunk| self.category_codes(chunk, known, &mut out));
                    }
                    _ => physical.u32()?.downcast_iter().for_each(|chunk| self.category_codes(chunk, known, &mut out)),
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

/// Codes of the categories of one frame.
struct Known<'a> {
    codes: Vec<u32>,
    mapping: &'a CategoricalMapping,
}

/// One pattern a value: one zero and one not-a-number, as Polars groups them.
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
