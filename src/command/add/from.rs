//! `add --from`: every server of a published directory, inactive.

use std::path::Path;

use serde_json::{Map, Value, json};
use url::Url;

use super::{AddArgs, fetch, label};
use crate::command::change;
use crate::command::init::TEMPLATE;
use crate::context::{Context, Outcome};
use crate::inventory::directory::{self, Addition, Common, Directory, Invalid, Plan, Skipped};
use crate::inventory::edit::{self, store};
use crate::inventory::preset;
use crate::inventory::{self, Overrides};
use crate::model::text::nearest;
use crate::model::{Error, ErrorKind, Exit, Result};
use crate::render::{Block, Cell, Output, Table, Tone};
use crate::view::human::or_dash;

/// How many rows are shown before a person is asked, and how many reasons after.
const SHOWN: usize = 20;

/// # Errors
/// Exit 64 for what cannot be meant, 65 when the source is no directory, 66 when there is no such
/// file, 69 when the URL cannot be fetched, 73, 74 or 78 when the inventory cannot be changed.
pub(super) async fn run(source: &str, args: &AddArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let common = common(args)?;
    let path = change::destination(context);
    let fresh = !path.exists();
    let text = if fresh { TEMPLATE.to_owned() } else { store::read(&path)? };
    inventory::parse(&text, &path, &Overrides::default())?;
    let document = edit::document(&text)?;
    let bytes = fetch::directory(source, &document, &path, context).await?;
    let shown = source_shown(source);
    let directory = read(&bytes, &shown)?;
    drop(bytes);

    let mut plan = directory::plan(&directory, &document, &common);
    let ask = !args.dry_run && !context.options.yes && context.may_ask();
    if ask && !plan.additions.is_empty() {
        confirm(&plan, context)?;
    }
    if !args.dry_run && !plan.additions.is_empty() {
        if fresh {
            make(&path)?;
        }
        // What was shown may have been overtaken by another edit: it is planned anew under the lock.
        change::write(context, &path, |document, _| {
            plan = directory::plan(&directory, document, &common);
            Ok(vec![directory::op(&plan.additions)])
        })?;
    }
    let nothing = plan.additions.is_empty() && plan.skipped.is_empty();
    let exit = if nothing { Exit::DATA } else { Exit::OK };
    let report = Report {
        plan: &plan,
        form: directory.form,
        source: &shown,
        path: &path,
        dry_run: args.dry_run,
        exit,
    };
    Ok(Outcome { output: Some(report.output()), exit })
}

fn common(args: &AddArgs) -> Result<Common> {
    if let Some(vendor) = &args.vendor {
        known_vendor(vendor)?;
    }
    let labels = args.labels.iter().map(|text| label(text)).collect::<Result<Map<_, _>>>()?;
    Ok(Common { vendor: args.vendor.clone(), labels })
}

/// # Errors
/// Exit 64 when no preset has this name.
pub(super) fn known_vendor(vendor: &str) -> Result<&'static preset::Preset> {
    preset::preset(vendor).ok_or_else(|| {
        let error = Error::usage(format!("no preset is named {vendor}"));
        match nearest(vendor, preset::names()) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error.hint("fhirctl vendors lists them"),
        }
    })
}

fn source_shown(source: &str) -> String {
    match Url::parse(source) {
        Ok(url) if source.contains("://") => fetch::shown(&url),
        _ => source.to_owned(),
    }
}

fn read(bytes: &[u8], source: &str) -> Result<Directory> {
    let wrong = |reason: &str| {
        Error::new(ErrorKind::Data, format!("{source}: {reason}")).hint(
            "--from reads a FHIR Bundle of Endpoints, NDJSON of them, or CSV with a column url",
        )
    };
    let directory = directory::read(bytes).map_err(|reason| wrong(&reason))?;
    if directory.candidates.is_empty() && directory.invalid.is_empty() {
        return Err(wrong("it holds no endpoint"));
    }
    Ok(directory)
}

/// Makes a first inventory; one that somebody else made in the meantime is used.
fn make(path: &Path) -> Result<()> {
    match store::create(path, TEMPLATE, false) {
        Err(error) if !path.exists() => Err(error),
        _ => Ok(()),
    }
}

fn confirm(plan: &Plan, context: &Context) -> Result<()> {
    for addition in plan.additions.iter().take(SHOWN) {
        let note = addition.unroutable.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        context.notice(&format!("  {}  {}{note}", addition.name, addition.url));
    }
    if plan.additions.len() > SHOWN {
        context.notice(&format!("  … and {} more", plan.additions.len() - SHOWN));
    }
    let answer = dialoguer::Confirm::new()
        .with_prompt(format!("{}. Register them, inactive?", totals(plan)))
        .default(true)
        .interact()
        .unwrap_or(false);
    if answer { Ok(()) } else { Err(Error::new(ErrorKind::Interrupted, "nothing was registered")) }
}

fn unroutable(plan: &Plan) -> usize {
    plan.additions.iter().filter(|addition| addition.unroutable.is_some()).count()
}

