//! `schema [NAME]`: the JSON Schemas of what fhirctl reads and prints.

use clap::Args;
use serde_json::{Value, json};

use crate::context::{Context, Outcome};
use crate::inventory;
use crate::model::text::nearest;
use crate::model::{Error, Result};
use crate::render::{Block, Cell, Output, Table};
use crate::view;

/// Print the JSON Schema of the inventory or of an output
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which one; none lists them
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// A schema with its name: one line per file or output that has one.
type Entry = (&'static str, &'static str, fn() -> Value);

const SCHEMAS: &[Entry] = &[
    ("inventory", "servers.yaml, for editors and checks", inventory::inventory_schema),
    ("init", "fhirctl init -o json", || kept(include_str!("../../data/schema/init.json"))),
    ("add", "fhirctl add -o json", || kept(include_str!("../../data/schema/add.json"))),
    ("add-from", "fhirctl add --from -o json", || {
        kept(include_str!("../../data/schema/add-from.json"))
    }),
    ("set", "fhirctl set -o json", || kept(include_str!("../../data/schema/set.json"))),
    ("activate", "fhirctl activate -o json", || {
        kept(include_str!("../../data/schema/activate.json"))
    }),
    ("deactivate", "fhirctl deactivate -o json", || {
        kept(include_str!("../../data/schema/deactivate.json"))
    }),
    ("rename", "fhirctl rename -o json", || kept(include_str!("../../data/schema/rename.json"))),
    ("remove", "fhirctl remove -o json", || kept(include_str!("../../data/schema/remove.json"))),
    ("maintenance", "fhirctl maintenance -o json", || {
        kept(include_str!("../../data/schema/maintenance.json"))
    }),
    ("list", "fhirctl list -o json", || kept(include_str!("../../data/schema/list.json"))),
    ("show", "fhirctl show -o json", || kept(include_str!("../../data/schema/show.json"))),
    ("lint", "fhirctl lint -o json", || kept(include_str!("../../data/schema/lint.json"))),
    ("expiring", "fhirctl expiring -o json", || {
        kept(include_str!("../../data/schema/expiring.json"))
    }),
    ("show-pins", "fhirctl show --pins -o json", || {
        kept(include_str!("../../data/schema/show-pins.json"))
    }),
    ("auth-status", "fhirctl auth status -o json", || {
        kept(include_str!("../../data/schema/auth-status.json"))
    }),
    ("auth-test", "fhirctl auth test -o json", || {
        kept(include_str!("../../data/schema/auth-test.json"))
    }),
    ("auth-token", "fhirctl auth token -o json", || {
        kept(include_str!("../../data/schema/auth-token.json"))
    }),
    ("auth-login", "fhirctl auth login -o json", || {
        kept(include_str!("../../data/schema/auth-login.json"))
    }),
    ("auth-set", "fhirctl auth set -o json", || {
        kept(include_str!("../../data/schema/auth-set.json"))
    }),
    ("auth-forget", "fhirctl auth forget -o json", || {
        kept(include_str!("../../data/schema/auth-forget.json"))
    }),
    ("auth-jwks", "fhirctl auth jwks -o json", || {
        kept(include_str!("../../data/schema/auth-jwks.json"))
    }),
    ("auth-rotate", "fhirctl auth rotate -o json", || {
        kept(include_str!("../../data/schema/auth-rotate.json"))
    }),
    ("auth-pins-accept", "fhirctl auth pins accept -o json", || {
        kept(include_str!("../../data/schema/auth-pins-accept.json"))
    }),
    ("bulk-export", "fhirctl bulk-export -o json", || {
        kept(include_str!("../../data/schema/bulk-export.json"))
    }),
    ("bulk-export-plan", "fhirctl bulk-export --dry-run -o json", || {
        kept(include_str!("../../data/schema/bulk-export-plan.json"))
    }),
    ("bulk-export-status", "fhirctl bulk-export status -o json", || {
        kept(include_str!("../../data/schema/bulk-export-status.json"))
    }),
    ("bulk-export-list", "fhirctl bulk-export list -o json", || {
        kept(include_str!("../../data/schema/bulk-export-list.json"))
    }),
    ("bulk-export-verify", "fhirctl bulk-export verify -o json", || {
        kept(include_str!("../../data/schema/bulk-export-verify.json"))
    }),
    ("bulk-export-cancel", "fhirctl bulk-export cancel -o json", || {
        kept(include_str!("../../data/schema/bulk-export-cancel.json"))
    }),
    ("bulk-export-purge", "fhirctl bulk-export purge -o json", || {
        kept(include_str!("../../data/schema/bulk-export-purge.json"))
    }),
    ("bulk-export-receipt", "receipt.json of an export", || {
        kept(include_str!("../../data/schema/bulk-export-receipt.json"))
    }),
    ("bulk-import", "fhirctl bulk-import -o json", || {
        kept(include_str!("../../data/schema/bulk-import.json"))
    }),
    ("sync", "fhirctl sync -o json", || kept(include_str!("../../data/schema/sync.json"))),
    ("migrate", "fhirctl migrate -o json", || kept(include_str!("../../data/schema/migrate.json"))),
    ("migrate-plan", "fhirctl migrate --dry-run -o json", || {
        kept(include_str!("../../data/schema/migrate-plan.json"))
    }),
    ("migration-report", "migration.json of a migration", || {
        kept(include_str!("../../data/schema/migration-report.json"))
    }),
    ("run", "fhirctl run JOB -o json", || kept(include_str!("../../data/schema/run.json"))),
    ("run-list", "fhirctl run -o json", || kept(include_str!("../../data/schema/run-list.json"))),
    ("history-status", "fhirctl history status -o json", || {
        kept(include_str!("../../data/schema/history-status.json"))
    }),
    ("history-verify", "fhirctl history verify -o json", || {
        kept(include_str!("../../data/schema/history-verify.json"))
    }),
    ("history-compact", "fhirctl history compact -o json", || {
        kept(include_str!("../../data/schema/history-compact.json"))
    }),
    ("history-prune", "fhirctl history prune -o json", || {
        kept(include_str!("../../data/schema/history-prune.json"))
    }),
    ("history-import", "fhirctl history import -o json", || {
        kept(include_str!("../../data/schema/history-import.json"))
    }),
    ("history-sample", "one line of fhirctl history export", || {
        kept(include_str!("../../data/schema/history-sample.json"))
    }),
    ("history-gauge", "one line of fhirctl history export --gauges", || {
        kept(include_str!("../../data/schema/history-gauge.json"))
    }),
    ("incidents", "fhirctl incidents list -o json", || {
        kept(include_str!("../../data/schema/incidents.json"))
    }),
    ("incidents-note", "fhirctl incidents note|close -o json", || {
        kept(include_str!("../../data/schema/incidents-note.json"))
    }),
    ("report-verify", "fhirctl report verify -o json", || {
        kept(include_str!("../../data/schema/report-verify.json"))
    }),
    ("vendors", "fhirctl vendors -o json", || kept(include_str!("../../data/schema/vendors.json"))),
];

