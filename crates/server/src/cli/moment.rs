//! Times as people read them: how far away, and the local clock beside it.

use countersign_gate::Clock as _;
use jiff::{Timestamp, tz::TimeZone};

use crate::clock::SystemClock;

/// A time (RFC 3339) by its distance from now, with the local clock: `in 12 min (15:30)`. Nothing where it is no time.
pub(super) fn near(at: &str) -> Option<String> {
    let now = Timestamp::from_millisecond(SystemClock.now_ms()).ok()?;
    told(at.parse().ok()?, now, &TimeZone::system())
}

fn told(at: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<String> {
    let seconds = at.as_second().checked_sub(now.as_second())?;
    let far = match seconds.unsigned_abs() {
        0..=9 => "now".to_owned(),
        s @ 10..=89 => format!("{s} s"),
        s @ 90..=5_399 => format!("{} min", s.saturating_add(30).div_euclid(60)),
        s @ 5_400..=129_599 => format!("{} h", s.saturating_add(1_800).div_euclid(3_600)),
        s => format!("{} days", s.saturating_add(43_200).div_euclid(86_400)),
    };
    let far = match seconds {
        -9..=9 => far,
        10.. => format!("in {far}"),
        _ => format!("{far} ago"),
    };
    let (local, today) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let clock =
        if local.date() == today.date() { local.strftime("%H:%M") } else { local.strftime("%-d %b %H:%M") };
    Some(format!("{far} ({clock})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_by_its_distance_and_the_local_clock() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        for (at, text) in [
            ("2026-11-29T12:00:04Z", "now (13:00)"),
            ("2026-11-29T12:00:40Z", "in 40 s (13:00)"),
            ("2026-11-29T12:12:00Z", "in 12 min (13:12)"),
            ("2026-11-29T09:00:00Z", "3 h ago (10:00)"),
            ("2026-11-29T23:30:00Z", "in 12 h (30 Nov 00:30)"),
            ("2026-11-26T12:00:00Z", "3 days ago (26 Nov 13:00)"),
        ] {
            assert_eq!(told(at.parse().unwrap(), now, &zone).as_deref(), Some(text));
        }
        assert_eq!(near("no time"), None);
    }
}
