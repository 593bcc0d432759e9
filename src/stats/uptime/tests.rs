use proptest::prelude::*;

use super::*;
use crate::stats::reference::{Said, Story, story, walk};

fn point(at: i64, kind: Kind) -> Point {
    Point { at, kind, party: None, code: None }
}

fn down(at: i64, party: Party, code: &str) -> Point {
    Point { at, kind: Kind::Down, party: Some(party), code: Some(code.into()) }
}

fn shape(pieces: &[Piece]) -> Vec<(i64, i64, Kind)> {
    pieces.iter().map(|piece| (piece.span.from, piece.span.to, piece.kind)).collect()
}

fn pieces(story: &Story) -> Vec<Piece> {
    timeline(&story.points, story.window, &Rule::every(story.interval), &story.planned())
}

#[test]
fn a_gap_is_never_uptime() {
    use Kind::{Degraded, Down, Maintenance, Unknown, Up};
    let rule = Rule::every(10);
    let window = Span::new(0, 100);
    for (what, points, planned, expected) in [
        ("no reading at all", vec![], vec![], vec![(0, 100, Unknown)]),
        (
            "the last one holds for its interval only",
            vec![point(0, Up), point(10, Up)],
            vec![],
            vec![(0, 10, Up), (10, 20, Up), (20, 100, Unknown)],
        ),
        (
            "one that is late by half an interval is waited for, one that is later is not",
            vec![point(0, Up), point(15, Down), point(31, Up)],
            vec![],
            vec![(0, 15, Up), (15, 25, Down), (25, 31, Unknown), (31, 41, Up), (41, 100, Unknown)],
        ),
        (
            "one before the window holds into it, and one behind it ends the hold of the last",
            vec![point(-5, Down), point(5, Up), point(95, Up), point(102, Up)],
            vec![],
            vec![(0, 5, Down), (5, 15, Up), (15, 95, Unknown), (95, 100, Up)],
        ),
        (
            "the worst of one instant stands, in whatever order they come",
            vec![point(90, Up), point(90, Down), point(90, Degraded), point(90, Unknown)],
            vec![],
            vec![(0, 90, Unknown), (90, 100, Down)],
        ),
        (
            "maintenance lies over readings and gaps",
            vec![point(0, Down), point(10, Down)],
            vec![Span::new(5, 12), Span::new(18, 30)],
            vec![
                (0, 5, Down),
                (5, 10, Maintenance),
                (10, 12, Maintenance),
                (12, 18, Down),
                (18, 20, Maintenance),
                (20, 30, Maintenance),
                (30, 100, Unknown),
            ],
        ),
    ] {
        let planned = Spans::from(planned);
        assert_eq!(shape(&timeline(&points, window, &rule, &planned)), expected, "{what}");
    }
}

#[test]
fn an_interval_of_nothing_and_the_ends_of_time_make_no_trouble() {
    let points = [point(i64::MIN, Kind::Up), point(i64::MAX, Kind::Up), point(50, Kind::Up)];
    let window = Span::new(0, 100);
    let none = timeline(&points, window, &Rule::every(0), &Spans::none());
    assert_eq!(shape(&none), [(0, 100, Kind::Unknown)]);
    let all = timeline(&points, window, &Rule::every(i64::MAX), &Spans::none());
    assert_eq!(all.iter().map(|piece| piece.span.ms()).sum::<i64>(), 100);
    assert!(timeline(&points, Span::new(5, 5), &Rule::every(9), &Spans::none()).is_empty());
}

#[test]
fn the_interval_is_the_median_gap() {
    assert_eq!(interval(&[]), None);
    assert_eq!(interval(&[7, 7]), None);
    assert_eq!(interval(&[0, 60, 120, 180, 900]), Some(60));
    assert_eq!(interval(&[180, 0, 60, 60, 121]), Some(60));
    assert_eq!(interval(&[0, 10, 30]), Some(10));
}

#[test]
fn totals_tell_parties_and_codes_apart() {
    let points = [
        point(0, Kind::Up),
        down(10, Party::Ours, "tls.expired"),
        down(20, Party::Vendor, "tcp.refused"),
        down(30, Party::Vendor, "http.status"),
        point(40, Kind::Degraded),
        point(50, Kind::Up),
    ];
    let rule = Rule::every(10);
    let pieces = timeline(&points, Span::new(0, 80), &rule, &Spans::none());
    let counted = Spans::one(Span::new(5, 70));
    let totals = Totals::of(&pieces, &counted, &[]);
    assert_eq!((totals.window_ms, totals.up_ms, totals.degraded_ms), (65, 15, 10));
    assert_eq!((totals.down_ms, totals.unknown_ms), (30, 10));
    assert_eq!(totals.down_by_party.of(Party::Vendor), 20);
    assert_eq!(totals.down_by_code["tls.expired"], 10);
    assert_eq!(totals.availability(), Some(25.0 / 55.0));
    assert_eq!(totals.coverage(), Some(55.0 / 65.0));

    let without = Totals::of(&pieces, &counted, &[Party::Ours]);
    assert_eq!((without.down_ms, without.excluded_ms), (20, 10));
    assert_eq!(without.availability(), Some(25.0 / 45.0));
    assert!(!without.down_by_code.contains_key("tls.expired"));

    let nothing = Totals::of(&pieces, &Spans::none(), &[]);
    assert_eq!((nothing.availability(), nothing.coverage()), (None, None));
}

