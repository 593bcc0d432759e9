use proptest::prelude::*;

use super::*;
use crate::stats::reference::{story, walk};
use crate::stats::uptime::{Rule, timeline};

const DOWN: Level = Level::Down;

/// A reading each ten milliseconds: `U`, `D`egraded, `X` (down), `?` (unknown), `-` none at all.
fn read(text: &str) -> Vec<Point> {
    let kinds = text.chars().enumerate().filter_map(|(place, letter)| {
        let kind = match letter {
            'U' => Kind::Up,
            'D' => Kind::Degraded,
            'X' => Kind::Down,
            '?' => Kind::Unknown,
            _ => return None,
        };
        let at = i64::try_from(place).unwrap() * 10;
        let party = (kind == Kind::Down).then_some(Party::Vendor);
        Some(Point { at, kind, party, code: None })
    });
    kinds.collect()
}

fn found(text: &str, level: Level, bad: u32, good: u32) -> Vec<Incident> {
    let points = read(text);
    let window = Span::new(0, i64::try_from(text.len()).unwrap() * 10);
    let pieces = timeline(&points, window, &Rule::every(10), &Spans::none());
    incidents(&pieces, &points, level, Confirmation { bad, good })
}

#[test]
fn an_incident_goes_from_the_first_bad_to_the_first_good_reading() {
    // Readings, confirmations, then from and to of each incident, and whether it is open.
    for (text, bad, good, expected) in [
        ("UUUU", 1, 1, vec![]),
        ("UXXU", 1, 1, vec![(10, 30, false)]),
        ("UXUX", 1, 1, vec![(10, 20, false), (30, 40, true)]),
        ("XXUU", 1, 1, vec![(0, 20, false)]),
        ("UXDU", 1, 1, vec![(10, 20, false)]),
        // Two in a row open it, and it began with the first.
        ("UXUXXU", 2, 1, vec![(30, 50, false)]),
        ("UXUXUX", 2, 1, vec![]),
        // Two in a row close it, and it ended with the first.
        ("UXUXUUU", 1, 2, vec![(10, 40, false)]),
        ("UXU", 1, 2, vec![(10, 30, true)]),
        // What is not known neither breaks a row nor ends an incident.
        ("UX?XU", 2, 1, vec![(10, 40, false)]),
        ("UX---U", 1, 1, vec![(10, 50, false)]),
        ("UX?", 1, 1, vec![(10, 30, true)]),
    ] {
        let found = found(text, DOWN, bad, good);
        let found: Vec<_> = found
            .iter()
            .map(|incident| (incident.span.from, incident.span.to, incident.open))
            .collect();
        assert_eq!(found, expected, "{text} {bad} {good}");
    }
}

#[test]
fn time_in_an_incident_is_told_apart() {
    let all = found("UUX?-XUXUU", DOWN, 1, 2);
    let [incident] = &all[..] else { panic!("{all:?}") };
    assert_eq!((incident.span.from, incident.span.to), (20, 80));
    assert_eq!((incident.bad_ms, incident.unknown_ms, incident.good_ms), (30, 20, 10));
    assert_eq!((incident.readings, incident.first, incident.last), (3, 2, 6));
    assert_eq!(incident.recovered, Some(7));
    assert_eq!(incident.party, Some(Party::Vendor));
    assert_eq!((incident.uncertainty_ms, incident.recovery_uncertainty_ms), (Some(10), Some(10)));

    // A gap before the first bad reading makes its beginning less certain.
    assert_eq!(found("U---X", DOWN, 1, 1)[0].uncertainty_ms, Some(40));
    assert_eq!(found("?X", DOWN, 1, 1)[0].uncertainty_ms, None);
}

#[test]
fn going_down_ends_a_degraded_incident() {
    let found = found("UDDXDU", Level::Degraded, 1, 1);
    let spans: Vec<_> = found.iter().map(|incident| incident.span).collect();
    assert_eq!(spans, [Span::new(10, 30), Span::new(40, 50)]);
}

#[test]
fn the_party_is_that_of_most_of_the_down_time() {
    let mut points = read("UXXXU");
    points[1].party = Some(Party::Network);
    points[1].code = Some("tcp.timeout".into());
    let pieces = timeline(&points, Span::new(0, 50), &Rule::every(10), &Spans::none());
    let all = incidents(&pieces, &points, DOWN, Confirmation::default());
    assert_eq!((all[0].party, all[0].code.clone()), (Some(Party::Vendor), None));
    assert_eq!(all[0].by_party.of(Party::Network), 10);

    points[2].party = Some(Party::Network);
    points[3].party = None;
    let pieces = timeline(&points, Span::new(0, 50), &Rule::every(10), &Spans::none());
    let all = incidents(&pieces, &points, DOWN, Confirmation::default());
    assert_eq!(all[0].party, Some(Party::Network));
}

