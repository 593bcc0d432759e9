//! What samples mean: the rows of `data/metrics.yaml`, held against a page.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prometheus::Sample;
use crate::model::{Code, Status, text};

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Bytes,
    Count,
    Number,
    Seconds,
    /// Of one.
    Share,
}

/// One row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    id: String,
    title: String,
    unit: Unit,
    /// The reason code of its trouble; without one it is only shown.
    code: Option<String>,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    value: Vec<String>,
    #[serde(default)]
    limit: Vec<String>,
    #[serde(default)]
    free: Vec<String>,
    #[serde(default)]
    waiting: Vec<String>,
    /// Warning and critical.
    #[serde(default)]
    above: Option<[f64; 2]>,
    /// Whether it only grows, so that its speed tells something.
    #[serde(default)]
    counter: bool,
    /// Whether it tells how much the server has to do.
    #[serde(default)]
    load: bool,
}

/// What is known of a gauge by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    pub title: String,
    pub unit: Unit,
    /// Whether it only grows, so that its speed tells something.
    pub is_counter: bool,
    /// Whether it tells how much the server has to do.
    pub is_load: bool,
}

/// One thing that the server says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Reading {
    /// The row of the table, such as `heap`.
    pub id: String,
    pub title: String,
    /// Which one of several: a disk, a pool.
    pub of: Option<String>,
    pub unit: Unit,
    pub value: f64,
    pub limit: Option<f64>,
    /// Of the limit, in percent.
    pub percent: Option<f64>,
    /// Who waits for one to be free.
    pub waiting: Option<f64>,
    pub status: Status,
    #[serde(skip)]
    pub code: Option<Code>,
}

/// Every row.
fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        // Compiled in and read by a test.
        serde_yaml::from_str(include_str!("../../../data/metrics.yaml")).unwrap_or_default()
    })
}

/// What follows a row's id in the name of the gauge of those who wait.
const WAITING: &str = "_waiting";

/// What a gauge is by its name: the id of a row, or that with `_waiting` behind it.
#[must_use]
pub fn meaning(name: &str) -> Option<Meaning> {
    let row = |id: &str| rows().iter().find(|row| row.id == id);
    if let Some(row) = row(name) {
        return Some(Meaning {
            title: row.title.clone(),
            unit: row.unit,
            is_counter: row.counter,
            is_load: row.load,
        });
    }
    let row = row(name.strip_suffix(WAITING)?).filter(|row| !row.waiting.is_empty())?;
    Some(Meaning {
        title: format!("waiting for {}", row.title),
        unit: Unit::Count,
        is_counter: false,
        is_load: false,
    })
}

/// The names of all gauges, in the order of the table.
pub fn names() -> impl Iterator<Item = String> {
    rows().iter().flat_map(|row| {
        let waiting = (!row.waiting.is_empty()).then(|| format!("{}{WAITING}", row.id));
        std::iter::once(row.id.clone()).chain(waiting)
    })
}

/// The name of the gauge of those who wait for what a row tells of.
pub(super) fn waiting(id: &str) -> String {
    format!("{id}{WAITING}")
}

/// Whether a metric's name is in the table.
#[must_use]
pub fn is_known(name: &str) -> bool {
    static NAMES: OnceLock<HashSet<&'static str>> = OnceLock::new();
    let bare = |pattern: &'static str| pattern.split_once('{').map_or(pattern, |(name, _)| name);
    NAMES.get_or_init(|| patterns().map(bare).collect()).contains(name)
}

/// Every pattern of the table.
fn patterns() -> impl Iterator<Item = &'static str> {
    rows().iter().flat_map(|row| {
        [&row.value, &row.limit, &row.free, &row.waiting].into_iter().flatten().map(String::as_str)
    })
}

/// What the samples say, in the order of the table.
#[must_use]
pub fn readings(samples: &[Sample]) -> Vec<Reading> {
    let mut found: Vec<Reading> = rows().iter().flat_map(|row| row.readings(samples)).collect();
    found.truncate(READINGS);
    found
}

