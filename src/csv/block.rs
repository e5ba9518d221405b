//! Trades of a block of lines.

use std::ops::Range;

use crate::csv::field::{is_plain, next_line, value};
use crate::csv::number::{eight_bytes, number, whole};
use crate::csv::time::{TimeForm, iso, of_seconds};

/// Doubles from here on do not tell the points of the grid of 1e-8 apart.
const LARGEST_QUOTE: f64 = (1_u64 << 53) as f64 / GRID;
/// Units of the eighth decimal in one.
const GRID: f64 = 1e8;
/// Words of a side that are compared before the table of all words is searched.
const RECENT_WORDS: usize = 2;

/// A decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Amount {
    Price,
    Quantity,
    Contracts,
    Bid,
    Ask,
}

pub const AMOUNTS: usize = 5;

/// A whole number that is an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Id {
    Own,
    First,
    Last,
}

pub const IDS: usize = 3;

/// What a column of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Nothing that is read.
    Other,
    Time(TimeForm),
    Amount(Amount),
    /// A price as a whole number of 1e-9.
    ScaledPrice,
    /// Whether the buyer was the maker.
    BuyerMaker,
    /// Whose side it is.
    Side {
        is_maker: bool,
    },
    Id(Id),
    TextId,
    Symbol,
    /// A column that has the same value in each row.
    Only(Vec<u8>),
}

/// Whether the seller was the taker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Taker {
    Buyer,
    Seller,
    /// Nobody was.
    Nobody,
}

/// The columns of a file.
pub struct Lines {
    pub separator: u8,
    pub fields: Vec<Field>,
    /// The side that a word means; None for a word of no side.
    pub side_of: fn(&str) -> Option<Taker>,
}

/// Trades in the order of their lines, one a line. Columns that the file does not have are empty.
#[derive(Debug, Default, PartialEq)]
pub struct Trades {
    pub rows: usize,
    /// In microseconds since 1970.
    pub times: Vec<i64>,
    pub amounts: [Vec<f64>; AMOUNTS],
    pub ids: [Vec<i64>; IDS],
    pub takers: Vec<Taker>,
    /// Where the ids that are text stand; one without text is missing.
    pub text_ids: Vec<Range<usize>>,
    /// Where the symbol stands, which is the same in each line.
    pub symbol: Option<Range<usize>>,
}

/// The last different words of a side.
struct Words {
    recent: [(u64, usize, Taker); RECENT_WORDS],
    oldest: usize,
}

impl Words {
    fn new() -> Self {
        // No word is as long.
        Self { recent: [(0, usize::MAX, Taker::Nobody); RECENT_WORDS], oldest: 0 }
    }

    #[inline(always)]
    fn side(&mut self, word: &[u8], side_of: fn(&str) -> Option<Taker>) -> Option<Taker> {
        let (key, length) = (eight_bytes(word, 0), word.len());
        for (known, known_length, taker) in self.recent {
            if known == key && known_length == length {
                return Some(taker);
            }
        }
        self.look_up(word, side_of)
    }

    #[cold]
    fn look_up(&mut self, word: &[u8], side_of: fn(&str) -> Option<Taker>) -> Option<Taker> {
        let taker = is_plain(word).then(|| str::from_utf8(word).ok()).flatten().and_then(side_of)?;
        // Longer words are not told apart by eight bytes.
        if word.len() <= 8 {
            self.recent[self.oldest] = (eight_bytes(word, 0), word.len(), taker);
            self.oldest = (self.oldest + 1) % RECENT_WORDS;
        }
        Some(taker)
    }
}

