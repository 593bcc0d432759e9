//! What came in, for those who watch: in memory, told to a watcher, and as lines of a file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};

use super::fhir::store::instant;
use super::sign_in::{API_KEY_PARAMETER, Credential};
use super::site::locked;
use crate::model::{Clock, Error, Result};
use crate::serve::{Answer, Body, Piece, Request, header};

/// Headers whose values are written down; none of them can be a credential.
const SHOWN: [&str; 8] = [
    "accept",
    "accept-encoding",
    "content-type",
    "if-range",
    "prefer",
    "range",
    "user-agent",
    "x-upsert-extistence-check",
];

/// A request that came in, without anything secret.
#[derive(Clone, Debug)]
pub struct RequestSeen {
    pub method: String,
    /// With its query; the value of an API key is taken out.
    pub path: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<String>,
    pub credential: Credential,
    /// `None`: the connection was broken instead.
    pub status: Option<u16>,
}

/// Is told of every request as it is answered, with the server's name.
pub type Watcher = Arc<dyn Fn(&str, &RequestSeen) + Send + Sync>;

/// A file with one line of JSON per request.
#[derive(Debug)]
pub(super) struct RequestLog {
    file: Mutex<File>,
}

impl RequestLog {
    /// Begins a log; what was in the file is gone.
    ///
    /// # Errors
    /// Exit 73 when the file cannot be made.
    pub(super) fn create(path: &Path) -> Result<RequestLog> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| Error::cannot_create(path, &error))?;
        Ok(RequestLog { file: Mutex::new(file) })
    }

    fn write(&self, line: &Map<String, Value>) {
        let mut text = json!(line).to_string();
        text.push('\n');
        // One write, so that a reader sees whole lines. A full disk is no reason to stop serving.
        let _ = locked(&self.file).write_all(text.as_bytes());
    }
}

/// Whom a server tells of what it does, and its clock.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) clock: Clock,
    pub(super) watcher: Option<Watcher>,
    pub(super) log: Option<Arc<RequestLog>>,
}

impl Surroundings {
    /// Tells of an answer. The line of the log is written when the last byte is on its way.
    pub(super) fn told(
        &self,
        server: &str,
        request: &Request,
        query: &[(String, String)],
        credential: Credential,
        answer: Answer,
    ) -> (Answer, RequestSeen) {
        let seen = RequestSeen {
            method: request.method.to_string(),
            path: shown_path(&request.path, query),
            headers: request.headers.keys().map(ToString::to_string).collect(),
            credential,
            status: match &answer {
                Answer::Reply(response) => Some(response.status().as_u16()),
                Answer::Close | Answer::Reset => None,
            },
        };
        if let Some(watcher) = &self.watcher {
            watcher(server, &seen);
        }
        let answer = match &self.log {
            Some(log) => logged(log, self.line(server, request, &seen), answer),
            None => answer,
        };
        (answer, seen)
    }

    fn line(&self, server: &str, request: &Request, seen: &RequestSeen) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("time".into(), instant(self.clock.now()).into());
        line.insert("server".into(), server.into());
        line.insert("method".into(), seen.method.as_str().into());
        line.insert("path".into(), seen.path.as_str().into());
        line.insert("status".into(), json!(seen.status));
        let authorization = request.headers.contains_key(header::AUTHORIZATION);
        line.insert("authorization".into(), authorization.into());
        let headers: Map<String, Value> = request
            .headers
            .iter()
            .filter(|(name, _)| SHOWN.contains(&name.as_str()))
            .map(|(name, value)| {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), text.into())
            })
            .collect();
        line.insert("headers".into(), headers.into());
        line
    }
}

/// Counts the bytes of an answer and writes the line when it ends, well or not.
fn logged(log: &Arc<RequestLog>, line: Map<String, Value>, answer: Answer) -> Answer {
    let mut pending = Pending { log: log.clone(), line, bytes: 0 };
    match answer {
        Answer::Reply(response) => Answer::Reply(response.map(|body| match body {
            Body::Whole(bytes) => {
                pending.sent(bytes.len());
                Body::Whole(bytes)
            }
            Body::Pieces(pieces) => {
                let counted = pieces.map(move |piece| {
                    if let Piece::Data(bytes) = &piece {
                        pending.sent(bytes.len());
                    }
                    piece
                });
                Body::pieces(counted)
            }
        })),
        broken => broken,
    }
}

/// A line that is written when this is dropped.
struct Pending {
    log: Arc<RequestLog>,
    line: Map<String, Value>,
    bytes: u64,
}

impl Pending {
    /// A method, so that a closure holds the whole until it is dropped.
    fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.line.insert("bytes".into(), self.bytes.into());
        self.log.write(&self.line);
    }
}

fn shown_path(path: &str, query: &[(String, String)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let mut shown =
        url::form_urlencoded::Serializer::for_suffix(format!("{path}?"), path.len() + 1);
    for (name, value) in query {
        let value = if name == API_KEY_PARAMETER { "(redacted)" } else { value };
        shown.append_pair(name, value);
    }
    shown.finish()
}
