use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::{Origin, Party, Phases, Sample, State, Status};
use crate::stats::sla::{Credit, Percent};
use crate::stats::window::Period;

const HOUR: i64 = 3_600_000;
const MONTH: i64 = 30 * 24 * HOUR;
/// 1 September 2026; that month has 30 days.
const SEPTEMBER: i64 = 1_788_220_800_000;

/// One reading of so many hours and minutes behind the beginning of the month.
fn reading(minutes: i64, (state, status, party): (State, Status, Option<Party>)) -> Reading {
    let code = (status != Status::Healthy).then(|| "http.status".into());
    let took = u64::try_from(minutes.rem_euclid(700)).unwrap() * 1000;
    Reading {
        server: "a".into(),
        at: instant(SEPTEMBER + minutes * 60_000),
        run: uuid::Uuid::nil(),
        origin: Origin::Check,
        vantage: None,
        state,
        status,
        code: code.clone(),
        party,
        duration_us: took,
        samples: vec![Sample {
            check: "metadata".into(),
            status,
            code,
            party,
            counts: true,
            attempts: 1,
            duration_us: took,
            phases: Phases::default(),
            http_status: Some(200),
            wire_bytes: 0,
            issue: None,
            detail: None,
        }],
    }
}

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let states = select(&[State::Active, State::Active, State::Maintenance, State::Inactive]);
    let found = (states, select(&Status::ALL), option::of(select(&Party::ALL)));
    vec((0..4_i64, -3..3_i64, found), 100..400).prop_map(|all| {
        // About every two hours, from a day before the month, some at once, some late, some out of
        // order.
        let mut minutes = -24 * 60;
        all.into_iter()
            .map(|(step, off, found)| {
                minutes += step * 60;
                reading(minutes + off * 20, found)
            })
            .collect()
    })
}

fn terms() -> impl Strategy<Value = Terms> {
    let exclude = select(&["maintenance", "party=ours", "party=undetermined"]);
    let down = select(&["critical", "warning", "unknown", "http.*"]);
    let hours = select(&["24x7", "Mon-Fri 07:00-19:00", "daily 22:00-06:00"]);
    let zone = select(&["UTC", "America/New_York"]);
    let limits = (0..5_u64, option::of(0..20_u64), option::of(0..700_u64));
    (vec(exclude, 0..3), vec(down, 1..3), hours, zone, limits, 0..100_u64).prop_map(
        |(exclude, down, hours, zone, (least, planned_max, p95), percent)| Terms {
            text: None,
            availability: Some(Percent::whole(percent)),
            latency_p50_ms: None,
            latency_p95_ms: p95,
            latency_p99_ms: None,
            period: Period::CalendarMonth,
            time_zone: zone.to_owned(),
            service_hours: hours.to_owned(),
            holidays: Vec::new(),
            exclude: exclude.into_iter().map(str::to_owned).collect(),
            down: down.into_iter().map(str::to_owned).collect(),
            least_outage_ms: least * 3_600_000,
            planned_max_ms: planned_max.map(|hours| hours * 3_600_000),
            credits: vec![Credit { below: Percent::whole(50), credit: Percent::whole(10) }],
        },
    )
}

fn proof(readings: &[Reading], terms: Terms) -> Proof {
    let texts: Vec<String> = readings.iter().map(Reading::text).collect();
    let before = chain::start("a");
    let after = texts.iter().fold(before, |head, text| chain::advance(&head, text));
    let mut proven = Proven {
        name: "a".to_owned(),
        scheduled_ms: Some(2 * HOUR),
        kept_from_ms: None,
        maintenance: vec![Planned {
            from: Some(instant(SEPTEMBER + 100 * HOUR)),
            until: Some(instant(SEPTEMBER + 110 * HOUR)),
            reason: None,
            entered: None,
        }],
        chain: Chain {
            name: "a".to_owned(),
            position: 0,
            before: chain::hex(&before),
            after: chain::hex(&after),
        },
        readings: texts,
        interval_ms: 0,
        tolerance: Rule::TOLERANCE,
        counted: Vec::new(),
        planned: Vec::new(),
        result: Outcome::of(&Totals::default()),
        agreement: Some(ProvenAgreement { terms, periods: Vec::new() }),
    };
    let window = Span::new(SEPTEMBER, SEPTEMBER + MONTH);
    let now = instant(window.to + HOUR);
    proven.settle(window, now.as_millisecond()).unwrap();
    let mut proof = Proof {
        schema: SCHEMA.to_owned(),
        fhirctl_version: String::new(),
        generated_at: now,
        from: instant(window.from),
        to: instant(window.to),
        formula: Vec::new(),
        servers: vec![proven],
        seals: Vec::new(),
        digest: String::new(),
    };
    proof.digest = proof.computed_digest().unwrap();
    proof
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_proof_verifies_as_it_is_read_back_and_with_no_figure_changed(
        readings in readings(), terms in terms(), which in any::<prop::sample::Index>(), by in 1..1000_i64,
    ) {
        let proof = proof(&readings, terms);
        let read: Proof = serde_json::from_str(&proof.print().unwrap()).unwrap();
        prop_assert_eq!(read.verify().problems, Vec::<String>::new());

        let mut forged = proof;
        let period = forged.servers[0].agreement.as_mut().unwrap().periods.last_mut().unwrap();
        let figures = [
            &mut period.before.down_ms,
            &mut period.before.judged_ms,
            &mut period.result.up_ms,
            &mut period.result.degraded_ms,
            &mut period.result.down_ms,
            &mut period.result.unknown_ms,
            &mut period.result.maintenance_ms,
            &mut period.result.excluded_ms,
            &mut period.planned_over_ms,
            &mut period.counted_ms,
            &mut period.interval_ms,
        ];
        let place = which.index(figures.len());
        if let Some(figure) = figures.into_iter().nth(place) {
            *figure += by;
        }
        forged.digest = forged.computed_digest().unwrap();
        prop_assert_eq!(forged.verify().problems.len(), 1);
    }
}
