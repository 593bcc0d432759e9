//! Fetches one file: again where that helps, from the place where it broke where that is safe.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

use super::disk::cannot_write;
use super::halt::Halt;
use super::job::{Words, follow};
use super::ledger::{Done, FileRow, Kind};
use super::lines::Lines;
use super::seal::{Complete, temporary};
use super::store::{Coding, Compression, Intake, Refused, Stored};
use super::transfer::{Event, Transfer};
use crate::auth::caller::Ask;
use crate::http::{Answer, Client, Failure};
use crate::model::{Code, limits};

/// What the request accepts; Firely and Oracle want to be asked for exactly this.
const NDJSON: &str = "application/fhir+ndjson";
/// Least attempts at a file.
const ATTEMPTS: u32 = 5;
/// A stream that brings less than this in that time is as good as broken.
const LEAST_BYTES: u64 = 16 * 1024;
const LEAST_TIME: Duration = Duration::from_secs(90);
/// Pieces on their way from the network to the disk.
const PIECES: usize = 6;
/// What is not longer is written in one go, in bytes.
const SMALL: usize = 64 * 1024;

/// One worker's connections: one client an origin.
pub(super) struct Connections {
    own: Arc<Client>,
    others: HashMap<String, Arc<Client>>,
}

/// How a file ended.
pub(super) enum End {
    Done,
    /// Its link is no good any more; the manifest may have a newer one.
    LinkEnded {
        code: Code,
        message: String,
    },
    GivenUp {
        code: Code,
        message: String,
        may_come_back: bool,
    },
}

/// Why one attempt failed.
enum Broken {
    /// Another attempt may do better, after a wait.
    Again {
        code: Code,
        message: String,
        wait: Option<Duration>,
    },
    End(End),
    Halt(Halt),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Broken {
        let code = failure.code.as_str();
        if code.starts_with("auth.") {
            return Broken::Halt(Halt::of(failure, true));
        }
        let again = ["dns.", "tcp.", "http."].iter().any(|room| code.starts_with(room))
            && !matches!(code, "http.decompression_limit" | "http.too_large");
        if again {
            Broken::Again { code: failure.code, message: failure.message, wait: None }
        } else {
            Broken::End(End::GivenUp {
                code: failure.code,
                message: failure.message,
                may_come_back: false,
            })
        }
    }
}

impl Connections {
    pub(super) fn new(transfer: &Transfer) -> Result<Connections, Halt> {
        let own = transfer.caller.client().map_err(|failure| Halt::of(failure, true))?;
        Ok(Connections { own, others: HashMap::new() })
    }

    pub(super) fn to(&mut self, transfer: &Transfer, url: &Url) -> Result<Arc<Client>, Failure> {
        if transfer.caller.is_own(url) {
            return Ok(Arc::clone(&self.own));
        }
        let origin = url.origin().ascii_serialization();
        if let Some(known) = self.others.get(&origin) {
            return Ok(Arc::clone(known));
        }
        let new = transfer.caller.client_for(url)?;
        self.others.insert(origin, Arc::clone(&new));
        Ok(new)
    }
}