#[test]
fn maintenance_in_an_incident_is_not_down_and_one_reading_is_counted_once() {
    let points = read("UXXXU");
    let planned = Spans::one(Span::new(14, 16));
    let pieces = timeline(&points, Span::new(0, 50), &Rule::every(10), &planned);
    let all = incidents(&pieces, &points, DOWN, Confirmation { bad: 3, good: 1 });
    assert_eq!((all[0].bad_ms, all[0].maintenance_ms, all[0].readings), (28, 2, 3));
    assert!(incidents(&pieces, &points, DOWN, Confirmation { bad: 4, good: 1 }).is_empty());
    let counts = Spans::from(vec![Span::new(0, 12), Span::new(30, 33)]);
    assert_eq!(counted(&all[0], &pieces, &counts).down_ms, 5);
}

#[test]
fn outages_that_are_too_short_to_count_are_degraded() {
    let points = read("UXUXXUX?XU");
    let window = Span::new(0, 100);
    let pieces = timeline(&points, window, &Rule::every(10), &Spans::none());
    let down = |least| {
        let kept = least_outage(pieces.clone(), least);
        Totals::of(&kept, &Spans::one(window), &[]).down_ms
    };
    assert_eq!([down(0), down(10), down(11), down(20), down(21)], [50, 50, 40, 40, 0]);
}

#[test]
fn repair_and_failure_times_follow_their_definitions() {
    let text = "UXXUUUXUUX";
    let all = found(text, DOWN, 1, 1);
    let points = read(text);
    let window = Span::new(0, 100);
    let pieces = timeline(&points, window, &Rule::every(10), &Spans::none());
    let totals = Totals::of(&pieces, &Spans::one(window), &[]);
    let sum = summary(&all, &totals);
    assert_eq!((sum.count, sum.open, sum.bad_ms, sum.longest_ms), (3, 1, 40, Some(20)));
    assert_eq!((sum.mttr_ms, sum.mtbf_ms), (Some(15.0), Some(20.0)));
    let none = summary(&[], &totals);
    assert_eq!((none.mttr_ms, none.mtbf_ms, none.longest_ms), (None, None, None));
}

proptest! {
    #[test]
    fn incidents_are_what_a_search_in_the_row_of_letters_finds(
        story in story(), bad in 1_usize..4, good in 1_usize..4,
    ) {
        let planned = story.planned();
        let pieces = timeline(&story.points, story.window, &Rule::every(story.interval), &planned);
        let numbers = Confirmation { bad: bad as u32, good: good as u32 };
        let found = incidents(&pieces, &story.points, Level::Down, numbers);

        // Each reading once, what is not known left out.
        let mut known: Vec<&Piece> = pieces
            .iter()
            .filter(|piece| !matches!(piece.kind, Kind::Unknown | Kind::Maintenance))
            .collect();
        known.dedup_by_key(|piece| piece.point);
        let letters: String =
            known.iter().map(|piece| if piece.kind == Kind::Down { 'X' } else { 'U' }).collect();
        let said = walk(story.window, &story.points, story.interval, &story.maintenance);
        let mut expected = Vec::new();
        let mut place = 0;
        while let Some(first) = letters[place..].find('X').map(|at| place + at) {
            if !letters[first..].starts_with(&"X".repeat(bad)) {
                place = first + letters[first..].find('U').unwrap_or(letters.len() - first);
                continue;
            }
            let end = letters[first..].find(&"U".repeat(good)).map(|at| first + at);
            let from = known[first].span.from;
            let to = end.map_or(story.window.to, |end| known[end].span.from);
            let within = usize::try_from(from - story.window.from).unwrap()
                ..usize::try_from(to - story.window.from).unwrap();
            let down = said[within].iter().filter(|said| said.kind == Kind::Down).count();
            let readings = letters[first..end.unwrap_or(letters.len())].matches('X').count();
            expected.push((Span::new(from, to), end.is_none(), down as i64, readings as u32));
            place = end.map_or(letters.len(), |end| end + good);
        }
        let found: Vec<_> = found
            .iter()
            .map(|one| {
                let sum = one.bad_ms + one.good_ms + one.unknown_ms + one.maintenance_ms;
                assert_eq!(sum, one.span.ms(), "its parts are the whole");
                (one.span, one.open, one.bad_ms, one.readings)
            })
            .collect();
        prop_assert_eq!(found, expected, "{}", letters);
    }

    #[test]
    fn an_outage_is_measured_from_each_of_its_instants(story in story(), least in 0_i64..60) {
        let planned = story.planned();
        let pieces = timeline(&story.points, story.window, &Rule::every(story.interval), &planned);
        let kept = least_outage(pieces, least);
        let kept: Vec<Kind> = kept
            .iter()
            .flat_map(|piece| (piece.span.from..piece.span.to).map(|_| piece.kind))
            .collect();
        let said = walk(story.window, &story.points, story.interval, &story.maintenance);
        let answers = |kind: Kind| matches!(kind, Kind::Up | Kind::Degraded);
        for (at, now) in said.iter().enumerate() {
            if now.kind != Kind::Down {
                prop_assert_eq!(kept[at], now.kind);
                continue;
            }
            let before = said[..at].iter().rev().take_while(|said| !answers(said.kind));
            let behind = said[at..].iter().take_while(|said| !answers(said.kind));
            let down = before.chain(behind).filter(|said| said.kind == Kind::Down).count() as i64;
            prop_assert_eq!(kept[at] == Kind::Down, down >= least);
        }
    }
}
