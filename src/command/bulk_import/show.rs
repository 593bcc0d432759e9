//! What an import shows of itself.

use serde_json::{Value, json};

use super::{Done, Job, way_name};
use crate::bulk::import::completion::Row;
use crate::bulk::import::family::shown as shown_url;
use crate::bulk::import::plan::Plan;
use crate::bulk::import::rejects::{OUTCOMES, RESOURCES};
use crate::bulk::import::report::OfType;
use crate::bulk::job::KickOff;
use crate::model::Exit;
use crate::render::{Block, Cell, Output, Table, Tone};
use crate::view::human::or_dash;

/// What came of an import, and how the process ends.
pub(super) struct Shown<'a> {
    pub(super) done: &'a Done,
    pub(super) exit: Exit,
    pub(super) duration_ms: u64,
}

impl Job<'_> {
    pub(super) fn output(&self, shown: &Shown<'_>) -> Output {
        let summary = &shown.done.summary;
        let folder = self.rejects_folder();
        let rejects = shown.done.has_rejects.then(|| {
            json!({
                "folder": folder,
                "resources": folder.join(RESOURCES),
                "outcomes": folder.join(OUTCOMES),
            })
        });
        let mut json = self.head(shown.exit, false);
        let read: u64 = summary.types.iter().map(|it| it.read).sum();
        put(&mut json, "already_done", shown.done.is_old.into());
        put(&mut json, "types", json!(summary.types));
        put(
            &mut json,
            "totals",
            json!({
                "read": read + summary.unreadable,
                "accepted": summary.accepted(),
                "created": summary.types.iter().map(|it| it.created).sum::<u64>(),
                "deleted": summary.deleted(),
                "rejected": summary.rejected(),
                "retried": summary.types.iter().map(|it| it.retried).sum::<u64>(),
            }),
        );
        put(&mut json, "files", json!(shown.done.files));
        put(&mut json, "findings", json!(summary.notes));
        put(&mut json, "rejects", json!(rejects));
        put(&mut json, "duration_ms", shown.duration_ms.into());

        let table = types_table(&summary.types);
        let mut document = Vec::new();
        if shown.done.is_old {
            document.push(Block::text(format!(
                "This import into {} was over before; nothing was sent. --again imports it again.",
                self.server.name
            )));
        }
        document.push(Block::Table(table.clone()));
        if !shown.done.files.is_empty() {
            document.push(Block::Blank);
            document.push(Block::Table(files_table(&shown.done.files)));
        }
        if summary.unreadable > 0 && shown.done.files.is_empty() {
            document.push(Block::Text(vec![Cell::toned(
                format!("{} lines hold no resource.", summary.unreadable),
                Tone::Bad,
            )]));
        }
        for note in &summary.notes {
            let tone = match note.severity.as_str() {
                "error" => Tone::Bad,
                "warning" => Tone::Warning,
                _ => Tone::Dim,
            };
            document.push(Block::Text(vec![Cell::toned(note.message.as_str(), tone)]));
        }
        if shown.done.has_rejects {
            document.push(Block::text(format!(
                "What did not go in, and why: {} and {OUTCOMES} beside it.",
                folder.join(RESOURCES).display()
            )));
        }
        Output { json, document, rows: Some(table), ..Output::default() }
    }

    /// What would be done.
    pub(super) fn planned(&self, plan: &Plan, unfit: u64) -> Output {
        let kind = if self.settings.is_atomic || self.settings.assigns_ids {
            "transaction"
        } else {
            "batch"
        };
        let entry = if self.settings.assigns_ids { "POST TYPE" } else { "PUT TYPE/ID" };
        let types: Vec<OfType> = plan
            .read
            .iter()
            .map(|(name, read)| OfType {
                r#type: name.clone(),
                read: *read,
                accepted: Some(0),
                ..OfType::default()
            })
            .collect();
        let deletions: u64 = plan.deletions.values().sum();
        let request = json!({
            "method": "POST",
            "url": self.server.url.as_str(),
            "headers": {"Content-Type": "application/fhir+json", "Prefer": "return=minimal"},
            "body": {"resourceType": "Bundle", "type": kind, "entry": [{"request": entry}]},
        });
        let mut json = self.head(Exit::OK, true);
        put(&mut json, "already_done", false.into());
        put(&mut json, "types", json!(types));
        put(
            &mut json,
            "totals",
            json!({
                "read": plan.read.values().sum::<u64>(),
                "accepted": 0, "created": 0, "deleted": 0, "rejected": unfit, "retried": 0,
            }),
        );
        put(&mut json, "request", request);
        let mut facts = vec![
            ("request".to_owned(), Cell::plain(format!("POST {}", self.server.url.as_str()))),
            ("family".to_owned(), Cell::plain(format!("bundle: {}", self.reason))),
            (
                "bundles".to_owned(),
                Cell::plain(format!(
                    "{kind} of at most {} entries ({entry}) and {} bytes, {} at once at the most",
                    self.settings.limits.entries,
                    self.settings.limits.bytes,
                    self.settings.in_flight
                )),
            ),
            ("to send".to_owned(), Cell::plain(format!("{} entries", plan.total))),
        ];
        if deletions > 0 {
            facts.push(("deletions".to_owned(), Cell::plain(deletions.to_string())));
        }
        if unfit > 0 {
            facts.push(("cannot be sent".to_owned(), Cell::toned(unfit.to_string(), Tone::Bad)));
        }
        let rows = plan.read.iter().map(|(name, read)| {
            vec![Cell::toned(name.as_str(), Tone::Strong), Cell::plain(read.to_string())]
        });
        let table =
            Table { head: vec!["TYPE".to_owned(), "RESOURCES".to_owned()], rows: rows.collect() };
        let document = vec![Block::Facts(facts), Block::Blank, Block::Table(table.clone())];
        Output { json, document, rows: Some(table), ..Output::default() }
    }

    /// The request that would begin the server's own import.
    pub(super) fn asked(&self, kick_off: &KickOff) -> Output {
        let mut body: Value = kick_off
            .body
            .as_deref()
            .and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or_default();
        redact(&mut body);
        let request = json!({
            "method": kick_off.method.as_str(),
            "url": kick_off.url.as_str(),
            "headers": {
                "Accept": kick_off.accept,
                "Content-Type": kick_off.content_type,
                "Prefer": "respond-async",
            },
            "body": body,
        });
        let mut json = self.head(Exit::OK, true);
        put(&mut json, "request", request);
        let lines = [
            format!("{} {}", kick_off.method, kick_off.url),
            format!("Accept: {}", kick_off.accept),
            format!("Content-Type: {}", kick_off.content_type),
            "Prefer: respond-async".to_owned(),
            String::new(),
            serde_json::to_string_pretty(&body).unwrap_or_default(),
        ];
        let family = format!("{}: {}", way_name(self.way), self.reason);
        let document = vec![
            Block::Facts(vec![("family".to_owned(), Cell::plain(family))]),
            Block::Blank,
            Block::Verbatim(lines.join("\n")),
        ];
        Output { json, document, ..Output::default() }
    }

    fn head(&self, exit: Exit, is_dry_run: bool) -> Value {
        let mut inputs: Vec<Value> = self
            .inputs
            .iter()
            .map(|it| json!({"path": it.shown, "bytes": it.bytes, "deletions": it.is_deletions}))
            .collect();
        for url in self.args.sources.iter().filter(|_| self.inputs.is_empty()) {
            let address = url.split_once('=').map_or(url.as_str(), |(name, rest)| {
                if name.contains("://") { url.as_str() } else { rest }
            });
            inputs.push(json!({"path": shown_url(address), "bytes": null, "deletions": false}));
        }
        json!({
            "schema": "fhirctl/bulk-import/v1",
            "inventory": self.inventory,
            "exit_code": exit.0,
            "server": self.server.name,
            "import": self.id,
            "ledger": self.folder,
            "family": way_name(self.way),
            "reason": self.reason,
            "dry_run": is_dry_run,
            "already_done": false,
            "inputs": inputs,
            "types": [],
            "files": [],
            "totals": {},
            "findings": [],
            "rejects": null,
            "request": null,
            "duration_ms": 0,
        })
    }
}

