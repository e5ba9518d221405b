//! A naive model of the rule: a loop over trades, in integer arithmetic.

use rangebar_polars::core::bar::{Bar, Cause, Sums};
use rangebar_polars::core::rule::table::RuleName;
use rangebar_polars::core::state::Settings;
use rangebar_polars::core::time::Reset;

use crate::trades::Trades;

fn grid(x: f64) -> i64 {
    (x * 1e8).round() as i64
}

/// Start of the period that contains a time in microseconds, found by walking the calendar.
fn period(reset: Reset, time_us: i64) -> i64 {
    let day = time_us.div_euclid(86_400_000_000);
    match reset {
        Reset::Day => day,
        // Day 3 was a Sunday, day 4 a Monday.
        Reset::WeekSunday => (day - 3).div_euclid(7),
        Reset::WeekMonday => (day - 4).div_euclid(7),
        Reset::Month | Reset::Year => {
            let (mut year, mut left) = (1970, day);
            let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            while left >= 365 + i64::from(is_leap(year)) {
                left -= 365 + i64::from(is_leap(year));
                year += 1;
            }
            let lengths = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let mut month = 0;
            while left >= lengths[month] {
                left -= lengths[month];
                month += 1;
            }
            if reset == Reset::Year { year } else { year * 12 + month as i64 }
        }
    }
}

#[derive(Clone, Default)]
struct State {
    forming: Option<Sums>,
    next_id: u32,
    last_time: Option<i64>,
}

fn one(trades: &Trades, row: usize) -> Sums {
    let (price, quantity) = (grid(trades.price[row]), grid(trades.quantity[row]));
    let fills = trades.last_id[row] - trades.first_id[row] + 1;
    let turnover = i128::from(price) * i128::from(quantity);
    let (is_sell, is_unsided) = (trades.is_sell[row], trades.is_unsided[row]);
    Sums {
        records: 1,
        open_time: trades.time[row],
        close_time: trades.time[row],
        open: price,
        high: price,
        low: price,
        close: price,
        fills,
        sell_fills: if is_sell { fills } else { 0 },
        first_agg_id: trades.agg_id[row],
        last_agg_id: trades.agg_id[row],
        first_id: trades.first_id[row],
        last_id: trades.last_id[row],
        volume: i128::from(quantity),
        sell_volume: if is_sell { i128::from(quantity) } else { 0 },
        turnover,
        sell_turnover: if is_sell { turnover } else { 0 },
        unsided_fills: if is_unsided { fills } else { 0 },
        unsided_volume: if is_unsided { i128::from(quantity) } else { 0 },
        unsided_turnover: if is_unsided { turnover } else { 0 },
    }
}

fn add(bar: &mut Sums, next: &Sums) {
    bar.records += 1;
    bar.close_time = next.close_time;
    bar.high = bar.high.max(next.high);
    bar.low = bar.low.min(next.low);
    bar.close = next.close;
    bar.fills += next.fills;
    bar.sell_fills += next.sell_fills;
    bar.last_agg_id = next.last_agg_id;
    bar.last_id = next.last_id;
    bar.volume += next.volume;
    bar.sell_volume += next.sell_volume;
    bar.turnover += next.turnover;
    bar.sell_turnover += next.sell_turnover;
    bar.unsided_fills += next.unsided_fills;
    bar.unsided_volume += next.unsided_volume;
    bar.unsided_turnover += next.unsided_turnover;
}

/// Ended bars in order, and the forming bars.
pub fn bars(trades: &Trades, codes: &[u32], settings: &Settings) -> (Vec<Bar>, Vec<Bar>) {
    let keys = codes.iter().max().map_or(0, |code| *code as usize + 1);
    let count = settings.thresholds.len();
    let mut states = vec![State::default(); keys * count];
    let mut ended = Vec::new();
    for (row, code) in codes.iter().enumerate() {
        for (index, threshold) in settings.thresholds.iter().enumerate() {
            let state = &mut states[*code as usize * count + index];
            let bar = |sums, bar_id, cause| Bar {
                sums,
                end_row: row as u64,
                key: *code,
                threshold: index as u16,
                bar_id,
                ended_by: Some(cause),
                values: None,
            };
            let time = trades.time[row];
            if let Some(last) = state.last_time {
                let is_reset = settings.reset.is_some_and(|reset| period(reset, last) != period(reset, time));
                let is_gap = settings.max_gap.is_some_and(|gap| time.abs_diff(last) > gap);
                let cause = if is_reset { Some(Cause::Reset) } else { is_gap.then_some(Cause::Gap) };
                if let (Some(cause), Some(sums)) = (cause, if cause.is_some() { state.forming.take() } else { None })
                    && settings.keeps_unfinished
                {
                    ended.push(bar(sums, state.next_id, cause));
                    state.next_id += 1;
                }
            }
            state.last_time = Some(time);
            let trade = one(trades, row);
            let Some(sums) = &mut state.forming else {
                state.forming = Some(trade);
                continue;
            };
            add(sums, &trade);
            let moved = match settings.rule {
                RuleName::Open => (i128::from(trade.open) - i128::from(sums.open)).abs(),
                RuleName::HighLow => i128::from(sums.high) - i128::from(sums.low),
            };
            let is_far = match (threshold.dbps(), threshold.absolute()) {
                (Some(dbps), _) => moved * 100_000 >= i128::from(sums.open) * i128::from(dbps),
                (None, distance) => moved >= i128::from(grid(distance.unwrap())),
            };
            if is_far && !(settings.is_gated && time == sums.open_time) {
                ended.push(bar(*sums, state.next_id, Cause::Threshold));
                state.next_id += 1;
                state.forming = None;
            }
        }
    }
    let forming = states.iter().enumerate().filter_map(|(slot, state)| {
        state.forming.map(|sums| Bar {
            sums,
            end_row: codes.len() as u64 - 1,
            key: (slot / count) as u32,
            threshold: (slot % count) as u16,
            bar_id: state.next_id,
            ended_by: None,
            values: None,
        })
    });
    let forming = forming.collect();
    (ended, forming)
}
