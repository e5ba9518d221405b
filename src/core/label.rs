//! The bar id of every record, derived from the bars: bars partition the records of a key, so ids and
//! bars cannot disagree.

use crate::core::bar::{Bar, Cause};

/// Stands for "no bar".
pub const NO_BAR: u32 = u32::MAX;

/// Ids of records, filled in as bars end. The builder must emit unfinished bars.
#[derive(Debug)]
pub struct Labels {
    keeps_unfinished: bool,
    threshold_count: usize,
    /// Per threshold, one id per record.
    ids: Vec<Vec<u32>>,
    /// Rows of each key, if the records have keys.
    key_rows: Option<Vec<Vec<u32>>>,
    /// Per key and threshold: records labelled so far and the next id.
    cursors: Vec<(usize, u32)>,
}

impl Labels {
    pub fn new(rows: usize, threshold_count: usize, keeps_unfinished: bool, is_keyed: bool) -> Self {
        Self {
            keeps_unfinished,
            threshold_count,
            ids: vec![vec![NO_BAR; rows]; threshold_count],
            key_rows: is_keyed.then(Vec::new),
            cursors: Vec::new(),
        }
    }

    /// Adds the keys of all records.
    pub fn add_codes(&mut self, codes: &[u32]) {
        let Some(key_rows) = &mut self.key_rows else { return };
        for (row, code) in codes.iter().enumerate() {
            let code = *code as usize;
            if code >= key_rows.len() {
                key_rows.resize_with(code + 1, Vec::new);
            }
            key_rows[code].push(row as u32);
        }
    }

    /// Labels the records of a bar, which are the next ones of its key and threshold.
    pub fn add(&mut self, bar: &Bar) {
        let slot = bar.key as usize * self.threshold_count + usize::from(bar.threshold);
        if slot >= self.cursors.len() {
            self.cursors.resize(slot + 1, (0, 0));
        }
        let (done, next_id) = &mut self.cursors[slot];
        let records = *done..*done + bar.sums.records as usize;
        *done = records.end;
        if !self.keeps_unfinished && bar.ended_by != Some(Cause::Threshold) {
            return;
        }
        let ids = &mut self.ids[usize::from(bar.threshold)];
        match &self.key_rows {
            None => ids[records].fill(*next_id),
            Some(key_rows) => {
                for row in &key_rows[bar.key as usize][records] {
                    ids[*row as usize] = *next_id;
                }
            }
        }
        *next_id += 1;
    }

    /// Ids per threshold, [`NO_BAR`] for a record without a bar.
    pub fn finish(self) -> Vec<Vec<u32>> {
        self.ids
    }
}
