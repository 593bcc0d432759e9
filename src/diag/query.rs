//! `query`: what searches and reads are like, and whether their answers can be relied on.
//!
//! By default: what the inventory declares, one count of a common type, one parameter that nobody
//! knows, and one step to the next page of a declared search. With `--probe` more of each.

use http::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Serialize;
use url::Url;

use super::declared::{self, ABOUT_NOBODY, Declared};
use super::prefer::{Handling, PreferSeen};
use super::sample::{self, Sample, search, what};
use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::fhir::body::BodyKind;
use crate::fhir::bundle::{BundleFacts, ignored_parameters};
use crate::model::server::Auth;
use crate::model::{Code, Observation, Party, Status};

/// Pages of a declared search that are looked at, without and with `--probe`.
const PAGES: usize = 2;
const PAGES_OF_PROBE: usize = 5;

/// What was found, for programs.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct QueryDetails {
    /// The searches and reads that the inventory declares, as a test ran them.
    pub declared: Vec<QuerySample>,
    /// Searches that were sent for this diagnosis.
    pub samples: Vec<QuerySample>,
    /// What became of a parameter that nobody knows, asked strictly.
    pub unknown_parameter: Option<String>,
    pub paging: Vec<Paging>,
    /// Why no search was followed to a next page; `null` where one was.
    pub paging_not_looked_at: Option<String>,
    pub negotiation: Vec<Negotiated>,
}

/// One search or read.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuerySample {
    /// The search without its values.
    pub what: String,
    /// The HTTP status; `null` when no answer came.
    pub status: Option<u16>,
    pub duration_ms: f64,
    /// What came of it, in a few words.
    pub came: String,
}

/// How far a search could be followed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Paging {
    pub what: String,
    pub pages: usize,
    /// Whether the last page was reached.
    pub ended: bool,
    pub duration_ms: f64,
}

/// One thing that client and server can agree on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Negotiated {
    pub asked: String,
    pub got: String,
    pub duration_ms: f64,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic = Topic::new(TopicName::Query).good("searches answer what they are asked");
    let mut details = QueryDetails::default();
    let declared = declared::declared(desk).await;
    tested(desk, &mut topic, &mut details).await;

    let common = declared.as_ref().and_then(|declared| declared.common(&desk.server));
    let kind = common.map(|kind| kind.name.clone());
    let is_declared = kind.is_some();
    let kind = kind.unwrap_or_else(|| "Patient".to_owned());
    let count = search(desk, &format!("{kind}?_summary=count"), &[]).await;
    judge_count(desk, &mut topic, &kind, is_declared, &count);
    let works = count.bundle().is_some();
    if let Some(facts) = count.bundle() {
        links(desk, &mut topic, &count.what, facts);
    }
    keep(&mut details, &count);
    if works {
        let seen = desk.prefer(&kind).await;
        unknown(&mut topic, &mut details, seen);
    }
    let limit = if desk.options.probe { PAGES_OF_PROBE } else { PAGES };
    let mut paths: Vec<String> = desk.server.checks.search.clone();
    paths.retain(|path| !path.contains("_summary=count"));
    paths.truncate(if desk.options.probe { 5 } else { 1 });
    if desk.options.probe {
        paths.extend(pageable(desk, declared.as_ref(), &mut details).await);
    }
    for path in &paths {
        follow(desk, &mut topic, &mut details, path, limit).await;
    }
    if desk.options.probe && works {
        negotiate(desk, &mut details, &kind).await;
        conditional(desk, &mut details).await;
    }
    if !details.paging.iter().any(|paging| paging.pages > 1 || paging.ended) {
        let why = if details.paging.is_empty() {
            "paging was not looked at: declare checks.search with _count, such as Patient?_count=10"
        } else {
            "paging was not looked at: no declared search came to a next page"
        };
        topic.message = format!("{}; {why}", topic.message);
        topic.note(format!("Note: {why}."));
        details.paging_not_looked_at = Some(why.to_owned());
    }
    show(&mut topic, &details);
    topic.details(&details);
    topic
}

