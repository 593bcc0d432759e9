//! What the checks and jobs ask of each server, and rules about bearing it.

use serde::Serialize;

use super::{Input, Notes, ServerRule, Subject, is_member};
use crate::model::server::{Auth, MetricsPlace, ResourcesCheck, Server};

pub(super) const RULES: &[ServerRule] = &[
    ("load.no-pool", no_pool),
    ("load.no-cache", no_cache),
    ("load.token-not-shared", token_not_shared),
    ("load.no-second-endpoint", no_second_endpoint),
];

/// From this many requests a day on a server is busy.
const BUSY: f64 = 10_000.0;
/// From this many token requests a day on an identity provider may throttle.
const MANY_TOKENS: f64 = 300.0;
/// A token's life as it is usual: SMART Backend Services wants five minutes at most, others an hour.
const SHORT_TOKEN_SECONDS: f64 = 300.0;
const LONG_TOKEN_SECONDS: f64 = 3600.0;
/// A token is renewed when this share of its life is over.
const RENEWED_AT: f64 = 0.8;
/// The least that an export asks: the kick-off and one look at its state; files come on top.
const EXPORT_REQUESTS: u32 = 2;

/// What is asked of one server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    pub server: String,
    /// `None`: it has no schedule, and the numbers are those of a single check.
    pub checks_per_day: Option<f64>,
    pub requests_per_day: f64,
    pub token_requests_per_day: f64,
    /// Requests whose answer holds records: canaries, and searches that are no count.
    pub record_reads_per_day: f64,
    /// What the numbers were made of, in words.
    pub basis: String,
}

/// Counts what the schedule, the checks and the jobs ask of the server at this place.
#[must_use]
pub fn load(input: &Input<'_>, index: usize) -> Load {
    let Some(server) = input.inventory.servers.get(index) else { return nothing() };
    let cost = Cost::of(server);
    let checks_per_day = input.survey.checks_per_day(index);
    let times = checks_per_day.unwrap_or(1.0);
    let mut requests = f64::from(cost.requests) * times;
    let mut basis = vec![match checks_per_day {
        Some(checks) => format!("{} checks a day, {} each", number(checks), cost.words()),
        None => format!("one check, {}; no schedule", cost.words()),
    }];
    if let Some(checks) = checks_per_day {
        let beside = beside(server, checks);
        if beside > 0.0 {
            requests += beside;
            basis.push(format!("metrics and counts: {} a day", number(beside)));
        }
    }
    for job in input.survey.jobs().iter().filter(|job| job.server == server.name) {
        match job.runs_per_day {
            Some(runs) => {
                let least = EXPORT_REQUESTS + u32::try_from(job.types.max(1)).unwrap_or(u32::MAX);
                requests += runs * f64::from(least);
                basis.push(format!("job {}: at least {least} a run", job.name));
            }
            None => basis.push(format!("job {}: no schedule, not counted", job.name)),
        }
    }
    let tokens = tokens(server, checks_per_day);
    if let Some(life) = token_life(&server.auth) {
        basis.push(match (server.sign_in.shares_tokens, checks_per_day) {
            (true, Some(_)) => format!("tokens shared, of {} min", number(life / 60.0)),
            (false, Some(_)) => "a token for each check".to_owned(),
            (_, None) => "one token".to_owned(),
        });
    }
    Load {
        server: server.name.clone(),
        checks_per_day: checks_per_day.map(rounded),
        requests_per_day: rounded(requests),
        token_requests_per_day: rounded(tokens),
        record_reads_per_day: rounded(f64::from(cost.records) * times),
        basis: basis.join("; "),
    }
}

fn nothing() -> Load {
    Load {
        server: String::new(),
        checks_per_day: None,
        requests_per_day: 0.0,
        token_requests_per_day: 0.0,
        record_reads_per_day: 0.0,
        basis: String::new(),
    }
}

/// What one check sends to a server.
struct Cost {
    requests: u32,
    records: u32,
}

impl Cost {
    fn words(&self) -> String {
        let plural = if self.requests == 1 { "" } else { "s" };
        format!("{} request{plural}", self.requests)
    }

