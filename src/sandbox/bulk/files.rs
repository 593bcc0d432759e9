//! Files on their way out: whole or in part, compressed or not, at a pace, and the ways in which
//! they break.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use serde_json::{Value, json};

use super::super::answer::{Content as Said, Reply, accepts_gzip, text};
use super::super::fhir::outcome::Refusal;
use super::super::site::{Site, locked};
use super::Bulk;
use super::content::{File, Lines};
use super::generate::MadeFile;
use super::job::Job;
use super::trap::Trap;
use crate::serve::{Body, HeaderName, Method, Piece, Request, StatusCode, header};

const NDJSON: &str = "application/fhir+ndjson";
/// About how many bytes of a file are made at once.
const STEP: usize = 256 * 1024;
/// A file up to this size is compressed before it is sent, so that its length is known.
const GZIP_WHOLE: u64 = 8 * 1024 * 1024;
/// Bytes of a line that is meant to be long.
const LONG_LINE: u64 = 200_000_000;
/// Arrays within each other.
const DEEP: usize = 100_000;
/// How long what was sent has to get on its way before the connection breaks.
const BEFORE_BREAK: Duration = Duration::from_millis(50);

impl Bulk {
    /// Answers a request for a file, at the server or at its second port (`storage`).
    pub(super) fn file(
        &self,
        site: Option<&Site>,
        request: &Request,
        job: &str,
        name: &str,
        query: &[(String, String)],
    ) -> Result<Reply, Refusal> {
        let storage = site.is_none();
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let why = format!("{} is not supported here", request.method);
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "not-supported", why));
        }
        let mut jobs = locked(&self.jobs);
        let job = jobs.find(job)?;
        let name = name.strip_suffix(".ndjson").unwrap_or(name);
        let escapes = self.plan.has(Trap::UrlEscapes) && name.contains("..");
        let (place, file) = match escapes {
            true => job.content.output(0).map(|file| (Some(0), file)),
            false => job.content.named(name),
        }
        .ok_or_else(|| Refusal::not_found(format!("there is no file {name} here")))?;
        if let Some(site) = site
            && self.plan.has(Trap::File401)
            && job.once(Trap::File401)
        {
            return Ok(site.token_refused());
        }
        let last = job.content.outputs().checked_sub(1);
        if self.plan.has(Trap::FileGone) && place.is_some() && place == last {
            return Err(Refusal::not_found(format!("the file {name} is gone")));
        }
        // What a redirect leads to was signed when it was sent.
        let redirected = storage && self.plan.redirect().is_some();
        if !redirected && self.is_expired(job, query) {
            let said = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>\
                        <Message>Request has expired</Message></Error>";
            let said = Said::Text("application/xml", said.into());
            return Ok(Reply::new(StatusCode::FORBIDDEN, said));
        }
        if !storage && let (Some(status), Some(origin)) = (self.plan.redirect(), &self.storage) {
            let url = self.url(origin, super::storage::URL, &job.id, &format!("{name}.ndjson"));
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
            let place = format!("{url}?X-Amz-Expires=3600&X-Amz-Signature=0123456789abcdef");
            return Ok(Reply::new(status, Said::Empty).with(header::LOCATION, &place));
        }
        let attempt = self.attempt(job, name);
        let etag = format!("\"{}-{name}\"", job.id);
        let file = File { trapped: file.trapped && place.is_some(), ..file };
        let is_first = place == Some(0);
        drop(jobs);
        if self.plan.has(Trap::File503) && attempt == 1 {
            let why = "try again: a trap of this sandbox";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "transient", why);
            return Ok(Reply::from(refusal).with(header::RETRY_AFTER, "1"));
        }
        if self.plan.has(Trap::FileHtml) && is_first {
            let page = "<!doctype html>\n<html><body><h1>Sign in</h1></body></html>\n";
            return Ok(Reply::new(StatusCode::OK, Said::Text("text/html", page.into())));
        }
        Ok(self.sent(request, Source::of(&file, &self.plan), &etag, attempt == 1))
    }

    fn is_expired(&self, job: &Job, query: &[(String, String)]) -> bool {
        let past = self.plan.has(Trap::ExpiresPast);
        if self.plan.expires.is_none() && !past {
            return false;
        }
        let number = query.iter().find(|(name, _)| name == "sig").map(|(_, value)| value.parse());
        let Some(Ok(number)) = number else { return true };
        let Some(age) = job.age(number) else { return true };
        (past && number == 1) || self.plan.expires.is_some_and(|life| age > life.0)
    }

    /// Counts, where a trap wants to know whether it is the first attempt.
    fn attempt(&self, job: &mut Job, name: &str) -> u32 {
        let counted = [Trap::FileCut, Trap::FileStall, Trap::FileGzipTruncated, Trap::File503];
        if !counted.iter().any(|trap| self.plan.has(*trap)) {
            return 0;
        }
        let attempts = job.attempts.entry(name.to_owned()).or_default();
        *attempts += 1;
        *attempts
    }

    fn sent(&self, request: &Request, source: Source, etag: &str, first: bool) -> Reply {
        let plan = &self.plan;
        let ranges = plan.accept_ranges == Some(true);
        let unmarked = plan.has(Trap::FileGzipUnmarked);
        let truncated = plan.has(Trap::FileGzipTruncated);
        let members = plan.has(Trap::FileGzipMembers);
        let gzip = unmarked
            || members
            || plan.has(Trap::FileGzip)
            || (plan.gzip != Some(false) && !ranges && accepts_gzip(&request.headers));
        let whole = source.len();
        let mut reply = Reply::new(StatusCode::OK, Said::Empty).with(header::ETAG, etag);
        let (mut from, mut to) = (0, whole);
        if ranges {
            reply = reply.with(header::ACCEPT_RANGES, "bytes");
            match range(request, etag, whole) {
                Some(Ok((start, end))) => {
                    (from, to) = (start, end);
                    reply.status = StatusCode::PARTIAL_CONTENT;
                    let value = format!("bytes {start}-{}/{whole}", end - 1);
                    reply = reply.with(header::CONTENT_RANGE, &value);
                }
                Some(Err(())) => {
                    reply.status = StatusCode::RANGE_NOT_SATISFIABLE;
                    return reply.with(header::CONTENT_RANGE, &format!("bytes */{whole}"));
                }
                None => {}
            }
        }
        let (source, packer) = match gzip {
            false => (source, None),
            true if whole <= GZIP_WHOLE => (source.compressed(members), None),
            true => (source, Some(GzEncoder::new(Vec::new(), Compression::fast()))),
        };
        if packer.is_none() && gzip {
            to = source.len();
        }
        if gzip && !unmarked {
            reply = reply.with(header::CONTENT_ENCODING, "gzip");
        }
        let cut = u64::from(plan.cut_at.unwrap_or(50));
        let mut stream = Stream { source, at: from, to, packer, end: End::Well, rate: None };
        stream.rate = plan.rate.map(|rate| rate.0);
        // A length is promised also where the end comes before it, but not of a truncated stream,
        // which is well-formed as HTTP.
        let mut length = stream.packer.is_none().then_some(to - from);
        if first {
            stream.end = match () {
                () if plan.has(Trap::FileCut) => End::Break,
                () if plan.has(Trap::FileStall) => End::Stall,
                () if truncated && gzip => End::Short,
                () => End::Well,
            };
            if stream.end != End::Well {
                stream.to = from + (to - from) * cut / 100;
            }
            if stream.end == End::Short {
                length = None;
            }
        }
        if let Some(length) = length {
            reply = reply.with(header::CONTENT_LENGTH, &length.to_string());
        }
        reply.content = Said::Pieces(NDJSON, stream.body());
        reply
    }
}

