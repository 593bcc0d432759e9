//! Local files where a server can fetch them: at addresses that nobody can guess, for those who
//! may, as long as the job lasts.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ipnet::IpNet;
use serde_json::json;
use tokio::sync::mpsc;
use url::Url;

use super::family::Remote;
use super::source::{Input, content};
use crate::model::server::is_loopback;
use crate::model::{Error, Result};
use crate::serve::{self, Answer, Body, Handler, Listening, Method, Piece, Request, Response, Tls};

/// Bytes that are read from a file at once.
const PIECE: usize = 128 * 1024;

/// What is served, to whom, and how.
pub struct Terms {
    pub address: SocketAddr,
    /// As the server sees the address, where that is another name.
    pub public: Option<Url>,
    /// Networks that may fetch; empty: those of the loopback addresses.
    pub allow: Vec<IpNet>,
    /// PEM: chain and key.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
}

/// A listener with the files of an import; it is gone when this is dropped.
pub struct Offer {
    _listening: Listening,
    pub files: Vec<Remote>,
    pub manifest: Url,
    /// Where it listens, without the path that opens it.
    pub source: String,
    offered: Arc<Offered>,
}

impl Offer {
    /// How many requests were answered with content.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.offered.fetched.load(Ordering::Relaxed)
    }
}

struct Offered {
    /// By path.
    files: HashMap<String, Input>,
    manifest: (String, Bytes),
    allow: Vec<IpNet>,
    tls: Option<Arc<Tls>>,
    fetched: AtomicU64,
}

/// Serves files, each of one type. `now` goes into the manifest.
///
/// # Errors
/// Exit 64 when the terms are not safe, 73 when the address cannot be had.
pub fn start(terms: Terms, inputs: &[(String, Input)], now: jiff::Timestamp) -> Result<Offer> {
    let is_local = terms.address.ip().is_loopback();
    if !is_local && terms.certificate.is_none() {
        return Err(Error::usage("off loopback the files are served by HTTPS only")
            .hint("--serve-cert FILE --serve-key FILE: a certificate that the server trusts"));
    }
    if !is_local && terms.allow.is_empty() {
        return Err(Error::usage("it has to be said who may fetch the files")
            .hint("--serve-allow 203.0.113.7/32: the server's addresses"));
    }
    let scheme = if terms.certificate.is_some() { "https" } else { "http" };
    if let Some(public) = &terms.public
        && public.scheme() == "http"
        && !is_loopback(public)
    {
        return Err(Error::usage("--serve-url: patients' data is fetched by https only"));
    }
    if terms.public.is_none() && terms.address.ip().is_unspecified() {
        return Err(Error::usage("the server needs an address to fetch from")
            .hint("--serve-url https://NAME:PORT: as the server sees this machine"));
    }
    let tls = match &terms.certificate {
        Some((chain, key)) => Some(Arc::new(Tls::from_pem(chain, key).map_err(|error| {
            Error::usage(format!("--serve-cert and --serve-key cannot be used: {error}"))
        })?)),
        None => None,
    };
    let broken = |error: &std::io::Error| {
        let reason = crate::model::error::io_reason(error);
        Error::new(
            crate::model::ErrorKind::CannotCreate,
            format!("cannot listen on {}: {reason}", terms.address),
        )
    };
    let port = serve::bind(terms.address).map_err(|error| broken(&error))?;
    let root = match terms.public {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => format!("{scheme}://{}", port.address()),
    };
    let secret =
        uuid::Uuid::new_v4().simple().to_string() + &uuid::Uuid::new_v4().simple().to_string();
    let url = |name: &str| {
        Url::parse(&format!("{root}/{secret}/{name}"))
            .map_err(|_| Error::usage("--serve-url: this is no address"))
    };
    let mut files = HashMap::new();
    let mut remotes = Vec::new();
    for (number, (resource_type, input)) in inputs.iter().enumerate() {
        let url = url(&format!("{number}.{resource_type}.ndjson"))?;
        files.insert(url.path().to_owned(), input.clone());
        remotes.push(Remote { resource_type: resource_type.clone(), url });
    }
    let manifest = url("manifest.json")?;
    let output: Vec<_> = remotes
        .iter()
        .map(|it| json!({"type": it.resource_type, "url": it.url.as_str()}))
        .collect();
    let text = json!({
        "transactionTime": now.to_string(),
        "request": manifest.as_str(),
        "requiresAccessToken": false,
        "output": output,
        "error": [],
    });
    let offered = Arc::new(Offered {
        files,
        manifest: (manifest.path().to_owned(), Bytes::from(text.to_string())),
        allow: terms.allow,
        tls,
        fetched: AtomicU64::new(0),
    });
    let listening = serve::serve(port, Arc::clone(&offered)).map_err(|error| broken(&error))?;
    Ok(Offer { _listening: listening, files: remotes, manifest, source: root, offered })
}

impl Handler for Offered {
    async fn handle(&self, request: Request) -> Answer {
        let is_head = request.method == Method::HEAD;
        if request.method != Method::GET && !is_head {
            return plain(405);
        }
        let (kind, body) = if request.path == self.manifest.0 {
            ("application/json", Body::Whole(self.manifest.1.clone()))
        } else if let Some(input) = self.files.get(&request.path) {
            ("application/fhir+ndjson", Body::pieces(pieces(input.clone())))
        } else {
            return plain(404);
        };
        let body = if is_head { Body::empty() } else { body };
        self.fetched.fetch_add(u64::from(!is_head), Ordering::Relaxed);
        let reply = Response::builder().status(200).header("content-type", kind).body(body);
        reply.map_or(Answer::Close, Answer::Reply)
    }

    fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        match self.allow.is_empty() {
            true => peer.is_loopback(),
            false => self.allow.iter().any(|network| network.contains(&peer)),
        }
    }
}

fn plain(status: u16) -> Answer {
    let reply = Response::builder().status(status).body(Body::empty());
    reply.map_or(Answer::Close, Answer::Reply)
}

/// The content of a file, unpacked; it breaks off where the file cannot be read.
fn pieces(input: Input) -> impl futures_util::Stream<Item = Piece> + Send {
    let (send, receive) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let Ok(mut reader) = content(&input) else {
            let _ = send.blocking_send(Piece::Break);
            return;
        };
        loop {
            let mut buffer = Vec::with_capacity(PIECE);
            let piece = match (&mut reader).take(PIECE as u64).read_to_end(&mut buffer) {
                Ok(0) => return,
                Ok(_) => Piece::Data(Bytes::from(buffer)),
                Err(_) => Piece::Break,
            };
            let is_end = matches!(piece, Piece::Break);
            if send.blocking_send(piece).is_err() || is_end {
                return;
            }
        }
    });
    futures_util::stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|piece| (piece, receive))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_loopback_files_are_served_by_https_to_those_who_are_named() {
        let terms = |address: &str| Terms {
            address: address.parse().unwrap(),
            public: None,
            allow: Vec::new(),
            certificate: None,
        };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let refused = |terms| start(terms, &[], now).err().map(|error| error.exit().0);
        assert_eq!(refused(terms("192.0.2.1:0")), Some(64));
        let with = |allow: &str| Terms {
            allow: vec![allow.parse().unwrap()],
            certificate: Some((Vec::new(), Vec::new())),
            ..terms("0.0.0.0:0")
        };
        assert_eq!(refused(with("192.0.2.7/32")), Some(64), "it has no address and no certificate");
    }
}