    fn of(server: &Server) -> Cost {
        let checks = &server.checks;
        let queries: Vec<&str> = checks
            .search
            .iter()
            .map(String::as_str)
            .chain(checks.assert.iter().map(|check| check.query.as_str()))
            .collect();
        let canaries = checks.read.iter().filter(|read| read.synthetic).count();
        let records = canaries + queries.iter().filter(|query| gives_records(query)).count();
        let requests = usize::from(checks.health.is_some())
            // /metadata, and one signed request where there is a sign-in.
            + 1
            + usize::from(server.auth != Auth::None)
            + queries.len()
            + canaries;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Cost { requests: count(requests), records: count(records) }
    }
}

/// Requests a day for the server's own metrics and for counts, which have a rhythm of their own.
fn beside(server: &Server, checks_per_day: f64) -> f64 {
    let at_most = |every: std::time::Duration| (86_400.0 / every.as_secs_f64()).min(checks_per_day);
    let checks = &server.checks;
    let own_origin = |check: &&ResourcesCheck| match &check.place {
        MetricsPlace::Path(_) => true,
        MetricsPlace::Url(url) => url.origin() == server.url.url().origin(),
    };
    let metrics = checks.resources.as_ref().filter(own_origin).and_then(|check| check.every);
    metrics.map_or(0.0, at_most) + checks.counts.types.len() as f64 * at_most(checks.counts.every)
}

/// Whether the answer to a query holds records and not only their number.
fn gives_records(query: &str) -> bool {
    let parameters = query.split_once('?').map_or("", |(_, parameters)| parameters);
    !url::form_urlencoded::parse(parameters.as_bytes())
        .any(|(name, value)| matches!((&*name, &*value), ("_summary", "count") | ("_count", "0")))
}

fn token_life(auth: &Auth) -> Option<f64> {
    match auth {
        Auth::SmartBackend(_) => Some(SHORT_TOKEN_SECONDS),
        auth if auth.uses_tokens() => Some(LONG_TOKEN_SECONDS),
        _ => None,
    }
}

fn tokens(server: &Server, checks_per_day: Option<f64>) -> f64 {
    let Some(life) = token_life(&server.auth) else { return 0.0 };
    let Some(checks) = checks_per_day else { return 1.0 };
    if server.sign_in.shares_tokens { checks.min(86_400.0 / (life * RENEWED_AT)) } else { checks }
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// `288`, `0.14`.
fn number(number: f64) -> String {
    rounded(number).to_string()
}

/// Whether the load asks for more than one request at a time, or for not asking twice.
fn is_busy(subject: &Subject<'_>) -> bool {
    let has_jobs = subject.input.survey.jobs().iter().any(|job| job.server == subject.server.name);
    has_jobs || is_heavy(subject)
}

fn is_heavy(subject: &Subject<'_>) -> bool {
    subject.load.checks_per_day.is_some() && subject.load.requests_per_day > BUSY
}

fn no_pool(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    if subject.server.pool.max_connections < 2 && is_busy(subject) {
        notes.add(subject.at("pool.max_connections"), "one connection for all of the load");
    }
}

fn no_cache(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    if subject.server.metadata_cache.is_none() && is_busy(subject) {
        notes.add(subject.at("cache.metadata"), "no cache for all of the load");
    }
}

fn token_not_shared(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let load = &subject.load;
    let many = load.checks_per_day.is_some() && load.token_requests_per_day > MANY_TOKENS;
    if !subject.server.sign_in.shares_tokens && many {
        let message = format!("{} token requests a day", number(load.token_requests_per_day));
        notes.add(subject.at("auth.token_cache"), message);
    }
}

fn no_second_endpoint(subject: &Subject<'_>, notes: &mut Notes<'_>) {
    let stand_in = subject
        .groups()
        .any(|(group, _)| group.members.len() > 1 && is_member(group, subject.server));
    if is_heavy(subject) && !stand_in {
        let message = format!(
            "{} requests a day and no second endpoint",
            number(subject.load.requests_per_day)
        );
        notes.add(subject.at("url"), message);
    }
}