/// Fetches a file, with as many attempts as it is worth.
///
/// # Errors
/// When nothing more can be fetched at all: the disk is full, the credential is refused.
pub(super) async fn fetch(
    transfer: &Arc<Transfer>,
    connections: &mut Connections,
    file: &FileRow,
) -> Result<End, Halt> {
    let started = Instant::now();
    let attempts = transfer.caller.server.retry.attempts.max(ATTEMPTS);
    let mut waited = 0;
    loop {
        let ended = attempt(transfer, connections, file, started, waited).await;
        if ended.is_err() {
            // What is half there takes room that somebody may be short of.
            let _ = std::fs::remove_file(temporary(&transfer.folder, &transfer.name_of(file)));
        }
        match ended {
            Ok(()) => return Ok(End::Done),
            Err(Broken::Halt(halt)) => return Err(halt),
            Err(Broken::End(end)) => return Ok(end),
            Err(Broken::Again { code, message, wait }) => {
                waited += 1;
                if waited >= attempts {
                    let message = format!("{message}; {attempts} attempts");
                    return Ok(End::GivenUp { code, message, may_come_back: true });
                }
                let wait = wait.map_or_else(
                    || transfer.backoff(waited),
                    |asked| transfer.pace.wait(Some(asked), waited),
                );
                let url = file.url.clone();
                transfer.tell(&Event::FileAgain { file: file.id, url, code, message, wait });
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn attempt(
    transfer: &Arc<Transfer>,
    connections: &mut Connections,
    file: &FileRow,
    started: Instant,
    retries: u32,
) -> Result<(), Broken> {
    let first = follow(&transfer.links_from, &file.url)?;
    let mut answer = open(transfer, connections, &first, &[]).await?;
    let coding = Coding::parse(answer.header("content-encoding").as_deref());
    let Some(coding) = coding else {
        return Err(Broken::End(End::GivenUp {
            code: Code::new("http.bad_encoding"),
            message: "the file comes in an encoding that was not asked for".to_owned(),
            may_come_back: false,
        }));
    };
    let length = answer.header("content-length").and_then(|it| it.trim().parse::<u64>().ok());
    transfer.make_room(length.unwrap_or(0)).map_err(Broken::Halt)?;
    let tag = answer.resumable_tag();
    let number = transfer.attempt.fetch_add(1, Ordering::Relaxed);
    let name = transfer.name_of(file);
    let lines = Lines::new(
        file.kind,
        &file.resource_type,
        transfer.is_organized,
        transfer.max_line,
        transfer.ids.of(file.id, number),
    );
    let path = temporary(&transfer.folder, &name);
    let wanted = if file.kind == Kind::Output { transfer.compression } else { Compression::None };
    let intake = Intake::create(&path, coding, wanted, lines)
        .map_err(|error| Broken::Halt(cannot_write(&path, &error).into()))?;
    transfer.tell(&Event::FileStarted {
        file: file.id,
        name: name.clone(),
        item: file.kind.as_str(),
        resource_type: file.resource_type.clone(),
        url: file.url.clone(),
        length,
    });
    let mut pipe = Pipe::new(intake, file.expected);
    let mut received = 0;
    let broken = loop {
        match pour(transfer, &mut answer, &mut pipe, file.id, &mut received).await {
            Ok(()) => break None,
            Err(Broken::Again { code, message, wait }) => {
                // From where it broke, if it is the same file still (RFC 9110 §13.1.5).
                let Some(tag) = tag.as_deref().filter(|_| received > 0) else {
                    break Some(Broken::Again { code, message, wait });
                };
                transfer.tell(&Event::FileResumed { file: file.id, at: received });
                tokio::time::sleep(transfer.backoff(1)).await;
                match resume(transfer, connections, &first, tag, received).await {
                    Ok(Some(more)) => answer = more,
                    Ok(None) => break Some(Broken::Again { code, message, wait }),
                    Err(other) => break Some(other),
                }
            }
            Err(other) => break Some(other),
        }
    };
    let stored = pipe.finish(broken.is_none()).await;
    let stored = match (broken, stored) {
        // What the intake refused is the reason; the network only followed.
        (_, Err(Refused::Local(error))) => {
            return Err(Broken::Halt(cannot_write(&path, &error).into()));
        }
        (None, Err(Refused::Broken(code, message))) => {
            let code = Code::new(code);
            return Err(match code.as_str() {
                "http.bad_encoding" if coding != Coding::Identity => {
                    Broken::Again { code, message, wait: None }
                }
                _ => Broken::End(End::GivenUp { code, message, may_come_back: false }),
            });
        }
        (Some(broken), _) => return Err(broken),
        (None, Ok(None)) => {
            let error = std::io::Error::other("the file was not finished");
            return Err(Broken::Halt(cannot_write(&path, &error).into()));
        }
        (None, Ok(Some(stored))) => stored,
    };
    let done = Done {
        name: name.clone(),
        attempt: number,
        lines: stored.seen.lines,
        bytes: stored.bytes,
        content_bytes: stored.content_bytes,
        sha256: stored.sha256,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        retries,
    };
    let findings = stored.seen.findings;
    let seen = (stored.seen.found, done.lines, done.bytes, done.content_bytes);
    let complete = Complete { id: file.id, file: stored.file, done, findings };
    let (found, lines, bytes, content_bytes) = seen;
    let url = file.url.clone();
    let event = Event::FileDone { file: file.id, name, url, lines, bytes, content_bytes, found };
    transfer.keep_behind(complete, event).await.map_err(Broken::Halt)
}

/// Asks for a file and follows its redirects; a credential stays at its origin.
async fn open(
    transfer: &Transfer,
    connections: &mut Connections,
    first: &Url,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Answer, Broken> {
    let mut url = first.clone();
    let encoding = match transfer.compression {
        // A part of a file is a part of its plain bytes.
        _ if !headers.is_empty() || !transfer.caller.server.compression => "identity",
        Compression::Zstd => "zstd, gzip;q=0.8",
        _ => "gzip",
    };
    let mut sent = vec![(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding))];
    sent.extend_from_slice(headers);
    for _ in 0..=limits::REDIRECTS {
        let signed = transfer.requires_token && transfer.caller.is_own(&url);
        let ask = Ask { headers: &sent, signed, ..Ask::get(&url, NDJSON) };
        let client = connections.to(transfer, &url)?;
        let answer = transfer.caller.ask(&client, &ask).await?;
        match answer.redirect() {
            Some(target) => url = follow(&url, target.as_str())?,
            None if matches!(answer.status().as_u16(), 200 | 206) => return Ok(answer),
            None => return Err(refusal(answer, signed).await),
        }
    }
    Err(Broken::End(End::GivenUp {
        code: Code::new("http.redirect_refused"),
        message: "the file's address redirects in a circle".to_owned(),
        may_come_back: false,
    }))
}

/// What an answer that is no file means.
async fn refusal(answer: Answer, signed: bool) -> Broken {
    let status = answer.status().as_u16();
    let wait = answer.retry_after();
    let (words, _) = Words::read(answer).await;
    let message = format!("the file is refused: HTTP {status}");
    match status {
        401 if signed => Broken::Halt(
            Halt::new(
                crate::model::ErrorKind::Credential,
                "auth.unauthorized",
                "the server refuses the credential at a file (HTTP 401)",
            )
            .server_text(words.text)
            .hint("what was fetched stays; run the same command again once it is right"),
        ),
        401 | 403 | 404 | 410 => {
            let code = Code::new("bulk.file_refused");
            Broken::End(End::LinkEnded { code, message })
        }
        429 => Broken::Again { code: Code::new("http.rate_limited"), message, wait },
        408 | 425 | 500..=599 => Broken::Again { code: Code::new("http.status"), message, wait },
        200..=299 => Broken::End(End::GivenUp {
            code: Code::new("http.status"),
            message: format!("an answer without a file: HTTP {status}"),
            may_come_back: false,
        }),
        _ => Broken::End(End::GivenUp {
            code: Code::new("bulk.file_refused"),
            message,
            may_come_back: false,
        }),
    }
}

/// Asks for the rest of a file; `None` when it has to be begun anew.
async fn resume(
    transfer: &Transfer,
    connections: &mut Connections,
    url: &Url,
    tag: &str,
    at: u64,
) -> Result<Option<Answer>, Broken> {
    let Ok(range) = HeaderValue::from_str(&format!("bytes={at}-")) else { return Ok(None) };
    let Ok(tag) = HeaderValue::from_str(tag) else { return Ok(None) };
    let headers = [(header::RANGE, range), (header::IF_RANGE, tag)];
    let answer = match open(transfer, connections, url, &headers).await {
        Ok(answer) => answer,
        // Another attempt begins it anew, and says what is wrong if it still is.
        Err(Broken::Again { .. } | Broken::End(_)) => return Ok(None),
        Err(halt) => return Err(halt),
    };
    let begins = answer
        .header("content-range")
        .is_some_and(|range| range.trim().starts_with(&format!("bytes {at}-")));
    let is_rest = answer.status().as_u16() == 206
        && begins
        && !answer.headers().contains_key(header::CONTENT_ENCODING);
    Ok(is_rest.then_some(answer))
}

/// Pours an answer's body into the pipe.
async fn pour(
    transfer: &Transfer,
    answer: &mut Answer,
    pipe: &mut Pipe,
    file: u32,
    received: &mut u64,
) -> Result<(), Broken> {
    let mut since = Instant::now();
    let mut bytes_since = 0;
    while let Some(bytes) = answer.chunk().await? {
        let length = bytes.len() as u64;
        *received += length;
        bytes_since += length;
        transfer.tell(&Event::Bytes { file, bytes: length });
        if !pipe.send(bytes).await {
            // The other end has refused something and says what.
            return Ok(());
        }
        if bytes_since >= LEAST_BYTES {
            (since, bytes_since) = (Instant::now(), 0);
        } else if since.elapsed() >= LEAST_TIME {
            return Err(Broken::Again {
                code: Code::new("bulk.stalled"),
                message: format!(
                    "the file stalls: {bytes_since} bytes in {} s",
                    since.elapsed().as_secs()
                ),
                wait: None,
            });
        }
    }
    Ok(())
}

/// From the network to the disk, over a thread that may wait for it.
///
/// The thread starts with the first pieces that are worth one: what is small is written in one go.
struct Pipe {
    pieces: Option<mpsc::Sender<Bytes>>,
    state: State,
    expected: Option<u64>,
}

enum State {
    Small(Intake, Vec<Bytes>, usize),
    Running(JoinHandle<(Intake, Result<(), Refused>)>),
    Ended,
}

fn thread_ended() -> Refused {
    Refused::Local(std::io::Error::other("the writing thread has ended"))
}

impl Pipe {
    fn new(intake: Intake, expected: Option<u64>) -> Pipe {
        Pipe { pieces: None, state: State::Small(intake, Vec::new(), 0), expected }
    }

    /// `false` when the other end takes no more.
    async fn send(&mut self, bytes: Bytes) -> bool {
        if let State::Small(_, waiting, length) = &mut self.state {
            *length += bytes.len();
            waiting.push(bytes);
            if *length > SMALL {
                self.start();
            }
            return true;
        }
        match &self.pieces {
            Some(pieces) => pieces.send(bytes).await.is_ok(),
            None => false,
        }
    }

    fn start(&mut self) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Small(mut intake, first, _) => {
                let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES);
                self.pieces = Some(pieces);
                self.state = State::Running(tokio::task::spawn_blocking(move || {
                    for bytes in first {
                        if let Err(refused) = intake.take(&bytes) {
                            return (intake, Err(refused));
                        }
                    }
                    while let Some(bytes) = waiting.blocking_recv() {
                        if let Err(refused) = intake.take(&bytes) {
                            return (intake, Err(refused));
                        }
                    }
                    (intake, Ok(()))
                }));
            }
            other => self.state = other,
        }
    }

    /// Ends the file; `None` when it is not complete and was not to be ended.
    async fn finish(mut self, is_complete: bool) -> Result<Option<Stored>, Refused> {
        self.pieces = None;
        let expected = self.expected;
        let (intake, rest) = match self.state {
            State::Small(intake, rest, _) => (intake, rest),
            State::Running(work) => {
                let (intake, taken) = work.await.map_err(|_| thread_ended())?;
                taken?;
                (intake, Vec::new())
            }
            State::Ended => return Err(thread_ended()),
        };
        let end = move || {
            let mut intake = intake;
            for bytes in rest {
                intake.take(&bytes)?;
            }
            if is_complete { intake.finish(expected).map(Some) } else { Ok(None) }
        };
        tokio::task::spawn_blocking(end).await.map_err(|_| thread_ended())?
    }
}
