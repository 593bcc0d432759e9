//! Imports go downward only, and each big dependency has one owner.

// Clippy's leave for tests ends at the test functions: their helpers fail a test by panicking too.
#![allow(clippy::unwrap_used)]

#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source::{Named, named_in};

/// The rooms, top to bottom. Rooms on one line do not import each other.
const LAYERS: &[&[&str]] = &[
    &["app"],
    &["cli"],
    &["command"],
    &["context"],
    &["sandbox", "view"],
    &["render"],
    &["diag", "lint", "report"],
    &["bulk", "probe", "query"],
    &["auth"],
    &["serve"],
    &["inventory", "credentials", "http", "net", "audit", "history"],
    &["stats"],
    &["fhir"],
    &["model"],
];

/// A dependency, or a part of one, and the only places that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("age", &["credentials"]),
    ("axum", &["serve", "sandbox"]),
    ("clap", &["app", "cli", "command", "context", "render"]),
    ("clap_complete", &["app", "command"]),
    ("clap_mangen", &["command"]),
    // It also knows how wide the terminal is.
    ("comfy_table", &["context", "render"]),
    ("csv", &["render", "inventory", "history"]),
    ("dialoguer", &["context", "command"]),
    ("hdrhistogram", &["http"]),
    ("hickory_resolver", &["http", "net"]),
    ("hyper", &["http", "serve", "sandbox"]),
    ("hyper::server", &["serve", "sandbox"]),
    ("hyper_util", &["http", "serve", "sandbox"]),
    ("hyper_util::server", &["serve", "sandbox"]),
    ("indicatif", &["context", "command"]),
    ("keyring", &["credentials"]),
    ("maud", &["render"]),
    ("object_store", &["bulk"]),
    ("octofhir_fhirpath", &["probe", "fhir"]),
    ("octofhir_fhirschema", &["fhir"]),
    ("rcgen", &["sandbox"]),
    ("reqwest", &["http"]),
    ("rusqlite", &["bulk", "history"]),
    // `doctor` shows what the trust store holds.
    ("rustls_native_certs", &["http", "command"]),
    ("tokio_postgres", &["history"]),
    ("x509_parser", &["http", "net"]),
    ("p12_keystore", &["http"]),
    ("yaml_edit", &["inventory"]),
];

/// Where environment variables may be read.
const ENVIRONMENT: &[&str] = &["cli", "context", "credentials", "http/proxy.rs"];
/// Where standard output may be written to.
const STDOUT: &[&str] = &["app", "render"];
/// Where the wall clock may be read; everybody else is given a `Clock`.
const WALL_CLOCK: &[&str] = &["context", "model/clock.rs"];