/// The part that is asked for, as start and end; an error when it is not there, `None` when the
/// whole is to be sent (RFC 9110, sections 13.1.5 and 14.2).
fn range(request: &Request, etag: &str, whole: u64) -> Option<Result<(u64, u64), ()>> {
    let asked = text(&request.headers, &header::RANGE)?.strip_prefix("bytes=")?;
    if text(&request.headers, &header::IF_RANGE).is_some_and(|tag| tag != etag) {
        return None;
    }
    let (start, end) = asked.split_once('-')?;
    let (start, end) = match (start.parse::<u64>().ok(), end.parse::<u64>().ok()) {
        (Some(start), None) if end.is_empty() => (start, whole),
        (Some(start), Some(end)) if end >= start => (start, end.saturating_add(1).min(whole)),
        (None, Some(last)) if start.is_empty() => (whole.saturating_sub(last), whole),
        _ => return None,
    };
    Some(if start < whole { Ok((start, end)) } else { Err(()) })
}

/// What a file consists of, readable from any place.
enum Source {
    Whole(Bytes),
    Made(MadeFile),
    /// A line that is as long as it is said, between others.
    Long {
        head: Bytes,
        fill: u64,
        tail: Bytes,
    },
}

impl Source {
    fn of(file: &File, plan: &super::BulkPlan) -> Source {
        let lines = match &file.lines {
            Lines::Made(made) => return Source::Made(made.clone()),
            Lines::Kept(lines) => lines,
        };
        let has = |trap| file.trapped && plan.has(trap);
        let (blank, crlf) = (has(Trap::LineBlank), has(Trap::LineCrlf));
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let mut whole = Vec::new();
        if has(Trap::LineBom) {
            whole.extend_from_slice("\u{feff}".as_bytes());
        }
        let last = lines.len().saturating_sub(1);
        for (n, line) in lines.iter().enumerate() {
            if n == last && has(Trap::LineLong) {
                let (head, tail) = padded(line);
                whole.extend_from_slice(head.as_bytes());
                let mut tail = tail.into_bytes();
                tail.extend_from_slice(end);
                return Source::Long { head: whole.into(), fill: LONG_LINE, tail: tail.into() };
            }
            match n == last && file.trapped {
                true => whole.extend(trapped(line, lines.first().unwrap_or(line), plan)),
                false => whole.extend_from_slice(line.to_string().as_bytes()),
            }
            if n != last || !(has(Trap::LineOpen) || has(Trap::LineHalf)) {
                whole.extend_from_slice(end);
            }
            if blank && n % 3 == 0 {
                whole.extend_from_slice(end);
            }
        }
        Source::Whole(whole.into())
    }

