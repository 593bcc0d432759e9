//! The machine: clock, resolver, proxy, trust store, limits, terminal.

use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Map, Value, json};
use url::Url;

use crate::context::{Context, state_dir, variable};
use crate::model::error::io_reason;
use crate::model::text::{bounded, one_line};
use crate::view::doctor::Check;

/// Whether the clock is not plainly wrong: files cannot have been written in the future.
pub(super) fn clock(context: &Context) -> Check {
    const NAME: &str = "clock";
    const NOT_COMPARED: &str = "not compared with a server";
    let now = context.clock.now();
    let places = [
        ("the program itself", std::env::current_exe().ok()),
        ("the inventory", context.find_inventory()),
        ("the state folder", state_dir()),
        ("/etc/resolv.conf", Some("/etc/resolv.conf".into())),
    ];
    let newest = places
        .into_iter()
        .filter_map(|(what, path)| {
            let written = path?.metadata().and_then(|metadata| metadata.modified()).ok()?;
            Some((Timestamp::try_from(written).ok()?, what))
        })
        .max();
    let synchronized = Path::new("/run/systemd/timesync/synchronized").exists();
    let details = json!({
        "now": now,
        "newest_file": newest.map(|(at, _)| at),
        "synchronized": synchronized.then_some(true),
        "compared_with_server": false,
    });
    clock_check(NAME, now, newest, synchronized, NOT_COMPARED).details(details)
}

fn clock_check(
    name: &'static str,
    now: Timestamp,
    newest: Option<(Timestamp, &str)>,
    synchronized: bool,
    not_compared: &str,
) -> Check {
    // File systems on other machines have clocks of their own.
    const SLACK: SignedDuration = SignedDuration::from_mins(5);
    match newest {
        Some((written, what)) if written.duration_since(now) > SLACK => Check::error(
            name,
            format!("it is said to be {now:.0}, but {what} was written later, at {written:.0}"),
        )
        .hint("set the clock (timedatectl); with a wrong one certificates and tokens are refused"),
        _ => {
            let how = if synchronized { ", synchronised" } else { "" };
            Check::fine(name, format!("{now:.0}{how}; plausible, {not_compared}"))
        }
    }
}

/// The name servers, and whether `localhost` resolves; no question leaves the machine.
pub(super) async fn resolver() -> Check {
    const NAME: &str = "resolver";
    const FILE: &str = "/etc/resolv.conf";
    const LIMIT: Duration = Duration::from_secs(5);
    let servers = match std::fs::read_to_string(FILE) {
        Ok(text) => name_servers(&text),
        Err(error) => {
            return Check::warning(NAME, format!("{FILE} cannot be read: {}", io_reason(&error)))
                .hint("without it only this machine's own name server is asked");
        }
    };
    let known = std::fs::read_to_string("/etc/hosts").is_ok_and(|text| names_localhost(&text));
    // Only when the hosts file has the answer; otherwise a name server would be asked.
    let resolves = if known {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let _ = std::thread::Builder::new().spawn(move || {
            let _ = sender
                .send(("localhost", 0).to_socket_addrs().is_ok_and(|mut a| a.next().is_some()));
        });
        tokio::time::timeout(LIMIT, receiver).await.ok().and_then(Result::ok)
    } else {
        None
    };
    let details = json!({"name_servers": servers, "localhost_resolves": resolves});
    let listed = match servers.as_slice() {
        [] => format!("{FILE} names no server; this machine's own is asked"),
        some => format!("asks {}", some.join(", ")),
    };
    let check = match (known, resolves) {
        (true, Some(true)) => Check::fine(NAME, format!("{listed}; localhost resolves")),
        (true, _) => Check::error(NAME, format!("{listed}; localhost does not resolve"))
            .hint("look at the hosts line of /etc/nsswitch.conf"),
        (false, _) => Check::warning(NAME, format!("{listed}; /etc/hosts does not name localhost"))
            .hint("add to /etc/hosts: 127.0.0.1 localhost"),
    };
    check.details(details)
}

fn name_servers(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .map(|word| bounded(&one_line(word), 64))
        // Those beyond the third are never asked by the C library.
        .take(8)
        .collect()
}

fn names_localhost(hosts: &str) -> bool {
    hosts.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).any(|name| name == "localhost")
    })
}

/// The proxy variables with where they come from, and no password.
pub(super) fn proxy() -> Check {
    const NAME: &str = "proxy";
    const VARIABLES: [&str; 6] =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];
    let mut details = Map::new();
    let mut said = Vec::new();
    let mut unusable = Vec::new();
    for name in VARIABLES {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
        match proxy_origin(&value) {
            Some(shown) => {
                said.push(format!("{name}={shown}"));
                details.insert(name.into(), shown.into());
            }
            None => {
                unusable.push(name);
                details.insert(name.into(), Value::Null);
            }
        }
    }
    for name in EXCEPTIONS {
        if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
            let shown = bounded(&one_line(&value), 200);
            said.push(format!("{name}={shown}"));
            details.insert(name.into(), shown.into());
        }
    }
    let check = if !unusable.is_empty() {
        Check::error(NAME, format!("no usable proxy address in {}", unusable.join(", ")))
            .hint("write it as http://HOST:PORT")
    } else if said.is_empty() {
        Check::fine(NAME, "none is set")
    } else {
        Check::fine(NAME, format!("{} (from the environment)", said.join(" ")))
    };
    check.details(Value::Object(details))
}

