//! Trades as borrowed columns, the input of the core.

/// Prices or quantities: doubles, or integers on the 1e-8 grid.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    Float(&'a [f64]),
    Grid(&'a [i64]),
}

impl<'a> Values<'a> {
    #[inline]
    pub fn slice(self, from: usize, to: usize) -> Self {
        match self {
            Self::Float(values) => Self::Float(&values[from..to]),
            Self::Grid(values) => Self::Grid(&values[from..to]),
        }
    }

    /// The grid value of a row; `None` if a double has no grid value.
    #[inline]
    pub fn grid(self, row: usize) -> Option<i64> {
        match self {
            Self::Float(values) => crate::core::arithmetic::grid::grid(values[row]),
            Self::Grid(values) => Some(values[row]),
        }
    }
}

/// A bitmap that may start inside a byte, least significant bit first.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    pub bytes: &'a [u8],
    pub offset: usize,
}

impl<'a> Bits<'a> {
    #[inline]
    pub fn slice(self, from: usize) -> Self {
        let bit = self.offset + from;
        Self { bytes: &self.bytes[bit / 8..], offset: bit % 8 }
    }

    #[inline]
    pub fn get(self, row: usize) -> bool {
        let bit = self.offset + row;
        self.bytes[bit / 8] >> (bit % 8) & 1 == 1
    }

    /// Whether any of the first `rows` bits is set.
    pub fn any(&self, rows: usize) -> bool {
        let mask = |row: usize| if rows - row < 8 { (1u8 << (rows - row)) - 1 } else { u8::MAX };
        (0..rows).step_by(8).any(|row| self.byte(row) & mask(row) != 0)
    }

    /// The bits of eight rows from `row` on; rows past the end are 0.
    #[inline(always)]
    pub fn byte(self, row: usize) -> u8 {
        let bit = self.offset + row;
        let at = bit / 8;
        let low = self.bytes.get(at).copied().unwrap_or(0);
        let high = self.bytes.get(at + 1).copied().unwrap_or(0);
        (u16::from_le_bytes([low, high]) >> (bit % 8)) as u8
    }
}

/// Set of optional columns that are bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inputs(u8);

impl Inputs {
    pub const NONE: Self = Self(0);
    pub const QUANTITY: Self = Self(1);
    pub const SIDE: Self = Self(2);
    pub const AGG_ID: Self = Self(4);
    pub const FIRST_ID: Self = Self(8);
    pub const LAST_ID: Self = Self(16);
    /// The side may be missing in some rows.
    pub const UNSIDED: Self = Self(32);
    pub const FILLS: Self = Self(8 | 16);
    pub const FLOW: Self = Self(1 | 2);

    #[inline]
    pub fn has(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Names of the columns of trades.
    pub fn names(self) -> String {
        const NAMES: [(Inputs, &str); 5] = [
            (Inputs::QUANTITY, "quantity"),
            (Inputs::SIDE, "side"),
            (Inputs::AGG_ID, "agg_trade_id"),
            (Inputs::FIRST_ID, "first_trade_id"),
            (Inputs::LAST_ID, "last_trade_id"),
        ];
        let named = NAMES.iter().filter(|(input, _)| self.has(*input)).map(|(_, name)| *name);
        named.collect::<Vec<_>>().join(", ")
    }

    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// One contiguous piece of the input. All columns have the length of `time`.
#[derive(Clone, Copy, Debug)]
pub struct Ticks<'a> {
    pub time: &'a [i64],
    pub price: Values<'a>,
    pub quantity: Option<Values<'a>>,
    pub is_buyer_maker: Option<Bits<'a>>,
    /// Rows without an aggressor, whose bit of `is_buyer_maker` is clear; absent if there are none.
    pub unsided: Option<Bits<'a>>,
    pub agg_id: Option<&'a [i64]>,
    pub first_id: Option<&'a [i64]>,
    pub last_id: Option<&'a [i64]>,
}

impl Ticks<'_> {
    #[inline]
    pub fn len(&self) -> usize {
        self.time.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// The rows `from..to`, without copying.
    #[inline]
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            time: &self.time[from..to],
            price: self.price.slice(from, to),
            quantity: self.quantity.map(|values| values.slice(from, to)),
            is_buyer_maker: self.is_buyer_maker.map(|bits| bits.slice(from)),
            unsided: self.unsided.map(|bits| bits.slice(from)),
            agg_id: self.agg_id.map(|ids| &ids[from..to]),
            first_id: self.first_id.map(|ids| &ids[from..to]),
            last_id: self.last_id.map(|ids| &ids[from..to]),
        }
    }

    pub fn inputs(&self) -> Inputs {
        let bound = [
            (self.quantity.is_some(), Inputs::QUANTITY),
            (self.is_buyer_maker.is_some(), Inputs::SIDE),
            (self.unsided.is_some(), Inputs::UNSIDED),
            (self.agg_id.is_some(), Inputs::AGG_ID),
            (self.first_id.is_some(), Inputs::FIRST_ID),
            (self.last_id.is_some(), Inputs::LAST_ID),
        ];
        bound.iter().filter(|(is_bound, _)| *is_bound).fold(Inputs::NONE, |all, (_, input)| all.with(*input))
    }
}
