//! Conversion of the aggressor's side to two bitmaps: records sold by the aggressor, and records
//! without an aggressor.

use polars::prelude::*;
use polars_arrow::array::{Array, PrimitiveArray, Utf8ViewArray, View};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::types::NativeType;

use crate::frames::error::FrameError;

/// The bitmaps of a column, chunk by chunk.
pub struct Sides {
    pub sells: Vec<Bitmap>,
    /// Rows without an aggressor, whose bits of `sells` are clear; none for a chunk without such rows.
    pub unsided: Vec<Option<Bitmap>>,
    /// First row whose value is unknown.
    pub unknown: Option<usize>,
}

/// Sides as numbers: the lowest bit is that of sells, the next that of rows without an aggressor.
pub const BUY: u8 = 0;
pub const SELL: u8 = 1;
pub const NONE: u8 = 2;
const UNKNOWN: u8 = 4;
/// The text has not been read yet.
const UNSEEN: u8 = 8;

/// Texts of a buy, of a sell, and of a record without an aggressor, in lower case.
pub const TEXTS: [(&[&str], u8); 3] = [
    (&["buy", "b", "bid", "buyer", "1", "+1", "bid_aggressor", "buy_aggressor"], BUY),
    (&["sell", "s", "ask", "seller", "a", "-1", "\u{2212}1", "ask_aggressor", "sell_aggressor"], SELL),
    (&["", "unknown", "none", "n", "0", "no_aggressor"], NONE),
];

/// Rows read at once.
const LANES: usize = 8;

pub fn side_of(text: &str) -> u8 {
    let is_among = |texts: &[&str]| texts.iter().any(|known| text.eq_ignore_ascii_case(known));
    TEXTS.iter().find(|(texts, _)| is_among(texts)).map_or(UNKNOWN, |(_, side)| *side)
}

/// The side of the taker where the value is that of the maker.
fn opposite(side: u8) -> u8 {
    if side <= SELL { side ^ SELL } else { side }
}

/// Values of a chunk, with a cache from values to sides.
trait SideCache<T> {
    /// A buy or a sell if the value is cached as one, else a number above [`SELL`].
    fn get(&self, value: T) -> u8;

    /// The side of a value if it is cached, else a number from [`UNKNOWN`] on.
    #[inline(always)]
    fn get_any(&self, value: T) -> u8 {
        self.get(value)
    }

    /// Reads the side of the value of a row and caches it.
    fn read(&mut self, value: T, row: usize) -> u8;
}

/// The last views read as each side: a column rarely has two spellings of a side.
#[derive(Clone, Copy)]
struct Spellings {
    /// Views of buys, sells and rows without an aggressor.
    views: [u128; 3],
    is_maker: bool,
}

impl Spellings {
    fn new(is_maker: bool) -> Self {
        // No text is as long as all bits set.
        Self { views: [u128::MAX; 3], is_maker }
    }
}

/// A chunk of text.
struct Texts<'a> {
    chunk: &'a Utf8ViewArray,
    known: &'a mut Spellings,
}

impl SideCache<View> for Texts<'_> {
    #[inline(always)]
    fn get(&self, view: View) -> u8 {
        let view = view.as_u128();
        let [buy, sell, _] = self.known.views;
        let is_sell = view == sell;
        if is_sell | (view == buy) { u8::from(is_sell) } else { UNSEEN }
    }

    #[inline(always)]
    fn get_any(&self, view: View) -> u8 {
        let view = view.as_u128();
        let [buy, sell, none] = self.known.views;
        let (is_sell, is_none) = (view == sell, view == none);
        // Sides are in no order, so that a branch would often be mispredicted.
        let is_unseen = !(is_sell | is_none | (view == buy));
        (u8::from(is_sell) * SELL) | (u8::from(is_none) * NONE) | (u8::from(is_unseen) * UNSEEN)
    }

    fn read(&mut self, view: View, row: usize) -> u8 {
        let mut side = side_of(self.chunk.value(row));
        if self.known.is_maker {
            side = opposite(side);
        }
        // A long text may lie in several places, so that its view says nothing about others.
        if let (Some(known), true) = (self.known.views.get_mut(usize::from(side)), view.is_inline()) {
            *known = view.as_u128();
        }
        side
    }
}