/// What the test of every stage made of the declared searches and reads: they are not sent again.
async fn tested(desk: &Desk, topic: &mut Topic, details: &mut QueryDetails) {
    let checks = &desk.report().await.checks;
    let is_ours = |check: &&Observation| {
        ["search", "read"].iter().any(|name| {
            check.name == *name
                || check.name.strip_prefix(name).is_some_and(|it| it.starts_with('['))
        }) && !check.code.is_some_and(Code::is_left_out)
    };
    for check in checks.iter().filter(is_ours) {
        details.declared.push(QuerySample {
            what: check.name.clone(),
            status: check.http.as_ref().and_then(|http| http.status),
            duration_ms: check.timing.map_or(check.duration_ms, |timing| timing.total_ms),
            came: check.message.clone(),
        });
        topic.problems.extend(super::health::problem_of(check));
    }
}

fn keep(details: &mut QueryDetails, sample: &Sample) {
    details.samples.push(QuerySample {
        what: sample.what.clone(),
        status: sample.status,
        duration_ms: sample.ms,
        came: sample.shown(),
    });
}

fn judge_count(desk: &Desk, topic: &mut Topic, kind: &str, is_declared: bool, count: &Sample) {
    let signs_in = desk.server.auth != Auth::None;
    match count.fault() {
        Some(why) if is_declared => {
            topic.problem(sample::declared_and_broken(kind, count, &why));
        }
        Some(why) => topic.note(format!("{} is not declared, and not answered: {why}", count.what)),
        None if let Some(failure) = count.hindrance() => topic.problem(Problem::from(failure)),
        None if count.status == Some(401) && signs_in => topic.problem(
            Problem::new(
                Code::new("auth.unauthorized"),
                format!("{}: the server refused the credential (HTTP 401)", count.what),
            )
            .server_text(count.words.clone()),
        ),
        None if count.bundle().is_none() => {
            topic.note(format!("{}: {}", count.what, count.shown()));
        }
        None => {}
    }
    if let Some(facts) = count.bundle()
        && facts.match_count > 0
    {
        topic.note(format!(
            "{kind}?_summary=count answers with records: the server does not know _summary=count"
        ));
    }
}

fn unknown(topic: &mut Topic, details: &mut QueryDetails, seen: &PreferSeen) {
    keep(details, &seen.sample);
    if let (Handling::Honoured, Some(kept)) = (seen.handling, details.samples.last_mut()) {
        kept.came = seen.handling.as_str().to_owned();
    }
    details.unknown_parameter = Some(seen.handling.as_str().to_owned());
    // A server that ignores what it declares does not tell what became of the header.
    let ignores =
        topic.problems.iter().any(|known| known.code == Code::new("fhir.parameter_ignored"));
    match (seen.problem().filter(|_| !ignores), seen.handling) {
        (Some(problem), _) => topic.problem(problem),
        (None, Handling::LeftOut | Handling::Unnoticed) => topic.note(format!(
            "an unknown parameter is {} although Prefer: handling=strict was sent: check spelling \
             twice, this server does not tell",
            seen.handling.as_str()
        )),
        _ => {}
    }
    if !seen.between.is_empty() {
        topic.fact("in between", seen.between.join(", "));
    }
    if let Some(applied) = &seen.applied {
        topic.fact("Preference-Applied", crate::model::text::bounded(applied, 100));
    }
}

/// What `self` and `next` tell of whoever writes them. Whether `next` may be followed.
fn links(desk: &Desk, topic: &mut Topic, what: &str, facts: &BundleFacts) -> Option<Url> {
    let base = desk.server.url.url();
    let absolute = |link: &str| base.join(link.trim()).ok();
    let next = facts.next_link.as_deref().and_then(absolute);
    let own = facts.self_link.as_deref().and_then(absolute);
    let is_downgraded = |link: &Url| base.scheme() == "https" && link.scheme() == "http";
    if let Some(next) = next.as_ref().filter(|next| is_downgraded(next)) {
        once(
            topic,
            Problem::new(
                Code::new("network.links_rewritten"),
                format!(
                    "the next page of {what} is at {}, plain HTTP, though the server is asked over \
                 HTTPS: what ends TLS in front of it rewrites links or does not tell it",
                    next.origin().ascii_serialization()
                ),
            ),
        );
        return None;
    }
    if let Some(own) = own.as_ref().filter(|own| is_downgraded(own)) {
        once(topic, Problem::new(
            Code::new("network.links_rewritten"),
            format!(
                "the self link of {what} is at {}, plain HTTP, though the server is asked over HTTPS",
                own.origin().ascii_serialization()
            ),
        ).at(Status::Warning));
    }
    let next = next?;
    if next.origin() == base.origin() {
        return Some(next);
    }
    once(topic, Problem::new(
        Code::new("network.links_rewritten"),
        format!(
            "the next page of {what} is at {}, another origin than the base URL: a client keeps \
             its credential back and the page is refused",
            next.origin().ascii_serialization()
        ),
    ).at(Status::Warning).by(Party::Undetermined));
    None
}

