//! `init`: a first inventory, commented.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::change::{self, StepStatus, Steps};
use crate::context::{Context, Outcome};
use crate::inventory::edit::{self, Op, store};
use crate::inventory::preset::{PresetKind, preset};
use crate::model::{Error, ErrorKind, Result};

/// The inventory that `init` writes and `add` begins with.
pub(super) const TEMPLATE: &str = include_str!("../../data/servers.template.yaml");

/// Where a server is expected when nobody has said where it is.
const PLACEHOLDER: &str = "https://fhir.example.org/fhir";

/// Write a first commented servers.yaml
///
/// Without options it holds no server yet: fhirctl add NAME URL registers one. A file that is
/// there already is not touched unless --force is given.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write [default: --inventory, or ./servers.yaml]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Put in a first server of this vendor; fhirctl vendors lists the presets
    #[arg(long, value_name = "VENDOR")]
    pub vendor: Option<String>,

    /// The first server's base URL
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,

    /// The first server's name [default: the vendor's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

/// # Errors
/// Exit 73 when the file is there or cannot be written, 64 or 78 when what is put in is not valid.
pub fn run(args: &InitArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let path = args
        .file
        .clone()
        .or_else(|| context.options.inventory.clone())
        .unwrap_or_else(|| PathBuf::from("servers.yaml"));
    let first = first_server(args)?;
    let ops: Vec<Op> = first
        .iter()
        .map(|server| Op::Append(vec!["servers".into()], Value::Object(server.clone())))
        .collect();
    let (text, _) = change::checked(TEMPLATE, edit::document(TEMPLATE)?, &ops, &path)?;
    let name = first.as_ref().and_then(|server| server.get("name")).and_then(Value::as_str);
    let created = store::create(&path, &text, args.force);
    context.audit().outcome(name, &format!("inventory {}", path.display()), &created);
    created.map_err(|error| match error.kind {
        ErrorKind::CannotCreate if !args.force && path.exists() => {
            error.hint("--force replaces it; fhirctl add puts a server into it")
        }
        _ => error,
    })?;

    let mut steps = Steps::default();
    let shown = change::shown(&path);
    steps.push("write", StepStatus::Done, shown.clone());
    let next = match (name, &args.url) {
        (None, _) => "Next: fhirctl add NAME URL registers and tests a server.".to_owned(),
        (Some(name), None)
            if first.as_ref().is_some_and(|server| server.contains_key("active")) =>
        {
            format!(
                "Next: write the URL of {name} into {shown}, then fhirctl test {name} and fhirctl activate {name}."
            )
        }
        (Some(name), _) => format!("Next: fhirctl test {name} shows each stage of reaching it."),
    };
    let output = json!({
        "schema": "fhirctl/init/v1",
        "inventory": shown,
        "server": name,
        "steps": steps.json(),
    });
    Ok(Outcome::printed(steps.output(output, &[next])))
}

fn first_server(args: &InitArgs) -> Result<Option<Map<String, Value>>> {
    if args.vendor.is_none() && args.url.is_none() && args.name.is_none() {
        return Ok(None);
    }
    if let Some(url) = &args.url {
        change::base_url(url)?;
    }
    let known = match &args.vendor {
        Some(vendor) => Some(preset(vendor).ok_or_else(|| {
            Error::usage(format!("no preset is named {vendor}"))
                .hint("fhirctl vendors lists them; leave --vendor out for any other server")
        })?),
        None => None,
    };
    let name = args.name.as_deref().or(args.vendor.as_deref()).unwrap_or("first-server");
    // A public server has one address for everybody; of any other the preset knows only the shape.
    let public = known.filter(|preset| preset.kind == PresetKind::Public);
    let url = args.url.as_deref().or(public.map(|preset| preset.base_url.as_str()));
    let mut server = Map::new();
    server.insert("name".to_owned(), name.into());
    server.insert("url".to_owned(), url.unwrap_or(PLACEHOLDER).into());
    if let Some(vendor) = &args.vendor {
        server.insert("vendor".to_owned(), vendor.as_str().into());
    }
    if url.is_none() {
        server.insert("active".to_owned(), false.into());
    }
    Ok(Some(server))
}
