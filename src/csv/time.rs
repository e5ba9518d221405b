//! Times of trades, in microseconds since 1970.

use crate::core::time::days_from_civil;
use crate::csv::number::{Number, whole};

/// 2000 and 2100, in seconds since 1970: the numbers of no two units overlap.
const EARLIEST: i64 = 946_684_800;
const LATEST: i64 = 4_102_444_800;
const MICROSECONDS: i64 = 1_000_000;
const MOST_FRACTION_DIGITS: usize = 9;

/// How a file writes times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// A number of seconds, perhaps with decimals.
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    /// `2024-01-31T23:59:59.123456Z`, with `T` or a blank, and any part of the fraction and the `Z`.
    Iso,
}

impl TimeForm {
    /// Converts a whole number of a unit shorter than a second.
    #[inline(always)]
    pub fn of_whole(self, value: i64) -> Option<i64> {
        let per_second = match self {
            Self::Milliseconds => 1_000,
            Self::Microseconds => MICROSECONDS,
            Self::Nanoseconds => 1_000_000_000,
            Self::Seconds | Self::Iso => return None,
        };
        let is_plausible = (EARLIEST * per_second..LATEST * per_second).contains(&value);
        let time = if per_second > MICROSECONDS { value / 1_000 } else { value * (MICROSECONDS / per_second) };
        is_plausible.then_some(time)
    }
}

/// Converts a number of seconds, whose text begins at a position.
#[inline(always)]
pub fn of_seconds(number: Number, text: &[u8], at: usize) -> Option<i64> {
    let seconds = number.nearest(text, at)?;
    let is_plausible = seconds >= EARLIEST as f64 && seconds < LATEST as f64;
    is_plausible.then(|| (seconds * MICROSECONDS as f64).round_ties_even() as i64)
}

/// Reads a time of the form [`TimeForm::Iso`].
#[inline(always)]
pub fn iso(text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"Z").unwrap_or(text);
    let (moment, fraction) = match text.split_at_checked(19)? {
        (moment, []) => (moment, &[][..]),
        (moment, [b'.', fraction @ ..]) if !fraction.is_empty() => (moment, fraction),
        _ => return None,
    };
    let signs = (moment[4], moment[7], moment[10], moment[13], moment[16]);
    if !matches!(signs, (b'-', b'-', b'T' | b' ', b':', b':')) || fraction.len() > MOST_FRACTION_DIGITS {
        return None;
    }
    let part = |from: usize, to: usize| -> Option<i64> {
        let (value, end) = whole(&moment[..to], from)?;
        (end == to).then_some(value)
    };
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let first = days_from_civil(year, month);
    let next = if month == 12 { days_from_civil(year + 1, 1) } else { days_from_civil(year, month + 1) };
    if day < 1 || day > next - first {
        return None;
    }
    let seconds = (first + day - 1) * 86_400 + hour * 3_600 + minute * 60 + second;
    let time = seconds * MICROSECONDS + microseconds(fraction)?;
    (EARLIEST..LATEST).contains(&seconds).then_some(time)
}

/// The digits of a fraction of a second as microseconds, rounded down.
fn microseconds(fraction: &[u8]) -> Option<i64> {
    let mut value = 0;
    for at in 0..6 {
        value = value * 10 + i64::from(fraction.get(at).map_or(0, |digit| digit.wrapping_sub(b'0')));
    }
    fraction.iter().all(u8::is_ascii_digit).then_some(value)
}