#[test]
fn imports_go_downward_only() {
    let broken: Vec<_> = sources().iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_room_has_its_place() {
    let placed: BTreeSet<_> = LAYERS.iter().flat_map(|layer| layer.iter().copied()).collect();
    let sources = sources();
    let found: BTreeSet<_> = sources.iter().filter_map(|(path, _)| room(path)).collect();
    let unplaced: Vec<_> = found.iter().filter(|name| !placed.contains(name.as_str())).collect();
    assert!(unplaced.is_empty(), "rooms without a layer: {unplaced:?}");
    let empty: Vec<_> = placed.iter().filter(|name| !found.contains(**name)).collect();
    assert!(empty.is_empty(), "layers without a room: {empty:?}");
}

#[test]
fn every_room_says_what_enters_and_what_leaves() {
    for (path, text) in sources() {
        // The model is words that all speak: it has no way in or out.
        if path.ends_with("mod.rs") && path.components().count() == 2 && !path.starts_with("model")
        {
            let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
            let head = head.to_lowercase();
            for word in ["enter", "leave"] {
                assert!(head.contains(word), "{} does not say what {word}s", path.display());
            }
        }
    }
}

#[test]
fn what_breaks_the_order_is_caught() {
    for (path, text) in [
        ("http/client.rs", "use crate::probe::Options;"),
        ("http/client.rs", "use crate::{model::Code, inventory::load};"),
        ("http/client.rs", "use crate::{\n    model::{Code, server::Server},\n    probe,\n};"),
        ("http/client.rs", "use super::super::probe::Options;"),
        ("http/mod.rs", "use super::probe::Options;"),
        ("http/mod.rs", "use super::{model::Code, credentials};"),
        ("http/mod.rs", "mod inner { use super::super::probe::Options; }"),
        ("http/mod.rs", "mod inner { mod deep {} fn f() { super::super::probe::run() } }"),
        ("http/mod.rs", "#[cfg(test)] mod tests { use crate::command::check; }"),
        ("http/mod.rs", "use crate::*;"),
        ("http/mod.rs", "use crate as all;"),
        ("http/mod.rs", "mod inner { use super::super::*; }"),
        ("http/mod.rs", "fn f(at: &dyn Fn() -> crate::probe::Options) {}"),
        ("inventory/mod.rs", "fn f() { crate::http::send() }"),
        ("inventory/mod.rs", "fn f<'a>(c: char) -> bool { c == '\"' && crate::http::ok::<'a>() }"),
        ("model/mod.rs", "const A: &str = r#\"\"#; use crate::fhir::Kind; const B: &str = \"\";"),
        ("sandbox/mod.rs", "use crate::fhir::body::sniff;"),
        ("sandbox/mod.rs", "use crate::http::Client;"),
        ("view/mod.rs", "use crate::sandbox::start;"),
        ("context.rs", "use crate::sandbox::start;"),
        ("app.rs", "use crate::sandbox::start;"),
        ("probe/mod.rs", "use reqwest::Client;"),
        ("probe/mod.rs", "use reqwest as client;"),
        ("probe/mod.rs", "fn f() -> Vec<reqwest::Client> {}"),
        ("probe/mod.rs", "use ::{bytes::Bytes, hyper::body};"),
        ("http/client.rs", "use hyper::{Error, server::conn::http1};"),
        ("probe/mod.rs", "#[derive(clap::ValueEnum)] enum A {}"),
        ("command/doctor.rs", "use crate::http::Client; fn f() { keyring::get() }"),
        ("probe/mod.rs", "fn f() { println!(\"x\") }"),
        ("probe/mod.rs", "fn f() { std::io::stdout().write_all(b\"x\") }"),
        ("probe/mod.rs", "use std::{io::{self, stdout}, fs};"),
        ("probe/mod.rs", "fn f() { std::env::var(\"HOME\") }"),
        ("probe/mod.rs", "use std::env; fn f() { env::vars_os() }"),
        ("probe/mod.rs", "use std::{env::{self, var}, fs};"),
        ("http/client.rs", "fn f() { std::env::var_os(\"HTTPS_PROXY\") }"),
        ("probe/mod.rs", "fn f() { jiff::Timestamp::now() }"),
        ("probe/mod.rs", "fn f() { SystemTime::now() }"),
    ] {
        assert!(!violations(Path::new(path), text).is_empty(), "not caught: {path}: {text}");
    }
}

#[test]
fn what_keeps_the_order_is_let_through() {
    for (path, text) in [
        ("probe/mod.rs", "use crate::{http::Client, model::Code};"),
        ("probe/mod.rs", "// use crate::command::check;"),
        ("probe/mod.rs", "/* use crate::command::check; /* nested */ use reqwest::Client; */"),
        ("probe/mod.rs", "/// See [`check`](crate::command::check).\nfn f() {}"),
        ("probe/mod.rs", "const A: &str = \"use crate::command::check; reqwest::Client\";"),
        ("probe/mod.rs", "const A: &str = r#\"\" crate::command::check \"#;"),
        ("probe/checks/health.rs", "use super::super::session::Session; use super::read;"),
        ("probe/checks/health.rs", "pub(in crate::probe) fn f() {}"),
        ("probe/checks/health.rs", "mod tests { use super::*; use crate::probe::session; }"),
        ("sandbox/fhir/search.rs", "use crate::sandbox::fhir::store; use crate::serve::Answer;"),
        (
            "command/doctor.rs",
            "use crate::credentials::keyring::{self, State}; fn f() { keyring::get() }",
        ),
        ("command/doctor.rs", "mod age; fn f() { age::Check::new() }"),
        ("command/demo.rs", "fn f() { crate::sandbox::start() }"),
        ("http/client.rs", "use reqwest::Client; use hyper::Error;"),
        ("probe/mod.rs", "fn f(child: Child) { child.stdout(); let stdout = 1; }"),
        ("context.rs", "fn f() -> bool { std::io::stdout().is_terminal() }"),
        ("http/proxy.rs", "fn f() { std::env::var(\"HTTPS_PROXY\") }"),
        ("view/version.rs", "const OS: &str = std::env::consts::OS;"),
        ("view/mod.rs", "const VERSION: &str = env!(\"CARGO_PKG_VERSION\");"),
        ("probe/mod.rs", "#[cfg(test)] mod tests { fn f() { jiff::Timestamp::now(); } }"),
        ("probe/mod.rs", "fn f() { std::time::Instant::now() }"),
        ("render/mod.rs", "fn f() { println!(\"x\") }"),
    ] {
        let found = violations(Path::new(path), text);
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }
}

/// Every file below `src` with its path from there.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort();
    assert!(found.len() > 20, "the sources are found");
    found
}

