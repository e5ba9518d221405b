//! The aggressor's side as text to a bitmap of "the seller is the aggressor".

use polars::prelude::*;
use polars_arrow::bitmap::{Bitmap, BitmapBuilder};

use super::error::FrameError;

pub struct Sides {
    pub chunks: Vec<Bitmap>,
    /// First row with another word.
    pub unknown: Option<usize>,
}

fn is_sell(word: &str) -> Option<bool> {
    const WORDS: [(&str, bool); 6] =
        [("buy", false), ("sell", true), ("b", false), ("s", true), ("bid", false), ("ask", true)];
    WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, is_sell)| *is_sell)
}

/// Reads a String, Categorical or Enum column; nulls are reported elsewhere.
///
/// # Errors
/// When Polars cannot read the column as text.
pub fn to_bits(series: &Series) -> Result<Sides, FrameError> {
    let text = series.cast(&DataType::String)?;
    let mut sides = Sides { chunks: Vec::new(), unknown: None };
    let mut row = 0;
    for chunk in text.str()?.downcast_iter() {
        let mut bits = BitmapBuilder::with_capacity(chunk.len());
        for word in chunk.iter() {
            let side = word.map_or(Some(false), is_sell);
            if side.is_none() && sides.unknown.is_none() {
                sides.unknown = Some(row);
            }
            bits.push(side.unwrap_or(false));
            row += 1;
        }
        sides.chunks.push(bits.freeze());
    }
    Ok(sides)
}