/// A schema that is kept as a file; a test holds real output against each.
fn kept(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// # Errors
/// Exit 66 when there is no such schema.
pub fn run(args: &SchemaArgs, _context: &Context) -> Result<Outcome> {
    let Some(name) = &args.name else { return Ok(Outcome::printed(list())) };
    let all = all();
    let Some((_, _, schema)) = all.iter().find(|(known, _, _)| known == name) else {
        let error = Error::not_found(format!("no such schema: {name}"));
        let near = nearest(name, all.iter().map(|(known, _, _)| *known));
        return Err(match near {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error.hint("fhirctl schema lists all schemas"),
        });
    };
    let schema = schema();
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(Outcome::printed(Output {
        json: schema,
        document: vec![Block::Verbatim(text)],
        ..Output::default()
    }))
}

/// Those of `SCHEMAS`, and those that are made from what a view prints.
fn all() -> Vec<(&'static str, String, view::SchemaOf)> {
    let kept = SCHEMAS.iter().map(|(name, what, schema)| (*name, (*what).to_owned(), *schema));
    let made = view::schemas().into_iter().map(|(name, schema)| {
        let what = match name {
            "check-server" => "one line of fhirctl check -o ndjson".to_owned(),
            "audit-verify" => "fhirctl audit verify -o json".to_owned(),
            "audit-log" => "fhirctl audit log -o json".to_owned(),
            "audit-head" => "fhirctl audit head -o json".to_owned(),
            "audit-record" => "one line of fhirctl audit log -o ndjson".to_owned(),
            "proof" => "a file of fhirctl report KIND --proof".to_owned(),
            report if report.starts_with("report-") => {
                format!("fhirctl {} -o json", report.replacen('-', " ", 1))
            }
            "error" => "an error beside -o json, on standard error".to_owned(),
            command => format!("fhirctl {command} -o json"),
        };
        (name, what, schema)
    });
    kept.chain(made).collect()
}

fn list() -> Output {
    let all = all();
    let table = Table {
        head: vec!["NAME".into(), "OF".into()],
        rows: all
            .iter()
            .map(|(name, what, _)| vec![Cell::plain(*name), Cell::plain(what)])
            .collect(),
    };
    let schemas: Vec<Value> =
        all.iter().map(|(name, what, _)| json!({"name": name, "description": what})).collect();
    Output {
        json: json!({"schema": "fhirctl/schema/v1", "schemas": schemas}),
        document: vec![Block::Table(table.clone())],
        rows: Some(table),
        ..Output::default()
    }
}
