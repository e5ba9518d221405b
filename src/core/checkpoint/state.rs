//! The state of a builder as bytes.

use sha2::{Digest, Sha256};

use crate::core::bar::Sums;
use crate::core::builder::RangeBarBuilder;
use crate::core::checkpoint::plausible::Bounds;
use crate::core::checkpoint::{Reader, unusable};
use crate::core::diagnose::Last;
use crate::core::error::CoreError;
use crate::core::rule::table::Searches;
use crate::core::sample::fold::KeySums;
use crate::core::state::{KeyFold, KeySearch, KeyState, Settings, ThresholdFold};
use crate::core::ticks::Inputs;

/// Marks a forming bar whose sums are followed by those of its records without an aggressor. A bar
/// without such records is written as it was before there were any.
const UNSIDED: u8 = 2;

fn put_optional(out: &mut Vec<u8>, parts: Option<&[i64]>) {
    out.push(u8::from(parts.is_some()));
    for part in parts.into_iter().flatten() {
        out.extend_from_slice(&part.to_le_bytes());
    }
}

fn put_sums(out: &mut Vec<u8>, sums: &Sums) {
    for value in narrow_sums(sums) {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for value in [sums.volume, sums.sell_volume, sums.turnover, sums.sell_turnover] {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn narrow_sums(sums: &Sums) -> [i64; 13] {
    [
        sums.records,
        sums.open_time,
        sums.close_time,
        sums.open,
        sums.high,
        sums.low,
        sums.close,
        sums.fills,
        sums.sell_fills,
        sums.first_agg_id,
        sums.last_agg_id,
        sums.first_id,
        sums.last_id,
    ]
}

fn put_unsided(out: &mut Vec<u8>, sums: &Sums) {
    out.extend_from_slice(&sums.unsided_fills.to_le_bytes());
    out.extend_from_slice(&sums.unsided_volume.to_le_bytes());
    out.extend_from_slice(&sums.unsided_turnover.to_le_bytes());
}

fn read_unsided(reader: &mut Reader, sums: &mut Sums) -> Result<(), CoreError> {
    sums.unsided_fills = reader.i64()?;
    sums.unsided_volume = reader.i128()?;
    sums.unsided_turnover = reader.i128()?;
    if sums.unsided_fills > 0 {
        Ok(())
    } else {
        Err(unusable("a bar says that it has trades without an aggressor, and has none"))
    }
}

fn read_sums(reader: &mut Reader) -> Result<Sums, CoreError> {
    Ok(Sums {
        records: reader.i64()?,
        open_time: reader.i64()?,
        close_time: reader.i64()?,
        open: reader.i64()?,
        high: reader.i64()?,
        low: reader.i64()?,
        close: reader.i64()?,
        fills: reader.i64()?,
        sell_fills: reader.i64()?,
        first_agg_id: reader.i64()?,
        last_agg_id: reader.i64()?,
        first_id: reader.i64()?,
        last_id: reader.i64()?,
        volume: reader.i128()?,
        sell_volume: reader.i128()?,
        turnover: reader.i128()?,
        sell_turnover: reader.i128()?,
        ..Sums::default()
    })
}

fn put_key(out: &mut Vec<u8>, state: &KeyState) {
    let last = state.search.last.map(|last| [last.time, last.agg_id, last.row as i64]);
    put_optional(out, last.as_ref().map(<[i64; 3]>::as_slice));
    put_optional(out, state.search.segment_end.as_ref().map(std::slice::from_ref));
    for fold in &state.fold.thresholds {
        // The state of the search follows from the sums.
        let opening = (!fold.sums.is_empty()).then_some([fold.sums.open_time, fold.sums.open]);
        let tag = out.len();
        put_optional(out, opening.as_ref().map(<[i64; 2]>::as_slice));
        out.extend_from_slice(&fold.next_id.to_le_bytes());
        put_sums(out, &fold.sums);
        if fold.sums.unsided_fills > 0 {
            out[tag] = UNSIDED;
            put_unsided(out, &fold.sums);
        }
    }
}

fn read_key(reader: &mut Reader, settings: &Settings) -> Result<KeyState, CoreError> {
    let last = reader.optional(|reader| {
        Ok(Last { time: reader.i64()?, agg_id: reader.i64()?, fill_id: i64::MIN, row: reader.u64()? })
    })?;
    let segment_end = reader.optional(Reader::i64)?;
    let mut thresholds = Vec::new();
    for _ in &settings.thresholds {
        let has_unsided = reader.0.first() == Some(&UNSIDED);
        let opening = if has_unsided {
            reader.u8()?;
            Some((reader.i64()?, reader.i64()?))
        } else {
            reader.optional(|reader| Ok((reader.i64()?, reader.i64()?)))?
        };
        let mut fold = ThresholdFold { next_id: reader.u32()?, sums: read_sums(reader)? };
        if has_unsided {
            read_unsided(reader, &mut fold.sums)?;
        }
        if opening != (!fold.sums.is_empty()).then_some((fold.sums.open_time, fold.sums.open)) {
            return Err(unusable("a forming bar does not fit its opening"));
        }
        thresholds.push(fold);
    }
    let forming = settings.thresholds.iter().copied().zip(thresholds.iter().map(|fold| &fold.sums));
    let searches = Searches::resume(settings.rule, forming);
    Ok(KeyState { search: KeySearch { last, segment_end, searches }, fold: KeyFold { thresholds } })
}

impl RangeBarBuilder {
    /// The state between pushes, as bytes.
    pub fn save(&self) -> Vec<u8> {
        let mut out = self.save_sums();
        if let Some(features) = self.features() {
            features.save(&mut out);
        }
        out
    }

    /// The state of a builder of the same trades without features.
    pub fn save_sums(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.rows().to_le_bytes());
        out.extend_from_slice(&(self.states().len() as u64).to_le_bytes());
        for state in self.states() {
            put_key(&mut out, state);
        }
        out
    }

    /// A SHA-256 of the forming bars and of all that decides the next ones. It depends neither on the
    /// numbers of rows and bars so far, nor on features, nor on the format of checkpoints.
    pub fn bars_digest(&self) -> [u8; 32] {
        let mut out = Vec::new();
        for state in self.states() {
            let last = state.search.last.map(|last| [last.time, last.agg_id]);
            put_optional(&mut out, last.as_ref().map(<[i64; 2]>::as_slice));
            put_optional(&mut out, state.search.segment_end.as_ref().map(std::slice::from_ref));
            for fold in &state.fold.thresholds {
                put_sums(&mut out, &fold.sums);
                put_unsided(&mut out, &fold.sums);
            }
        }
        Sha256::digest(&out).into()
    }

    /// Restores a saved state. Settings and bound columns must be the same as when it was saved.
    ///
    /// # Errors
    /// When trades cannot lead to such a state under these settings. The builder is then unchanged.
    pub fn load(&mut self, bytes: &[u8], inputs: Inputs) -> Result<(), CoreError> {
        let mut reader = Reader(bytes);
        let rows = reader.u64()?;
        let count = reader.u64()?;
        let mut states = Vec::new();
        for _ in 0..count {
            if states.len() >= self.most_keys() {
                return Err(unusable("it has more keys than a builder takes"));
            }
            states.push(read_key(&mut reader, self.settings())?);
        }
        let mut features = self.features().cloned();
        if features.is_none() {
            reader.end()?;
        }
        let bounds = Bounds { settings: self.settings(), inputs, rows };
        bounds.check(&states).map_err(unusable)?;
        if let Some(features) = &mut features {
            let sums = |state: &KeyState| state.fold.thresholds.iter().map(|fold| fold.sums).collect();
            let last_time = |state: &KeyState| state.search.last.map_or(0, |last| last.time);
            let keys = states.iter().map(|state| KeySums { last_time: last_time(state), sums: sums(state) });
            features.load(&mut reader, &keys.collect::<Vec<_>>())?;
            reader.end()?;
        }
        self.restore(rows, states, features);
        Ok(())
    }
}
