//! `lint`: the inventory held against best practice, and what is asked of each server in a day.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;

use super::selector::SelectorArgs;
use super::{change, complete};
use crate::auth::Record;
use crate::context::{Context, Outcome};
use crate::inventory::edit::Op;
use crate::inventory::{self, Inventory, Overrides, Survey};
use crate::lint::expiring::Kind;
use crate::lint::{self, Finding, Input, Known, KnownCertificate, Options, RuleInfo};
use crate::model::text::nearest;
use crate::model::{Error, Result, SecretRef, Server};
use crate::render::Format;
use crate::view;
use crate::view::lint::LintRun;

/// Hold the inventory against best practice, and count what is asked of each server in a day
///
/// Sends nothing. Ends with 0 when nothing is worse than an info, 1 for warnings, 2 for errors.
#[derive(Debug, Args)]
pub struct LintArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,

    /// Mend in the file what can be mended without changing what it means; comments stay
    #[arg(long)]
    pub fix: bool,

    /// Only this rule, such as tls.plain-http; may be given several times
    #[arg(long, value_name = "ID", add = complete::rules())]
    pub rule: Vec<String>,

    /// Without this rule; may be given several times
    #[arg(long, value_name = "ID", add = complete::rules())]
    pub skip: Vec<String>,

    /// List the rules
    #[arg(long, conflicts_with_all = ["fix", "rule", "skip", "selectors", "labels", "vendor", "group"])]
    pub list_rules: bool,
}

/// # Errors
/// Exit 64 for a rule that there is none of, 66 when nothing matches, 78 when the inventory is not
/// valid; with `--fix` also what keeps it from being written.
pub fn run(args: &LintArgs, context: &Context) -> Result<Outcome> {
    if args.list_rules {
        return Ok(Outcome::printed(view::lint::rules()?));
    }
    let mut fitting = Format::ROWS.to_vec();
    fitting.push(Format::Junit);
    context.options.output.among(&fitting)?;
    for id in args.rule.iter().chain(&args.skip) {
        known_rule(id)?;
    }
    let path = context.inventory_path()?;
    let now = context.clock.now();
    let fixed = if args.fix { fix(args, &path, now)? } else { Vec::new() };
    let text = inventory::read(&path)?;
    let (inventory, survey) = Survey::read(&text, &path, &Overrides::default())?;
    let options = options(args, &inventory)?;
    let known = known(context, &inventory, &options.servers);
    let input = Input { inventory: &inventory, survey: &survey, known: &known, now };
    let places = (0..).zip(&inventory.servers);
    let chosen: Vec<(usize, &Server)> =
        places.filter(|(_, server)| options.servers.contains(&server.name)).collect();
    let run = LintRun {
        inventory: change::shown(&path),
        generated_at: now,
        servers: chosen.iter().map(|(_, server)| server.name.clone()).collect(),
        findings: lint::lint(&input, &options),
        fixed,
        load: chosen.iter().map(|(index, _)| lint::load(&input, *index)).collect(),
        ran: RuleInfo::all().map(|rule| rule.id.as_str()).filter(|id| options.wants(id)).collect(),
    };
    let exit = run.exit();
    Ok(Outcome { output: Some(run.output()?), exit })
}

fn known_rule(id: &str) -> Result<()> {
    if RuleInfo::find(id).is_some() {
        return Ok(());
    }
    let error = Error::usage(format!("no rule is named {id:?}"));
    Err(match nearest(id, RuleInfo::all().map(|rule| rule.id.as_str())) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("fhirctl lint --list-rules lists them"),
    })
}

fn options(args: &LintArgs, inventory: &Inventory) -> Result<Options> {
    let servers = inventory::select(inventory, &args.selector.selection())?;
    Ok(Options {
        servers: servers.into_iter().map(|server| server.name.clone()).collect(),
        only: args.rule.clone(),
        skip: args.skip.clone(),
    })
}

/// Mends what can be mended, under the file's lock; gives what was mended.
fn fix(args: &LintArgs, path: &Path, now: Timestamp) -> Result<Vec<Finding>> {
    let mut fixed = Vec::new();
    inventory::edit::store::edit(path, |text| {
        let (inventory, survey) = Survey::read(text, path, &Overrides::default())?;
        let options = options(args, &inventory)?;
        let known = Known::default();
        let input = Input { inventory: &inventory, survey: &survey, known: &known, now };
        // Servers that share defaults have the same finding at the same place.
        let mut places = BTreeSet::new();
        fixed = lint::lint(&input, &options)
            .into_iter()
            .filter(|finding| finding.fix.is_some())
            .filter(|finding| places.insert((&finding.rule.id, finding.location.key.clone())))
            .collect();
        let ops: Vec<Op> = fixed.iter().filter_map(|finding| finding.fix.clone()).collect();
        if ops.is_empty() {
            return Ok(text.to_owned());
        }
        let document = inventory::edit::document(text)?;
        Ok(change::checked(text, document, &ops, path)?.0)
    })?;
    Ok(fixed)
}

/// What can be known without a connection and without a secret.
fn known(context: &Context, inventory: &Inventory, servers: &BTreeSet<String>) -> Known {
    let mut known = Known::default();
    let ages = Ages::read(context, inventory);
    for server in inventory.servers.iter().filter(|server| servers.contains(&server.name)) {
        if let Some(since) = ages.since(server) {
            known.credential_since.insert(server.name.clone(), since);
        }
        let client = server.tls.client_certificate.iter().map(|client| client.file());
        let mut certificates = Vec::new();
        for (kind, file) in client
            .map(|file| (Kind::ClientCertificate, file))
            .chain(server.tls.ca.iter().map(|file| (Kind::CaCertificate, file.as_path())))
        {
            let found = crate::http::certificates_in(file).unwrap_or_default();
            certificates.extend(
                found
                    .into_iter()
                    .map(|facts| KnownCertificate { kind, not_after: facts.not_after }),
            );
        }
        if !certificates.is_empty() {
            known.certificates.insert(server.name.clone(), certificates);
        }
    }
    known
}

/// Since when secrets and keys are in place, as far as this machine can tell.
pub(super) struct Ages(Vec<Record>);

impl Ages {
    /// Reads what signing in has remembered; asks for no secret.
    pub(super) fn read(context: &Context, inventory: &Inventory) -> Ages {
        Ages(context.surroundings(inventory).keeper.records(None))
    }

    /// The last change of a secret's file; else when the credential was first used from here.
    pub(super) fn since(&self, server: &Server) -> Option<Timestamp> {
        let changed = |reference: &&SecretRef| match reference {
            SecretRef::File { path } => {
                let modified =
                    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
                Timestamp::try_from(modified).ok()
            }
            _ => None,
        };
        let references = server.auth.references();
        let in_file = references.iter().filter_map(changed).min();
        in_file.or_else(|| {
            let own = self.0.iter().filter(|record| {
                record.server == server.name && record.method == server.auth.method()
            });
            own.max_by_key(|record| record.accepted_at.max(record.refused_at))?.since
        })
    }
}