fn truth(word: &[u8]) -> Option<bool> {
    match word {
        b"true" | b"True" | b"1" => Some(true),
        b"false" | b"False" | b"0" => Some(false),
        _ if word.eq_ignore_ascii_case(b"true") => Some(true),
        _ if word.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

impl Lines {
    fn has(&self, field: &Field) -> bool {
        self.fields.contains(field)
    }

    /// Reads the trades of whole lines; None without a line, or if one is not plain or not a valid trade.
    pub fn read(&self, text: &[u8]) -> Option<Trades> {
        if text.is_empty() {
            return None;
        }
        let mut trades = self.with_room(text);
        let has_span = self.has(&Field::Id(Id::First)) && self.has(&Field::Id(Id::Last));
        let has_quote = self.has(&Field::Amount(Amount::Bid)) && self.has(&Field::Amount(Amount::Ask));
        let (mut words, mut at) = (Words::new(), 0);
        while at < text.len() {
            at = self.line(text, at, &mut words, &mut trades)?;
            trades.rows += 1;
            if has_span && trades.ids[Id::First as usize].last() > trades.ids[Id::Last as usize].last() {
                return None;
            }
            if has_quote && !trades.add_mid() {
                return None;
            }
        }
        Some(trades)
    }

    /// No trades, with room for as many as the text may hold.
    fn with_room(&self, text: &[u8]) -> Trades {
        let first = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1);
        // A line has a separator or a line end for each of its fields, even if all of them are empty.
        let rows = text.len() / first.max(self.fields.len()).max(1) * 9 / 8 + 8;
        let mut trades = Trades::default();
        for field in &self.fields {
            match field {
                Field::Time(_) => trades.times.reserve(rows),
                Field::Amount(amount) => trades.amounts[*amount as usize].reserve(rows),
                Field::ScaledPrice => trades.amounts[Amount::Price as usize].reserve(rows),
                Field::BuyerMaker | Field::Side { .. } => trades.takers.reserve(rows),
                Field::Id(id) => trades.ids[*id as usize].reserve(rows),
                Field::TextId => trades.text_ids.reserve(rows),
                Field::Other | Field::Symbol | Field::Only(_) => {}
            }
        }
        trades
    }

    /// Reads a line and returns where the next one begins.
    #[inline(always)]
    fn line(&self, text: &[u8], start: usize, words: &mut Words, trades: &mut Trades) -> Option<usize> {
        let (last, fields) = self.fields.split_last()?;
        let mut at = start;
        for field in fields {
            at = self.field(field, text, at, words, trades)?;
            if text.get(at) != Some(&self.separator) {
                return None;
            }
            at += 1;
        }
        at = self.field(last, text, at, words, trades)?;
        next_line(text, at)
    }

    /// Reads a field and returns where it ends.
    #[inline(always)]
    fn field(&self, field: &Field, text: &[u8], at: usize, words: &mut Words, trades: &mut Trades) -> Option<usize> {
        let is_quoted = text.get(at) == Some(&b'"');
        match field {
            Field::Other => return Some(value(text, at, self.separator)?.1),
            Field::Time(TimeForm::Iso) => {
                let (range, end) = value(text, at, self.separator)?;
                trades.times.push(iso(&text[range])?);
                return Some(end);
            }
            Field::BuyerMaker | Field::Side { .. } => {
                let (range, end) = value(text, at, self.separator)?;
                let word = &text[range];
                trades.takers.push(match field {
                    Field::Side { is_maker } => of_maker(words.side(word, self.side_of)?, *is_maker),
                    _ if truth(word)? => Taker::Seller,
                    _ => Taker::Buyer,
                });
                return Some(end);
            }
            Field::TextId | Field::Symbol | Field::Only(_) => return self.text(field, text, at, trades),
            Field::Time(_) | Field::Amount(_) | Field::ScaledPrice | Field::Id(_) => {}
        }
        let start = at + usize::from(is_quoted);
        let end = trades.add_number(field, text, start)?;
        match is_quoted {
            true => (text.get(end) == Some(&b'"')).then_some(end + 1),
            false => Some(end),
        }
    }

    /// Reads a field of text and returns where it ends.
    #[inline(always)]
    fn text(&self, field: &Field, text: &[u8], at: usize, trades: &mut Trades) -> Option<usize> {
        let (range, end) = value(text, at, self.separator)?;
        let word = &text[range.clone()];
        match field {
            Field::TextId => {
                if !is_plain(word) || (word.is_empty() && range.start > at) {
                    return None;
                }
                trades.text_ids.push(range);
            }
            Field::Only(wanted) if word != wanted => return None,
            Field::Symbol => match &trades.symbol {
                Some(known) if text[known.clone()] == *word => {}
                Some(_) => return None,
                None if is_plain(word) => trades.symbol = Some(range),
                None => return None,
            },
            _ => {}
        }
        Some(end)
    }
}

fn of_maker(side: Taker, is_maker: bool) -> Taker {
    match (side, is_maker) {
        (Taker::Buyer, true) => Taker::Seller,
        (Taker::Seller, true) => Taker::Buyer,
        (side, _) => side,
    }
}

impl Trades {
    /// Reads a number and returns where it ends.
    #[inline(always)]
    fn add_number(&mut self, field: &Field, text: &[u8], at: usize) -> Option<usize> {
        match field {
            Field::Amount(amount) => {
                let found = number(text, at)?;
                let value = found.amount()?;
                let may_be_zero = matches!(amount, Amount::Quantity | Amount::Contracts);
                if value == 0.0 && !may_be_zero {
                    return None;
                }
                self.amounts[*amount as usize].push(value);
                Some(found.end)
            }
            Field::Time(TimeForm::Seconds) => {
                let found = number(text, at)?;
                self.times.push(of_seconds(found, text, at)?);
                Some(found.end)
            }
            Field::Time(form) => {
                let (value, end) = whole(text, at)?;
                self.times.push(form.of_whole(value)?);
                Some(end)
            }
            Field::Id(id) => {
                let (value, end) = whole(text, at)?;
                self.ids[*id as usize].push(value);
                Some(end)
            }
            Field::ScaledPrice => {
                let (value, end) = whole(text, at)?;
                if value == 0 || value % 10 != 0 {
                    return None;
                }
                self.amounts[Amount::Price as usize].push((value / 10) as f64 / GRID);
                Some(end)
            }
            _ => None,
        }
    }

    /// Adds the mid of the last quote as a price; false if the quote is not valid.
    #[inline(always)]
    fn add_mid(&mut self) -> bool {
        let last = |amount: Amount| self.amounts[amount as usize].last().copied().unwrap_or_default();
        let (bid, ask) = (last(Amount::Bid), last(Amount::Ask));
        if bid > ask || ask >= LARGEST_QUOTE {
            return false;
        }
        let units = |value: f64| (value * GRID).round_ties_even() as i64;
        let mid = (units(bid) + units(ask)) as f64 / (2.0 * GRID);
        self.amounts[Amount::Price as usize].push(mid);
        true
    }
}
