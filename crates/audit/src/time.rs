//! RFC 3339 text of a Unix time in milliseconds, and back, without a clock and
//! without time zones: always UTC, always three decimals, always `Z`, so that
//! one moment has one spelling and texts sort as times do.

use alloc::{format, string::String};

/// The first moment that has a text: 0000-01-01T00:00:00.000Z.
pub const MS_MIN: i64 = -62_167_219_200_000;
/// The last moment that has a text: 9999-12-31T23:59:59.999Z.
pub const MS_MAX: i64 = 253_402_300_799_999;

const MS_PER_DAY: i64 = 86_400_000;

/// Writes `YYYY-MM-DDTHH:MM:SS.mmmZ`.
///
/// # Errors
/// When the moment is not in the years 0000 to 9999.
pub fn format_ms(unix_ms: i64) -> Result<String, TimeError> {
    if !(MS_MIN..=MS_MAX).contains(&unix_ms) {
        return Err(TimeError::Range(unix_ms));
    }
    let (year, month, day) = civil_from_days(unix_ms.div_euclid(MS_PER_DAY));
    let ms = unix_ms.rem_euclid(MS_PER_DAY);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    Ok(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000))
}

/// Reads exactly what [`format_ms`] writes; other spellings of RFC 3339 are refused.
///
/// # Errors
/// When the text has another form or names a day or time that does not exist (a leap second included).
pub fn parse_ms(text: &str) -> Result<i64, TimeError> {
    let fields = split_fields(text.as_bytes()).ok_or(TimeError::Form)?;
    let [year, month, day, hour, minute, second, ms] = fields;
    let days = days_from_civil(year, month, day);
    // Converting back is the whole calendar check: February 30 comes back as a day in March.
    if civil_from_days(days) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
        return Err(TimeError::Form);
    }
    Ok(ms_from_parts(days, hour, minute, second, ms))
}

/// A time has no text, or a text no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Outside the years 0000 to 9999.
    #[error("the time {0} ms since 1970 is outside the years 0000 to 9999")]
    Range(i64),
    /// Not the one accepted form.
    #[error("a time must be an existing moment written as `YYYY-MM-DDTHH:MM:SS.mmmZ`")]
    Form,
}

fn split_fields(text: &[u8]) -> Option<[i64; 7]> {
    const FORM: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    let text: &[u8; 24] = text.try_into().ok()?;
    let mut fields = [0_i64; 7];
    let mut current = fields.iter_mut();
    let mut field = current.next()?;
    for (byte, form) in text.iter().zip(FORM) {
        if *form == b'0' {
            let digit = byte.is_ascii_digit().then(|| byte.wrapping_sub(b'0'))?;
            *field = field.wrapping_mul(10).wrapping_add(i64::from(digit));
        } else if byte != form {
            return None;
        } else if let Some(next) = current.next() {
            field = next;
        }
    }
    Some(fields)
}

/// Days since 1970-01-01 to (year, month, day) in the proleptic Gregorian calendar.
///
/// The year is taken to begin in March, so that the leap day is its last; 400 years are one
/// cycle of 146 097 days.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "days are within the years -1 to 10000, far from i64's bounds"
)]
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The inverse of [`civil_from_days`]; fields of up to four digits, checked or not.
#[expect(clippy::arithmetic_side_effects, reason = "fields have at most four digits, far from i64's bounds")]
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    year.div_euclid(400) * 146_097 + of_era - 719_468
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "days come from four-digit years, the rest is below one day"
)]
const fn ms_from_parts(days: i64, hour: i64, minute: i64, second: i64, ms: i64) -> i64 {
    days * MS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1000 + ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_123, "2024-02-29T00:00:00.123Z"),
            (1_772_323_200_000, "2026-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-2_203_891_200_000, "1900-03-01T00:00:00.000Z"),
            (-2_203_891_200_001, "1900-02-28T23:59:59.999Z"),
            (MS_MIN, "0000-01-01T00:00:00.000Z"),
            (MS_MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_ms(ms).as_deref(), Ok(text));
            assert_eq!(parse_ms(text), Ok(ms));
        }
    }

    #[test]
    fn what_has_no_text_is_refused() {
        for ms in [MS_MIN - 1, MS_MAX + 1, i64::MIN, i64::MAX] {
            assert_eq!(format_ms(ms), Err(TimeError::Range(ms)));
        }
    }

    #[test]
    fn other_spellings_and_impossible_dates_are_refused() {
        for text in [
            "",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.0Z",
            "2026-01-01t00:00:00.000Z",
            "2026-01-01T00:00:00.000z",
            "2026-01-01 00:00:00.000Z",
            "2026-01-01T00:00:00.000+00:00",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "2026-01-32T00:00:00.000Z",
            "2025-02-29T00:00:00.000Z",
            "2100-02-29T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:60:00.000Z",
            "2016-12-31T23:59:60.000Z",
            "+026-01-01T00:00:00.000Z",
        ] {
            assert_eq!(parse_ms(text), Err(TimeError::Form), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_time_are_one_to_one_and_in_the_same_order(a in MS_MIN..=MS_MAX, b in MS_MIN..=MS_MAX) {
            let (a_text, b_text) = (format_ms(a).unwrap(), format_ms(b).unwrap());
            prop_assert_eq!(parse_ms(&a_text), Ok(a));
            prop_assert_eq!(a.cmp(&b), a_text.cmp(&b_text));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:.-]{20,26}|.{0,40}") {
            if let Ok(ms) = parse_ms(&text) {
                prop_assert_eq!(format_ms(ms).unwrap(), text);
            }
        }
    }
}
