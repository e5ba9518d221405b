//! Conversion of the aggressor as text to a bitmap of "the seller is the aggressor".

use polars::prelude::*;
use polars_arrow::array::{Array, PrimitiveArray, Utf8ViewArray, View};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::types::NativeType;

use crate::frames::error::FrameError;

pub struct Sides {
    pub chunks: Vec<Bitmap>,
    /// First row with an unknown text.
    pub unknown: Option<usize>,
}

/// Sides as numbers. The lowest bit is the bit of the row; values above [`SELL`] are not a side.
const BUY: u8 = 0;
const SELL: u8 = 1;
const UNKNOWN: u8 = 2;
/// The text has not been read yet.
const UNSEEN: u8 = 4;

const TEXTS: [(&str, u8); 6] = [("buy", BUY), ("sell", SELL), ("b", BUY), ("s", SELL), ("bid", BUY), ("ask", SELL)];

fn side_of(text: &[u8]) -> u8 {
    let found = TEXTS.iter().find(|(known, _)| text.eq_ignore_ascii_case(known.as_bytes()));
    found.map_or(UNKNOWN, |(_, side)| *side)
}

/// A cache from the values of a column to sides.
trait SideCache<T> {
    /// The side of a value if it is cached, else a number above [`SELL`].
    fn get(&self, value: T) -> u8;

    /// Reads the side of a value from its text and caches it.
    fn read(&mut self, value: T) -> u8;
}

/// The last two views read as sides: a column rarely has two spellings of a side.
struct Spellings {
    buy: u128,
    sell: u128,
}

impl Spellings {
    fn new() -> Self {
        // No text is as long as all bits set.
        Self { buy: u128::MAX, sell: u128::MAX }
    }
}

impl SideCache<View> for Spellings {
    #[inline(always)]
    fn get(&self, view: View) -> u8 {
        let view = view.as_u128();
        let is_sell = view == self.sell;
        if is_sell | (view == self.buy) { u8::from(is_sell) } else { UNSEEN }
    }

    fn read(&mut self, view: View) -> u8 {
        // All known texts are short enough to be inline in the view.
        let side = view.get_inlined_slice().map_or(UNKNOWN, side_of);
        match side {
            BUY => self.buy = view.as_u128(),
            SELL => self.sell = view.as_u128(),
            _ => {}
        }
        side
    }
}

/// The side of each category by its number, read when the category first occurs.
struct Categories<'a> {
    sides: Vec<u8>,
    mapping: &'a CategoricalMapping,
}

impl<T: NativeType + Into<u32>> SideCache<T> for Categories<'_> {
    #[inline(always)]
    fn get(&self, number: T) -> u8 {
        let number: u32 = number.into();
        self.sides.get(number as usize).copied().unwrap_or(UNSEEN)
    }

    fn read(&mut self, number: T) -> u8 {
        let number: u32 = number.into();
        let at = number as usize;
        if at >= self.sides.len() {
            self.sides.resize(at + 1, UNSEEN);
        }
        if self.sides[at] == UNSEEN {
            self.sides[at] = self.mapping.cat_to_str(number).map_or(UNKNOWN, |text| side_of(text.as_bytes()));
        }
        self.sides[at]
    }
}

impl Sides {
    /// Appends the bits of a chunk, eight rows at a time.
    fn add<T: Copy>(&mut self, values: &[T], validity: Option<&Bitmap>, cache: &mut impl SideCache<T>) {
        const LANES: usize = 8;
        let first_row: usize = self.chunks.iter().map(Bitmap::len).sum();
        let mut bytes = Vec::with_capacity(values.len().div_ceil(LANES));
        for (index, group) in values.chunks(LANES).enumerate() {
            let (mut byte, mut largest) = (0, 0);
            for (lane, value) in group.iter().enumerate() {
                let side = cache.get(*value);
                largest |= side;
                byte |= (side & SELL) << lane;
            }
            if largest > SELL {
                let from = index * LANES;
                let is_valid = |lane: usize| validity.is_none_or(|bits| bits.get_bit(from + lane));
                byte = self.read_group(group, is_valid, first_row + from, cache);
            }
            bytes.push(byte);
        }
        self.chunks.push(Bitmap::from_u8_vec(bytes, values.len()));
    }

    /// The bits of up to eight rows, at least one of which is not cached.
    #[cold]
    fn read_group<T: Copy>(
        &mut self,
        group: &[T],
        is_valid: impl Fn(usize) -> bool,
        first_row: usize,
        cache: &mut impl SideCache<T>,
    ) -> u8 {
        let mut byte = 0;
        for (lane, value) in group.iter().enumerate().filter(|(lane, _)| is_valid(*lane)) {
            match cache.read(*value) {
                SELL => byte |= 1 << lane,
                BUY => {}
                _ => self.unknown = self.unknown.or(Some(first_row + lane)),
            }
        }
        byte
    }

    fn add_numbers<T>(&mut self, chunk: &PrimitiveArray<T>, cache: &mut Categories)
    where
        T: NativeType + Into<u32>,
    {
        self.add(chunk.values(), chunk.validity(), cache);
    }

    fn add_views(&mut self, chunk: &Utf8ViewArray, cache: &mut Spellings) {
        self.add(chunk.views(), chunk.validity(), cache);
    }
}

/// Reads a String, Categorical or Enum column; nulls are reported elsewhere.
///
/// # Errors
/// When the column is of another type.
pub fn to_bits(series: &Series) -> Result<Sides, FrameError> {
    let mut sides = Sides { chunks: Vec::new(), unknown: None };
    let (DataType::Categorical(_, mapping) | DataType::Enum(_, mapping)) = series.dtype() else {
        let cache = &mut Spellings::new();
        series.str()?.downcast_iter().for_each(|chunk| sides.add_views(chunk, cache));
        return Ok(sides);
    };
    let cache = &mut Categories { sides: Vec::new(), mapping };
    let numbers = series.to_physical_repr();
    match numbers.dtype() {
        DataType::UInt8 => numbers.u8()?.downcast_iter().for_each(|chunk| sides.add_numbers(chunk, cache)),
        DataType::UInt16 => numbers.u16()?.downcast_iter().for_each(|chunk| sides.add_numbers(chunk, cache)),
        _ => numbers.u32()?.downcast_iter().for_each(|chunk| sides.add_numbers(chunk, cache)),
    }
    Ok(sides)
}
