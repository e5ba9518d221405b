//! Time: units, calendar resets (UTC) and times as text.

/// Resolution of the time column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl TimeUnit {
    pub fn per_second(self) -> i64 {
        match self {
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }

    /// Length of a unit in nanoseconds.
    pub fn nanoseconds(self) -> i64 {
        1_000_000_000 / self.per_second()
    }

    /// The time from one instant to another in microseconds, rounded down and saturating.
    #[inline]
    pub fn microseconds_between(self, from: i64, to: i64) -> i64 {
        let wide = || {
            let span = i128::from(to) - i128::from(from);
            let microseconds = (span * 1_000_000).div_euclid(i128::from(self.per_second()));
            i64::try_from(microseconds).unwrap_or(if span < 0 { i64::MIN } else { i64::MAX })
        };
        let Some(span) = to.checked_sub(from) else { return wide() };
        match self {
            Self::Milliseconds => span.checked_mul(1_000).unwrap_or_else(wide),
            Self::Microseconds => span,
            Self::Nanoseconds => span.div_euclid(1_000),
        }
    }
}

/// Calendar boundary at 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    Year,
    Month,
    WeekSunday,
    WeekMonday,
    Day,
}

/// Days from 1970-01-01 to the first of a month (proleptic Gregorian).
pub fn days_from_civil(year: i64, month: i64) -> i64 {
    // March-based years put the leap day last.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * shifted_month + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl Reset {
    /// First boundary later than `time`; `i64::MAX` if there is none.
    pub fn next_after(self, time: i64, unit: TimeUnit) -> i64 {
        let per_day = unit.per_second() * 86_400;
        let day = time.div_euclid(per_day);
        let boundary_day = match self {
            Self::Day => day + 1,
            // 1970-01-01 was a Thursday.
            Self::WeekMonday => day + 7 - (day + 3).rem_euclid(7),
            Self::WeekSunday => day + 7 - (day + 4).rem_euclid(7),
            Self::Month => {
                let (year, month, _) = civil_from_days(day);
                if month == 12 { days_from_civil(year + 1, 1) } else { days_from_civil(year, month + 1) }
            }
            Self::Year => days_from_civil(civil_from_days(day).0 + 1, 1),
        };
        boundary_day.saturating_mul(per_day)
    }
}

/// Formats a time as `2024-01-01T00:00:00.000`, with the digits of the unit.
pub fn format_time(time: i64, unit: TimeUnit) -> String {
    let seconds = time.div_euclid(unit.per_second());
    let fraction = time.rem_euclid(unit.per_second());
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let digits = match unit {
        TimeUnit::Milliseconds => 3,
        TimeUnit::Microseconds => 6,
        TimeUnit::Nanoseconds => 9,
    };
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:0digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    fn next(reset: Reset, days: i64) -> i64 {
        reset.next_after(days * DAY + 5, TimeUnit::Milliseconds) / DAY
    }

    #[test]
    fn boundaries_by_hand() {
        // 1970-01-01 is a Thursday: the next Sunday is day 3, the next Monday day 4.
        assert_eq!(next(Reset::WeekSunday, 0), 3);
        assert_eq!(next(Reset::WeekMonday, 0), 4);
        assert_eq!(next(Reset::WeekSunday, 3), 10);
        assert_eq!(next(Reset::Month, 0), 31);
        assert_eq!(next(Reset::Month, 31), 59);
        assert_eq!(next(Reset::Year, 0), 365);
        assert_eq!(next(Reset::Day, -1), 0);
    }

    #[test]
    fn times_read_as_dates() {
        assert_eq!(format_time(1_709_164_800_001, TimeUnit::Milliseconds), "2024-02-29T00:00:00.001");
        assert_eq!(format_time(-1, TimeUnit::Microseconds), "1969-12-31T23:59:59.999999");
    }

    proptest! {
        #[test]
        fn civil_days_go_round(days in -700_000i64..3_000_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month) + day - 1, days);
        }

        #[test]
        fn the_next_boundary_is_later(time in any::<i64>()) {
            for reset in [Reset::Year, Reset::Month, Reset::WeekSunday, Reset::WeekMonday, Reset::Day] {
                for unit in [TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds] {
                    let next = reset.next_after(time, unit);
                    prop_assert!(next > time || next == i64::MAX);
                }
            }
        }
    }
}