/// Most things that are shown.
const READINGS: usize = 200;

impl Row {
    fn readings(&self, samples: &[Sample]) -> Vec<Reading> {
        let by = self.by.as_deref();
        let mut values = first(&self.value, samples, by);
        let mut limits = first(&self.limit, samples, by);
        // Where there is no limit servers say -1, 0, or more than there are bytes on earth.
        limits.retain(|_, limit| *limit > 0.0 && *limit < 9e18);
        let waiting = first(&self.waiting, samples, by);
        for (key, free) in first(&self.free, samples, by) {
            if let Some(limit) = limits.get(&key) {
                values.insert(key, (limit - free).max(0.0));
            }
        }
        values
            .into_iter()
            .map(|(key, value)| {
                self.reading(&key, value, limits.get(&key).copied(), waiting.get(&key).copied())
            })
            .collect()
    }

    fn reading(&self, of: &str, value: f64, limit: Option<f64>, waiting: Option<f64>) -> Reading {
        let percent = limit.map(|limit| value * 100.0 / limit);
        // A row with a limit judges the share of it, and nothing where no limit is told.
        let judged = if self.limit.is_empty() { Some(value) } else { percent };
        let status = match (self.above, judged) {
            (Some([_, critical]), Some(seen)) if seen >= critical => Status::Critical,
            (Some([warning, _]), Some(seen)) if seen >= warning => Status::Warning,
            _ if waiting.is_some_and(|waiting| waiting > 0.0)
                && percent.is_none_or(|percent| percent >= 100.0) =>
            {
                Status::Critical
            }
            _ => Status::Healthy,
        };
        let code = self.code.as_deref().and_then(Code::find);
        Reading {
            id: self.id.clone(),
            title: self.title.clone(),
            of: Some(text::bounded(&text::one_line(of), 80)).filter(|of| !of.is_empty()),
            unit: self.unit,
            value,
            limit,
            percent: percent.map(|percent| (percent * 10.0).round() / 10.0),
            waiting,
            status: if code.is_some() { status } else { Status::Healthy },
            code,
        }
    }
}

/// The values of the first pattern that any sample fits, added up for each value of a label.
fn first(patterns: &[String], samples: &[Sample], by: Option<&str>) -> BTreeMap<String, f64> {
    for pattern in patterns {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| fits(pattern, sample)) {
            // -1 is how a JVM says that a pool of its heap has no limit.
            if !sample.value.is_finite() || sample.value < 0.0 {
                continue;
            }
            let key = by.and_then(|label| sample.labels.get(label)).cloned().unwrap_or_default();
            *sums.entry(key).or_default() += sample.value;
        }
        if !sums.is_empty() {
            return sums;
        }
    }
    BTreeMap::new()
}

fn fits(pattern: &str, sample: &Sample) -> bool {
    let (name, condition) = pattern.split_once('{').unwrap_or((pattern, ""));
    let condition = condition.trim_end_matches('}');
    let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
    name == sample.name
        && match (condition.split_once("!="), condition.split_once('=')) {
            (Some((name, words)), _) => words.split('|').all(|word| word != label(name)),
            (None, Some((name, word))) => label(name) == word,
            (None, None) => true,
        }
}

#[cfg(test)]
mod tests {
    use super::super::prometheus::Reader;
    use super::*;

    fn read(page: &str) -> Vec<(String, Option<f64>, Status)> {
        let mut reader = Reader::new(is_known);
        reader.push(page.as_bytes());
        reader.finish();
        readings(&reader.samples)
            .into_iter()
            .map(|reading| {
                let of = reading.of.map(|of| format!(" {of}")).unwrap_or_default();
                (format!("{}{of}", reading.id), reading.percent, reading.status)
            })
            .collect()
    }