/// The side of each category by its number, read when the category first occurs.
struct Categories<'a> {
    sides: Vec<u8>,
    mapping: &'a CategoricalMapping,
    is_maker: bool,
}

impl<T: NativeType + Into<u32>> SideCache<T> for Categories<'_> {
    #[inline(always)]
    fn get(&self, number: T) -> u8 {
        let number: u32 = number.into();
        self.sides.get(number as usize).copied().unwrap_or(UNSEEN)
    }

    fn read(&mut self, number: T, _row: usize) -> u8 {
        let number: u32 = number.into();
        let at = number as usize;
        if at >= self.sides.len() {
            self.sides.resize(at + 1, UNSEEN);
        }
        if self.sides[at] == UNSEEN {
            let side = self.mapping.cat_to_str(number).map_or(UNKNOWN, side_of);
            self.sides[at] = if self.is_maker { opposite(side) } else { side };
        }
        self.sides[at]
    }
}

/// Integers: 1 is a buy, -1 a sell, 0 neither.
struct Signs {
    buy: i64,
}

impl SideCache<i64> for Signs {
    #[inline(always)]
    fn get(&self, value: i64) -> u8 {
        let (is_sell, is_none) = (value == -self.buy, value == 0);
        let is_unknown = !(is_sell | is_none | (value == self.buy));
        (u8::from(is_sell) * SELL) | (u8::from(is_none) * NONE) | (u8::from(is_unknown) * UNKNOWN)
    }

    fn read(&mut self, value: i64, _row: usize) -> u8 {
        self.get(value)
    }
}

/// The bitmaps of a chunk under construction.
#[derive(Default)]
struct Bytes {
    sells: Vec<u8>,
    /// Empty up to the first row without an aggressor.
    unsided: Vec<u8>,
}

impl Bytes {
    #[inline(always)]
    fn push(&mut self, sells: u8, unsided: u8) {
        if unsided != 0 && self.unsided.is_empty() {
            self.unsided.reserve(self.sells.capacity());
            self.unsided.resize(self.sells.len(), 0);
        }
        if unsided != 0 || !self.unsided.is_empty() {
            self.unsided.push(unsided);
        }
        self.sells.push(sells);
    }
}

impl Sides {
    /// Appends the bits of a chunk, eight rows at a time.
    fn add<T: Copy>(&mut self, values: &[T], validity: Option<&Bitmap>, cache: &mut impl SideCache<T>) {
        let first_row: usize = self.sells.iter().map(Bitmap::len).sum();
        let validity = validity.filter(|bits| bits.unset_bits() > 0);
        let mut bytes = Bytes { sells: Vec::with_capacity(values.len().div_ceil(LANES)), unsided: Vec::new() };
        for (index, group) in values.chunks(LANES).enumerate() {
            if bytes.unsided.is_empty() && validity.is_none() {
                let (mut sells, mut all) = (0, 0);
                for (lane, value) in group.iter().enumerate() {
                    let side = cache.get(*value);
                    all |= side;
                    sells |= (side & SELL) << lane;
                }
                if all <= SELL {
                    bytes.sells.push(sells);
                    continue;
                }
            }
            let mut read = cached_group(group, cache);
            if read.unknown.is_some() || validity.is_some() {
                let from = index * LANES;
                let is_valid = |row: usize| validity.is_none_or(|bits| bits.get_bit(row));
                read = read_group(group, from, is_valid, cache);
                self.unknown = self.unknown.or(read.unknown.map(|row| first_row + row));
            }
            bytes.push(read.sells, read.unsided);
        }
        self.sells.push(Bitmap::from_u8_vec(bytes.sells, values.len()));
        let has_unsided = !bytes.unsided.is_empty();
        self.unsided.push(has_unsided.then(|| Bitmap::from_u8_vec(bytes.unsided, values.len())));
    }

