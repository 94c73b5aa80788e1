//! Points in time: RFC 3339 texts and milliseconds since the Unix epoch.
//!
//! Civil arithmetic is some forty lines; a calendar crate would be the larger half of a plugin.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

/// A point in time as the unified event writes it: RFC 3339 in UTC, ending in `Z`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Time<'a> {
    text: Cow<'a, str>,
    ms: i64,
}

impl<'a> Time<'a> {
    /// Reads an RFC 3339 text with any offset. What is in UTC already keeps its text, down to the last digit.
    pub fn parse(text: Cow<'a, str>) -> Option<Self> {
        let (ms, canonical) = parse_rfc3339(&text)?;
        Some(if canonical {
            Self { text, ms }
        } else {
            Self::from_ms(ms)?
        })
    }

    /// Reads the date of an e-mail (RFC 2822) in its usual form, `Sun, 25 Mar 2018 09:53:19 +0000`: day of the week and
    /// seconds there, the zone in digits or `GMT`.
    pub fn parse_rfc2822(text: &str) -> Option<Time<'static>> {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let (_, date) = text.split_once(", ")?;
        let [day, month, year, clock, zone] = date.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let month = MONTHS.iter().position(|&name| name == month)? + 1;
        let zone = match zone {
            "GMT" => "Z".to_owned(),
            digits => format!("{}:{}", digits.get(..3)?, digits.get(3..)?),
        };
        let time = Time::parse(format!("{year}-{month:02}-{day:0>2}T{clock}{zone}").into())?;
        Time::from_ms(time.ms)
    }

    /// From milliseconds since the Unix epoch. `None` outside the years 0 to 9999.
    pub fn from_ms(ms: i64) -> Option<Self> {
        Some(Self {
            text: Cow::Owned(rfc3339(ms)?),
            ms,
        })
    }

    /// From a Unix time written in digits: ten of them are seconds, thirteen milliseconds. Other texts, such as a
    /// placeholder, are no time.
    pub fn from_unix(digits: &str) -> Option<Self> {
        let unit_ms = match digits.len() {
            10 => 1000,
            13 => 1,
            _ => return None,
        };
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        Self::from_ms(digits.parse::<i64>().ok().filter(|_| all_digits)? * unit_ms)
    }

    /// Milliseconds since the Unix epoch; finer digits are cut off.
    pub fn ms(&self) -> i64 {
        self.ms
    }

    /// The RFC 3339 text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Serialize for Time<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Reads an RFC 3339 date-time (0 to 9 fraction digits, `Z` or an offset) as milliseconds since the Unix epoch.
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    parse_rfc3339(text).map(|(ms, _)| ms)
}

/// Milliseconds since the Unix epoch as RFC 3339 in UTC, with three fraction digits unless they are zero. `None`
/// outside the years 0 to 9999.
pub fn rfc3339(ms: i64) -> Option<String> {
    let (days, of_day) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY));
    let (year, month, day) = civil_from_days(days);
    if !(0..=9999).contains(&year) {
        return None;
    }
    let (hour, minute, second, milli) = (
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1000 % 60,
        of_day % 1000,
    );
    let fraction = if milli == 0 {
        String::new()
    } else {
        format!(".{milli:03}")
    };
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"
    ))
}

