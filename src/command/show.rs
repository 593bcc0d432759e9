//! `show NAME`: one server; with `--effective` every value and where it comes from.

pub(super) mod pins;

use clap::Args;
use serde_json::{Value, json};

use crate::context::{Context, Outcome, variable};
use crate::inventory::{self, Effective, Selection};
use crate::model::{Error, Result};
use crate::render::{Block, Cell, Output, Table, Tone};

/// Show one server as it stands in the inventory
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = super::complete::servers())]
    pub name: String,

    /// Every value that holds for it, with where it comes from
    #[arg(long)]
    pub effective: bool,

    /// The public keys that the server shows now, and which of them are pinned
    ///
    /// Connects to the server and looks at its certificates; no request and no credential is sent.
    #[arg(long, conflicts_with = "effective")]
    pub pins: bool,
}

/// Variables of the environment that bear on every request.
const SURROUNDINGS: [&str; 10] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// # Errors
/// Exit 66 when no server has the name, 78 when the inventory is not valid; with `--pins` 69 when
/// the server shows no certificate.
pub async fn run(args: &ShowArgs, context: &Context) -> Result<Outcome> {
    let path = context.inventory_path()?;
    let text = inventory::read(&path)?;
    let overrides = context.overrides();
    let read = inventory::parse(&text, &path, &overrides)?;
    let selection = Selection { names: vec![args.name.clone()], ..Selection::default() };
    let server = match read.server(&args.name) {
        Some(server) => server,
        None => match inventory::select(&read, &selection)?.as_slice() {
            [server] => server,
            several => {
                return Err(Error::usage(format!(
                    "{:?} matches {} servers; show wants one",
                    args.name,
                    several.len()
                )));
            }
        },
    };
    if args.pins {
        return pins::run(server, &read, context).await;
    }
    let mut values = inventory::effective(&text, &path, &server.name, &overrides)?;
    values.extend(surroundings(variable));
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    if !args.effective {
        values.retain(|value| {
            value
                .origin
                .strip_prefix(file.as_str())
                .is_some_and(|rest| rest.starts_with(':') && !rest.contains('('))
        });
    }
    let state = server.state(context.clock.now());
    let json = json!({
        "schema": "fhirctl/show/v1",
        "inventory": path,
        "name": server.name,
        "url": server.url.as_str(),
        "vendor": server.vendor,
        "state": state,
        "effective": args.effective,
        "values": values,
    });
    let mut head = vec!["KEY".to_owned(), "VALUE".to_owned()];
    if args.effective {
        head.push("FROM".to_owned());
    }
    let rows = values.iter().map(|value| row(value, args.effective)).collect();
    let table = Table { head, rows };
    Ok(Outcome::printed(Output {
        json,
        document: vec![Block::Heading(server.name.clone()), Block::Table(table.clone())],
        rows: Some(table),
        ..Output::default()
    }))
}

fn row(value: &Effective, with_origin: bool) -> Vec<Cell> {
    let text = match &value.value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut row = vec![Cell::toned(&value.key, Tone::Strong), Cell::plain(text)];
    if with_origin {
        row.push(Cell::toned(&value.origin, Tone::Dim));
    }
    row
}

/// What the environment adds, without the password that a proxy's URL may hold.
fn surroundings(variable: impl Fn(&str) -> Option<String>) -> Vec<Effective> {
    SURROUNDINGS
        .iter()
        .filter_map(|name| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some(Effective {
                key: (*name).to_owned(),
                value: without_credential(&value).into(),
                origin: "environment".to_owned(),
            })
        })
        .collect()
}

fn without_credential(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            let separator = if scheme.is_empty() { "" } else { "://" };
            format!("{scheme}{separator}(redacted)@{host}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_of_the_environment_is_shown_without_its_password() {
        let values = surroundings(|name| {
            (name == "HTTPS_PROXY").then(|| "http://u:hunter2@proxy.example.org:3128".to_owned())
        });
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].value, "http://(redacted)@proxy.example.org:3128");
        assert_eq!(without_credential("u:p@h"), "(redacted)@h");
        assert_eq!(without_credential("/etc/ssl/ca.pem"), "/etc/ssl/ca.pem");
    }
}
