//! `maintenance on|off|add|list SELECTOR`: planned windows, in which a server does not count.

pub(super) mod time;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use self::time::Moment;
use super::change::{self, ChosenArgs};
use super::selector::SelectorArgs;
use crate::context::{Context, Outcome, parse_duration};
use crate::inventory::edit::{self, Op};
use crate::inventory::{Inventory, select};
use crate::model::{Error, Maintenance, Result, Server};
use crate::render::{Cell, Tone};
use crate::view::human::or_dash;

/// Plan maintenance: a server in it is checked and shown but stays out of the verdict
#[derive(Debug, Args)]
pub struct MaintenanceArgs {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    On(OnArgs),
    Off(OffArgs),
    Add(AddArgs),
    List(ListArgs),
}

/// Begin maintenance now, until it is switched off or a time
#[derive(Debug, Args)]
pub struct OnArgs {
    #[command(flatten)]
    pub selector: ChosenArgs,

    /// When it ends: 2026-12-02T02:00:00Z, or local time such as 2026-12-02T02:00
    #[arg(long, value_name = "TIME", conflicts_with = "for")]
    pub until: Option<String>,

    /// How long it takes, such as 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub r#for: Option<Duration>,

    /// What is done; shown beside the server
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// End maintenance now
#[derive(Debug, Args)]
pub struct OffArgs {
    #[command(flatten)]
    pub selector: ChosenArgs,
}

/// Enter a window, to come or afterwards
///
/// A window that had begun before it was entered is marked with the time of its entry.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    pub selector: ChosenArgs,

    /// When it begins: 2026-12-01T22:00:00-05:00, or local time such as 2026-12-01T22:00
    #[arg(long, value_name = "TIME")]
    pub from: String,

    /// When it ends
    #[arg(
        long,
        visible_alias = "until",
        value_name = "TIME",
        conflicts_with = "for",
        required_unless_present = "for"
    )]
    pub to: Option<String>,

    /// How long it takes, such as 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub r#for: Option<Duration>,

    /// What is done; shown beside the server
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// List the windows with their state
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,
}

/// # Errors
/// Exit 64 for a time that cannot be meant or without a selector, 66 when nothing matches, 73, 74
/// or 78 when the inventory cannot be changed.
pub fn run(args: &MaintenanceArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let now = context.clock.now();
    match &args.action {
        Action::On(args) => on(args, now, context),
        Action::Off(args) => off(args, now, context),
        Action::Add(args) => add(args, now, context),
        Action::List(args) => list(args, now, context),
    }
}