/// The room of a file below `src`; the crate's own roots have none.
fn room(path: &Path) -> Option<String> {
    module(path).into_iter().next()
}

/// The module that a file below `src` is: `http/tls.rs` is `[http, tls]`.
fn module(path: &Path) -> Vec<String> {
    let text = path.with_extension("").to_string_lossy().replace('\\', "/");
    let mut names: Vec<_> = text.split('/').map(str::to_owned).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

/// What a file does that the house does not allow, in words.
fn violations(path: &Path, text: &str) -> Vec<String> {
    let module = module(path);
    let Some(here) = module.first().cloned() else { return Vec::new() };
    let is_test_file = path.file_name().is_some_and(|name| name == "tests.rs");
    let mut found = BTreeSet::new();
    for named in named_in(text, &module) {
        match named.within_crate() {
            Some([]) => {
                found.insert("names the whole crate: import rooms one by one".to_owned());
            }
            Some([target, ..]) if *target != here => {
                found.extend(wrong_arrow(&here, target));
            }
            _ => {}
        }
        // Tests keep the order of the rooms, but may print, read the clock and use any crate.
        if named.in_test || is_test_file {
            continue;
        }
        found.extend(wrong_owner(path, &here, &named));
    }
    found.into_iter().map(|what| format!("src/{}: {what}", path.display())).collect()
}

fn wrong_arrow(here: &str, target: &str) -> Option<String> {
    let (from, to) = (layer(here)?, layer(target)?);
    if target == "sandbox" && here != "command" {
        return Some(format!("{here} imports sandbox: only command may"));
    }
    if here == "sandbox" && !matches!(target, "model" | "serve") {
        return Some(format!("sandbox imports {target}: it may import only model and serve"));
    }
    match from.cmp(&to) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => {
            Some(format!("{here} and {target} are beside each other: neither imports the other"))
        }
        std::cmp::Ordering::Greater => Some(format!("{here} imports {target}, which is above it")),
    }
}

fn wrong_owner(path: &Path, here: &str, named: &Named) -> Option<String> {
    let file = path.to_string_lossy().replace('\\', "/");
    let allowed = |places: &[&str]| places.contains(&here) || places.contains(&file.as_str());
    let parts: Vec<_> = named.parts.iter().map(String::as_str).collect();
    for (dependency, owners) in OWNERS {
        let of_it =
            dependency.split("::").enumerate().all(|(at, part)| parts.get(at) == Some(&part));
        if of_it && !allowed(owners) {
            return Some(format!("{dependency} belongs to {}", owners.join(", ")));
        }
    }
    let last = parts.last().copied().unwrap_or_default();
    let before = parts.len().checked_sub(2).map_or("", |at| parts[at]);
    if before == "env"
        && matches!(last, "var" | "var_os" | "vars" | "vars_os" | "set_var" | "remove_var")
        && !allowed(ENVIRONMENT)
    {
        return Some(format!("env::{last}: {} read the environment", ENVIRONMENT.join(", ")));
    }
    let prints = matches!(last, "println!" | "print!")
        || (last == "stdout" && before == "io" && !named.asks_terminal);
    if prints && !allowed(STDOUT) {
        return Some(format!("{last}: {} write to standard output", STDOUT.join(", ")));
    }
    if last == "now"
        && matches!(before, "Timestamp" | "Zoned" | "SystemTime")
        && !allowed(WALL_CLOCK)
    {
        return Some(format!("{before}::now: {} read the clock", WALL_CLOCK.join(", ")));
    }
    None
}
