//! The life of an export job: kick-off, polls, its end, and its deletion.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;

use super::super::answer::{Content as Said, Reply};
use super::super::fhir::outcome::{Refusal, outcome};
use super::super::inject::http_date;
use super::super::site::{Site, locked};
use super::content::Content;
use super::kick_off::Asked;
use super::plan::{Level, Verb};
use super::trap::Trap;
use super::{Bulk, STATUS_URL};
use crate::serve::{HeaderName, HeaderValue, Method, Request, StatusCode, header};

/// Most jobs that are remembered; the oldest is forgotten.
const MOST: usize = 64;
/// The answer of a proxy whose server is away.
const GATEWAY: &[u8] = b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\
    \r\n<body>\r\n<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n<hr>\
    <center>nginx</center>\r\n</body>\r\n</html>\r\n";

/// The jobs of a server, oldest first.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    all: VecDeque<Job>,
}

/// One export.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    /// Path and query of the kick-off.
    scope: String,
    /// The URL of the kick-off.
    pub(super) request: String,
    /// The base under which it was asked for.
    pub(super) base: String,
    began: Instant,
    /// The transaction time.
    pub(super) at: Timestamp,
    pub(super) content: Arc<Content>,
    /// Whether a manifest may come in parts.
    pub(super) partial: bool,
    separate_status: bool,
    polls: u32,
    /// How many polls were answered 202.
    pub(super) waits: u32,
    last_poll: Option<Instant>,
    pub(super) played: HashSet<Trap>,
    over: bool,
    deleted: bool,
    /// When links were given out, with their number from 1.
    pub(super) given: VecDeque<(u64, Instant)>,
    /// How often each file was asked for, where a trap wants to know.
    pub(super) attempts: HashMap<String, u32>,
}

impl Jobs {
    pub(super) fn find(&mut self, id: &str) -> Result<&mut Job, Refusal> {
        let job = self.all.iter_mut().find(|job| job.id == id);
        job.ok_or_else(|| Refusal::not_found(format!("there is no job {id} here")))
    }
}

impl Bulk {
    /// Starts a job.
    pub(super) fn kick_off(
        &self,
        site: &Site,
        request: &Request,
        level: Level,
        group: Option<&str>,
        query: &[(String, String)],
    ) -> Result<Reply, Refusal> {
        self.offered(request, level)?;
        let asked = Asked::read(request, query, level, &self.plan)?;
        if let Some(kind) = site.not_permitted(request, asked.types.as_deref().unwrap_or_default())
        {
            let why = format!("the token's scopes do not permit {kind}");
            return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", why));
        }
        let base = site.base_for(request);
        let scope = scope(request, site.base_path);
        let mut jobs = locked(&self.jobs);
        if let Some(refused) = self.too_many(&jobs, &scope, level, site.now()) {
            return Ok(refused);
        }
        let content = {
            let store = locked(&site.store);
            Content::pick(&store, &asked, level, group, &self.plan, self.seed)?
        };
        let id = uuid::Uuid::new_v4().simple().to_string();
        let status = self.plan.status_url.as_deref().unwrap_or(STATUS_URL);
        let mut place = self.url(&base, status, &id, "");
        if self.plan.has(Trap::LocationRelative) {
            place = self.url(site.base_path, status, &id, "");
        }
        let separate_status = asked.separate_status && self.plan.separate_status != Some(false);
        jobs.all.push_back(Job {
            id,
            request: format!("{base}{scope}"),
            scope,
            base,
            began: Instant::now(),
            at: site.now(),
            content: Arc::new(content),
            partial: asked.partial && self.plan.partial_manifests != Some(false),
            separate_status,
            polls: 0,
            waits: 0,
            last_poll: None,
            played: HashSet::new(),
            over: false,
            deleted: false,
            given: VecDeque::new(),
            attempts: HashMap::new(),
        });
        if jobs.all.len() > MOST {
            jobs.all.pop_front();
        }
        let mut reply = Reply::new(StatusCode::ACCEPTED, Said::Empty);
        if !self.plan.has(Trap::LocationMissing) {
            reply = reply.with(header::CONTENT_LOCATION, &place);
        }
        if separate_status {
            reply = applied(reply);
        }
        Ok(reply)
    }

