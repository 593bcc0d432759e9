use proptest::prelude::*;

use super::*;
use crate::stats::reference::{self, story, terms};
use crate::stats::window::zone;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

fn percent(text: &str) -> Percent {
    Percent::parse(text).unwrap()
}

fn objective(availability: &str) -> Objective {
    Objective {
        availability: Some(percent(availability)),
        latency_p50_us: None,
        latency_p95_us: None,
        latency_p99_us: None,
        period: Period::CalendarMonth,
        zone: TimeZone::UTC,
        hours: ServiceHours::always(),
        holidays: Vec::new(),
        exclude: vec![Exclusion::Maintenance],
        least_outage_ms: 0,
        planned_max_ms: None,
        down: Vec::new(),
        credits: Vec::new(),
    }
}

/// A reading each minute; `bad` are from minute up to minute, with a party.
fn readings(minutes: i64, bad: &[(i64, i64, Party)]) -> Vec<Point> {
    let reading = |minute: i64| {
        let hit = bad.iter().find(|(from, to, _)| (*from..*to).contains(&minute));
        Point {
            at: minute * MINUTE,
            kind: if hit.is_some() { Kind::Down } else { Kind::Up },
            party: hit.map(|(_, _, party)| *party),
            code: hit.map(|_| "http.status".into()),
        }
    };
    (0..minutes).map(reading).collect()
}

fn evidence<'a>(points: &'a [Point], maintenance: &'a Spans) -> Evidence<'a> {
    Evidence { points, rule: Rule::every(MINUTE), maintenance, latencies_us: &[], kept_from: None }
}

/// January 1970: the first 31 days since the epoch.
fn january() -> Span {
    Period::CalendarMonth.containing(0, &TimeZone::UTC)
}

const MINUTES: i64 = 31 * 24 * 60;

fn judged(objective: &Objective, bad: &[(i64, i64, Party)], planned: &Spans) -> Judgement {
    let points = readings(MINUTES, bad);
    judge(objective, &evidence(&points, planned), january(), i64::MAX).judgement
}

#[test]
fn where_readings_were_let_go_there_is_no_verdict() {
    let none = Spans::none();
    let points = readings(MINUTES, &[]);
    let day = 86_400_000;
    let of = |agreed: &Objective, kept_from| {
        let evidence = Evidence { kept_from, ..evidence(&points, &none) };
        judge(agreed, &evidence, january(), i64::MAX).judgement
    };
    let always = objective("99.9%");
    for (kept_from, lost_ms, verdict) in [
        (None, 0, Verdict::Met),
        (Some(january().from), 0, Verdict::Met),
        (Some(january().from + day), day, Verdict::Unknown),
        (Some(i64::MAX), 31 * day, Verdict::Unknown),
    ] {
        let found = of(&always, kept_from);
        assert_eq!((found.lost_ms, found.verdict), (lost_ms, verdict), "{kept_from:?}");
    }
    // 1 January 1970 was a Thursday; what is outside of service hours is no loss.
    let fridays = Objective { hours: ServiceHours::parse("Fri 00:00-24:00").unwrap(), ..always };
    let found = of(&fridays, Some(january().from + day));
    assert_eq!((found.lost_ms, found.verdict), (0, Verdict::Met));
}

#[test]
fn a_budget_that_is_spent_to_the_last_minute_is_kept_and_one_more_breaks_it() {
    // 0.1 % of 44,640 minutes are 44.64: to be met to the millisecond, 99.95 % are 22.32.
    let none = Spans::none();
    for (availability, minutes, verdict) in [
        ("99.9%", 44, Verdict::Met),
        ("99.9%", 45, Verdict::Breached),
        ("99.95%", 22, Verdict::Met),
        ("99.95%", 23, Verdict::Breached),
        ("99%", 446, Verdict::Met),
        ("99%", 447, Verdict::Breached),
        ("75%", MINUTES / 4, Verdict::Met),
        ("75%", MINUTES / 4 + 1, Verdict::Breached),
        ("100%", 0, Verdict::Met),
        ("100%", 1, Verdict::Breached),
    ] {
        let found = judged(&objective(availability), &[(500, 500 + minutes, Party::Vendor)], &none);
        assert_eq!(found.verdict, verdict, "{availability} with {minutes} minutes");
        assert_eq!(found.on_course, Some(verdict == Verdict::Met));
        assert_eq!(found.spent_ms, minutes * MINUTE);
    }
    let found = judged(&objective("99.9%"), &[(500, 522, Party::Vendor)], &none);
    assert_eq!(found.budget_ms, Some(2_678_400));
    assert_eq!(found.remaining_ms, Some(2_678_400 - 22 * MINUTE));
    assert!(!found.running);
    let burn = found.burn_rate.unwrap();
    assert!((burn - 22.0 / 44.64).abs() < 1e-9, "{burn}");
}