    fn len(&self) -> u64 {
        match self {
            Source::Whole(bytes) => bytes.len() as u64,
            Source::Made(file) => file.len(),
            Source::Long { head, fill, tail } => head.len() as u64 + fill + tail.len() as u64,
        }
    }

    /// What begins at a place, of about one step.
    fn read(&self, at: u64) -> Vec<u8> {
        let of = |bytes: &Bytes, at: u64| {
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            bytes[from..(from + STEP).min(bytes.len())].to_vec()
        };
        match self {
            Source::Whole(bytes) => of(bytes, at),
            Source::Made(file) => {
                let mut piece = Vec::with_capacity(STEP + 4096);
                file.read(at, STEP, &mut piece);
                piece
            }
            Source::Long { head, fill, tail } => {
                let from = head.len() as u64;
                match at {
                    at if at < from => of(head, at),
                    at if at < from + fill => {
                        let left = usize::try_from(from + fill - at).unwrap_or(STEP);
                        vec![b'x'; left.min(STEP)]
                    }
                    at => of(tail, at - from - fill),
                }
            }
        }
    }

    /// As gzip, in one member or in two (RFC 1952, section 2.2).
    fn compressed(self, members: bool) -> Source {
        let mut plain = Vec::new();
        while (plain.len() as u64) < self.len() {
            plain.extend(self.read(plain.len() as u64));
        }
        let (one, two) = plain.split_at(if members { plain.len() / 2 } else { plain.len() });
        let mut packed = Vec::new();
        for member in [one, two].into_iter().filter(|member| !member.is_empty()) {
            let mut packer = GzEncoder::new(packed, Compression::default());
            // A vector takes whatever is written.
            let _ = packer.write_all(member);
            packed = packer.finish().unwrap_or_default();
        }
        Source::Whole(packed.into())
    }
}

