//! `vendors [NAME]`: the built-in presets, with their facts and sources.

use clap::Args;
use serde_json::{Value, json};

use crate::context::{Context, Outcome};
use crate::inventory::preset::{self, Fact, Preset, PresetKind};
use crate::model::text::nearest;
use crate::model::{Error, Result};
use crate::render::{Block, Cell, Output, Table, Tone};

/// Show the built-in vendor presets, with their facts and sources
#[derive(Debug, Args)]
pub struct VendorsArgs {
    /// One preset, with everything that is known of it
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// # Errors
/// Exit 66 when there is no such preset.
pub fn run(args: &VendorsArgs, _context: &Context) -> Result<Outcome> {
    let presets: Vec<&Preset> = match &args.name {
        None => preset::presets().collect(),
        Some(name) => vec![preset::preset(name).ok_or_else(|| unknown(name))?],
    };
    let document = match presets.as_slice() {
        [one] if args.name.is_some() => details(one),
        all => vec![Block::Table(table(all))],
    };
    let items: Vec<Value> =
        presets.iter().filter_map(|preset| serde_json::to_value(preset).ok()).collect();
    Ok(Outcome::printed(Output {
        json: json!({"schema": "fhirctl/vendors/v1", "vendors": items}),
        lines: Some(super::lines("fhirctl/vendor/v1", &items)),
        document,
        rows: Some(table(&presets)),
        ..Output::default()
    }))
}

fn unknown(name: &str) -> Error {
    let error = Error::not_found(format!("no preset is named {name:?}"));
    match nearest(name, preset::names()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("fhirctl vendors lists all presets"),
    }
}

fn table(presets: &[&Preset]) -> Table {
    let row = |preset: &&Preset| {
        vec![
            Cell::toned(&preset.name, Tone::Strong),
            Cell::plain(&preset.title),
            Cell::plain(kind(preset)),
            Cell::plain(preset.fhir_versions.join(",")),
            Cell::plain(&preset.base_url),
        ]
    };
    Table {
        head: ["NAME", "TITLE", "KIND", "VERSIONS", "BASE URL"].map(str::to_owned).to_vec(),
        rows: presets.iter().map(row).collect(),
    }
}

fn kind(preset: &Preset) -> &'static str {
    match preset.kind {
        PresetKind::Server => "server",
        PresetKind::Public => "public test server",
    }
}

fn details(preset: &Preset) -> Vec<Block> {
    let settings = serde_yaml::to_string(&preset.settings).unwrap_or_default();
    vec![
        Block::Heading(format!("{}: {}", preset.name, preset.title)),
        Block::Text(vec![Cell::plain(&preset.summary)]),
        Block::Blank,
        Block::Facts(vec![
            ("kind".into(), Cell::plain(kind(preset))),
            ("base URL".into(), Cell::plain(&preset.base_url)),
            ("versions".into(), Cell::plain(preset.fhir_versions.join(", "))),
        ]),
        Block::Blank,
        Block::Heading("What it sets".into()),
        Block::Verbatim(settings.trim_end().to_owned()),
        Block::Blank,
        Block::Heading("What is known".into()),
        Block::Table(Table {
            head: ["TOPIC", "FACT", "SOURCE"].map(str::to_owned).to_vec(),
            rows: preset.facts.iter().map(fact).collect(),
        }),
    ]
}

fn fact(fact: &Fact) -> Vec<Cell> {
    let mut source = fact.source.clone();
    if let Some(date) = fact.date {
        source = format!("{source}, {date}");
    }
    let text = Cell::plain(&fact.text);
    let source = if fact.unconfirmed {
        Cell::toned(format!("unconfirmed: {source}"), Tone::Warning)
    } else {
        Cell::toned(source, Tone::Dim)
    };
    vec![Cell::toned(&fact.topic, Tone::Strong), text, source]
}
