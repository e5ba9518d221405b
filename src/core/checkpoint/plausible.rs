//! Checks that a state read from bytes could have come from trades.
//!
//! A checksum detects damaged bytes, not bytes that another program wrote. Therefore every invariant
//! of the builder's state is checked, and a state that pushes cannot reach is refused.

use crate::core::bar::Sums;
use crate::core::rule::threshold::Threshold;
use crate::core::state::{KeyState, Settings, ThresholdFold};
use crate::core::ticks::Inputs;

/// More rows than can ever be pushed; below this number no counter overflows.
const MOST_ROWS: u64 = 1 << 62;

/// Settings and counts that a state must agree with.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    pub settings: &'a Settings,
    pub inputs: Inputs,
    /// Rows over all pushes.
    pub rows: u64,
}

fn require(holds: bool, reason: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(reason) }
}

impl Bounds<'_> {
    /// Checks the states of all keys, in order of their first appearance.
    ///
    /// # Errors
    /// When an invariant does not hold, with a description.
    pub fn check(&self, states: &[KeyState]) -> Result<(), &'static str> {
        require(self.rows <= MOST_ROWS, "it counts too many rows")?;
        let (mut last_rows, mut records) = (Vec::with_capacity(states.len()), 0u64);
        for (index, state) in states.iter().enumerate() {
            let last = state.search.last.ok_or("a key has no records")?;
            last_rows.push(last.row);
            records = records.saturating_add(self.check_key(index as u64, state)?);
        }
        require(records <= self.rows, "its bars have more records than it counts rows")?;
        last_rows.sort_unstable();
        require(last_rows.windows(2).all(|pair| pair[0] != pair[1]), "two keys share a row")?;
        require(last_rows.last().map_or(0, |row| row + 1) == self.rows, "its last row belongs to no key")
    }

    /// Checks one key. Returns a lower bound of its number of records.
    fn check_key(&self, index: u64, state: &KeyState) -> Result<u64, &'static str> {
        let last = state.search.last.ok_or("a key has no records")?;
        require(last.row < self.rows, "a key has a row that it does not count")?;
        // Each of the keys before this one first appeared in an earlier row.
        let most_records = (last.row + 1).checked_sub(index).ok_or("a key appears too early")?;
        require(self.inputs.has(Inputs::AGG_ID) || last.agg_id == 0, "it has ids of a column that is not read")?;
        let segment_end = self.settings.reset.map(|reset| reset.next_after(last.time, self.settings.unit));
        require(state.search.segment_end == segment_end, "its next reset is not the one after its last record")?;
        let mut fewest_records = 1;
        for (fold, threshold) in state.fold.thresholds.iter().zip(&self.settings.thresholds) {
            let sums = &fold.sums;
            require(sums.records >= 0, "a bar has a negative number of records")?;
            let records = (sums.records as u64).saturating_add(u64::from(fold.next_id));
            require(records <= most_records, "a key has more bars than records")?;
            fewest_records = fewest_records.max(records);
            if sums.is_empty() {
                require(
                    *fold == ThresholdFold { next_id: fold.next_id, ..ThresholdFold::default() },
                    "an empty bar has sums",
                )?;
                continue;
            }
            require(sums.close_time == last.time, "a bar does not end with the last record of its key")?;
            require(sums.last_agg_id == last.agg_id, "a bar does not end with the last id of its key")?;
            self.check_times(sums, segment_end)?;
            self.check_prices(sums, *threshold)?;
            self.check_ids(sums)?;
            self.check_amounts(sums)?;
        }
        Ok(fewest_records)
    }

    fn check_times(&self, sums: &Sums, segment_end: Option<i64>) -> Result<(), &'static str> {
        let (open, close) = (sums.open_time, sums.close_time);
        require(open <= close && (sums.records > 1 || open == close), "the times of a bar contradict each other")?;
        let end_of_open = self.settings.reset.map(|reset| reset.next_after(open, self.settings.unit));
        require(end_of_open == segment_end, "a bar goes beyond a reset")?;
        let longest = self.settings.max_gap.map(|gap| i128::from(gap) * i128::from(sums.records - 1));
        let length = i128::from(close) - i128::from(open);
        require(longest.is_none_or(|longest| length <= longest), "a bar goes beyond a gap")
    }

    fn check_prices(&self, sums: &Sums, threshold: Threshold) -> Result<(), &'static str> {
        let &Sums { open, high, low, close, .. } = sums;
        let is_inside = |price: &i64| (low..=high).contains(price);
        require(low > 0 && is_inside(&open) && is_inside(&close), "the prices of a bar contradict each other")?;
        let are_few = match sums.records {
            1 => low == high,
            2 => low == open.min(close) && high == open.max(close),
            _ => true,
        };
        require(are_few, "a bar has more prices than records")?;
        let is_forming = self.settings.rule.may_be_forming(sums, threshold, self.settings.is_gated);
        require(is_forming, "a forming bar has reached its threshold")
    }

    fn check_ids(&self, sums: &Sums) -> Result<(), &'static str> {
        let bound = [
            (Inputs::AGG_ID, sums.first_agg_id),
            (Inputs::AGG_ID, sums.last_agg_id),
            (Inputs::FIRST_ID, sums.first_id),
            (Inputs::LAST_ID, sums.last_id),
        ];
        let are_read = bound.iter().all(|(input, id)| self.inputs.has(*input) || *id == 0);
        require(are_read, "it has ids of a column that is not read")?;
        let (first, last) = (i128::from(sums.first_agg_id), i128::from(sums.last_agg_id));
        let steps = i128::from(sums.records - 1);
        let do_increase = !self.inputs.has(Inputs::AGG_ID) || (last - first >= steps && (steps > 0 || last == first));
        require(do_increase, "the ids of a bar do not increase")?;
        let are_counted = self.inputs.has(Inputs::FILLS);
        let has_fills = if are_counted { sums.fills >= sums.records } else { sums.fills == sums.records };
        require(has_fills, "the fills of a bar do not fit its records")?;
        let of_one = i128::from(sums.last_id) - i128::from(sums.first_id) + 1;
        let is_one = !are_counted || sums.records > 1 || of_one == i128::from(sums.fills);
        require(is_one, "the fills of a bar do not fit its ids")
    }

    fn check_amounts(&self, sums: &Sums) -> Result<(), &'static str> {
        const REASON: &str = "the sums of a bar contradict each other";
        let less = |total: i128, sells: i128, unsided: i128| total.checked_sub(sells)?.checked_sub(unsided);
        let buy_fills = sums.fills.checked_sub(sums.sell_fills).and_then(|fills| fills.checked_sub(sums.unsided_fills));
        let buys = (
            buy_fills.ok_or(REASON)?,
            less(sums.volume, sums.sell_volume, sums.unsided_volume).ok_or(REASON)?,
            less(sums.turnover, sums.sell_turnover, sums.unsided_turnover).ok_or(REASON)?,
        );
        let sells = (sums.sell_fills, sums.sell_volume, sums.sell_turnover);
        let unsided = (sums.unsided_fills, sums.unsided_volume, sums.unsided_turnover);
        require(self.inputs.has(Inputs::QUANTITY) || (sums.volume, sums.turnover) == (0, 0), REASON)?;
        require(self.inputs.has(Inputs::SIDE) || sells == (0, 0, 0), REASON)?;
        require(self.inputs.has(Inputs::UNSIDED) || unsided == (0, 0, 0), REASON)?;
        let sides = [buys, sells, unsided];
        let most_sides = sides.iter().filter(|(fills, _, _)| *fills > 0).count() as i64;
        for (fills, volume, turnover) in sides {
            require(fills >= 0 && (fills > 0 || (volume, turnover) == (0, 0)), REASON)?;
            // A record has one side and at least one fill.
            let records = fills.min(sums.records - (most_sides - i64::from(fills > 0)));
            require(records > 0 || fills == 0, REASON)?;
            require((0..=i128::from(records) * i128::from(i64::MAX)).contains(&volume), REASON)?;
            // A product that overflows 128 bits is above every turnover.
            let least = i128::from(sums.low).checked_mul(volume);
            let most = i128::from(sums.high).checked_mul(volume);
            require(least.is_some_and(|least| least <= turnover), REASON)?;
            require(most.is_none_or(|most| turnover <= most), REASON)?;
        }
        Ok(())
    }
}