/// A resource as text, split where a long text stands in it.
fn padded(line: &Value) -> (String, String) {
    let mut line = line.clone();
    line["language"] = json!("@");
    let text = line.to_string();
    match text.split_once("\"language\":\"@") {
        Some((head, tail)) => (format!("{head}\"language\":\""), tail.to_owned()),
        None => (text, String::new()),
    }
}

/// The last line of the file in which traps are laid.
fn trapped(line: &Value, first: &Value, plan: &super::BulkPlan) -> Vec<u8> {
    let mut line = line.clone();
    if plan.has(Trap::LineTwice) {
        line = first.clone();
    }
    if plan.has(Trap::LineType) {
        line = json!({"resourceType": "Basic", "id": "misplaced", "code": {"text": "a trap"}});
    }
    if plan.has(Trap::LineNoId)
        && let Value::Object(members) = &mut line
    {
        members.shift_remove("id");
    }
    let mut text = line.to_string().into_bytes();
    if plan.has(Trap::LineDeep) {
        text.pop();
        text.extend_from_slice(b",\"extension\":");
        text.extend(std::iter::repeat_n(b'[', DEEP));
        text.extend(std::iter::repeat_n(b']', DEEP));
        text.push(b'}');
    }
    if plan.has(Trap::LineUtf8) {
        text.pop();
        text.extend_from_slice(b",\"language\":\"\xff\xfe\xc0\"}");
    }
    if plan.has(Trap::LineHalf) {
        text.truncate(text.len() / 2);
    }
    text
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Well,
    /// Well as HTTP, too early as gzip.
    Short,
    Break,
    Stall,
}

/// A body that is made while it is sent.
struct Stream {
    source: Source,
    at: u64,
    to: u64,
    packer: Option<GzEncoder<Vec<u8>>>,
    end: End,
    rate: Option<u64>,
}

impl Stream {
    fn body(self) -> Body {
        Body::pieces(stream::unfold(Some(self), |stream| async {
            let mut stream = stream?;
            loop {
                if stream.at >= stream.to {
                    return stream.ended().await;
                }
                let piece = stream.piece().await;
                if !piece.is_empty() {
                    return Some((Piece::Data(piece), Some(stream)));
                }
            }
        }))
    }

    async fn piece(&mut self) -> Bytes {
        let mut plain = self.source.read(self.at);
        let left = usize::try_from(self.to - self.at).unwrap_or(usize::MAX);
        plain.truncate(left);
        if let Some(rate) = self.rate {
            // Ten pieces a second.
            let most = usize::try_from(rate / 10).unwrap_or(STEP).max(1);
            plain.truncate(most);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Nothing more, whatever was promised.
        if plain.is_empty() {
            self.at = self.to;
            return Bytes::new();
        }
        self.at += plain.len() as u64;
        let Some(packer) = &mut self.packer else { return plain.into() };
        // A vector takes whatever is written.
        let _ = packer.write_all(&plain);
        std::mem::take(packer.get_mut()).into()
    }

    async fn ended(mut self) -> Option<(Piece, Option<Stream>)> {
        match self.end {
            End::Break => {
                tokio::time::sleep(BEFORE_BREAK).await;
                Some((Piece::Break, None))
            }
            End::Stall => std::future::pending().await,
            End::Short => None,
            End::Well => {
                let rest = self.packer.take()?.finish().unwrap_or_default();
                Some((Piece::Data(rest.into()), None))
            }
        }
    }
}

/// The header with which object stores name a request.
pub(super) fn request_id() -> HeaderName {
    HeaderName::from_static("x-amz-request-id")
}
