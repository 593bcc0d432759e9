//! Readings for the tests of this room.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::words::Words;
use crate::model::{Detail, Origin, Party, Phases, Reading, Sample, State, Status};

/// One healthy or sick check, its durations spread over some milliseconds by the time.
pub fn plain(server: &str, at: i64, status: Status) -> Reading {
    let noise = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let phases = Phases {
        dns_us: Some(200 + noise % 97),
        connect_us: Some(900 + noise % 311),
        tls_us: Some(3_000 + noise % 1_013),
        first_byte_us: Some(40_000 + noise % 20_011),
        transfer_us: Some(500 + noise % 401),
    };
    let duration_us = phases.all().iter().flatten().sum::<u64>() + 31;
    let bad = status != Status::Healthy;
    Reading {
        server: server.into(),
        at: Timestamp::from_millisecond(at).unwrap(),
        run: Uuid::from_u128(at as u128),
        origin: Origin::Check,
        vantage: None,
        state: State::Active,
        status,
        code: bad.then(|| "http.status".into()),
        party: bad.then_some(Party::Vendor),
        duration_us: duration_us + 120,
        samples: vec![Sample {
            check: "metadata".into(),
            status,
            code: bad.then(|| "http.status".into()),
            party: bad.then_some(Party::Vendor),
            counts: true,
            attempts: 1,
            duration_us,
            phases,
            http_status: Some(if bad { 503 } else { 200 }),
            wire_bytes: 9_211,
            issue: None,
            detail: Some(Box::new(Detail {
                message: format!("metadata took {} ms", duration_us / 1000).into(),
                request_id: Some(Uuid::from_u128(noise.into()).to_string().into()),
                server_request_id: None,
                remote_address: Some("192.0.2.7:443".into()),
            })),
        }],
    }
}

/// Every word of these readings, numbered from one.
pub fn words_of<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> Words {
    let mut words = Words::default();
    for (nth, word) in words.missing(readings).iter().enumerate() {
        words.learn(nth as u64 + 1, word);
    }
    words
}

pub fn reading() -> impl Strategy<Value = Reading> {
    let head = (
        prop_oneof![Just("a"), Just("b")],
        -4_000_000_000_000i64..4_000_000_000_000,
        any::<u128>(),
        prop::sample::select(&Origin::ALL[..]),
        word(),
        prop_oneof![Just(State::Active), Just(State::Maintenance), Just(State::Inactive)],
    );
    let rest = (status(), word(), party(), duration(), prop::collection::vec(sample(), 0..4));
    (head, rest).prop_map(
        |(
            (server, at, run, origin, vantage, state),
            (status, code, party, duration_us, samples),
        )| Reading {
            server: server.into(),
            at: Timestamp::from_millisecond(at).unwrap(),
            run: Uuid::from_u128(run),
            origin,
            vantage,
            state,
            status,
            code,
            party,
            duration_us,
            samples,
        },
    )
}

fn sample() -> impl Strategy<Value = Sample> {
    let head = ("[a-z]{1,3}", status(), word(), party(), any::<bool>(), any::<u32>());
    let phases = prop::array::uniform5(prop::option::of(duration()));
    let rest = (duration(), phases, prop::option::of(any::<u16>()), duration(), word());
    (head, rest, prop::option::of(detail())).prop_map(
        |(
            (check, status, code, party, counts, attempts),
            (duration_us, phases, http_status, wire_bytes, issue),
            detail,
        )| {
            let [dns_us, connect_us, tls_us, first_byte_us, transfer_us] = phases;
            Sample {
                check: check.into(),
                status,
                code,
                party,
                counts,
                attempts,
                duration_us,
                phases: Phases { dns_us, connect_us, tls_us, first_byte_us, transfer_us },
                http_status,
                wire_bytes,
                issue,
                detail: detail.map(Box::new),
            }
        },
    )
}

fn detail() -> impl Strategy<Value = Detail> {
    (".{0,12}", text(), text(), text()).prop_map(|(message, a, b, c)| Detail {
        message: message.into(),
        request_id: a,
        server_request_id: b,
        remote_address: c,
    })
}

fn text() -> impl Strategy<Value = Option<Arc<str>>> {
    prop::option::of(".{0,8}".prop_map(Arc::from))
}

fn word() -> impl Strategy<Value = Option<Arc<str>>> {
    prop::option::of(prop_oneof![Just("x.y"), Just("-"), Just("ä|b")].prop_map(Arc::from))
}

fn status() -> impl Strategy<Value = Status> {
    prop::sample::select(&[Status::Healthy, Status::Warning, Status::Critical, Status::Unknown][..])
}

fn party() -> impl Strategy<Value = Option<Party>> {
    prop::option::of(prop::sample::select(&super::coded::PARTIES[..]))
}

fn duration() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..100_000, 0..=(1u64 << 53)]
}