fn put(json: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = json {
        map.insert(key.to_owned(), value);
    }
}

fn types_table(types: &[OfType]) -> Table {
    let has_deletions = types.iter().any(|it| it.deleted > 0);
    let mut head = vec!["TYPE", "READ", "ACCEPTED", "REJECTED", "RETRIED", "BEFORE", "AFTER"];
    if has_deletions {
        head.push("DELETED");
    }
    let rows = types.iter().map(|it| {
        let total = |total: Option<u64>| match total {
            Some(total) => Cell::plain(total.to_string()),
            None => Cell::toned("unknown", Tone::Dim),
        };
        let tone = if it.rejected > 0 { Tone::Bad } else { Tone::Plain };
        let mut row = vec![
            Cell::toned(it.r#type.as_str(), Tone::Strong),
            Cell::plain(it.read.to_string()),
            total(it.accepted),
            Cell::toned(it.rejected.to_string(), tone),
            Cell::plain(it.retried.to_string()),
            total(it.before),
            total(it.after),
        ];
        if has_deletions {
            row.push(Cell::plain(it.deleted.to_string()));
        }
        row
    });
    Table { head: head.into_iter().map(str::to_owned).collect(), rows: rows.collect() }
}

/// Queries of addresses may be what opens a storage; paths of served files are.
fn redact(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") => *text = shown_url(text),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(map) => map.values_mut().for_each(redact),
        _ => {}
    }
}

fn files_table(files: &[Row]) -> Table {
    let rows = files.iter().map(|it| {
        let tone = if it.errors > 0 { Tone::Bad } else { Tone::Plain };
        vec![
            Cell::plain(it.url.as_str()),
            or_dash(it.r#type.as_deref()),
            Cell::plain(it.count.map_or("unknown".to_owned(), |count| count.to_string())),
            Cell::toned(it.errors.to_string(), tone),
        ]
    });
    let head = ["FILE", "TYPE", "COUNT", "ERRORS"];
    Table { head: head.map(str::to_owned).to_vec(), rows: rows.collect() }
}
