//! Checks that trades without a key are of one symbol.

use polars::prelude::*;
use polars_arrow::array::{Array, PrimitiveArray, Utf8ViewArray, View};
use polars_arrow::types::NativeType;

use crate::core::error::DataError;
use crate::frames::error::Fault;
use crate::frames::options::{Options, Role};

/// The columns that tell symbols apart, and the symbol that each has had so far.
#[derive(Clone, Debug)]
pub struct Symbols {
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    /// Position among the inputs.
    at: usize,
    name: String,
    symbol: Option<PlSmallStr>,
}

impl Symbols {
    pub fn new(options: &Options) -> Self {
        let named = options.roles.iter().zip(&options.names).enumerate();
        let symbols = named.filter(|(_, (role, _))| **role == Role::Symbol);
        Self { columns: symbols.map(|(at, (_, name))| Column { at, name: name.clone(), symbol: None }).collect() }
    }

    /// The first row with another symbol than the rows before it, of this push or an earlier one.
    pub fn check(&mut self, inputs: &[Series]) -> Option<Fault> {
        self.columns.iter_mut().filter_map(|column| column.check(&inputs[column.at])).min_by_key(|fault| fault.row)
    }
}

impl Column {
    fn check(&mut self, series: &Series) -> Option<Fault> {
        let first = first_valid(series)?;
        let value = |row: usize| series.str_value(row).map(|text| text.into_owned()).unwrap_or_default();
        let symbol = self.symbol.get_or_insert_with(|| value(first).into()).clone();
        let other = if value(first) == symbol.as_str() { other_row(series, first) } else { Some(first) };
        let (row, name, other_symbol) = (other?, self.name.clone(), value(other?));
        let describe = move |number: u64| {
            DataError::value(
                number,
                format!(
                    "`{name}` has more than one value: `{symbol}`, and `{other_symbol}` at row {number}\n\nhint: build the \
                     bars of each by itself: group_by=\"{name}\""
                ),
            )
        };
        Some(Fault { row, describe: Box::new(describe) })
    }
}

fn first_valid(series: &Series) -> Option<usize> {
    if series.null_count() == 0 {
        return (!series.is_empty()).then_some(0);
    }
    series.is_not_null().iter().position(|is_valid| is_valid == Some(true))
}

/// First row whose value differs from that of the row `first`, the first that is not null.
fn other_row(series: &Series, first: usize) -> Option<usize> {
    if let Ok(texts) = series.str() {
        let wanted = texts.get(first)?;
        return position(texts.downcast_iter(), |chunk| other_text(chunk, wanted));
    }
    let numbers = series.to_physical_repr();
    match numbers.dtype() {
        DataType::UInt8 => position(numbers.u8().ok()?.downcast_iter(), other_number(numbers.u8().ok()?.get(first)?)),
        DataType::UInt16 => {
            position(numbers.u16().ok()?.downcast_iter(), other_number(numbers.u16().ok()?.get(first)?))
        }
        _ => position(numbers.u32().ok()?.downcast_iter(), other_number(numbers.u32().ok()?.get(first)?)),
    }
}

/// Row of a column from the row of the first chunk in which one is found.
fn position<'a, A: Array + 'a>(
    chunks: impl Iterator<Item = &'a A>,
    find: impl Fn(&A) -> Option<usize>,
) -> Option<usize> {
    let mut before = 0;
    for chunk in chunks {
        if let Some(row) = find(chunk) {
            return Some(before + row);
        }
        before += chunk.len();
    }
    None
}

fn other_number<T: NativeType + PartialEq>(wanted: T) -> impl Fn(&PrimitiveArray<T>) -> Option<usize> {
    move |chunk| {
        let is_valid = |row: usize| chunk.validity().is_none_or(|bits| bits.get_bit(row));
        differing(chunk.values(), |value| *value != wanted, is_valid)
    }
}

fn other_text(chunk: &Utf8ViewArray, wanted: &str) -> Option<usize> {
    let is_valid = |row: usize| chunk.validity().is_none_or(|bits| bits.get_bit(row));
    if wanted.len() <= View::MAX_INLINE_SIZE as usize {
        // A short text is its view.
        let view = View::new_inline(wanted.as_bytes()).as_u128();
        return differing(chunk.views(), |other| other.as_u128() != view, is_valid);
    }
    // The same long text may lie in several places.
    let mut known = None;
    (0..chunk.len()).find(|row| {
        let view = chunk.views()[*row].as_u128();
        if known == Some(view) || !is_valid(*row) {
            return false;
        }
        known = Some(view);
        chunk.value(*row) != wanted
    })
}

/// First valid row whose value differs, looked for a block at a time.
fn differing<T>(values: &[T], differs: impl Fn(&T) -> bool, is_valid: impl Fn(usize) -> bool) -> Option<usize> {
    const BLOCK: usize = 64;
    values.chunks(BLOCK).enumerate().find_map(|(index, block)| {
        let has_other = block.iter().fold(false, |found, value| found | differs(value));
        let rows = (0..block.len()).filter(|_| has_other);
        rows.map(|at| index * BLOCK + at).find(|row| differs(&values[*row]) && is_valid(*row))
    })
}