fn on(args: &OnArgs, now: Timestamp, context: &Context) -> Result<Outcome> {
    let from = Moment::at(now)?;
    let until = end(&from, args.until.as_deref(), args.r#for)?;
    if until.as_ref().is_some_and(|until| until.instant <= now) {
        return Err(Error::usage("maintenance that ends before now")
            .hint("fhirctl maintenance add --from T --to T enters a window afterwards"));
    }
    change_windows("on", &args.selector, now, context, |server, place| {
        let open = server
            .maintenance
            .iter()
            .position(|window| window.covers(now) && window.until.is_none());
        match (open, &until) {
            (Some(_), None) => Ok(Vec::new()),
            (Some(index), Some(until)) => Ok(vec![until_of(place, index, until)]),
            (None, until) => {
                Ok(vec![window(place, &from, until.as_ref(), args.reason.as_deref(), None)])
            }
        }
    })
}

fn off(args: &OffArgs, now: Timestamp, context: &Context) -> Result<Outcome> {
    change_windows("off", &args.selector, now, context, |server, place| {
        let open = server.maintenance.iter().enumerate().filter(|(_, window)| window.covers(now));
        open.map(|(index, window)| {
            // Seconds are written, and a window has to end after it began.
            let earliest =
                window.from.and_then(|from| from.checked_add(SignedDuration::from_secs(1)).ok());
            let end = earliest.map_or(now, |earliest| earliest.max(now));
            Ok(until_of(place, index, &Moment::at(end)?))
        })
        .collect()
    })
}

fn add(args: &AddArgs, now: Timestamp, context: &Context) -> Result<Outcome> {
    let from = Moment::parse(&args.from)?;
    let until = end(&from, args.to.as_deref(), args.r#for)?;
    if until.as_ref().is_some_and(|until| until.instant <= from.instant) {
        return Err(Error::usage("the window ends before it begins"));
    }
    let entered = if from.instant < now { Some(Moment::at(now)?) } else { None };
    change_windows("add", &args.selector, now, context, |server, place| {
        let there = server.maintenance.iter().any(|window| {
            window.from == Some(from.instant)
                && window.until == until.as_ref().map(|until| until.instant)
        });
        if there {
            return Ok(Vec::new());
        }
        let reason = args.reason.as_deref();
        Ok(vec![window(place, &from, until.as_ref(), reason, entered.as_ref())])
    })
}

fn list(args: &ListArgs, now: Timestamp, context: &Context) -> Result<Outcome> {
    let path = context.inventory_path()?;
    let inventory = crate::inventory::load(&path, &crate::inventory::Overrides::default())?;
    let selection = args.selector.selection();
    let names = if selection == select::Selection::default() {
        inventory.servers.iter().map(|server| server.name.clone()).collect()
    } else {
        change::selected(&inventory, &selection)?
    };
    Ok(outcome("list", &inventory, &names, &[], now))
}

/// The end of a window from one of two options; `None` when neither is given.
fn end(from: &Moment, until: Option<&str>, length: Option<Duration>) -> Result<Option<Moment>> {
    match (until, length) {
        (Some(text), _) => Moment::parse(text).map(Some),
        (None, Some(length)) => from.after(length).map(Some),
        (None, None) => Ok(None),
    }
}

/// The place of a server's windows in the document.
fn windows_of(document: &Value, name: &str) -> Result<edit::Path> {
    let mut place = edit::find_server(document, name)?;
    place.push("maintenance".into());
    Ok(place)
}

fn window(
    place: &edit::Path,
    from: &Moment,
    until: Option<&Moment>,
    reason: Option<&str>,
    entered: Option<&Moment>,
) -> Op {
    let mut window = Map::new();
    window.insert("from".to_owned(), from.text.as_str().into());
    if let Some(until) = until {
        window.insert("until".to_owned(), until.text.as_str().into());
    }
    if let Some(reason) = reason {
        window.insert("reason".to_owned(), reason.into());
    }
    if let Some(entered) = entered {
        window.insert("entered".to_owned(), entered.text.as_str().into());
    }
    window.insert("entered_by".to_owned(), super::author().into());
    Op::Append(place.clone(), Value::Object(window))
}

fn until_of(place: &edit::Path, index: usize, until: &Moment) -> Op {
    let mut place = place.clone();
    place.extend([index.into(), "until".into()]);
    Op::Set(place, until.text.as_str().into())
}

/// Changes the windows of the selected servers; `change` says how, and nothing for one that is so
/// already.
fn change_windows(
    action: &str,
    selector: &ChosenArgs,
    now: Timestamp,
    context: &Context,
    change: impl Fn(&Server, &edit::Path) -> Result<Vec<Op>>,
) -> Result<Outcome> {
    let path = context.inventory_path()?;
    let mut names = Vec::new();
    let mut changed = Vec::new();
    let after = change::write(context, &path, |document, inventory| {
        let mut ops = Vec::new();
        for name in change::chosen(inventory, selector)? {
            if let Some(server) = inventory.server(&name) {
                let place = windows_of(document, &name)?;
                let more = change(server, &place)?;
                if !more.is_empty() {
                    own_windows(document, &place, server)?;
                    changed.push(name.clone());
                }
                ops.extend(more);
            }
            names.push(name);
        }
        Ok(ops)
    })?;
    Ok(outcome(action, &after, &names, &changed, now))
}

/// Windows that come from `defaults` belong to many servers: they are not changed for one.
fn own_windows(document: &Value, place: &edit::Path, server: &Server) -> Result<()> {
    if edit::lookup(document, place).is_none() && !server.maintenance.is_empty() {
        return Err(Error::config(format!(
            "the windows of {} come from defaults, which other servers share",
            server.name
        ))
        .hint("change them there by hand, or copy them into the server's entry first"));
    }
    Ok(())
}

fn outcome(
    action: &str,
    inventory: &Inventory,
    names: &[String],
    changed: &[String],
    now: Timestamp,
) -> Outcome {
    let servers: Vec<&Server> = names.iter().filter_map(|name| inventory.server(name)).collect();
    let entries: Vec<Value> = servers
        .iter()
        .map(|server| {
            json!({
                "name": server.name,
                "state": server.state(now),
                "changed": changed.contains(&server.name),
                "windows": server
                    .maintenance
                    .iter()
                    .map(|window| json!({
                        "from": window.from,
                        "until": window.until,
                        "reason": window.reason,
                        "entered": window.entered,
                        "entered_by": window.entered_by,
                        "state": phase(window, now).0,
                    }))
                    .collect::<Vec<Value>>(),
            })
        })
        .collect();
    let mut rows = Vec::new();
    let at =
        |at: Option<Timestamp>| at.map_or_else(Cell::nothing, |at| Cell::plain(at.to_string()));
    for server in servers {
        for window in &server.maintenance {
            let (state, tone) = phase(window, now);
            rows.push(vec![
                Cell::toned(server.name.as_str(), Tone::Strong),
                Cell::toned(state, tone),
                at(window.from),
                at(window.until),
                or_dash(window.reason.as_deref()),
            ]);
        }
        if server.maintenance.is_empty() {
            let name = Cell::toned(server.name.as_str(), Tone::Strong);
            rows.push(vec![name, Cell::toned("none", Tone::Dim), at(None), at(None), at(None)]);
        }
    }
    let output = json!({
        "schema": "fhirctl/maintenance/v1",
        "inventory": change::shown(&inventory.path),
        "action": action,
        "servers": entries,
    });
    let head = ["SERVER", "WINDOW", "FROM", "UNTIL", "REASON"];
    Outcome::printed(change::servers_output(output, &head, rows))
}

fn phase(window: &Maintenance, now: Timestamp) -> (&'static str, Tone) {
    if window.covers(now) {
        ("open", Tone::Warning)
    } else if window.from.is_some_and(|from| from > now) {
        ("planned", Tone::Plain)
    } else {
        ("past", Tone::Dim)
    }
}