#[test]
fn a_running_period_is_breached_only_when_nothing_can_make_it_good() {
    let points = readings(24 * 60, &[(0, 30, Party::Vendor)]);
    let none = Spans::none();
    let agreed = objective("99.9%");
    let found = judge(&agreed, &evidence(&points, &none), january(), DAY).judgement;
    assert_eq!((found.verdict, found.running, found.on_course), (Verdict::Met, true, Some(false)));
    assert_eq!(found.budget_ms, Some(2_678_400));
    assert!((found.burn_rate.unwrap() - (30.0 / 44.64) * 31.0).abs() < 1e-9);
    assert_eq!(found.credit_due, None);

    let points = readings(24 * 60, &[(0, 45, Party::Vendor)]);
    let found = judge(&agreed, &evidence(&points, &none), january(), DAY).judgement;
    assert_eq!(found.verdict, Verdict::Breached);
}

#[test]
fn each_exclusion_shows_the_figure_before_and_after() {
    let bad = [(100, 200, Party::Vendor), (300, 340, Party::Ours), (1000, 1010, Party::Vendor)];
    let planned = Spans::one(Span::new(90 * MINUTE, 190 * MINUTE));
    let named = Spans::one(Span::new(1000 * MINUTE, 1005 * MINUTE));
    let mut agreed = objective("99.9%");
    agreed.exclude = vec![
        Exclusion::Maintenance,
        Exclusion::Party(Party::Ours),
        Exclusion::Named { name: "case 4711".into(), spans: named },
    ];
    let found = judged(&agreed, &bad, &planned);
    let steps: Vec<_> = found
        .steps
        .iter()
        .map(|step| {
            let down = (step.down_before_ms / MINUTE, step.down_after_ms / MINUTE);
            (step.exclusion.as_str(), down)
        })
        .collect();
    assert_eq!(
        steps,
        [("maintenance", (150, 60)), ("party=ours", (60, 20)), ("case 4711", (20, 15))]
    );
    assert_eq!(found.before.down_ms, 150 * MINUTE);
    assert_eq!(found.totals.excluded_ms, 40 * MINUTE);
    assert_eq!(found.availability, found.steps[2].availability_after);
    assert_eq!(found.steps[0].availability_after, found.steps[1].availability_before);
    let judged_minutes = MINUTES - 100 - 40 - 5;
    assert_eq!(found.availability, Some((judged_minutes - 15) as f64 / judged_minutes as f64));
}

#[test]
fn planned_time_beyond_the_agreed_amount_is_down_in_the_order_of_time() {
    let planned =
        Spans::from(vec![Span::new(0, 60 * MINUTE), Span::new(100 * MINUTE, 160 * MINUTE)]);
    let mut agreed = objective("99.9%");
    for (most, over, down) in
        [(None, 0, 0), (Some(120), 0, 0), (Some(90), 30, 30), (Some(0), 120, 120)]
    {
        agreed.planned_max_ms = most.map(|minutes| minutes * MINUTE);
        let found = judged(&agreed, &[], &planned);
        assert_eq!(found.planned_over_ms, over * MINUTE, "{most:?}");
        assert_eq!(found.totals.down_ms, down * MINUTE, "{most:?}");
    }
    agreed.planned_max_ms = Some(90 * MINUTE);
    let points = readings(MINUTES, &[]);
    let found = judge(&agreed, &evidence(&points, &planned), january(), i64::MAX);
    let down: Spans = found
        .pieces
        .iter()
        .filter(|piece| piece.kind == Kind::Down)
        .map(|piece| piece.span)
        .collect();
    assert_eq!(down.as_slice(), [Span::new(130 * MINUTE, 160 * MINUTE)]);
    assert_eq!(
        found.spent_at(&[0, 130 * MINUTE, 140 * MINUTE, DAY]),
        [0, 0, 10 * MINUTE, 30 * MINUTE]
    );
}