/// Each kind of trouble with links is told once, the worse way.
fn once(topic: &mut Topic, problem: Problem) {
    let known = topic.problems.iter_mut().find(|known| known.code == problem.code);
    match known {
        Some(known) if known.status.rank() >= problem.status.rank() => {}
        Some(known) => *known = problem,
        None => topic.problem(problem),
    }
}

/// Follows `next` for a few pages.
async fn follow(
    desk: &Desk,
    topic: &mut Topic,
    details: &mut QueryDetails,
    path: &str,
    limit: usize,
) {
    let shown = what(path);
    let Ok(first) = desk.url(path) else { return };
    let mut paging = Paging { what: shown.clone(), pages: 0, ended: false, duration_ms: 0.0 };
    let mut visited = vec![first.clone()];
    let mut url = first;
    while paging.pages < limit {
        let page = sample::search_at(desk, &url, shown.clone(), desk.accept(), &[]).await;
        paging.duration_ms += page.ms;
        let Some(facts) = page.bundle() else {
            // The first page is the business of the test itself.
            if let (Some(why), true) = (page.fault().or_else(|| refused(&page)), paging.pages > 0) {
                topic.problem(
                    Problem::new(
                        Code::new("fhir.search_failed"),
                        format!("the next page of {shown} fails: {why}"),
                    )
                    .server_text(page.words.clone()),
                );
            }
            break;
        };
        paging.pages += 1;
        if paging.pages == 1 {
            not_used(topic, path, &shown, facts);
        }
        let Some(next) = links(desk, topic, &shown, facts) else {
            paging.ended = facts.next_link.is_none();
            break;
        };
        if visited.contains(&next) {
            topic.problem(Problem::new(
                Code::new("fhir.paging_loop"),
                format!(
                    "page {} of {shown} names as its next page one that was already read: whoever \
                     follows it never ends",
                    paging.pages
                ),
            ));
            break;
        }
        visited.push(next.clone());
        url = next;
    }
    details.paging.push(paging);
}

fn refused(page: &Sample) -> Option<String> {
    page.bundle().is_none().then(|| page.shown())
}

/// Parameters of a declared search that took no part; the test has told it where it ran the search.
fn not_used(topic: &mut Topic, path: &str, shown: &str, facts: &BundleFacts) {
    let code = Code::new("fhir.parameter_ignored");
    let ignored = ignored_parameters(path, facts.self_link.as_deref());
    if !ignored.is_empty() && !topic.problems.iter().any(|known| known.code == code) {
        topic.problem(Problem::new(
            code,
            format!("{shown}: the server ignored {}", ignored.join(", ")),
        ));
    }
}

/// A search with several pages over a type that is about nobody.
async fn pageable(
    desk: &Desk,
    declared: Option<&Declared>,
    details: &mut QueryDetails,
) -> Option<String> {
    let declared = declared?;
    let kinds = ABOUT_NOBODY.iter().filter_map(|name| declared.kind(name));
    for kind in kinds.filter(|kind| kind.has("search-type")).take(4) {
        let count = search(desk, &format!("{}?_summary=count", kind.name), &[]).await;
        keep(details, &count);
        if count.bundle().is_some_and(|facts| facts.total.is_none_or(|total| total > 1)) {
            return Some(format!("{}?_count=1&_elements=id", kind.name));
        }
    }
    None
}

