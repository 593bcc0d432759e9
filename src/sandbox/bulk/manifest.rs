//! Manifests: which files there are and where, in one piece, in pages, or made while they are sent.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::answer::{Content as Said, Reply};
use super::super::fhir::outcome::Refusal;
use super::super::fhir::store::instant;
use super::super::inject::http_date;
use super::super::site::{Site, locked};
use super::content::{Content, File};
use super::job::Job;
use super::plan::{Count, StoragePlace};
use super::trap::Trap;
use super::{Bulk, FILE_URL, PAGE_URL, storage};
use crate::serve::{Body, Piece, StatusCode, header};

/// A manifest of more entries is made while it is sent.
const ENTRIES: u64 = 2_000;
/// Entries of one piece of such a manifest.
const STEP: u64 = 500;
const MB: usize = 1_000_000;
/// MB of a manifest that is meant to be long.
const LONG: u32 = 200;
/// How long links work when nothing is said, in seconds.
const EXPIRES: i64 = 3_600;

impl Bulk {
    /// Over how many pages a manifest is spread.
    pub(super) fn pages(&self, job: &Job) -> u32 {
        let linked = [Trap::LinkLoop, Trap::Link404, Trap::Link500Once];
        let least = match linked.iter().any(|trap| self.plan.has(*trap)) || job.partial {
            true => 2,
            false => 1,
        };
        self.plan.links.unwrap_or(1).max(least)
    }

    /// Answers a request for a page of a manifest, from the second on.
    pub(super) fn page(&self, site: &Site, id: &str, page: u32) -> Result<Reply, Refusal> {
        let mut jobs = locked(&self.jobs);
        let job = jobs.find(id)?;
        let pages = self.pages(job);
        if page < 2 || page > pages || self.plan.has(Trap::Link404) {
            return Err(Refusal::not_found(format!("there is no page {page} here")));
        }
        if self.plan.has(Trap::Link500Once) && job.once(Trap::Link500Once) {
            let why = "try again: a trap of this sandbox";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "transient", why));
        }
        Ok(self.manifest(job, page, pages, site.now()))
    }

    /// A page of the manifest of a job that is over.
    pub(super) fn manifest(&self, job: &mut Job, page: u32, pages: u32, now: Timestamp) -> Reply {
        if self.plan.has(Trap::ManifestHtml) {
            let page = "<!doctype html>\n<html><body><h1>Export complete</h1></body></html>\n";
            return Reply::new(StatusCode::OK, Said::Text("text/html", page.into()));
        }
        let all = job.content.outputs();
        // As the part that came while the job ran, where one did.
        let step = all.div_ceil(u64::from(pages));
        let from = step * u64::from(page - 1);
        let to = if page == pages { all } else { (from + step).min(all) };
        let next = match page {
            page if page < pages => Some(page + 1),
            // Past the first page, so that the way of the pages is walked at least once.
            _ if self.plan.has(Trap::LinkLoop) => Some(2),
            _ => None,
        };
        self.part(job, from.min(all), to, page, next, now)
    }

    /// What a manifest has while the job runs: the first files.
    pub(super) fn manifest_so_far(&self, job: &mut Job, files: u64, now: Timestamp) -> Reply {
        let to = files.min(job.content.outputs());
        self.part(job, 0, to, 1, None, now)
    }

    fn part(
        &self,
        job: &mut Job,
        from: u64,
        to: u64,
        page: u32,
        next: Option<u32>,
        now: Timestamp,
    ) -> Reply {
        let plan = &self.plan;
        let number = job.give();
        let links = Links::new(self, job, number);
        let mut head = Map::new();
        let at = match plan.has(Trap::ManifestTime) {
            true => job.at.strftime("%Y/%m/%d %H:%M:%S.000 +0000").to_string(),
            false => instant(job.at),
        };
        head.insert("transactionTime".into(), at.into());
        let stu4 = plan.has(Trap::ManifestStu4);
        if !stu4 {
            head.insert("request".into(), job.request.as_str().into());
        }
        head.insert("requiresAccessToken".into(), self.requires_access_token().into());
        if let Some(by) = &job.content.organised_by {
            head.insert("outputOrganizedBy".into(), by.as_str().into());
        }
        let mut tail = Map::new();
        let others = |files: &[File]| -> Value {
            files.iter().map(|file| links.entry(file, None, Count::Right)).collect()
        };
        if page == 1 && !job.content.deleted.is_empty() {
            tail.insert("deleted".into(), others(&job.content.deleted));
        }
        if !plan.has(Trap::ManifestNoError) || !job.content.errors.is_empty() {
            let name = if stu4 { "outcome" } else { "error" };
            tail.insert(name.into(), others(&job.content.errors));
        }
        if let Some(next) = next {
            let template = PAGE_URL.replace("{page}", &next.to_string());
            let url = self.url(&job.base, &template, &job.id, "");
            tail.insert("link".into(), json!([{"relation": "next", "url": url}]));
        }
        if plan.has(Trap::ExtensionObject) {
            tail.insert("extension".into(), json!({"https://example.org/sandbox": {"a": [1]}}));
        }
        if plan.has(Trap::ExtensionArray) {
            let row = json!([{"url": "https://example.org/sandbox", "valueString": "a"}]);
            tail.insert("extension".into(), row);
        }
        let mut extra = Vec::new();
        if plan.has(Trap::UrlEscapes) && page == 1 {
            extra = links.escapes();
        }
        let writer = Writer {
            stage: Stage::Head,
            head: opened(&head),
            pad: if plan.has(Trap::ManifestLong) { LONG } else { 0 },
            content: job.content.clone(),
            links,
            count: plan.count.unwrap_or(match plan.has(Trap::CountWrong) {
                true => Count::Wrong,
                false => Count::Right,
            }),
            extra,
            next: from,
            wrote: false,
            to,
            tail: closed(&tail),
        };
        let said = match to - from > ENTRIES || writer.pad > 0 {
            true => Said::Pieces("application/json", writer.body()),
            false => Said::Text("application/json", writer.whole()),
        };
        Reply::new(StatusCode::OK, said).with(header::EXPIRES, &self.expires(now))
    }

    fn requires_access_token(&self) -> bool {
        let own = self.plan.storage != Some(StoragePlace::Separate);
        self.plan.requires_access_token.unwrap_or(own && self.signed_in)
    }

    fn expires(&self, now: Timestamp) -> String {
        let seconds = match self.plan.expires {
            _ if self.plan.has(Trap::ExpiresPast) => -60,
            Some(time) => i64::try_from(time.0.as_secs()).unwrap_or(EXPIRES),
            None => EXPIRES,
        };
        http_date(now, seconds)
    }
}