/// Scheme, host and port; whatever else stands there may be secret.
fn proxy_origin(value: &str) -> Option<String> {
    let url = if value.contains("://") {
        Url::parse(value)
    } else {
        Url::parse(&format!("http://{value}"))
    }
    .ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let redacted =
        if url.username().is_empty() && url.password().is_none() { "" } else { "(redacted)@" };
    Some(format!("{}://{redacted}{host}{port}", url.scheme()))
}

/// How many roots the operating system trusts, or `SSL_CERT_FILE` in its place.
pub(super) fn trust_store() -> Check {
    const NAME: &str = "trust_store";
    let origin = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", variable(name)?)))
        .collect::<Vec<_>>()
        .join(" ");
    let origin = if origin.is_empty() { "the operating system".to_owned() } else { origin };
    let found = rustls_native_certs::load_native_certs();
    let roots = found.certs.len();
    let details = json!({"roots": roots, "origin": origin, "errors": found.errors.len()});
    let check = match (roots, found.errors.first()) {
        (0, _) => Check::error(NAME, format!("no trusted root from {origin}: every https server will be refused"))
            .hint("install the package ca-certificates, correct SSL_CERT_FILE, or set tls.ca for each server"),
        (_, Some(error)) => Check::warning(
            NAME,
            format!("{roots} trusted roots from {origin}; some cannot be read: {}", one_line(&error.to_string())),
        )
        .hint("look at the file that it names"),
        (_, None) => Check::fine(NAME, format!("{roots} trusted roots from {origin}")),
    };
    check.details(details)
}

/// Whether as many servers as asked for can be worked on at once.
pub(super) fn file_limit(context: &Context) -> Check {
    const NAME: &str = "file_limit";
    // Connections of a server's checks, and what the program itself has open.
    const EACH: u64 = 4;
    const OWN: u64 = 64;
    let needed = u64::from(context.options.concurrency) * EACH + OWN;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Err(error) => Check::warning(NAME, format!("cannot be read: {}", error.desc())),
        Ok((soft, hard)) => {
            let details = json!({"soft": soft, "hard": hard, "needed": needed});
            let concurrency = context.options.concurrency;
            let check = if soft < needed {
                Check::warning(
                    NAME,
                    format!(
                        "{soft} open files are too few for {concurrency} servers at once ({needed})"
                    ),
                )
                .hint(format!("ulimit -n {needed}, or a smaller --concurrency"))
            } else {
                Check::fine(
                    NAME,
                    format!("{soft} open files, enough for {concurrency} servers at once"),
                )
            };
            check.details(details)
        }
    }
}

/// What standard output is, and whether names outside ASCII show.
pub(super) fn terminal(context: &Context) -> Check {
    const NAME: &str = "terminal";
    let style = context.style();
    // The first that is set and not empty counts, as in the C library.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)));
    let (origin, locale) = locale.map_or((None, "C".to_owned()), |(name, value)| {
        (Some(name), bounded(&one_line(&value), 64))
    });
    let lower = locale.to_lowercase();
    let utf8 = lower.contains("utf-8") || lower.contains("utf8");
    let what = match style.width {
        Some(width) => format!("a terminal of {width} columns"),
        None => "no terminal".to_owned(),
    };
    let color = if style.color { "colour" } else { "no colour" };
    let from = origin.map_or_else(|| "nothing sets it".to_owned(), |name| format!("from {name}"));
    let message = format!("{what}, {color}, locale {locale} ({from})");
    let details = json!({
        "width": style.width, "color": style.color, "locale": locale, "utf8": utf8,
        "time_zone": jiff::tz::TimeZone::system().iana_name(),
    });
    // Where nobody looks, nothing has to show.
    let check = if style.width.is_some() && !utf8 {
        Check::warning(NAME, message).hint("export LANG=C.UTF-8, so that every character shows")
    } else {
        Check::fine(NAME, message)
    };
    check.details(details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Status;

    #[test]
    fn a_proxy_is_shown_without_what_may_be_secret() {
        for (value, shown) in [
            ("http://proxy:3128", Some("http://proxy:3128")),
            ("proxy:3128", Some("http://proxy:3128")),
            ("http://user:hunter2@proxy:3128/", Some("http://(redacted)@proxy:3128")),
            ("user:hunter2@proxy:3128", Some("http://(redacted)@proxy:3128")),
            ("http://hunter2@proxy", Some("http://(redacted)@proxy")),
            ("socks5h://proxy:1080?hunter2", Some("socks5h://proxy:1080")),
            ("http://[::1]:3128", Some("http://[::1]:3128")),
            ("http://", None),
            ("http://user:hunter2@proxy:notaport", None),
        ] {
            assert_eq!(proxy_origin(value).as_deref(), shown, "{value}");
        }
    }

    #[test]
    fn name_servers_and_localhost_are_found_among_comments() {
        let text = "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nsearch example.org\nnameserver\t::1 # x\n";
        assert_eq!(name_servers(text), ["192.0.2.1", "::1"]);
        assert!(names_localhost("127.0.0.1\tlocalhost lo\n"));
        assert!(!names_localhost("# 127.0.0.1 localhost\n192.0.2.1 localhost.example.org\n"));
    }

    #[test]
    fn a_clock_behind_its_own_files_is_wrong() {
        let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        for (newest, status) in [
            (None, Status::Healthy),
            (Some("2026-04-30T12:00:00Z"), Status::Healthy),
            (Some("2026-05-01T12:04:00Z"), Status::Healthy),
            (Some("2026-05-01T12:06:00Z"), Status::Critical),
        ] {
            let newest = newest.map(|at| (at.parse().unwrap(), "a file"));
            assert_eq!(clock_check("clock", now, newest, false, "").status, status);
        }
    }
}
