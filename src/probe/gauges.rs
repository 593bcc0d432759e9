//! What a server says of itself over time: memory, pools, disks and queues by its own metrics, and how
//! many resources of a type it holds.
//!
//! `check` asks at a rhythm of its own and behind the checks, within what is left of the server's
//! deadline: nothing here changes a verdict or a response time. `diag` reads the same page at once.

mod counts;
mod meaning;
mod page;
mod prometheus;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::session::Session;
use crate::auth::caller::Caller;
use crate::history::{Gauge, GaugesAsked};
use crate::http::Failure;
use crate::model::server::ResourcesCheck;

pub use meaning::{Meaning, Reading, Unit, meaning, names};
pub use page::{PAGE_BYTES, Page, address, read};

/// The name of the gauge of how many resources there are, before the type.
pub const COUNT: &str = "count";
/// What stands for the page as a whole: when it was last asked for, and its samples.
pub const PAGE: &str = "page";

/// The longest that a page may take: what takes longer is beside the point.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most gauges of one page.
const MOST: usize = 60;
/// Most gauges of one server, ever: a server must not fill the history with names.
const MOST_OF_ONE: usize = 200;

/// What was asked for beside the checks.
#[derive(Debug, Default)]
pub struct Gauged {
    pub gauges: Vec<Gauge>,
    /// Why something could not be read, in our words.
    pub notes: Vec<String>,
}

/// The parts of a gauge's name: `disk:/var` is a `disk`, and which one.
#[must_use]
pub fn parts(name: &str) -> (&str, Option<&str>) {
    match name.split_once(':') {
        Some((id, of)) => (id, Some(of)),
        None => (name, None),
    }
}

/// Whether a gauge can have this name: of something that is known here, and which one in plain letters.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let (id, of) = parts(name);
    match id {
        PAGE => of.is_none(),
        COUNT => of.is_some_and(|of| of.bytes().all(|byte| byte.is_ascii_alphabetic())),
        id => meaning(id).is_some() && of.is_none_or(is_plain),
    }
}

/// Asks for what is due, by when it was last asked for.
pub(super) async fn collect(session: &mut Session<'_>, asked: &GaugesAsked) -> Gauged {
    let server = session.server;
    let nothing = HashMap::new();
    let last = asked.get(server.name.as_str()).unwrap_or(&nothing);
    let mut take = Take {
        server: server.name.as_str().into(),
        at: session.surroundings.clock.now(),
        last,
        gauged: Gauged::default(),
    };
    if let Some(check) = &server.checks.resources
        && check.every.is_some_and(|every| take.is_due(PAGE, every))
        && !session.remaining().is_zero()
    {
        match page(session, check).await {
            Some(Ok(page)) => take.page(&page),
            Some(Err(failure)) => take.failed(PAGE, &failure.message),
            None => {}
        }
    }
    for kind in &server.checks.counts.types {
        let name = format!("{COUNT}:{kind}");
        if !take.is_due(&name, server.checks.counts.every) {
            continue;
        }
        if session.remaining().is_zero() || !session.may_ask().await {
            break;
        }
        take.at = session.surroundings.clock.now();
        match counts::count(session, kind).await {
            Ok(count) => take.put(name, Some(count), None),
            Err(why) => take.failed(&name, &why),
        }
    }
    take.gauged
}

/// The page; `None` where it is on a server that cannot be asked.
async fn page(session: &mut Session<'_>, check: &ResourcesCheck) -> Option<Result<Page, Failure>> {
    let server = session.server;
    let url = match address(server, &check.place) {
        Ok(url) => url,
        Err(failure) => return Some(Err(failure)),
    };
    let is_own = url.origin() == server.url.url().origin();
    if is_own && !session.may_ask().await {
        return None;
    }
    let patience = session.remaining().min(PATIENCE);
    match tokio::time::timeout(patience, Caller::new(server, session.surroundings)).await {
        Ok(Ok(caller)) => Some(read(&caller, check, &url, session.remaining().min(PATIENCE)).await),
        Ok(Err(failure)) => Some(Err(failure)),
        Err(_) => None,
    }
}

/// What is taken from one server.
struct Take<'a> {
    server: Arc<str>,
    at: Timestamp,
    last: &'a HashMap<Arc<str>, i64>,
    gauged: Gauged,
}

