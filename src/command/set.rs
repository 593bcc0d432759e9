//! `set NAME KEY=VALUE…`: changed, tested, and only then kept.

use clap::Args;
use serde_json::{Value, json};

use super::change::{self, Assignment, StepStatus, Steps};
use super::test::probe_registered;
use crate::context::{Context, Outcome};
use crate::inventory::edit::{self, store};
use crate::model::{Error, Exit, Result, ServerReport};

/// Change a server's entry; the change is kept only when the server passes its test with it
///
/// The changed entry is tested against the live server before it replaces the old one. A test that
/// ends critical or unknown leaves the inventory as it was, and its exit code is returned: 2 or 3.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl set ehr timeouts.total=30s labels.env=prod\n  \
    fhirctl set ehr 'checks.search=[\"Patient?_summary=count\"]'\n  \
    fhirctl set ehr auth.password=env:EHR_PASSWORD\n  \
    fhirctl set ehr labels.team=            takes the key out")]
pub struct SetArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = super::complete::servers())]
    pub name: String,

    /// What to change, such as timeouts.total=30s; the value is YAML, and nothing takes the key out
    #[arg(value_name = "KEY=VALUE", required = true)]
    pub settings: Vec<String>,

    /// Keep the change without a test
    #[arg(long)]
    pub no_test: bool,

    /// Keep the change even when the test fails
    #[arg(long)]
    pub force: bool,
}

/// # Errors
/// Exit 64 for what cannot be meant, 66 when there is no such server, 73, 74 or 78 when the
/// inventory cannot be changed. Nothing is changed then.
pub async fn run(args: &SetArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let path = context.inventory_path()?;
    let settings =
        args.settings.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
    if settings.iter().any(|setting| setting.key == ["name"]) {
        return Err(Error::usage("set does not change a name")
            .hint(format!("fhirctl rename {} NEW changes it in groups and jobs too", args.name)));
    }

    let text = store::read(&path)?;
    let document = edit::document(&text)?;
    let method = edit::server_entry(&document, &args.name)
        .and_then(|entry| entry.get("auth")?.get("method")?.as_str());
    for setting in &settings {
        change::refuse_secrets(setting, method)?;
    }
    let ops = change::ops(&document, &args.name, &settings)?;
    let (candidate, _) = change::checked(&text, document, &ops, &path)?;

    let mut steps = Steps::default();
    let mut report = None;
    let mut kept = true;
    if candidate == text {
        steps.push("validate", StepStatus::Skipped, "nothing to change: it is so already");
    } else {
        steps.push("validate", StepStatus::Done, "the inventory is valid with the change");
        if args.no_test {
            steps.push("test", StepStatus::Skipped, "--no-test");
        } else {
            // Beside the inventory, so that relative paths in it lead to the same files.
            let staged = store::candidate(&path, &candidate)?;
            let progress = context.progress(&format!("testing {} with the change", args.name), 0);
            let tested = probe_registered(context, staged.path(), &args.name).await;
            progress.finish();
            let tested = tested?;
            let passed = change::passes(&tested);
            let status = if passed { StepStatus::Done } else { StepStatus::Failed };
            steps.push("test", status, change::told(&tested));
            kept = passed || args.force;
            report = Some(tested);
        }
        if kept {
            change::write(context, &path, |document, _| {
                change::ops(document, &args.name, &settings)
            })?;
            steps.push("keep", StepStatus::Done, format!("written to {}", path.display()));
        } else {
            steps.push("keep", StepStatus::Skipped, "the inventory is as it was");
            let keys: Vec<String> = settings.iter().map(|setting| setting.key.join(".")).collect();
            change::refused(context, &args.name, &keys.join(", "), report.as_ref());
        }
    }
    let next = match kept {
        true => Vec::new(),
        false => vec![
            "The change was not kept. --force keeps it all the same, --no-test asks for no test."
                .to_owned(),
        ],
    };
    let exit =
        report.as_ref().map_or(Exit::OK, |report: &ServerReport| Exit(report.status.exit_code()));
    let output = json!({
        "schema": "fhirctl/set/v1",
        "inventory": change::shown(&path),
        "exit_code": exit.0,
        "server": args.name,
        "keys": settings.iter().map(|setting| setting.key.join(".").into()).collect::<Vec<Value>>(),
        "kept": kept && candidate != text,
        "steps": steps.json(),
        "report": change::report_json(report.as_ref()),
    });
    Ok(Outcome { output: Some(steps.output(output, &next)), exit })
}