/// The milliseconds since the Unix epoch at which a clock in UTC shows this. `None` when no clock ever does.
///
/// A provider's local time is this less the zone's offset.
pub fn civil_ms(year: i64, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<i64> {
    let valid = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let of_day = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    valid.then(|| days_from_civil(year, month, day) * MS_PER_DAY + of_day * 1000)
}

const MS_PER_DAY: i64 = 86_400_000;

/// The time in milliseconds, and whether the text is in the form [`Time`] promises.
fn parse_rfc3339(text: &str) -> Option<(i64, bool)> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0u32, |sum, &b| {
            b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0'))
        })
    };
    let is = |at: usize, allowed: &[u8]| bytes.get(at).is_some_and(|b| allowed.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let second = number(17, 19)?;
    // A leap second is the one after it, as it is for Unix time.
    let leap = second == 60;
    let seconds_whole = if leap { 59 } else { second };
    let mut ms = civil_ms(
        i64::from(number(0, 4)?),
        number(5, 7)?,
        number(8, 10)?,
        number(11, 13)?,
        number(14, 16)?,
        seconds_whole,
    )? + i64::from(leap) * 1000;

    let mut at = 19;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        let kept = digits.min(3);
        let fraction = number(at + 1, at + 1 + kept)?;
        ms += i64::from(fraction) * [100, 10, 1][kept - 1];
        at += 1 + digits;
    }
    let zone = &text[at..];
    let canonical = zone == "Z" && bytes[10] == b'T' && !leap;
    if zone != "Z" && zone != "z" {
        let sign = match bytes.get(at)? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
        if zone.len() != 6 || !is(at + 3, b":") || hours > 23 || minutes > 59 {
            return None;
        }
        ms -= sign * i64::from(hours * 60 + minutes) * 60_000;
    }
    Some((ms, canonical))
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar. Years are taken to begin in March, so that the
/// leap day is a year's last and months follow one line: day `(153 m + 2) / 5`.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = i64::from((month + 9) % 12);
    let of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_rfc_3339_form() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-02-18T15:30:45.123456Z", 1_771_428_645_123),
            ("2026-02-18T15:30:45Z", 1_771_428_645_000),
            ("2026-02-18T15:30:45.5Z", 1_771_428_645_500),
            ("2026-02-18t16:30:45.123456789+01:00", 1_771_428_645_123),
            ("2026-02-18 10:00:45-05:30", 1_771_428_645_000),
            ("1969-12-31T23:59:59.999z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ] {
            assert_eq!(parse_rfc3339_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_time() {
        for text in [
            "",
            "2026-02-18",
            "2026-02-18T15:30:45",
            "2026-02-18T15:30:45.Z",
            "2026-02-18T15:30:45.1234567890Z",
            "2026-02-30T15:30:45Z",
            "2026-13-18T15:30:45Z",
            "2026-02-18T24:30:45Z",
            "2026-02-18T15:30:61Z",
            "2026-02-18T15:30:45+0100",
            "2026-02-18T15:30:45+24:00",
            "2026-02-18T15:30:45Z ",
            "２026-02-18T15:30:45Z",
            "2026-02-18T15:30:45é",
        ] {
            assert_eq!(parse_rfc3339_ms(text), None, "{text}");
        }
    }

    #[test]
    fn keeps_the_text_of_a_time_in_utc() {
        let text = |time| Time::parse(Cow::Borrowed(time)).unwrap().as_str().to_owned();
        assert_eq!(text("2026-02-18T15:30:45.123456Z"), "2026-02-18T15:30:45.123456Z");
        assert_eq!(text("2026-02-18T16:30:45.120+01:00"), "2026-02-18T15:30:45.120Z");
        assert_eq!(text("2026-02-18 15:30:45z"), "2026-02-18T15:30:45Z");
    }

    #[test]
    fn reads_the_date_of_an_e_mail() {
        let text = |date| Time::parse_rfc2822(date).map(|time| time.as_str().to_owned());
        let first = Some("2018-03-25T09:53:19Z".to_owned());
        assert_eq!(text("Sun, 25 Mar 2018 09:53:19 +0000"), first);
        assert_eq!(text("Sun, 25 Mar 2018 11:53:19 +0200"), first);
        assert_eq!(
            text("Thu, 1 Jan 2026 00:00:00 GMT").as_deref(),
            Some("2026-01-01T00:00:00Z")
        );
        for wrong in [
            "",
            "25 Mar 2018 09:53:19 +0000",
            "Sun, 25 Mar 2018 09:53 +0000",
            "Sun, 25 mar 2018 09:53:19 +0000",
            "Sun, 25 Mar 18 09:53:19 +0000",
            "Sun, 25 Mar 2018 09:53:19 EST",
            "Sun, 25 Mar 2018 09:53:19 +00é",
            "Sun,  25 Mar 2018 09:53:19 +0000",
        ] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn unix_times_have_ten_digits_or_thirteen() {
        let text = |digits| Time::from_unix(digits).map(|time| time.as_str().to_owned());
        assert_eq!(text("1760084622").as_deref(), Some("2025-10-10T08:23:42Z"));
        assert_eq!(text("1760084622123").as_deref(), Some("2025-10-10T08:23:42.123Z"));
        for wrong in ["", "111111", "17600846221", "-760084622", "+760084622", "176008462a"] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn days_go_there_and_back() {
        for days in (-719_528..2_932_897).step_by(97) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days, "{year}-{month}-{day}");
            assert!((1..=days_in_month(year, month)).contains(&day));
        }
        assert_eq!(rfc3339(253_402_300_800_000), None);
    }
}
