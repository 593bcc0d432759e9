//! HTTP/1.1 by hand, so that broken answers are seen as they are.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// An answer as it came over the wire.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    /// How reading ended, when it was not the end of the stream.
    pub(super) broken: Option<ErrorKind>,
}

impl Wire {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(super) fn connect(url: &str) -> (TcpStream, String, String) {
    let rest = url.split_once("://").unwrap().1;
    let (host, path) = rest.split_once('/').unwrap();
    let stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (stream, host.to_owned(), format!("/{path}"))
}

/// Sends one request and reads at most `limit` bytes of what comes.
pub(super) fn exchange(
    stream: &mut (impl Read + Write),
    head: &str,
    headers: &[(&str, &str)],
    body: &str,
    limit: u64,
) -> Wire {
    let mut request = format!("{head}Connection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("\r\n{body}"));
    stream.write_all(request.as_bytes()).unwrap();
    let mut raw = Vec::new();
    let broken = stream.take(limit).read_to_end(&mut raw).err().map(|error| error.kind());
    let mut wire = Wire { broken, ..Wire::default() };
    let Some(end) = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        assert!(raw.is_empty(), "half a head: {}", String::from_utf8_lossy(&raw));
        return wire;
    };
    wire.body = raw.split_off(end + 4);
    let head = String::from_utf8(raw).unwrap();
    let mut lines = head.lines();
    wire.status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        wire.headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    wire
}

pub(super) fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Wire {
    let (mut stream, host, path) = connect(url);
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    exchange(&mut stream, &head, headers, body, 64 * 1024 * 1024)
}

pub(super) fn get(url: &str, headers: &[(&str, &str)]) -> Wire {
    send("GET", url, headers, "")
}
