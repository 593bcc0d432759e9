//! Readings out of what another program has seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use jiff::Timestamp;
use uuid::Uuid;

use crate::model::{Code, Origin, Party, Phases, Reading, Result, Sample, State, Status};

mod gauges;
mod table;

pub use gauges::gauges_csv;
pub use table::{Survey, rows_csv, survey_csv};

/// One result that was taken elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    pub server: Arc<str>,
    pub at: Timestamp,
    pub check: Arc<str>,
    pub status: Status,
    pub code: Option<Arc<str>>,
    pub party: Option<Party>,
    pub duration_us: u64,
    pub http_status: Option<u16>,
    pub exported: Option<Box<Exported>>,
}

/// What only `history export` tells of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    pub state: State,
    pub counts: bool,
    pub attempts: u32,
    pub phases: Phases,
    pub wire_bytes: u64,
    pub issue: Option<Arc<str>>,
}

impl Default for Exported {
    fn default() -> Exported {
        Exported {
            state: State::Active,
            counts: true,
            attempts: 1,
            phases: Phases::default(),
            wire_bytes: 0,
            issue: None,
        }
    }
}

/// What stands for a result that came without a reason.
#[must_use]
pub fn usual_code(status: Status) -> Option<Code> {
    match status {
        Status::Healthy => None,
        Status::Warning => Some(Code::new("health.degraded")),
        Status::Critical => Some(Code::new("health.down")),
        Status::Unknown => Some(Code::new("check.deadline")),
    }
}