/// Formats, by header and by parameter, and compression, over a count.
async fn negotiate(desk: &Desk, details: &mut QueryDetails, kind: &str) {
    let path = format!("{kind}?_summary=count");
    for (asked, accept, format) in [
        ("Accept: application/fhir+json", "application/fhir+json", None),
        ("Accept: application/fhir+xml", "application/fhir+xml", None),
        ("_format=json", "*/*", Some("json")),
        ("_format=xml", "*/*", Some("xml")),
    ] {
        let path = match format {
            Some(format) => format!("{path}&_format={format}"),
            None => path.clone(),
        };
        let Ok(url) = desk.url(&path) else { continue };
        let sample = sample::search_at(desk, &url, what(&path), accept, &[]).await;
        let got = match (&sample.came, sample.kind) {
            (sample::Came::Bundle(_), kind) => kind.as_str().to_owned(),
            _ => sample.shown(),
        };
        details.negotiation.push(Negotiated {
            asked: asked.to_owned(),
            got,
            duration_ms: sample.ms,
        });
    }
    let encoding = HeaderName::from_static("accept-encoding");
    for (asked, value) in
        [("Accept-Encoding: gzip", "gzip"), ("Accept-Encoding: identity", "identity")]
    {
        let header = [(encoding.clone(), HeaderValue::from_static(value))];
        // The statement is long enough to be worth packing; it holds no records.
        let Ok(url) = desk.url("metadata") else { continue };
        let Ok(exchange) = desk.get(&url, &header).await else { continue };
        let packed = exchange.header("content-encoding").unwrap_or("not compressed");
        let got = format!(
            "{}, {} bytes for {}",
            crate::model::text::bounded(&crate::model::text::one_line(packed), 20),
            exchange.http.wire_bytes,
            exchange.http.body_bytes
        );
        details.negotiation.push(Negotiated {
            asked: asked.to_owned(),
            got,
            duration_ms: exchange.timing.total_ms,
        });
    }
}

/// Whether a synthetic record that is known already is sent again.
async fn conditional(desk: &Desk, details: &mut QueryDetails) {
    let Some(reference) = declared::synthetic(desk).await.into_iter().next() else { return };
    let Ok(url) = desk.url(&reference) else { return };
    let Ok(read) = desk.get(&url, &[]).await else { return };
    for (condition, given) in [("if-none-match", "etag"), ("if-modified-since", "last-modified")] {
        let Some(value) = read.headers.get(given).cloned() else {
            details.negotiation.push(Negotiated {
                asked: condition.to_owned(),
                got: format!("cannot be asked: the answer has no {given}"),
                duration_ms: read.timing.total_ms,
            });
            continue;
        };
        let header = [(HeaderName::from_static(condition), value)];
        let Ok(again) = desk.get(&url, &header).await else { continue };
        let got = match again.status() {
            304 => "304, not sent again".to_owned(),
            200 => "200, sent again".to_owned(),
            status => format!("HTTP {status}"),
        };
        details.negotiation.push(Negotiated {
            asked: condition.to_owned(),
            got,
            duration_ms: again.timing.total_ms,
        });
    }
}

fn show(topic: &mut Topic, details: &QueryDetails) {
    let row = |sample: &QuerySample| {
        vec![
            sample.what.clone(),
            sample.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            format!("{:.0} ms", sample.duration_ms),
            sample.came.clone(),
        ]
    };
    let head = ["search", "status", "time", "what"];
    let all = details.declared.iter().chain(&details.samples).map(row).collect();
    topic.table("", &head, all);
    if let Some(handling) = &details.unknown_parameter {
        topic.fact("an unknown parameter, strictly", handling.clone());
    }
    let pages = details.paging.iter().map(|paging| {
        let end = if paging.ended { "to the end" } else { "not to the end" };
        vec![
            paging.what.clone(),
            paging.pages.to_string(),
            end.to_owned(),
            format!("{:.0} ms", paging.duration_ms),
        ]
    });
    topic.table("pages", &["search", "read", "how far", "time"], pages.collect());
    let negotiated = details
        .negotiation
        .iter()
        .map(|it| vec![it.asked.clone(), it.got.clone(), format!("{:.0} ms", it.duration_ms)]);
    topic.table("negotiation", &["asked", "got", "time"], negotiated.collect());
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let count = desk
        .url("Patient?_summary=count")
        .map(|url| curl(&desk.server, &url).about("counts, and shows no record"));
    let strict =
        desk.url(&format!("Patient?{}=1&_summary=count", super::prefer::UNKNOWN)).map(|url| {
            curl(&desk.server, &url)
                .with(&["-H", "Prefer: handling=strict"])
                .about("a server that honours Prefer refuses this with HTTP 400")
        });
    count.into_iter().chain(strict).collect()
}

/// Whether a body is of a format.
pub(super) fn is_of(kind: BodyKind, family: &str) -> bool {
    matches!((kind, family), (BodyKind::Json, "json") | (BodyKind::Xml, "xml"))
}
