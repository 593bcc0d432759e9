//! A file from this machine, line by line: just enough HTTP/1.0 for an import, on loopback alone.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// How long the other side may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of one line.
const LINE: u64 = 16 * 1024 * 1024;
/// Most header lines of an answer.
const HEADERS: usize = 100;

/// The lines of a file.
pub(super) struct Lines {
    stream: BufReader<TcpStream>,
    /// How many bytes are still to come, where the other side said so.
    left: Option<u64>,
}

impl Lines {
    /// The next line, without its end; `None` after the last.
    ///
    /// # Errors
    /// What broke.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        let line = line(&mut self.stream, self.left).await?;
        match (&mut self.left, line.len() as u64) {
            (Some(0) | None, 0) => return Ok(None),
            (Some(_), 0) => return Err("it broke off".into()),
            (Some(left), read) => *left -= read.min(*left),
            (None, _) => {}
        }
        Ok(Some(line))
    }
}

/// Asks for a file. `basic`: `user:password`.
///
/// # Errors
/// Why there is none: off this machine, no connection, another status than 200.
pub(super) async fn fetch(url: &str, basic: Option<&str>) -> Result<Lines, String> {
    let url = url::Url::parse(url).map_err(|error| error.to_string())?;
    if url.scheme() != "http" {
        return Err("a sandbox fetches by plain http alone".into());
    }
    let ip: IpAddr = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.into(),
        Some(url::Host::Ipv6(ip)) => ip.into(),
        Some(url::Host::Domain("localhost")) => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => return Err("a sandbox fetches from this machine alone".into()),
    };
    if !ip.is_loopback() {
        return Err("a sandbox fetches from this machine alone".into());
    }
    let port = url.port_or_known_default().unwrap_or(80);
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect((ip, port))).await;
    let mut stream = connected
        .map_err(|_| "no connection in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = format!(
        "GET {}{query} HTTP/1.0\r\nHost: {ip}:{port}\r\nAccept: application/fhir+ndjson\r\n",
        url.path()
    );
    if let Some(pair) = basic {
        request.push_str(&format!("Authorization: Basic {}\r\n", STANDARD.encode(pair)));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut stream = BufReader::new(stream);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    let status = text(line(&mut stream, None).await?);
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("it was answered {status:?}"));
    }
    let mut left = None;
    for _ in 0..HEADERS {
        let header = text(line(&mut stream, None).await?).to_ascii_lowercase();
        match header.split_once(':') {
            Some(("content-length", value)) => left = value.trim().parse().ok(),
            Some(("transfer-encoding" | "content-encoding", value))
                if value.trim() != "identity" =>
            {
                return Err(format!("it came as {}", value.trim()));
            }
            Some(_) => {}
            None => return Ok(Lines { stream, left }),
        }
    }
    Err("its head does not end".into())
}

async fn line(stream: &mut BufReader<TcpStream>, left: Option<u64>) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let most = left.unwrap_or(LINE).min(LINE);
    let mut part = stream.take(most);
    let read = part.read_until(b'\n', &mut line);
    match tokio::time::timeout(PATIENCE, read).await {
        Err(_) => Err("it stands still".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) if line.len() as u64 == LINE => Err("a line is too long".into()),
        Ok(Ok(_)) => Ok(line),
    }
}