    /// Refuses levels and methods that the server does not have.
    fn offered(&self, request: &Request, level: Level) -> Result<(), Refusal> {
        let verb = match request.method {
            Method::GET => Verb::Get,
            Method::POST => Verb::Post,
            _ => return Err(not_allowed(&request.method)),
        };
        let plan = &self.plan;
        if !plan.offers(level) {
            let status = plan.refusal.and_then(|code| StatusCode::from_u16(code).ok());
            return Err(Refusal::new(
                status.unwrap_or(StatusCode::NOT_IMPLEMENTED),
                "not-supported",
                "this export is not offered here",
            ));
        }
        let post_only = plan.post_only.as_ref().is_some_and(|levels| levels.0.contains(&level));
        let by_method = plan.methods.as_ref().is_none_or(|verbs| verbs.0.contains(&verb));
        // A level that takes POST alone takes it whatever the others do.
        match (verb, post_only) {
            (Verb::Post, true) => Ok(()),
            (Verb::Get, false) | (Verb::Post, false) if by_method => Ok(()),
            _ => Err(not_allowed(&request.method)),
        }
    }

    /// The refusal of a server that has enough to do.
    fn too_many(&self, jobs: &Jobs, scope: &str, level: Level, now: Timestamp) -> Option<Reply> {
        let alone = self.plan.one_job_at_a_time == Some(true);
        if alone && jobs.all.iter().any(|job| self.is_running(job)) {
            return Some(self.throttled("another export is in progress", now));
        }
        let interval = self.plan.min_interval?.0;
        let path = |scope: &str| scope.split('?').next().unwrap_or_default().to_owned();
        let same = jobs.all.iter().rev().find(|job| path(&job.scope) == path(scope))?;
        let rest = interval.checked_sub(same.began.elapsed()).filter(|rest| !rest.is_zero())?;
        let why = match level {
            Level::Group => "The Client requested this Group too recently",
            _ => "the client requested this export too recently",
        };
        let seconds = rest.as_secs().max(1).to_string();
        Some(throttled(why).with(header::RETRY_AFTER, &seconds))
    }

    fn throttled(&self, why: &str, now: Timestamp) -> Reply {
        let reply = throttled(why);
        match self.retry_after(now) {
            Some(text) => reply.with(header::RETRY_AFTER, &text),
            None => reply,
        }
    }

    fn is_running(&self, job: &Job) -> bool {
        let wait = self.plan.wait.map(|wait| wait.0).unwrap_or_default();
        let polls = self.plan.polls.unwrap_or(1);
        !job.over
            && !job.deleted
            && (self.plan.has(Trap::JobForever) || job.waits < polls || job.began.elapsed() < wait)
    }

    /// Answers a poll or a DELETE.
    pub(super) fn status(
        &self,
        site: &Site,
        request: &Request,
        id: &str,
    ) -> Result<Reply, Refusal> {
        let mut jobs = locked(&self.jobs);
        let job = jobs.find(id)?;
        match request.method {
            Method::DELETE => self.delete(job),
            Method::GET | Method::HEAD => self.poll(site, job),
            _ => Err(not_allowed(&request.method)),
        }
    }

