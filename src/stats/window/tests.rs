use jiff::civil::date;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn span(from: &str, to: &str) -> Span {
    Span { from: at(from), to: at(to) }
}

fn asked(asked: Asked<'_>, name: &str) -> Result<Span> {
    window(asked, "2026-11-29T19:12:00Z".parse().unwrap(), &zone(name).unwrap())
}

fn between<'a>(from: &'a str, to: &'a str) -> Asked<'a> {
    Asked::Between { from, to: Some(to) }
}

#[test]
fn what_is_asked_for_is_a_window_in_the_zone() {
    let now = "2026-11-29T19:12:00Z";
    let new_york = "America/New_York";
    for (words, zone, expected) in [
        (Asked::Last("24h"), "UTC", ("2026-11-28T19:12:00Z", now)),
        (Asked::Last("30d"), new_york, ("2026-10-30T19:12:00Z", now)),
        (Asked::Month("2026-10"), "UTC", ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")),
        // Clocks are put back on the first of November, after this midnight.
        (Asked::Month("2026-10"), new_york, ("2026-10-01T04:00:00Z", "2026-11-01T04:00:00Z")),
        (Asked::Month("2026-11"), new_york, ("2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z")),
        (
            between("2026-10-25", "2026-10-26"),
            "Europe/Berlin",
            ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ),
        (
            between("2026-10-01T08:00", "2026-10-01 09:30:30"),
            "Europe/Berlin",
            ("2026-10-01T06:00:00Z", "2026-10-01T07:30:30Z"),
        ),
        (
            between("2026-10-01T08:00:00-05:00", "2026-10-02T00:00:00Z"),
            "Europe/Berlin",
            ("2026-10-01T13:00:00Z", "2026-10-02T00:00:00Z"),
        ),
        // Twice the same time: the first. A time that is skipped: as much later.
        (
            between("2026-10-25T02:30", "2027-03-28T02:30"),
            "Europe/Berlin",
            ("2026-10-25T00:30:00Z", "2027-03-28T01:30:00Z"),
        ),
        (Asked::Between { from: "2026-11-29", to: None }, "UTC", ("2026-11-29T00:00:00Z", now)),
    ] {
        let found = asked(words, zone).unwrap();
        assert_eq!(found, span(expected.0, expected.1), "{words:?} in {zone}");
    }
}

#[test]
fn what_is_no_window_is_told_with_advice() {
    for (words, message) in [
        (Asked::Last("30"), "\"30\" is no length of time"),
        (Asked::Last("d"), "\"d\" is no length of time"),
        (Asked::Last("-3d"), "\"-3d\" is no length of time"),
        (Asked::Last("0d"), "\"0d\" is no length of time"),
        (Asked::Last("99999999999999999999w"), "the window is longer than a century"),
        (Asked::Month("2026-13"), "\"2026-13\" is no month"),
        (Asked::Month("2026"), "\"2026\" is no month"),
        (between("yesterday", "2026-10-01"), "--from: \"yesterday\" is no time"),
        (between("2026-10-01", "2026-10-01T25:00"), "--to: \"2026-10-01T25:00\" is no time"),
        (between("2026-10-02", "2026-10-01"), "the window ends before it begins"),
        (between("2026-10-02", "2026-10-02"), "the window ends before it begins"),
        (between("1800-10-02", "2026-10-02"), "the window is longer than a century"),
    ] {
        let error = asked(words, "UTC").unwrap_err();
        assert_eq!(error.message, message);
    }
    let error = zone("Europe/Nowhere").unwrap_err();
    assert_eq!(error.message, "no time zone is named \"Europe/Nowhere\"");
    assert!(!error.hints.is_empty());
}

#[test]
fn a_period_goes_from_midnight_to_midnight_in_its_zone() {
    let new_york = zone("America/New_York").unwrap();
    for (period, instant, from, to) in [
        // Still October in New York.
        ("calendar-month", "2026-11-01T03:59:59Z", "2026-10-01T04:00:00Z", "2026-11-01T04:00:00Z"),
        ("calendar-month", "2026-11-01T04:00:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"),
        (
            "calendar-quarter",
            "2026-11-15T00:00:00Z",
            "2026-10-01T04:00:00Z",
            "2027-01-01T05:00:00Z",
        ),
        (
            "calendar-quarter",
            "2026-03-31T12:00:00Z",
            "2026-01-01T05:00:00Z",
            "2026-04-01T04:00:00Z",
        ),
        ("calendar-year", "2026-03-31T12:00:00Z", "2026-01-01T05:00:00Z", "2027-01-01T05:00:00Z"),
        ("rolling-30d", "2026-03-31T12:00:00Z", "2026-03-01T12:00:00Z", "2026-03-31T12:00:00Z"),
        ("rolling-90d", "2026-03-31T12:00:00Z", "2025-12-31T12:00:00Z", "2026-03-31T12:00:00Z"),
    ] {
        let kind = Period::find(period).unwrap();
        assert_eq!(kind.containing(at(instant), &new_york), span(from, to), "{period} {instant}");
    }
    let window = span("2026-10-15T00:00:00Z", "2026-12-02T00:00:00Z");
    let months = Period::CalendarMonth.within(window, &new_york);
    assert_eq!(months.len(), 3);
    assert!(months.windows(2).all(|pair| pair[0].to == pair[1].from));
    assert_eq!(Period::Rolling30d.within(window, &new_york).len(), 1);
}

#[test]
fn days_have_the_hours_that_their_clock_gives_them() {
    for (name, day, hours) in [
        ("UTC", date(2026, 11, 1), 24.0),
        ("America/New_York", date(2026, 11, 1), 25.0),
        ("America/New_York", date(2026, 3, 8), 23.0),
        // Half an hour; at midnight, forward and back; a day that there was not.
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("America/Havana", date(2026, 3, 8), 23.0),
        ("America/Havana", date(2026, 11, 1), 25.0),
        ("Pacific/Apia", date(2011, 12, 30), 0.0),
    ] {
        let zone = zone(name).unwrap();
        let noon = |day: Date| day.at(12, 0, 0, 0).to_zoned(zone.clone()).unwrap();
        let around = Span::new(
            noon(day.yesterday().unwrap()).timestamp().as_millisecond(),
            noon(day.tomorrow().unwrap()).timestamp().as_millisecond(),
        );
        let days = days(around, &zone);
        let found = days.iter().find(|found| found.date == day);
        assert_eq!(found.map_or(0.0, |day| day.span.ms() as f64 / 3.6e6), hours, "{name} {day}");
        assert_eq!(days.iter().map(|day| day.span.ms()).sum::<i64>(), around.ms());
        assert!(days.windows(2).all(|pair| pair[0].span.to == pair[1].span.from));
    }
}

#[test]
fn hours_are_those_of_the_clock() {
    let zone = zone("America/New_York").unwrap();
    let day = span("2026-11-01T04:30:00Z", "2026-11-02T05:00:00Z");
    let hours = hours(day, &zone);
    let clocks: Vec<i8> = hours.iter().map(|hour| hour.clock.hour()).collect();
    assert_eq!(clocks[..5], [0, 1, 1, 2, 3]);
    assert_eq!(hours[0].span.ms(), HOUR_MS / 2);
    assert_eq!(hours.len(), 25);
    assert_eq!(hours.iter().map(|hour| hour.span.ms()).sum::<i64>(), day.ms());
}

#[test]
fn service_hours_follow_the_clock_and_not_the_sun() {
    let zone = zone("America/New_York").unwrap();
    let hours = |text: &str| ServiceHours::parse(text).unwrap();
    // Sunday, the first of November 2026, has 25 hours.
    let week = span("2026-10-30T04:00:00Z", "2026-11-04T05:00:00Z");
    for (text, expected) in [
        ("24x7", 5.0 * 24.0 + 1.0),
        ("Mon-Sun 00:00-24:00", 5.0 * 24.0 + 1.0),
        ("Mon-Fri 08:00-18:00", 30.0),
        ("Sun 01:00-02:00", 2.0),
        ("Sun 00:00-03:00, Mon 00:00-01:00", 5.0),
        ("Sat 22:00-06:00", 9.0),
        ("Sat,Sun 10:00-14:00", 8.0),
        ("Sat-Mon 10:00-11:00", 3.0),
        ("Fri 12:00-13:00, Fri 12:30-14:00", 2.0),
    ] {
        let found = hours(text).spans(week, &zone, &[]).total() as f64 / 3.6e6;
        assert_eq!(found, expected, "{text}");
    }
    // A holiday ends the night that began before it, at midnight.
    let free = [date(2026, 11, 1)];
    assert_eq!(hours("Sat 22:00-06:00").spans(week, &zone, &free).total(), 2 * HOUR_MS);
    assert_eq!(hours("24x7").spans(week, &zone, &free).total(), 4 * DAY_MS);
}

#[test]
fn hours_that_cannot_be_read_are_told_with_an_example() {
    for (text, part) in [
        ("", "is no day of the week"),
        ("Mon-Fry 08:00-18:00", "\"Fry\" is no day"),
        ("Mon-Fri", "names days without hours"),
        ("Mon-Fri 8-18", "are no hours"),
        ("Mon-Fri 08:00-25:00", "are no hours"),
        ("Mon-Fri 08:60-18:00", "are no hours"),
        ("Mon-Fri 24:00-06:00", "are no hours"),
        ("Mon-Fri 08:00-08:00", "ends where it begins"),
        ("08:00-18:00", "is no day of the week"),
    ] {
        let error = ServiceHours::parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

/// Whether the clock shows service hours, as one would look at it: days from Monday, minutes.
fn shows_service(clock: DateTime, rules: &[([bool; 7], i64, i64)], free: &[Date]) -> bool {
    let minute = i64::from(clock.hour()) * 60 + i64::from(clock.minute());
    let today = clock.date().weekday().to_monday_zero_offset() as usize;
    let yesterday = (today + 6) % 7;
    let within = |&(days, from, to): &([bool; 7], i64, i64)| {
        if from < to {
            days[today] && from <= minute && minute < to
        } else {
            (days[today] && minute >= from) || (days[yesterday] && minute < to)
        }
    };
    !free.contains(&clock.date()) && rules.iter().any(within)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn service_hours_are_what_a_look_at_the_clock_each_minute_finds(
        (name, near) in prop_oneof![
            Just(("UTC", "2026-11-01T00:00:00Z")),
            Just(("America/New_York", "2026-11-01T06:00:00Z")),
            Just(("America/New_York", "2026-03-08T07:00:00Z")),
            Just(("Australia/Lord_Howe", "2026-04-04T15:00:00Z")),
            Just(("Australia/Lord_Howe", "2026-10-03T15:30:00Z")),
            Just(("America/Havana", "2026-03-08T05:00:00Z")),
            Just(("America/Havana", "2026-11-01T05:00:00Z")),
            Just(("Asia/Kathmandu", "2026-11-01T00:00:00Z")),
            Just(("Pacific/Apia", "2011-12-30T10:00:00Z")),
        ],
        before in 0_i64..3000,
        behind in 1_i64..3000,
        rules in vec((any::<[bool; 7]>(), 0_i64..1440, 0_i64..1440), 1..4),
        free in vec(-2_i64..3, 0..3),
    ) {
        let zone = zone(name).unwrap();
        let window = Span::new(at(near) - before * MINUTE, at(near) + behind * MINUTE);
        let middle = date_at(at(near), &zone);
        let free: Vec<Date> =
            free.into_iter().map(|days| middle.saturating_add(Calendar::new().days(days))).collect();
        let rules: Vec<_> = rules
            .into_iter()
            .filter(|(days, from, to)| days.contains(&true) && from != to)
            .collect();
        prop_assume!(!rules.is_empty());
        let written = rules.iter().map(|(days, from, to)| {
            let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let named = names.iter().zip(days).filter(|(_, on)| **on).map(|(name, _)| *name);
            let clock = |minute: &i64| format!("{:02}:{:02}", minute / 60, minute % 60);
            format!("{} {}-{}", named.collect::<Vec<_>>().join(","), clock(from), clock(to))
        });
        let hours = ServiceHours::parse(&written.collect::<Vec<_>>().join(", ")).unwrap();
        let spans = hours.spans(window, &zone, &free);
        let mut minute = window.from;
        while minute < window.to {
            let clock = zone.to_datetime(instant(minute).unwrap());
            prop_assert_eq!(
                spans.contains(minute),
                shows_service(clock, &rules, &free),
                "{} {:?}", clock, hours
            );
            minute += MINUTE;
        }
        prop_assert_eq!(spans.total() % MINUTE, 0, "each begins and ends with a minute");
    }
}