/// The readings of rows of which each server's come in the order of time, each as soon as it is whole.
/// Results of one server at one instant are one reading, its status the worst of them.
pub fn readings(
    mut rows: impl Iterator<Item = Result<Foreign>>,
) -> impl Iterator<Item = Result<Reading>> {
    let mut assembler = Assembler::default();
    let mut rest: Option<std::vec::IntoIter<Reading>> = None;
    std::iter::from_fn(move || {
        loop {
            if let Some(rest) = &mut rest {
                return rest.next().map(Ok);
            }
            match rows.next() {
                Some(Ok(row)) => {
                    if let Some(reading) = assembler.take(row) {
                        return Some(Ok(reading));
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => rest = Some(std::mem::take(&mut assembler).finish().into_iter()),
            }
        }
    })
}

/// What is open of each server.
#[derive(Debug, Default)]
struct Assembler {
    open: HashMap<Arc<str>, Vec<Foreign>>,
}

impl Assembler {
    /// Takes a row in; the reading that is whole with it.
    fn take(&mut self, row: Foreign) -> Option<Reading> {
        let Some(open) = self.open.get_mut(&row.server) else {
            self.open.insert(row.server.clone(), vec![row]);
            return None;
        };
        if open.first().is_none_or(|first| same_instant(first, &row)) {
            open.push(row);
            return None;
        }
        let whole = reading(open.drain(..));
        open.push(row);
        whole
    }

    /// The last reading of each server.
    fn finish(self) -> Vec<Reading> {
        let mut rest: Vec<Reading> =
            self.open.into_values().filter_map(|rows| reading(rows.into_iter())).collect();
        rest.sort_by(|a, b| (a.at, &a.server).cmp(&(b.at, &b.server)));
        rest
    }
}

fn same_instant(a: &Foreign, b: &Foreign) -> bool {
    a.at.as_millisecond() == b.at.as_millisecond()
}

/// Rows in any order, as readings by server and time.
#[must_use]
pub fn assemble(rows: Vec<Foreign>) -> Vec<Reading> {
    let mut grouped: BTreeMap<(Arc<str>, i64), Vec<Foreign>> = BTreeMap::new();
    for row in rows {
        grouped.entry((row.server.clone(), row.at.as_millisecond())).or_default().push(row);
    }
    grouped.into_values().filter_map(|rows| reading(rows.into_iter())).collect()
}

/// The reading of the rows of one server and instant; its run is whoever's writes it.
fn reading(mut rows: impl ExactSizeIterator<Item = Foreign>) -> Option<Reading> {
    let mut samples = Vec::with_capacity(rows.len());
    let first = rows.next()?;
    let (server, at) = (first.server.clone(), crate::model::reading::to_millis(first.at));
    let state = first.exported.as_ref().map_or(State::Active, |exported| exported.state);
    samples.push(sample(first));
    samples.extend(rows.map(sample));
    // As `check` has it: those that do not count decide nothing, as long as there are others.
    let worst = |is_meant: fn(&&Sample) -> bool| {
        samples.iter().filter(is_meant).rev().max_by_key(|sample| sample.status.rank())
    };
    let worst = worst(|sample| sample.counts).or_else(|| worst(|_| true));
    Some(Reading {
        server,
        at,
        run: Uuid::nil(),
        origin: Origin::Import,
        vantage: None,
        state,
        status: worst.map_or(Status::Unknown, |worst| worst.status),
        code: worst.and_then(|worst| worst.code.clone()),
        party: worst.and_then(|worst| worst.party),
        duration_us: samples.iter().map(|sample| sample.duration_us).sum(),
        samples,
    })
}

fn sample(row: Foreign) -> Sample {
    let exported = row.exported.map(|exported| *exported).unwrap_or_default();
    Sample {
        check: row.check,
        status: row.status,
        code: row.code,
        party: row.party,
        counts: exported.counts,
        attempts: exported.attempts,
        duration_us: row.duration_us,
        phases: exported.phases,
        http_status: row.http_status,
        wire_bytes: exported.wire_bytes,
        issue: exported.issue,
        detail: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-02T00:00:00Z.
    const NOW: Timestamp = Timestamp::constant(1_793_577_600, 0);

    #[test]
    fn tables_of_several_kinds_are_read() {
        let text = "time,success,duration_seconds\n1761955200,1,0.25\n2025-11-01T00:01:00Z,0,\n";
        let rows: Vec<Foreign> =
            rows_csv(text.as_bytes(), Some("a")).unwrap().collect::<Result<_>>().unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].status, rows[0].duration_us), (Status::Healthy, 250_000));
        assert_eq!(rows[0].at.to_string(), "2025-11-01T00:00:00Z");
        assert_eq!(rows[1].code.as_deref(), Some("health.down"));
        let made = assemble(rows);
        assert_eq!(made.len(), 2);
        assert_eq!(made[1].status, Status::Critical);
    }

    /// Rows as the program reads them: in order one after the other, else all together.
    fn readings_of(text: &str) -> (Survey, Vec<Reading>) {
        let survey = survey_csv(text.as_bytes(), None, NOW).unwrap();
        let rows = rows_csv(text.as_bytes(), None).unwrap();
        let mut made: Vec<Reading> = match survey.in_order {
            true => readings(rows).collect::<Result<_>>().unwrap(),
            false => assemble(rows.collect::<Result<_>>().unwrap()),
        };
        made.sort_by(|a, b| (&a.server, a.at).cmp(&(&b.server, b.at)));
        (survey, made)
    }

    #[test]
    fn rows_of_one_reading_are_put_together_in_whatever_order_they_come() {
        let head = "at,server,check,status\n";
        let by_time = [
            "1761955200,a,one,up\n",
            "1761955200,b,one,up\n",
            "1761955200,a,two,down\n",
            "1761955260,a,one,up\n",
            "1761955260,b,one,down\n",
            "1761955260,a,two,up\n",
        ];
        let (survey, expected) = readings_of(&(head.to_owned() + &by_time.concat()));
        assert!(survey.in_order);
        assert_eq!((survey.rows, survey.servers.len()), (6, 2));
        let seen: Vec<_> =
            expected.iter().map(|r| (&*r.server, r.samples.len(), r.status)).collect();
        let (up, down) = (Status::Healthy, Status::Critical);
        assert_eq!(seen, [("a", 2, down), ("a", 2, up), ("b", 1, up), ("b", 1, down)]);
        for (order, in_order) in [([0, 2, 3, 5, 1, 4], true), ([3, 0, 4, 1, 2, 5], false)] {
            let text = head.to_owned() + &order.map(|nth| by_time[nth]).concat();
            let (survey, made) = readings_of(&text);
            assert_eq!((survey.in_order, made), (in_order, expected.clone()));
        }
    }
}