#[test]
fn an_outage_over_the_end_of_the_period_is_measured_whole() {
    let mut agreed = objective("99.9%");
    agreed.least_outage_ms = 5 * MINUTE;
    // Three minutes of it are in January, three in February; and one of four minutes in between.
    let bad = [(MINUTES - 3, MINUTES + 3, Party::Vendor), (100, 104, Party::Vendor)];
    let points = readings(MINUTES + 30, &bad);
    let none = Spans::none();
    let found = judge(&agreed, &evidence(&points, &none), january(), i64::MAX).judgement;
    assert_eq!(found.spent_ms, 3 * MINUTE);
    assert_eq!(found.totals.degraded_ms, 4 * MINUTE);
}

#[test]
fn thin_coverage_gives_no_verdict_however_bad_the_rest() {
    let none = Spans::none();
    for (missing, verdict) in [(2232, Verdict::Breached), (2233, Verdict::Unknown)] {
        let mut points = readings(MINUTES, &[(0, 400, Party::Vendor)]);
        points.retain(|point| !(1000..1000 + missing).contains(&(point.at / MINUTE)));
        let found = judge(&objective("99.9%"), &evidence(&points, &none), january(), i64::MAX);
        assert_eq!(found.judgement.verdict, verdict, "{missing} of 44640 minutes");
    }
    let nothing = judge(&objective("99.9%"), &evidence(&[], &none), january(), i64::MAX).judgement;
    assert_eq!((nothing.verdict, nothing.availability), (Verdict::Unknown, None));
    // Where nothing was seen, too much planned work is no outage either.
    let agreed = Objective { planned_max_ms: Some(0), ..objective("99.9%") };
    let agreed = Objective { exclude: vec![Exclusion::Maintenance], ..agreed };
    for planned in [Spans::one(Span::new(0, 60 * MINUTE)), Spans::one(january())] {
        let nothing = judge(&agreed, &evidence(&[], &planned), january(), i64::MAX).judgement;
        let told = (nothing.verdict, nothing.availability, nothing.planned_over_ms);
        assert_eq!(told, (Verdict::Unknown, None, 0));
    }
    let all = Spans::one(january());
    let planned = judged(&objective("99.9%"), &[], &all);
    assert_eq!((planned.verdict, planned.coverage), (Verdict::Unknown, None));
}

#[test]
fn the_credit_is_that_of_the_lowest_line_that_was_missed() {
    let none = Spans::none();
    let mut agreed = objective("99.9%");
    agreed.credits = vec![
        Credit { below: percent("99.9%"), credit: percent("10%") },
        Credit { below: percent("99%"), credit: percent("25%") },
    ];
    for (minutes, due) in [(44, None), (45, Some("10%")), (446, Some("10%")), (447, Some("25%"))] {
        let found = judged(&agreed, &[(0, minutes, Party::Vendor)], &none);
        assert_eq!(found.credit_due, due.map(percent), "{minutes}");
    }
}

#[test]
fn response_times_are_judged_by_their_exact_percentiles() {
    let points = readings(MINUTES, &[]);
    let none = Spans::none();
    let times: Vec<u64> = (1..=100).map(|ms| ms * 1000).collect();
    for (limit, count, verdict) in [
        (95_000, 100, Verdict::Met),
        (94_999, 100, Verdict::Breached),
        (95_000, 0, Verdict::Unknown),
    ] {
        let mut agreed = objective("99.9%");
        agreed.latency_p95_us = Some(limit);
        let evidence = Evidence { latencies_us: &times[..count], ..evidence(&points, &none) };
        let found = judge(&agreed, &evidence, january(), i64::MAX).judgement;
        assert_eq!(found.verdict, verdict);
        assert_eq!(found.latency[0].measured_ms, (count > 0).then_some(95.0));
    }
}

