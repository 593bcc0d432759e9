//! `incidents list|note|close`: outages as history knows them, and what people write of them.

use clap::{Args, Subcommand};

use super::report::window::WindowArgs;
use super::selector::SelectorArgs;
use crate::context::{Context, Outcome};
use crate::history::{Note, NoteKind};
use crate::inventory::select;
use crate::model::{Error, ErrorKind, Party, Result};
use crate::report::{self, parse_key};
use crate::view;

/// List outages from history, and keep what is found out about them
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl incidents list --last 7d\n  \
    fhirctl incidents note epic-prod@2026-11-03T02:14:05.123Z --case 4711 'told the vendor'\n  \
    fhirctl incidents close epic-prod@2026-11-03T02:14:05.123Z --cause 'expired certificate' --party vendor")]
pub struct IncidentsArgs {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Outages of a window, with party, reason and case
    List(ListArgs),
    /// Write something down about an incident; no patient's data
    Note(NoteArgs),
    /// Close an incident: its cause, whose it was
    Close(CloseArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,

    #[command(flatten)]
    pub window: WindowArgs,

    /// Only those that nobody has closed
    #[arg(long)]
    pub unclosed: bool,
}

#[derive(Debug, Args)]
pub struct NoteArgs {
    /// The incident: SERVER@INSTANT, as list shows it
    #[arg(value_name = "INCIDENT")]
    pub incident: String,

    /// What is to be kept
    #[arg(value_name = "TEXT")]
    pub text: String,

    #[command(flatten)]
    pub facts: Facts,
}

#[derive(Debug, Args)]
pub struct CloseArgs {
    /// The incident: SERVER@INSTANT, as list shows it
    #[arg(value_name = "INCIDENT")]
    pub incident: String,

    /// What else is to be kept
    #[arg(value_name = "TEXT", default_value = "")]
    pub text: String,

    #[command(flatten)]
    pub facts: Facts,
}

/// What is known of an incident.
#[derive(Debug, Args)]
pub struct Facts {
    /// What it came from
    #[arg(long, value_name = "TEXT")]
    pub cause: Option<String>,

    /// Who had to act: ours, network, identity_provider, vendor or undetermined
    #[arg(long, value_name = "PARTY", value_parser = party)]
    pub party: Option<Party>,

    /// The vendor's number
    #[arg(long = "case", value_name = "NUMBER")]
    pub case_number: Option<String>,
}

fn party(text: &str) -> Result<Party, String> {
    Party::find(text).ok_or_else(|| {
        let names: Vec<&str> = Party::ALL.iter().map(|party| party.as_str()).collect();
        format!("one of {}", names.join(", "))
    })
}

/// # Errors
/// Exit 64 for one that is closed already, 66 when there is no such server, incident or history.
pub async fn run(args: &IncidentsArgs, context: &Context) -> Result<Outcome> {
    match &args.action {
        Action::List(args) => list(args, context).await,
        Action::Note(args) => {
            let kind = if args.facts.cause.is_some() { NoteKind::Cause } else { NoteKind::Note };
            keep(context, &args.incident, kind, &args.text, &args.facts).await
        }
        Action::Close(args) => {
            keep(context, &args.incident, NoteKind::Close, &args.text, &args.facts).await
        }
    }
}

async fn list(args: &ListArgs, context: &Context) -> Result<Outcome> {
    let inventory = context.load_inventory()?;
    let now = context.clock.now();
    let chosen = args.window.choose_past(now)?;
    let servers = select(&inventory, &args.selector.selection())?;
    let store = context.look_at_history(&inventory).await?;
    let known = report::known(&store).await?;
    let mut all = Vec::new();
    for server in servers {
        let is_known = known.contains_key(&server.name);
        let (window, zone) = (chosen.window, &chosen.zone);
        let now = now.as_millisecond();
        let one = report::availability(&store, server, is_known, window, zone, now).await?;
        all.extend(one.incidents);
    }
    all.retain(|outage| !args.unclosed || !outage.closed);
    all.sort_by_key(|outage| outage.from);
    let output = view::incidents::list(&chosen.zone, chosen.window, &all);
    Ok(Outcome::printed(output))
}

async fn keep(
    context: &Context,
    incident: &str,
    kind: NoteKind,
    text: &str,
    facts: &Facts,
) -> Result<Outcome> {
    let (server, at) = parse_key(incident)?;
    let has_facts = facts.cause.is_some() || facts.party.is_some() || facts.case_number.is_some();
    if kind == NoteKind::Note && text.trim().is_empty() && !has_facts {
        return Err(Error::usage("the note says nothing; write what is to be kept"));
    }
    let inventory = context.load_inventory()?;
    let store = context.look_at_history(&inventory).await?;
    let mut found = false;
    store
        .points(&server, at..at + 1, |point| {
            found |= point.at == at;
            Ok(())
        })
        .await?;
    if !found {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("history has no reading of {server} at that instant"),
        )
        .hint("fhirctl incidents list shows the names of incidents"));
    }
    let notes = store.notes(Some(&server), at..at + 1).await?;
    let closed = notes.iter().find(|note| note.at == at && note.kind == NoteKind::Close);
    if let Some(closed) = closed.filter(|_| kind == NoteKind::Close) {
        return Err(Error::usage(format!(
            "{incident} is closed already, by {} on {}",
            closed.author,
            closed.written_at.strftime("%F %T UTC")
        ))
        .hint(format!(
            "fhirctl incidents note {incident} --cause '…' --party … 'why' changes what is known, and both are kept"
        )));
    }
    let note = Note {
        id: 0,
        server: Some(server.clone()),
        at,
        written_at: context.clock.now(),
        author: super::author(),
        kind,
        cause: facts.cause.clone(),
        party: facts.party,
        case_number: facts.case_number.clone(),
        text: text.to_owned(),
    };
    let result = store.add_note(&note).await;
    context.audit().outcome(Some(&server), &format!("incident {}", kind.as_str()), &result);
    result?;
    Ok(Outcome::printed(view::incidents::kept(incident, &note)))
}
