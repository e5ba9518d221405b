//! Fields of trade files by their words, and trades as columns.

use polars::prelude::*;
use polars_arrow::array::{BooleanArray, MutableBinaryViewArray, Utf8ViewArray};
use polars_arrow::bitmap::Bitmap;

use crate::csv::block::{Amount, Field, Id, Taker, Trades};
use crate::csv::time::TimeForm;
use crate::frames::error::FrameError;
use crate::frames::side;

const AMOUNTS: [(Amount, &str); 5] = [
    (Amount::Price, "price"),
    (Amount::Quantity, "quantity"),
    (Amount::Contracts, "contracts"),
    (Amount::Bid, "bid"),
    (Amount::Ask, "ask"),
];
const IDS: [(Id, &str); 3] = [(Id::Own, "id"), (Id::First, "first_id"), (Id::Last, "last_id")];

/// The field that a word names.
///
/// # Errors
/// When it names none.
pub fn field_of(word: &str, only: &str) -> Result<Field, FrameError> {
    if let Some((amount, _)) = AMOUNTS.iter().find(|(_, name)| *name == word) {
        return Ok(Field::Amount(*amount));
    }
    if let Some((id, _)) = IDS.iter().find(|(_, name)| *name == word) {
        return Ok(Field::Id(*id));
    }
    Ok(match word {
        "" => Field::Other,
        "time in s" => Field::Time(TimeForm::Seconds),
        "time in ms" => Field::Time(TimeForm::Milliseconds),
        "time in us" => Field::Time(TimeForm::Microseconds),
        "time in ns" => Field::Time(TimeForm::Nanoseconds),
        "time in iso" => Field::Time(TimeForm::Iso),
        "scaled price" => Field::ScaledPrice,
        "buyer_maker" => Field::BuyerMaker,
        "side" => Field::Side { is_maker: false },
        "side of maker" => Field::Side { is_maker: true },
        "text id" => Field::TextId,
        "symbol" => Field::Symbol,
        "only" => Field::Only(only.as_bytes().to_vec()),
        _ => return Err(FrameError::Options(format!("`{word}` is no field of a trade"))),
    })
}

/// The side that a word means; None for a word of no side.
pub fn taker_of(word: &str) -> Option<Taker> {
    match side::side_of(word) {
        side::BUY => Some(Taker::Buyer),
        side::SELL => Some(Taker::Seller),
        side::NONE => Some(Taker::Nobody),
        _ => None,
    }
}

/// Trades as columns named after the fields; those that the file does not have are left out.
pub fn series_of(trades: Trades, text: &[u8]) -> Vec<Series> {
    let mut columns = vec![Series::from_vec("timestamp".into(), trades.times)];
    for ((_, name), values) in AMOUNTS.into_iter().zip(trades.amounts) {
        if values.len() == trades.rows {
            columns.push(Series::from_vec(name.into(), values));
        }
    }
    for ((_, name), values) in IDS.into_iter().zip(trades.ids) {
        if values.len() == trades.rows {
            columns.push(Series::from_vec(name.into(), values));
        }
    }
    if trades.text_ids.len() == trades.rows {
        let mut ids = MutableBinaryViewArray::<str>::with_capacity(trades.rows);
        for range in trades.text_ids {
            ids.push(str::from_utf8(&text[range]).ok().filter(|id| !id.is_empty()));
        }
        let ids: Utf8ViewArray = ids.into();
        columns.push(StringChunked::with_chunk("id".into(), ids).into_series());
    }
    if trades.takers.len() == trades.rows {
        columns.push(sells_of(&trades.takers));
    }
    columns
}

/// Whether the seller was the taker; null where nobody was.
fn sells_of(takers: &[Taker]) -> Series {
    let sells = Bitmap::from_trusted_len_iter(takers.iter().map(|taker| *taker == Taker::Seller));
    let sided = takers
        .contains(&Taker::Nobody)
        .then(|| Bitmap::from_trusted_len_iter(takers.iter().map(|taker| *taker != Taker::Nobody)));
    let flags = BooleanArray::new(ArrowDataType::Boolean, sells, sided);
    BooleanChunked::with_chunk("is_buyer_maker".into(), flags).into_series()
}