/// An object without its closing brace.
fn opened(members: &Map<String, Value>) -> String {
    let mut text = json!(members).to_string();
    text.pop();
    text
}

/// Further members and the closing brace.
fn closed(members: &Map<String, Value>) -> String {
    let text = json!(members).to_string();
    match members.is_empty() {
        true => "}".to_owned(),
        false => format!(",{}", text.trim_start_matches('{')),
    }
}

/// How the URLs of files are made.
struct Links {
    origin: String,
    template: String,
    job: String,
    /// The number of the links, where they expire.
    signature: Option<u64>,
    /// The base of the last file, whose host does not answer.
    dead: Option<String>,
    last: Option<u64>,
}

impl Links {
    fn new(bulk: &Bulk, job: &Job, number: u64) -> Links {
        let plan = &bulk.plan;
        let storage =
            bulk.storage.as_ref().filter(|_| plan.storage == Some(StoragePlace::Separate));
        let (mut origin, template) = match storage {
            Some(origin) => (origin.clone(), storage::URL),
            None => (job.base.clone(), plan.file_url.as_deref().unwrap_or(FILE_URL)),
        };
        if plan.has(Trap::UrlRelative) && storage.is_none() {
            // From the root of the host.
            let host = origin.find("://").map_or(0, |at| at + 3);
            let path = origin[host..].find('/').map(|at| host + at);
            origin = path.map_or_else(String::new, |at| origin[at..].to_owned());
        }
        let expires = plan.expires.is_some() || plan.has(Trap::ExpiresPast);
        Links {
            origin,
            template: template.to_owned(),
            job: job.id.clone(),
            signature: expires.then_some(number),
            dead: bulk.dead.clone().filter(|_| plan.has(Trap::StorageDown)),
            last: job.content.outputs().checked_sub(1),
        }
    }