#[test]
fn hours_out_of_service_and_holidays_are_in_no_figure() {
    let mut agreed = objective("99.9%");
    agreed.zone = zone("America/New_York").unwrap();
    agreed.hours = ServiceHours::parse("Mon-Fri 08:00-18:00").unwrap();
    agreed.holidays = vec![jiff::civil::date(2026, 11, 26)];
    let period = Period::CalendarMonth.containing(1_794_000_000_000, &agreed.zone);
    let first = period.from;
    // Down all along, but not on weekdays: the first is a Sunday of 25 hours.
    let down = Point { at: first, kind: Kind::Down, party: Some(Party::Vendor), code: None };
    let monday = Point { at: first + 25 * 60 * MINUTE, kind: Kind::Up, ..down.clone() };
    let points = [down, monday];
    let none = Spans::none();
    let evidence = Evidence { rule: Rule::every(31 * DAY), ..evidence(&points, &none) };
    let found = judge(&agreed, &evidence, period, i64::MAX).judgement;
    assert_eq!(found.counted_ms, 20 * 10 * 60 * MINUTE, "21 weekdays, one of them a holiday");
    assert_eq!((found.spent_ms, found.availability), (0, Some(1.0)));
    assert_eq!(found.totals.window_ms, found.counted_ms);
}

#[test]
fn words_of_an_agreement_are_read_or_told_with_advice() {
    assert_eq!(Exclusion::parse("party=ours"), Ok(Exclusion::Party(Party::Ours)));
    assert_eq!(Exclusion::parse("maintenance").unwrap().to_string(), "maintenance");
    assert!(Exclusion::parse("party=us").unwrap_err().contains("identity_provider"));
    assert_eq!(DownWhen::parse("warning"), Ok(DownWhen::Status(Status::Warning)));
    assert_eq!(DownWhen::parse("tcp.*"), Ok(DownWhen::Code("tcp.*".into())));
    for text in ["healthy", "down", "", "tcp.", "*.x", "Tcp.refused"] {
        assert!(DownWhen::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_verdict_is_what_a_walk_through_the_period_finds(
        story in story(),
        terms in terms(),
        parts in prop_oneof![50_u64..=100, Just(99)],
        maintenance_first in any::<bool>(),
    ) {
        let mut exclude = vec![Exclusion::Named {
            name: "claim".into(),
            spans: terms.named.iter().copied().collect(),
        }];
        exclude.extend(terms.party_out.map(Exclusion::Party));
        if terms.maintenance_is_out {
            let place = if maintenance_first { 0 } else { exclude.len() };
            exclude.insert(place, Exclusion::Maintenance);
        }
        let agreed = Objective {
            availability: Some(Percent::whole(parts)),
            exclude,
            least_outage_ms: terms.least_outage,
            planned_max_ms: terms.planned_max,
            down: terms.down.iter().map(|word| DownWhen::parse(word).unwrap()).collect(),
            ..objective("99%")
        };
        let planned = story.planned();
        let evidence = Evidence {
            points: &story.points,
            rule: Rule::every(story.interval),
            maintenance: &planned,
            latencies_us: &[],
            kept_from: None,
        };
        let whole = story.counts().clip(story.window);
        let found = settle(&agreed, &evidence, story.window, i64::MAX, &whole);
        let totals = &found.judgement.totals;
        let count = reference::settle(&story, &terms);
        let [up, degraded, down, unknown, maintenance] = count.kinds;
        prop_assert_eq!(
            [totals.up_ms, totals.degraded_ms, totals.down_ms, totals.unknown_ms, totals.maintenance_ms],
            count.kinds
        );
        prop_assert_eq!(totals.excluded_ms, count.excluded);
        prop_assert_eq!(
            totals.window_ms,
            up + degraded + down + unknown + maintenance + count.excluded
        );
        let due = totals.window_ms - maintenance;
        let judged = up + degraded + down;
        let expected = if due == 0 || 20 * unknown > due || judged == 0 {
            Verdict::Unknown
        } else if 100 * (up + degraded) < parts as i64 * judged {
            Verdict::Breached
        } else {
            Verdict::Met
        };
        prop_assert_eq!(found.judgement.verdict, expected);
        prop_assert_eq!(found.spent_at(&[story.window.to]), vec![down]);
    }
}