    fn add_numbers<T>(&mut self, chunk: &PrimitiveArray<T>, cache: &mut Categories)
    where
        T: NativeType + Into<u32>,
    {
        self.add(chunk.values(), chunk.validity(), cache);
    }

    fn add_texts(&mut self, chunk: &Utf8ViewArray, known: &mut Spellings) {
        self.add(chunk.views(), chunk.validity(), &mut Texts { chunk, known });
    }
}

/// The sides of up to eight rows.
struct Group {
    sells: u8,
    unsided: u8,
    unknown: Option<usize>,
}

/// The sides of up to eight rows that are all cached; otherwise some row is unknown.
#[inline(always)]
fn cached_group<T: Copy>(group: &[T], cache: &impl SideCache<T>) -> Group {
    let (mut sells, mut unsided, mut all) = (0, 0, 0);
    for (lane, value) in group.iter().enumerate() {
        let side = cache.get_any(*value);
        all |= side;
        sells |= (side & SELL) << lane;
        unsided |= (side >> 1 & 1) << lane;
    }
    Group { sells, unsided, unknown: (all >= UNKNOWN).then_some(0) }
}

/// Reads up to eight rows, of which one is not cached, null or without an aggressor.
fn read_group<T: Copy>(
    group: &[T],
    from: usize,
    is_valid: impl Fn(usize) -> bool,
    cache: &mut impl SideCache<T>,
) -> Group {
    let mut read = Group { sells: 0, unsided: 0, unknown: None };
    for (lane, value) in group.iter().enumerate() {
        let row = from + lane;
        let side = if !is_valid(row) {
            NONE
        } else {
            match cache.get_any(*value) {
                side @ (BUY | SELL | NONE) => side,
                _ => cache.read(*value, row),
            }
        };
        read.sells |= (side & SELL) << lane;
        read.unsided |= (side >> 1 & 1) << lane;
        if side > NONE {
            read.unknown = read.unknown.or(Some(row));
        }
    }
    read
}

/// Reads a String, Categorical, Enum or integer column; a null has no aggressor.
///
/// # Errors
/// When the column is of another type.
pub fn to_bits(series: &Series, is_maker: bool) -> Result<Sides, FrameError> {
    let mut sides = Sides { sells: Vec::new(), unsided: Vec::new(), unknown: None };
    if series.dtype().is_integer() {
        let cache = &mut Signs { buy: if is_maker { -1 } else { 1 } };
        let numbers = match series.dtype() {
            // No side is as large as 2, so that a number beyond 63 bits may become it.
            DataType::UInt64 => {
                series.u64()?.apply_values(|number| number.min(2)).into_series().cast(&DataType::Int64)?
            }
            _ => series.cast(&DataType::Int64)?,
        };
        numbers.i64()?.downcast_iter().for_each(|chunk| sides.add(chunk.values(), chunk.validity(), cache));
        return Ok(sides);
    }
    let (DataType::Categorical(_, mapping) | DataType::Enum(_, mapping)) = series.dtype() else {
        let known = &mut Spellings::new(is_maker);
        series.str()?.downcast_iter().for_each(|chunk| sides.add_texts(chunk, known));
        return Ok(sides);
    };
    let cache = &mut Categories { sides: Vec::new(), mapping, is_maker };
    let numbers = series.to_physical_repr();
    match numbers.dtype() {
        DataType::UInt8 => numbers.u8()?.downcast_iter().for_each(|chunk| sides.add_numbers(chunk, cache)),
        DataType::UInt16 => numbers.u16()?.downcast_iter().for_each(|chunk| sides.add_numbers(chunk, cache)),
        _ => numbers.u32()?.downcast_iter().for_each(|chunk| sides.add_numbers(chunk, cache)),
    }
    Ok(sides)
}
