//! Points in time and in a partition, as people write them.
//!
//! Does: read `beginning`, `end`, offsets, timestamps and "so long ago"; write timestamps.
//! Does not: ask the clock; what time it is comes in as an argument.
//! Invariants: what `timestamp` writes, `Position::parse` reads back as the same millisecond.
//! Apart because several commands take the same words and mean the same by them.

use std::fmt;

/// A place in a partition that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record there is.
    Beginning,
    /// Behind the last record there is.
    End,
    /// This offset.
    Offset(i64),
    /// The first record at or after this time, milliseconds since 1970.
    Time(i64),
    /// So many milliseconds ago.
    Ago(i64),
}

impl Position {
    /// Reads what was typed.
    ///
    /// # Errors
    /// What would be understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "beginning" | "earliest" | "start" => return Ok(Self::Beginning),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        let found = text
            .parse()
            .ok()
            .filter(|offset: &i64| *offset >= 0)
            .map(Self::Offset)
            .or_else(|| duration_ms(text).map(Self::Ago))
            .or_else(|| timestamp_ms(text).map(Self::Time));
        found.ok_or_else(|| {
            "expected `beginning`, `end`, an offset, a time as 2026-01-31T12:00:00Z, or how long ago \
             as 90s, 15m, 6h, 2d"
                .to_owned()
        })
    }

    /// What ListOffsets is asked for: a timestamp, or one of its special numbers; `None` where the
    /// offset is known already.
    #[must_use]
    pub fn lookup(self, now_ms: i64) -> Option<i64> {
        match self {
            Self::Beginning => Some(EARLIEST),
            Self::End => Some(LATEST),
            Self::Offset(_) => None,
            Self::Time(ms) => Some(ms),
            Self::Ago(ms) => Some(now_ms.saturating_sub(ms).max(0)),
        }
    }
}

/// What ListOffsets takes for the end of a partition.
pub const LATEST: i64 = -1;
/// What ListOffsets takes for the first record of a partition.
pub const EARLIEST: i64 = -2;

const DAY_MS: i64 = 86_400_000;

/// A timestamp as ISO 8601 in UTC with milliseconds, or `-` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            return f.write_str("-");
        }
        let (year, month, day) = civil_of_days(self.0.div_euclid(DAY_MS));
        let ms = self.0.rem_euclid(DAY_MS);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        let ms = ms % 1000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// `90s`, `15m`, `6h`, `2d` in milliseconds.
fn duration_ms(text: &str) -> Option<i64> {
    let number = text.get(..text.len().checked_sub(1)?)?;
    let unit_ms = match text.as_bytes().last()? {
        b's' => 1000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => DAY_MS,
        _ => return None,
    };
    number.parse::<i64>().ok().filter(|count| *count >= 0)?.checked_mul(unit_ms)
}

/// `2026-01-31`, `2026-01-31T12:00`, `…:00`, `…:00.250`, each with or without `Z`: always UTC.
fn timestamp_ms(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00"));
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let known = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !known || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    Some(days_of_civil(year, month, day) * DAY_MS + time_of_day_ms(time)?)
}

fn time_of_day_ms(time: &str) -> Option<i64> {
    let mut parts = time.splitn(3, ':');
    let hour = parts.next()?.parse::<i64>().ok().filter(|hour| (0..24).contains(hour))?;
    let minute = parts.next()?.parse::<i64>().ok().filter(|minute| (0..60).contains(minute))?;
    let (second, fraction) =
        parts.next().map_or(("0", "0"), |rest| rest.split_once('.').unwrap_or((rest, "0")));
    let second = second.parse::<i64>().ok().filter(|second| (0..60).contains(second))?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

fn month_days(year: i64, month: i64) -> i64 {
    days_of_civil(year + month / 12, month % 12 + 1, 1) - days_of_civil(year, month, 1)
}

/// Days since 1970 of a date. Years begin in March here, so that the leap day is the last of its year.
fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date so many days after 1970 began.
fn civil_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = (shifted + 2) % 12 + 1;
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_people_write_them() {
        let read = |text| Position::parse(text).expect(text);
        assert_eq!(read("beginning"), Position::Beginning);
        assert_eq!(read("end"), Position::End);
        assert_eq!(read("42"), Position::Offset(42));
        assert_eq!(read("90s"), Position::Ago(90_000));
        assert_eq!(read("2d"), Position::Ago(172_800_000));
        assert_eq!(read("1970-01-02"), Position::Time(86_400_000));
        assert_eq!(read("1970-01-01T00:01:02.5Z"), Position::Time(62_500));
        for wrong in ["", "-1", "soon", "12x", "2026-13-01", "2026-02-29", "2026-01-01T25:00", "é"]
        {
            assert!(Position::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_timestamp_reads_back_as_the_same_millisecond() {
        for ms in [0, 1, 951_782_400_000, 1_700_000_000_123, 4_102_444_799_999, 253_402_300_799_999]
        {
            let text = Timestamp(ms).to_string();
            assert_eq!(Position::parse(&text), Ok(Position::Time(ms)), "{text}");
        }
        assert_eq!(Timestamp(951_782_400_000).to_string(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Timestamp(-1).to_string(), "-");
    }

    #[test]
    fn long_ago_is_asked_for_as_a_time_that_exists() {
        assert_eq!(Position::Ago(1000).lookup(5000), Some(4000));
        assert_eq!(Position::Ago(i64::MAX).lookup(5000), Some(0));
        assert_eq!(Position::Offset(3).lookup(5000), None);
    }
}