#[test]
fn time_is_held_by_the_readings_that_are_asked_for() {
    let points = [point(0, Kind::Up), point(10, Kind::Down), point(20, Kind::Up)];
    let flagged = [false, true, false];
    let spans = held(&points, Span::new(0, 100), &Rule::every(10), |place| flagged[place]);
    assert_eq!(spans.as_slice(), [Span::new(10, 20)]);
}

proptest! {
    #[test]
    fn the_timeline_is_what_a_walk_through_it_finds(story in story()) {
        let pieces = pieces(&story);
        let mut said = Vec::new();
        let mut next = story.window.from;
        for piece in &pieces {
            prop_assert_eq!(piece.span.from, next, "neither hole nor overlap");
            prop_assert!(!piece.span.is_empty());
            next = piece.span.to;
            for _ in piece.span.from..piece.span.to {
                let (kind, party, code) = (piece.kind, piece.party, piece.code.clone());
                said.push(Said { kind, party, code });
            }
        }
        prop_assert_eq!(next, story.window.to);
        let expected =
            walk(story.window, &story.points, story.interval, &story.maintenance);
        prop_assert_eq!(said, expected);
    }

    #[test]
    fn totals_are_counts_of_instants(story in story()) {
        let totals = Totals::of(&pieces(&story), &story.counts(), &[Party::Ours]);
        let walk = story.counted_walk();
        let count = |which: &dyn Fn(&Said) -> bool| {
            i64::try_from(walk.iter().filter(|said| which(said)).count()).unwrap()
        };
        let down = |party: Option<Party>| {
            count(&|said: &Said| said.kind == Kind::Down && said.party == party)
        };
        prop_assert_eq!(totals.window_ms, i64::try_from(walk.len()).unwrap());
        prop_assert_eq!(totals.up_ms, count(&|said| said.kind == Kind::Up));
        prop_assert_eq!(totals.degraded_ms, count(&|said| said.kind == Kind::Degraded));
        prop_assert_eq!(totals.unknown_ms, count(&|said| said.kind == Kind::Unknown));
        prop_assert_eq!(totals.maintenance_ms, count(&|said| said.kind == Kind::Maintenance));
        prop_assert_eq!(totals.excluded_ms, down(Some(Party::Ours)));
        prop_assert_eq!(totals.down_by_party.of(Party::Vendor), down(Some(Party::Vendor)));
        prop_assert_eq!(totals.down_by_party.of(Party::Undetermined), down(None));
        let refused = count(&|said| {
            said.kind == Kind::Down
                && said.party != Some(Party::Ours)
                && said.code.as_deref() == Some("tcp.refused")
        });
        prop_assert_eq!(totals.down_by_code.get("tcp.refused").copied().unwrap_or(0), refused);
    }

    #[test]
    fn parts_add_up_to_the_whole_wherever_it_is_cut(story in story(), cut in 0.0..1.0_f64) {
        let rule = Rule::every(story.interval);
        let planned = story.planned();
        let cut = story.window.from + (story.window.ms() as f64 * cut) as i64;
        let of = |window| {
            let pieces = timeline(&story.points, window, &rule, &planned);
            Totals::of(&pieces, &story.counts(), &[])
        };
        let mut parts = of(Span::new(story.window.from, cut));
        parts.merge(&of(Span::new(cut, story.window.to)));
        prop_assert_eq!(&parts, &of(story.window));
        let all = pieces(&story);
        let within = |part| Totals::within(&all, part, &story.counts(), &[]);
        prop_assert_eq!(
            within(Span::new(cut, story.window.to)),
            of(Span::new(cut, story.window.to))
        );
    }

    #[test]
    fn the_order_of_the_readings_makes_no_difference(story in story(), turn in 0_usize..40) {
        let mut turned = story.clone();
        turned.points.reverse();
        let places = turned.points.len().max(1);
        turned.points.rotate_left(turn % places);
        let of = |story: &Story| {
            let pieces = pieces(story).into_iter();
            pieces.map(|piece| (piece.span, piece.kind, piece.party, piece.code)).collect::<Vec<_>>()
        };
        prop_assert_eq!(of(&story), of(&turned));
    }
}