    fn url(&self, name: &str, n: Option<u64>) -> String {
        let dead = self.dead.as_ref().filter(|_| n.is_some() && n == self.last);
        let origin = dead.unwrap_or(&self.origin);
        let path = self.template.replace("{job}", &self.job);
        let url = format!("{origin}{}", path.replace("{file}", &format!("{name}.ndjson")));
        match self.signature {
            Some(number) => {
                let mark = if url.contains('?') { '&' } else { '?' };
                format!("{url}{mark}sig={number}")
            }
            None => url,
        }
    }

    /// `n`: its place among the files with data.
    fn entry(&self, file: &File, n: Option<u64>, count: Count) -> Value {
        let mut entry = Map::new();
        if let Some(kind) = file.kind {
            entry.insert("type".into(), kind.into());
        }
        entry.insert("url".into(), self.url(&file.name, n).into());
        match count {
            Count::Right => drop(entry.insert("count".into(), file.count.into())),
            Count::Wrong => drop(entry.insert("count".into(), (file.count + 1).into())),
            Count::Absent => {}
        }
        if let Some(next) = &file.continues {
            entry.insert("continuesInFile".into(), self.url(next, None).into());
        }
        Value::Object(entry)
    }

    /// Entries that try to leave a directory by their type or by their URL.
    fn escapes(&self) -> Vec<Value> {
        let url = |name: &str| self.url(name, None);
        vec![
            json!({"type": "../../escaped", "url": url("..1")}),
            json!({"type": "/tmp/escaped", "url": url("..2")}),
            json!({"type": "Patient", "url": url("..%2f..%2fescaped")}),
            json!({"type": "Patient", "url": url("..%5c..%5cescaped%00")}),
        ]
    }
}

enum Stage {
    Head,
    Pad(u32),
    Entries,
    Tail,
    End,
}

/// Writes a manifest piece by piece.
struct Writer {
    stage: Stage,
    head: String,
    pad: u32,
    content: Arc<Content>,
    links: Links,
    count: Count,
    extra: Vec<Value>,
    next: u64,
    wrote: bool,
    to: u64,
    tail: String,
}

impl Writer {
    fn whole(mut self) -> Bytes {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece() {
            whole.extend_from_slice(&piece);
        }
        whole.into()
    }

    fn body(self) -> Body {
        Body::pieces(stream::unfold(self, |mut writer| async {
            let piece = writer.piece()?;
            Some((Piece::Data(piece), writer))
        }))
    }

    fn piece(&mut self) -> Option<Bytes> {
        let text = match self.stage {
            Stage::Head => {
                self.stage = if self.pad > 0 { Stage::Pad(self.pad) } else { Stage::Entries };
                let mut text = std::mem::take(&mut self.head);
                text.push_str(if self.pad > 0 { ",\"padding\":\"" } else { ",\"output\":[" });
                text
            }
            Stage::Pad(0) => {
                self.stage = Stage::Entries;
                "\",\"output\":[".to_owned()
            }
            Stage::Pad(left) => {
                self.stage = Stage::Pad(left - 1);
                "x".repeat(MB)
            }
            Stage::Entries => self.entries(),
            Stage::Tail => {
                self.stage = Stage::End;
                format!("]{}", self.tail)
            }
            Stage::End => return None,
        };
        Some(text.into())
    }

    fn entries(&mut self) -> String {
        let mut text = String::new();
        let mut wrote = self.wrote;
        let mut add = |entry: &Value| {
            if std::mem::replace(&mut wrote, true) {
                text.push(',');
            }
            text.push_str(&entry.to_string());
        };
        let end = (self.next + STEP).min(self.to);
        while self.next < end {
            if let Some(file) = self.content.output(self.next) {
                let entry = self.links.entry(&file, Some(self.next), self.count);
                add(&entry);
            }
            self.next += 1;
        }
        if self.next == self.to {
            for entry in std::mem::take(&mut self.extra) {
                add(&entry);
            }
            self.stage = Stage::Tail;
        }
        self.wrote = wrote;
        text
    }
}