impl Take<'_> {
    fn is_due(&self, name: &str, every: Duration) -> bool {
        let Some(last) = self.last.get(name) else { return true };
        let passed = self.at.as_millisecond().saturating_sub(*last);
        // A cron that comes every five minutes comes a little early now and then; and a clock that
        // was set back must not stop it for ever.
        let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        passed >= every.saturating_sub(every / 20) || passed < 0
    }

    fn put(&mut self, name: String, value: Option<f64>, limit: Option<f64>) {
        self.gauged.gauges.push(Gauge {
            server: Arc::clone(&self.server),
            name: name.into(),
            at: self.at,
            value,
            limit,
        });
    }

    /// That it was asked for is kept, so that it is not asked for again at once.
    fn failed(&mut self, name: &str, why: &str) {
        self.put(name.to_owned(), None, None);
        let what = if name == PAGE { "its metrics page" } else { name };
        self.gauged.notes.push(format!("{}: {what} was not read: {why}", self.server));
    }

    fn page(&mut self, page: &Page) {
        self.put(PAGE.to_owned(), Some(page.samples as f64), None);
        if page.readings.is_empty() {
            self.gauged.notes.push(format!(
                "{0}: its metrics page has no figure that is known here; diag {0} resources shows what it has",
                self.server
            ));
        }
        let mut names = self.last.len();
        let told =
            page.readings.iter().filter(|reading| reading.of.as_deref().is_none_or(is_plain));
        for (kept, reading) in told.enumerate() {
            let name = |id: &str| match &reading.of {
                Some(of) => format!("{id}:{of}"),
                None => id.to_owned(),
            };
            let own = name(&reading.id);
            if !self.last.contains_key(own.as_str()) {
                names += 1;
            }
            if names > MOST_OF_ONE || kept == MOST {
                self.gauged.notes.push(format!(
                    "{}: its metrics tell of more than is kept, and the rest was left out",
                    self.server
                ));
                return;
            }
            self.put(own, Some(reading.value), reading.limit);
            if let Some(waiting) = reading.waiting {
                self.put(name(&meaning::waiting(&reading.id)), Some(waiting), None);
            }
        }
    }
}

/// Whether a label may be kept: the name of a disk or a pool, and nothing that could be more.
fn is_plain(of: &str) -> bool {
    of.len() <= 80 && of.chars().all(|c| c.is_ascii_alphanumeric() || "/.:_- \\".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(last: &HashMap<Arc<str>, i64>, at: i64) -> Take<'_> {
        let at = Timestamp::from_millisecond(at).unwrap();
        Take { server: "s".into(), at, last, gauged: Gauged::default() }
    }

    #[test]
    fn what_was_asked_for_lately_is_not_due() {
        let last = HashMap::from([(Arc::from("page"), 1_000_000)]);
        let every = Duration::from_secs(300);
        for (name, at, is_due) in [
            ("count:Patient", 0, true),
            ("page", 1_000_000, false),
            ("page", 1_060_000, false),
            ("page", 1_284_000, false),
            ("page", 1_285_000, true),
            ("page", 2_000_000, true),
            ("page", 999_999, true),
        ] {
            assert_eq!(take(&last, at).is_due(name, every), is_due, "{name} at {at}");
        }
    }

    #[test]
    fn a_server_cannot_fill_the_history_with_names() {
        let reading = |of: String| Reading {
            id: "disk".to_owned(),
            title: String::new(),
            of: Some(of),
            unit: Unit::Bytes,
            value: 1.0,
            limit: Some(2.0),
            percent: None,
            waiting: None,
            status: crate::model::Status::Healthy,
            code: None,
        };
        let page = |readings| Page {
            format: "prometheus",
            bytes: 0,
            samples: 3,
            strange: 0,
            truncated: false,
            readings,
        };
        let known: HashMap<Arc<str>, i64> =
            (0..MOST_OF_ONE - 1).map(|n| (Arc::from(format!("disk:/{n}")), 0)).collect();
        let mut full = take(&known, 1);
        full.page(&page((0..10).map(|n| reading(format!("/new{n}"))).collect()));
        assert_eq!(full.gauged.gauges.len(), 2, "the page and one more");
        assert_eq!(full.gauged.notes.len(), 1);

        let none = HashMap::new();
        let mut strange = take(&none, 1);
        strange.page(&page(vec![reading("Müller, Anna; 1970".to_owned()), reading("/var".into())]));
        let names: Vec<&str> = strange.gauged.gauges.iter().map(|gauge| &*gauge.name).collect();
        assert_eq!(names, ["page", "disk:/var"]);
    }
}