    fn delete(&self, job: &mut Job) -> Result<Reply, Refusal> {
        let gone = job.deleted;
        job.deleted = true;
        let done = self.plan.delete_done.filter(|_| job.over);
        if gone || self.plan.has(Trap::Delete404) || done == Some(404) {
            return Err(Refusal::not_found(format!("there is no job {} here", job.id)));
        }
        let status = match self.plan.has(Trap::Delete200) {
            true => StatusCode::OK,
            false => done
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::ACCEPTED),
        };
        let said = outcome("information", "informational", "the export is deleted");
        Ok(Reply::new(status, Said::Resource(said)))
    }

    fn poll(&self, site: &Site, job: &mut Job) -> Result<Reply, Refusal> {
        let now = site.now();
        if job.deleted && self.plan.cancelled == Some(202) {
            return Ok(self.running(job, now));
        }
        if job.deleted {
            let status = self.plan.cancelled.and_then(|code| StatusCode::from_u16(code).ok());
            let why = format!("the job {} was cancelled", job.id);
            return Err(Refusal::new(status.unwrap_or(StatusCode::NOT_FOUND), "not-found", why));
        }
        let since = job.last_poll.replace(Instant::now()).map(|last| last.elapsed());
        if let (Some(least), Some(since)) = (self.plan.poll_no_faster_than, since)
            && since < least.0
        {
            let seconds = least.0.as_secs_f64().ceil().to_string();
            let reply = throttled("polled too fast");
            return Ok(reply.with(header::RETRY_AFTER, &seconds));
        }
        job.polls += 1;
        if let Some(reply) = self.interjection(site, job, now) {
            return Ok(reply);
        }
        if self.is_running(job) {
            job.waits += 1;
            return Ok(self.running(job, now));
        }
        job.over = true;
        if self.plan.has(Trap::JobFailed) {
            let why = "the export failed: a trap of this sandbox";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "processing", why));
        }
        if self.plan.has(Trap::StatusHeaderFailed) {
            let said = outcome("error", "processing", "the export failed: a trap of this sandbox");
            let reply = Reply::new(StatusCode::OK, Said::Resource(said));
            return Ok(applied(export_status(reply, "500 Internal Server Error")));
        }
        let pages = self.pages(job);
        let mut reply = self.manifest(job, 1, pages, now);
        if job.separate_status {
            reply = applied(reply);
        }
        if job.separate_status || self.plan.has(Trap::StatusHeaderBare) {
            reply = export_status(reply, "200 OK");
        }
        Ok(reply)
    }

    /// What comes between, each once and one per poll, from the second poll on.
    fn interjection(&self, site: &Site, job: &mut Job, now: Timestamp) -> Option<Reply> {
        if job.polls < 2 {
            return None;
        }
        let traps = [Trap::Poll429, Trap::Poll503Html, Trap::Poll500Transient, Trap::Poll401];
        let trap =
            traps.into_iter().find(|trap| self.plan.has(*trap) && !job.played.contains(trap))?;
        job.played.insert(trap);
        Some(match trap {
            Trap::Poll429 => self.throttled("polled too often: a trap of this sandbox", now),
            Trap::Poll503Html => Reply::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Said::Text("text/html", Bytes::from_static(GATEWAY)),
            ),
            Trap::Poll500Transient => Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "transient",
                "try again: a trap of this sandbox",
            )
            .into(),
            _ => site.token_refused(),
        })
    }

    fn running(&self, job: &mut Job, now: Timestamp) -> Reply {
        let plan = &self.plan;
        let mut reply = match () {
            () if plan.has(Trap::ManifestGrows) => {
                self.manifest_so_far(job, u64::from(job.waits), now)
            }
            () if job.partial => {
                let first = job.content.outputs().div_ceil(u64::from(self.pages(job)));
                self.manifest_so_far(job, first, now)
            }
            () => Reply::new(StatusCode::ACCEPTED, Said::Empty),
        };
        reply.status = StatusCode::ACCEPTED;
        if job.separate_status {
            reply.status = StatusCode::OK;
            reply = applied(reply);
        }
        if job.separate_status || plan.has(Trap::StatusHeaderBare) {
            reply = export_status(reply, "202 Accepted");
        }
        if let Ok(value) = HeaderValue::from_bytes(&self.progress(job)) {
            reply.headers.insert(HeaderName::from_static("x-progress"), value);
        }
        match self.retry_after(now) {
            Some(text) => reply.with(header::RETRY_AFTER, &text),
            None => reply,
        }
    }

    fn progress(&self, job: &Job) -> Vec<u8> {
        if self.plan.has(Trap::ProgressCurly) {
            return "\u{201c}in progress\u{201d} \u{2013} 50\u{202f}%".as_bytes().to_vec();
        }
        if self.plan.has(Trap::ProgressBytes) {
            return b"en cours d'ex\xe9cution \xff\xfe 50%".to_vec();
        }
        if self.plan.has(Trap::ProgressLong) {
            return format!("50% {}", "and on ".repeat(40)).into_bytes();
        }
        match self.plan.progress.as_deref() {
            Some([]) | None => {
                let polls = self.plan.polls.unwrap_or(1).max(1);
                let percent = (u64::from(job.waits) * 100 / (u64::from(polls) + 1)).min(99);
                format!("{percent}% complete").into_bytes()
            }
            Some(texts) => {
                let nth = usize::try_from(job.waits).unwrap_or(usize::MAX).max(1) - 1;
                texts[nth.min(texts.len() - 1)].clone().into_bytes()
            }
        }
    }

    /// The value of `Retry-After`; `None`: it is left out.
    pub(super) fn retry_after(&self, now: Timestamp) -> Option<String> {
        let plan = &self.plan;
        Some(match () {
            () if plan.has(Trap::RetryAfterAbsent) => return None,
            () if plan.has(Trap::RetryAfterDate) => http_date(now, 2),
            () if plan.has(Trap::RetryAfterNegative) => "-5".into(),
            () if plan.has(Trap::RetryAfterAbsurd) => "86400".into(),
            () if plan.has(Trap::RetryAfterGarbage) => "soon".into(),
            () if plan.has(Trap::RetryAfterEpoch) => (now.as_second() + 1).to_string(),
            () if plan.has(Trap::RetryAfterEpochMs) => (now.as_millisecond() + 1000).to_string(),
            () => match plan.retry_after.as_ref().map(|text| text.0.as_str()) {
                None => "1".into(),
                Some("") => return None,
                Some("http-date") => http_date(now, 1),
                Some(text) => text.to_owned(),
            },
        })
    }
}

