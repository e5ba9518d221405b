//! Names under which exchanges, their files and other libraries publish the fields of a trade.

use polars::prelude::DataType;

use crate::frames::options::Role;

/// A field of a trade and the names by which a column is recognised as it.
pub struct Field {
    pub role: Role,
    pub name: &'static str,
    /// Other names. Letter case, blanks and `_`, `-`, `.` do not matter.
    pub known: &'static [&'static str],
    /// The single letter of Binance's streams. It counts only as part of their signature.
    pub letter: Option<&'static str>,
}

/// Fields in the order in which they are bound.
///
/// Left out on purpose: `t` (a trade id at some venues, a time at others), `E` and `event_time`
/// (when a message was sent).
pub const FIELDS: [Field; 8] = [
    Field { role: Role::Price, name: "price", known: &["px"], letter: Some("p") },
    Field {
        role: Role::Timestamp,
        name: "timestamp",
        known: &["transact_time", "time", "ts", "datetime", "trade_time"],
        letter: Some("T"),
    },
    Field {
        role: Role::Quantity,
        name: "quantity",
        known: &[
            "volume",
            "qty",
            "size",
            "amount",
            "vol",
            "sz",
            "base_qty",
            "base_volume",
            "size(base)",
            "homeNotional",
            "Volume_(BTC)",
        ],
        letter: Some("q"),
    },
    Field { role: Role::IsBuyerMaker, name: "is_buyer_maker", known: &["buyer_maker"], letter: Some("m") },
    Field { role: Role::Side, name: "side", known: &["taker_side", "aggressor", "taker_or_maker"], letter: None },
    Field {
        role: Role::AggTradeId,
        name: "agg_trade_id",
        known: &["agg_id", "trade_id", "id", "trdMatchID"],
        letter: Some("a"),
    },
    Field { role: Role::FirstTradeId, name: "first_trade_id", known: &["first_id"], letter: Some("f") },
    Field { role: Role::LastTradeId, name: "last_trade_id", known: &["last_id"], letter: Some("l") },
];

/// Names of a text column that tells symbols apart.
pub const SYMBOLS: [&str; 7] = ["symbol", "ticker", "instrument", "pair", "market", "coin", "s"];

/// Letters without which no letter counts: price, quantity and time of Binance's streams.
const SIGNATURE: [&str; 3] = ["p", "q", "T"];
/// Letters that count only together.
const FILLS: [&str; 2] = ["f", "l"];

fn significant(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !matches!(byte, b' ' | b'_' | b'-' | b'.')).map(|byte| byte.to_ascii_lowercase())
}

/// Whether two names differ in letter case, blanks and `_`, `-`, `.` at most.
pub fn is_same(name: &str, known: &str) -> bool {
    significant(name).eq(significant(known))
}

/// What a type says about a column whose name alone would mislead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Text,
    Other,
}

impl From<&DataType> for Kind {
    fn from(dtype: &DataType) -> Self {
        match dtype {
            DataType::String | DataType::Categorical(_, _) | DataType::Enum(_, _) => Self::Text,
            dtype if dtype.is_integer() => Self::Integer,
            _ => Self::Other,
        }
    }
}

impl Field {
    pub fn of(role: Role) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.role == role)
    }

    /// Whether a column is recognised as this field by its name, and by its type where names alone mislead.
    fn is_known_as(&self, name: &str, kind: Kind) -> bool {
        let is_id = matches!(self.role, Role::AggTradeId | Role::FirstTradeId | Role::LastTradeId);
        (!is_id || kind == Kind::Integer)
            && (is_same(name, self.name) || self.known.iter().any(|known| is_same(name, known)))
    }
}

/// Columns of a frame, each with its name, its kind, and whether it is free to be bound by its name.
pub struct Candidates<'a> {
    columns: Vec<(&'a str, Kind, bool)>,
    has_signature: bool,
    has_fills: bool,
}

impl<'a> Candidates<'a> {
    pub fn new(columns: Vec<(&'a str, Kind, bool)>) -> Self {
        let has = |letter: &&str| columns.iter().any(|(name, _, _)| name == letter);
        let (has_signature, has_fills) = (SIGNATURE.iter().all(has), FILLS.iter().all(has));
        Self { columns, has_signature, has_fills }
    }

    /// Positions of the columns that could be a field: one where it is clear, several where it is not.
    pub fn of(&self, field: &Field) -> Vec<usize> {
        if let Some(exact) = self.columns.iter().position(|(name, _, _)| *name == field.name) {
            return vec![exact];
        }
        let known = self.positions(|name, kind| field.is_known_as(name, kind));
        if !known.is_empty() {
            return known;
        }
        let letter = field.letter.filter(|letter| self.counts(letter));
        self.positions(|name, _| Some(name) == letter)
    }

    /// Positions of the columns that tell symbols apart.
    pub fn symbols(&self) -> Vec<usize> {
        self.positions(|name, kind| kind == Kind::Text && SYMBOLS.iter().any(|known| is_same(name, known)))
    }

    fn positions(&self, fits: impl Fn(&str, Kind) -> bool) -> Vec<usize> {
        let columns = self.columns.iter().enumerate();
        columns.filter(|(_, (name, kind, is_free))| *is_free && fits(name, *kind)).map(|(at, _)| at).collect()
    }

    fn counts(&self, letter: &str) -> bool {
        self.has_signature && (!FILLS.contains(&letter) || self.has_fills)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(columns: &[(&'static str, Kind)], role: Role) -> Vec<&'static str> {
        let candidates = Candidates::new(columns.iter().map(|(name, kind)| (*name, *kind, true)).collect());
        let field = Field::of(role).expect("a field of trades");
        candidates.of(field).into_iter().map(|at| columns[at].0).collect()
    }

    #[test]
    fn letters_count_only_as_a_signature() {
        let polygon = [("p", Kind::Other), ("s", Kind::Integer), ("t", Kind::Other), ("q", Kind::Integer)];
        assert!(found(&polygon, Role::Quantity).is_empty());
        let binance = [("p", Kind::Other), ("q", Kind::Other), ("T", Kind::Other), ("f", Kind::Integer)];
        assert_eq!(found(&binance, Role::Quantity), ["q"]);
        assert!(found(&binance, Role::FirstTradeId).is_empty());
    }

    #[test]
    fn a_name_may_be_written_in_many_ways_and_an_id_is_an_integer() {
        assert_eq!(found(&[("Trade Time", Kind::Other)], Role::Timestamp), ["Trade Time"]);
        assert_eq!(found(&[("baseQty", Kind::Other)], Role::Quantity), ["baseQty"]);
        assert!(found(&[("id", Kind::Text)], Role::AggTradeId).is_empty());
        assert_eq!(found(&[("qty", Kind::Other), ("Volume", Kind::Other)], Role::Quantity).len(), 2);
    }
}