    #[test]
    fn the_table_parses_and_every_code_is_there() {
        assert!(rows().len() > 15);
        for row in rows() {
            assert!(
                row.code.as_deref().is_none_or(|code| Code::find(code).is_some()),
                "{}",
                row.id
            );
            assert!(!row.value.is_empty() || !row.free.is_empty() && !row.limit.is_empty());
            assert!(row.above.is_none_or(|[warning, critical]| warning <= critical), "{}", row.id);
        }
    }

    #[test]
    fn every_gauge_has_a_meaning() {
        for name in names() {
            assert!(meaning(&name).is_some(), "{name}");
        }
        assert_eq!(meaning("hikari_pool_waiting").unwrap().unit, Unit::Count);
        assert_eq!(meaning("heap_waiting"), None);
    }

    #[test]
    fn a_page_says_what_is_short() {
        use Status::{Critical, Healthy, Warning};
        let one =
            |name: &str, percent: Option<f64>, status| vec![(name.to_owned(), percent, status)];
        for (page, expected) in [
            (
                "jvm_memory_used_bytes{area=\"heap\",id=\"Eden\"} 50\n\
                 jvm_memory_used_bytes{area=\"heap\",id=\"Old\"} 40\n\
                 jvm_memory_used_bytes{area=\"nonheap\",id=\"Code\"} 1e9\n\
                 jvm_memory_max_bytes{area=\"heap\",id=\"Eden\"} -1\n\
                 jvm_memory_max_bytes{area=\"heap\",id=\"Old\"} 100\n",
                one("heap", Some(90.0), Warning),
            ),
            (
                "jvm_memory_used_bytes{area=\"heap\"} 98\njvm_memory_max_bytes{area=\"heap\"} 100",
                one("heap", Some(98.0), Critical),
            ),
            ("jvm_memory_used_bytes{area=\"heap\"} 98", one("heap", None, Healthy)),
            (
                "jvm_memory_used_bytes{area=\"heap\"} 9\njvm_memory_max_bytes{area=\"heap\"} -1",
                one("heap", None, Healthy),
            ),
            (
                "node_memory_MemAvailable_bytes 5\nnode_memory_MemTotal_bytes 100",
                one("machine_memory", Some(95.0), Warning),
            ),
            (
                "node_filesystem_avail_bytes{mountpoint=\"/\",fstype=\"ext4\"} 2\n\
                 node_filesystem_size_bytes{mountpoint=\"/\",fstype=\"ext4\"} 100\n\
                 node_filesystem_avail_bytes{mountpoint=\"/snap\",fstype=\"squashfs\"} 0\n\
                 node_filesystem_size_bytes{mountpoint=\"/snap\",fstype=\"squashfs\"} 100\n",
                one("disk /", Some(98.0), Critical),
            ),
            (
                "hikaricp_connections_active{pool=\"main\"} 10\n\
                 hikaricp_connections_max{pool=\"main\"} 10\n\
                 hikaricp_connections_pending{pool=\"main\"} 7\n",
                one("hikari_pool main", Some(100.0), Critical),
            ),
            (
                "hikaricp_connections_active{pool=\"main\"} 10\n\
                 hikaricp_connections_max{pool=\"main\"} 10\n\
                 hikaricp_connections_pending{pool=\"main\"} 0\n",
                one("hikari_pool main", Some(100.0), Healthy),
            ),
            ("jvm_threads_deadlocked 2", one("deadlocked", None, Critical)),
            ("jvm_threads_deadlocked 0", one("deadlocked", None, Healthy)),
            ("process_open_fds 950\nprocess_max_fds 1000", one("open_files", Some(95.0), Warning)),
            ("process_resident_memory_bytes 1e12", one("process_memory", None, Healthy)),
            ("process_resident_memory_bytes NaN", Vec::new()),
            ("something_else 1", Vec::new()),
        ] {
            assert_eq!(read(page), expected, "{page}");
        }
    }
}