impl Job {
    /// Gives new links out and says their number.
    pub(super) fn give(&mut self) -> u64 {
        let number = self.given.back().map_or(0, |(number, _)| *number) + 1;
        self.given.push_back((number, Instant::now()));
        if self.given.len() > MOST {
            self.given.pop_front();
        }
        number
    }

    /// How old the links of a number are.
    pub(super) fn age(&self, number: u64) -> Option<Duration> {
        self.given.iter().find(|(given, _)| *given == number).map(|(_, at)| at.elapsed())
    }

    /// Whether a trap has not been played yet; from now on it has.
    pub(super) fn once(&mut self, trap: Trap) -> bool {
        self.played.insert(trap)
    }
}

fn throttled(why: &str) -> Reply {
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "throttled", why).into()
}

fn not_allowed(method: &Method) -> Refusal {
    let why = format!("{method} is not supported here");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "not-supported", why)
}

fn applied(reply: Reply) -> Reply {
    let name = HeaderName::from_static("preference-applied");
    reply.with(name, "respond-async, separate-export-status")
}

fn export_status(reply: Reply, status: &str) -> Reply {
    reply.with(HeaderName::from_static("x-export-status"), status)
}

/// Path and query of a kick-off below the base, without an API key.
fn scope(request: &Request, base_path: &str) -> String {
    let path = request.path.strip_prefix(base_path).unwrap_or(&request.path);
    let key = format!("{}=", super::super::sign_in::API_KEY_PARAMETER);
    let query = request.query.as_deref().unwrap_or_default().split('&');
    let query: Vec<&str> =
        query.filter(|pair| !pair.is_empty() && !pair.starts_with(&key)).collect();
    match query.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", query.join("&")),
    }
}