fn totals(plan: &Plan) -> String {
    let mut parts = vec![format!("{} to add", plan.additions.len())];
    if unroutable(plan) > 0 {
        parts.push(format!("{} of them unroutable", unroutable(plan)));
    }
    parts.push(format!("{} there already", plan.skipped.len()));
    parts.push(format!("{} not usable", plan.invalid.len()));
    parts.join(", ")
}

/// What was done, or would be.
struct Report<'a> {
    plan: &'a Plan,
    form: &'static str,
    source: &'a str,
    path: &'a Path,
    dry_run: bool,
    exit: Exit,
}

impl Report<'_> {
    fn output(&self) -> Output {
        let rows = self.rows();
        let mut document = Vec::new();
        if !self.plan.additions.is_empty() {
            document.push(Block::Table(rows.clone()));
        }
        document.extend(reasons(
            "There already",
            self.plan.skipped.iter().map(|Skipped { url, reason }| (url, reason)),
        ));
        document.extend(reasons(
            "Not usable",
            self.plan.invalid.iter().map(|Invalid { place, reason }| (place, reason)),
        ));
        let line = |text: String| Block::Text(vec![Cell::plain(text)]);
        document.push(Block::Blank);
        document.push(line(self.summary()));
        if let Some(first) = self.plan.additions.first().filter(|_| !self.dry_run) {
            document.push(line(format!(
                "Next: fhirctl test {0} tries one; fhirctl activate {0} puts it in use.",
                first.name
            )));
        }
        Output { json: self.json(), document, rows: Some(rows), ..Output::default() }
    }

    fn summary(&self) -> String {
        let path = change::shown(self.path);
        if self.dry_run {
            return format!("{}; nothing was written.", totals(self.plan));
        }
        let added = match self.plan.additions.len() {
            0 => "Nothing was added".to_owned(),
            1 => format!("1 server was added to {path}, inactive"),
            count => format!("{count} servers were added to {path}, inactive"),
        };
        let unroutable = match unroutable(self.plan) {
            0 => String::new(),
            count => format!(" ({count} labelled {}=true)", directory::UNROUTABLE),
        };
        format!(
            "{added}{unroutable}; {} there already, {} not usable.",
            self.plan.skipped.len(),
            self.plan.invalid.len()
        )
    }

    fn rows(&self) -> Table {
        let row = |addition: &Addition| {
            vec![
                Cell::toned(&addition.name, Tone::Strong),
                Cell::plain(&addition.url),
                or_dash(addition.organization.as_deref()),
                or_dash(addition.fhir_version),
                match &addition.unroutable {
                    Some(why) => Cell::toned(format!("unroutable: {why}"), Tone::Warning),
                    None => Cell::plain(""),
                },
            ]
        };
        Table {
            head: ["NAME", "URL", "ORGANIZATION", "VERSION", "NOTE"].map(str::to_owned).to_vec(),
            rows: self.plan.additions.iter().map(row).collect(),
        }
    }

    fn json(&self) -> Value {
        let added = self.plan.additions.iter().map(|addition| {
            json!({
                "name": addition.name,
                "url": addition.url,
                "organization": addition.organization,
                "vendor": addition.vendor,
                "fhir_version": addition.fhir_version,
                "labels": addition.entry.get("labels").cloned().unwrap_or_else(|| json!({})),
                "unroutable": addition.unroutable.is_some(),
                "reason": addition.unroutable,
            })
        });
        let skipped = self.plan.skipped.iter();
        let invalid = self.plan.invalid.iter();
        json!({
            "schema": "fhirctl/add-from/v1",
            "inventory": change::shown(self.path),
            "source": self.source,
            "form": self.form,
            "dry_run": self.dry_run,
            "exit_code": self.exit.0,
            "added": added.collect::<Vec<_>>(),
            "skipped": skipped.map(|s| json!({"url": s.url, "reason": s.reason})).collect::<Vec<_>>(),
            "invalid": invalid.map(|i| json!({"place": i.place, "reason": i.reason})).collect::<Vec<_>>(),
            "totals": {
                "added": self.plan.additions.len(),
                "unroutable": unroutable(self.plan),
                "skipped": self.plan.skipped.len(),
                "invalid": self.plan.invalid.len(),
            },
        })
    }
}

/// Entries that were left out, the first of them each with its reason.
fn reasons<'r>(
    head: &str,
    entries: impl ExactSizeIterator<Item = (&'r String, &'r String)>,
) -> Vec<Block> {
    let count = entries.len();
    if count == 0 {
        return Vec::new();
    }
    let mut lines: Vec<Block> =
        vec![Block::Blank, Block::Text(vec![Cell::plain(format!("{head}:"))])];
    lines.extend(
        entries
            .take(SHOWN)
            .map(|(what, why)| Block::Text(vec![Cell::plain(format!("  {what}: {why}"))])),
    );
    if count > SHOWN {
        lines.push(Block::Text(vec![Cell::plain(format!(
            "  … and {} more; -o json lists all",
            count - SHOWN
        ))]));
    }
    lines
}
