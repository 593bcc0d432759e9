//! A published directory, from a file or from the web.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use url::Url;

use crate::context::Context;
use crate::http::{Client, Identity, Request};
use crate::inventory::directory::unroutable;
use crate::inventory::{self, Overrides};
use crate::model::server::is_loopback;
use crate::model::{Error, ErrorKind, Result, limits};

/// How long the whole download may take, redirects included.
const PATIENCE: Duration = Duration::from_secs(120);

/// The bytes of a directory. `document` is the inventory's value: its proxy and contact hold here too.
///
/// # Errors
/// Exit 64 for a URL that is not fetched, 65 for what is too large, 66 when there is no such file,
/// 69 when the URL cannot be fetched, 74 when the file cannot be read.
pub(super) async fn directory(
    source: &str,
    document: &Value,
    inventory: &Path,
    context: &Context,
) -> Result<Vec<u8>> {
    if !source.contains("://") {
        return file(Path::new(source));
    }
    let start = Url::parse(source).map_err(|_| Error::usage("--from: this is no URL"))?;
    if !start.username().is_empty() || start.password().is_some() {
        return Err(Error::usage("--from: a password stands in the URL")
            .hint("fetch it with a tool that can sign in, and give --from the file"));
    }
    if start.scheme() != "https" && !(start.scheme() == "http" && is_loopback(&start)) {
        return Err(
            Error::usage("--from: a directory is fetched over https").hint("or give --from a file")
        );
    }
    let progress = context.progress(&format!("fetching {}", shown(&start)), 0);
    let bytes = follow(start, document, inventory, context).await;
    progress.finish();
    bytes
}

/// What may be shown of a URL: its query could hold a key.
pub(super) fn shown(url: &Url) -> String {
    url[..url::Position::AfterPath].to_owned()
}

fn file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Error::io("read", path, &error))?;
    let mut bytes = Vec::new();
    file.take(limits::DIRECTORY_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, &error))?;
    if bytes.len() as u64 > limits::DIRECTORY_BYTES {
        return Err(Error::new(
            ErrorKind::Data,
            format!("{} is longer than 64 MiB; this is no directory", path.display()),
        ));
    }
    Ok(bytes)
}

/// Directories move: redirects are followed, for nothing is sent but the wish to read.
async fn follow(
    start: Url,
    document: &Value,
    inventory: &Path,
    context: &Context,
) -> Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let local = is_loopback(&start);
    let mut url = start;
    for _ in 0..=limits::REDIRECTS {
        let client = client(&url, document, inventory, context)?;
        let request = Request {
            url: url.clone(),
            accept: "application/fhir+json, application/json;q=0.9, application/x-ndjson;q=0.9, text/csv;q=0.9, application/fhir+xml;q=0.5, */*;q=0.1",
            credential: None,
            max_body: limits::DIRECTORY_BYTES,
            deadline,
            if_none_match: None,
            body: None,
        };
        let exchange = client.send_once(&request).await.map_err(|failure| {
            let error = unavailable(&url, &failure.message);
            failure.hint.into_iter().fold(error, Error::hint)
        })?;
        if let Some(target) = exchange.redirect(&url) {
            // From outside it must not lead into our own network.
            let allowed = if is_loopback(&target) {
                local
            } else {
                target.scheme() == "https" && unroutable(&target).is_none()
            };
            if !allowed {
                return Err(unavailable(
                    &url,
                    &format!("it redirects to {}, where no directory is fetched", shown(&target)),
                ));
            }
            context.notice(&format!("{} redirects to {}", shown(&url), shown(&target)));
            url = target;
            continue;
        }
        return match exchange.status() {
            200..=299 => Ok(exchange.body),
            status => Err(unavailable(&url, &format!("HTTP {status}"))),
        };
    }
    Err(unavailable(&url, "it redirects too often"))
}

fn unavailable(url: &Url, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot fetch {}: {why}", shown(url)))
        .hint("nothing was registered; --from takes a file too")
}

/// A client for one origin, which proves nothing to anybody.
fn client(url: &Url, document: &Value, inventory: &Path, context: &Context) -> Result<Client> {
    let mut defaults = json!({"timeouts": {"connect": "10s", "read": "30s", "total": "120s"}});
    if let Some(contact) = document.pointer("/defaults/contact") {
        defaults["contact"] = contact.clone();
    }
    if let Some(proxy) = document.pointer("/defaults/network/proxy") {
        defaults["network"] = json!({"proxy": proxy});
    }
    let origin = url.origin().ascii_serialization();
    let text = json!({
        "version": 1,
        "defaults": defaults,
        "servers": [{"name": "directory", "url": origin}],
    });
    let read = inventory::parse(&text.to_string(), inventory, &Overrides::default())?;
    let transport = context.surroundings(&read).transport;
    let server =
        read.servers.first().ok_or_else(|| Error::internal("the directory's server is missing"))?;
    Client::new(server, &Identity::default(), transport)
        .map_err(|failure| unavailable(url, &failure.message))
}
