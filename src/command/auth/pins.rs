//! `auth pins accept NAME`: the key that a server shows now becomes one of its pins.

use base64::Engine as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::command::change::{self, StepStatus, Steps};
use crate::command::check::exact;
use crate::command::show::pins::look;
use crate::context::{Context, Outcome};
use crate::http::Presented;
use crate::inventory::edit::{self, Op, Step};
use crate::model::{Error, ErrorKind, Result};

/// Change the keys that a server is pinned to
#[derive(Debug, Args)]
pub struct PinsArgs {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    Accept(AcceptArgs),
}

/// Add the key that the server shows now to its pins; the old ones stay beside it
///
/// The certificate has to pass the ordinary validation: its issuer, its name and its dates. Compare
/// the pin with what the server's operator says by another way before you confirm it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    fhirctl show ehr --pins                   the keys that it shows now\n  \
    fhirctl auth pins accept ehr              asks before it writes\n  \
    fhirctl auth pins accept ehr --retire --yes")]
pub struct AcceptArgs {
    /// The server's name
    #[arg(value_name = "NAME", add = crate::command::complete::servers())]
    pub name: String,

    /// Add this pin instead of the server's own key; may be given several times
    ///
    /// Such as the key of an authority above it, or the backup key that the operator names. One of
    /// the pins has to be shown now.
    #[arg(long, value_name = "sha256/…", value_parser = pin)]
    pub pin: Vec<String>,

    /// Drop the pins that the server does not show now
    #[arg(long)]
    pub retire: bool,
}

/// # Errors
/// As each verb says.
pub async fn run(args: &PinsArgs, context: &Context) -> Result<Outcome> {
    match &args.action {
        Action::Accept(args) => accept(args, context).await,
    }
}

/// What becomes of a server's pins.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    old: Vec<String>,
    new: Vec<String>,
}

impl Change {
    fn of(old: &[String], asked: &[String], retire: bool, seen: &Presented) -> Change {
        let shown: Vec<&String> = seen.chain.iter().map(|certificate| &certificate.pin).collect();
        let wanted: Vec<&String> = if asked.is_empty() {
            shown.iter().take(1).copied().collect()
        } else {
            asked.iter().collect()
        };
        let mut new: Vec<String> = old
            .iter()
            .filter(|pin| !retire || shown.contains(pin) || wanted.contains(pin))
            .cloned()
            .collect();
        for pin in wanted {
            if !new.contains(pin) {
                new.push(pin.clone());
            }
        }
        Change { old: old.to_vec(), new }
    }

    fn added(&self) -> Vec<&String> {
        self.new.iter().filter(|pin| !self.old.contains(pin)).collect()
    }

    fn retired(&self) -> Vec<&String> {
        self.old.iter().filter(|pin| !self.new.contains(pin)).collect()
    }

    /// As changes of the document: item by item where the list is the server's own, so that what
    /// stands beside an item stays.
    fn ops(&self, document: &Value, name: &str) -> Result<Vec<Op>> {
        let mut list = edit::find_server(document, name)?;
        list.extend(["tls".into(), "pins".into()]);
        let own = edit::lookup(document, &list).and_then(Value::as_array);
        let Some(own) = own.filter(|own| !own.is_empty()) else {
            return Ok(vec![Op::Set(list, json!(self.new))]);
        };
        let added = self.added().into_iter().map(|pin| Op::Append(list.clone(), json!(pin)));
        let retired = self.retired();
        let gone = own.iter().enumerate().rev().filter(|(_, item)| {
            item.as_str().is_some_and(|item| retired.iter().any(|pin| *pin == item))
        });
        let removed = gone.map(|(index, _)| {
            let mut path = list.clone();
            path.push(Step::Index(index));
            Op::Remove(path)
        });
        Ok(added.chain(removed).collect())
    }
}

/// # Errors
/// Exit 64 when it is not confirmed, 65 when the certificate is not to be trusted or no pin is
/// shown, 66 when there is no such server, 69 when none came, 73, 74 or 78 when the inventory
/// cannot be changed. Nothing is changed then.
async fn accept(args: &AcceptArgs, context: &Context) -> Result<Outcome> {
    change::fits(context)?;
    let inventory = context.load_inventory()?;
    let server = exact(&inventory, &args.name)?;
    let seen = look(server, &inventory, context).await?;
    if let Some(trouble) = &seen.trouble {
        return Err(Error::new(
            ErrorKind::Data,
            format!("{} ({}); no pin was accepted", trouble.message, trouble.code),
        )
        .hint("a pin narrows down whom to trust; it cannot make up for a certificate that fails")
        .hint(format!("fhirctl show {} --pins shows what came", args.name)));
    }
    let change = Change::of(&server.tls.pins, &args.pin, args.retire, &seen);
    if !change.new.iter().any(|pin| seen.chain.iter().any(|shown| shown.pin == *pin)) {
        return Err(Error::new(
            ErrorKind::Data,
            format!("{} shows none of these pins, and would be refused with them", args.name),
        )
        .hint(format!("fhirctl show {} --pins shows those that it has now", args.name)));
    }

    let mut steps = Steps::default();
    let certificate = &seen.chain[0];
    steps.push(
        "look",
        StepStatus::Done,
        format!(
            "{} shows {} ({}, until {})",
            args.name,
            certificate.pin,
            certificate.subject,
            certificate.not_after.strftime("%F")
        ),
    );
    let changed = change.new != change.old;
    if changed {
        confirm(&change, args, context)?;
        change::write(context, &inventory.path, |document, before| {
            // What somebody else wrote meanwhile is not thrown away.
            let now = before.server(&args.name).map_or(&[][..], |server| &server.tls.pins);
            Change::of(now, &args.pin, args.retire, &seen).ops(document, &args.name)
        })?;
    }
    for pin in change.added() {
        steps.push("add", StepStatus::Done, pin.as_str());
    }
    for pin in change.old.iter().filter(|pin| change.new.contains(pin)) {
        steps.push("keep", StepStatus::Done, pin.as_str());
    }
    for pin in change.retired() {
        steps.push("retire", StepStatus::Done, pin.as_str());
    }
    match changed {
        true => {
            let told = format!("written to {}", inventory.path.display());
            steps.push("write", StepStatus::Done, told);
        }
        false => steps.push("write", StepStatus::Skipped, "nothing to change: it is so already"),
    }
    let json = json!({
        "schema": "fhirctl/auth-pins-accept/v1",
        "inventory": change::shown(&inventory.path),
        "exit_code": 0,
        "server": args.name,
        "changed": changed,
        "old": change.old,
        "new": change.new,
        "added": change.added(),
        "retired": change.retired(),
        "steps": steps.json(),
    });
    let next = match change.new.len() {
        1 => vec!["One pin alone locks us out when the key is lost: ask for the backup key, and add it with --pin.".to_owned()],
        _ => Vec::new(),
    };
    Ok(Outcome::printed(steps.output(json, &next)))
}

fn confirm(change: &Change, args: &AcceptArgs, context: &Context) -> Result<()> {
    if context.options.yes {
        return Ok(());
    }
    let list = |pins: &[String]| match pins {
        [] => "none".to_owned(),
        pins => pins.join(" "),
    };
    let told = format!("pins now: {}\npins then: {}", list(&change.old), list(&change.new));
    if !context.may_ask() {
        return Err(Error::usage(format!("new pins have to be confirmed\n{told}"))
            .hint("compare them with what the server's operator says, then confirm with --yes"));
    }
    context.notice(&told);
    let answer = dialoguer::Confirm::new()
        .with_prompt(format!("Change the pins of {}?", args.name))
        .default(false)
        .interact()
        .unwrap_or(false);
    if answer { Ok(()) } else { Err(Error::new(ErrorKind::Interrupted, "nothing was changed")) }
}

/// Reads a pin of the command line.
fn pin(text: &str) -> Result<String, String> {
    let digest = text
        .strip_prefix("sha256/")
        .and_then(|rest| base64::engine::general_purpose::STANDARD.decode(rest).ok());
    match digest {
        Some(bytes) if bytes.len() == 32 => Ok(text.to_owned()),
        _ => Err("write sha256/ and the base64 of the 32 bytes of the public key's digest".into()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::http::PresentedCertificate;

    fn seen(pins: &[&str]) -> Presented {
        let certificate = |pin: &&str| PresentedCertificate {
            subject: "CN=x".into(),
            not_after: Timestamp::UNIX_EPOCH,
            pin: (*pin).to_owned(),
        };
        let chain = pins.iter().map(certificate).collect();
        Presented { chain, raw: Vec::new(), trouble: None }
    }

    fn owned(pins: &[&str]) -> Vec<String> {
        pins.iter().map(|pin| (*pin).to_owned()).collect()
    }

    #[test]
    fn old_pins_stay_until_they_are_retired() {
        for (old, asked, retire, expected) in [
            (&[][..], &[][..], false, &["leaf"][..]),
            (&["old"], &[], false, &["old", "leaf"]),
            (&["old"], &[], true, &["leaf"]),
            (&["old", "ca"], &[], true, &["ca", "leaf"]),
            (&["leaf"], &[], false, &["leaf"]),
            (&["leaf", "old"], &["backup"], false, &["leaf", "old", "backup"]),
            (&["leaf", "old"], &["backup"], true, &["leaf", "backup"]),
            (&["leaf", "backup"], &["backup"], true, &["leaf", "backup"]),
            (&[], &["ca"], false, &["ca"]),
        ] {
            let change = Change::of(&owned(old), &owned(asked), retire, &seen(&["leaf", "ca"]));
            assert_eq!(change.new, owned(expected), "{old:?} {asked:?} {retire}");
        }
    }

    #[test]
    fn a_list_is_changed_item_by_item_and_made_where_there_is_none() {
        let document = json!({"servers": [
            {"name": "a", "tls": {"pins": ["old", "ca"]}},
            {"name": "b"},
        ]});
        let change = Change { old: owned(&["old", "ca"]), new: owned(&["ca", "leaf"]) };
        let ops = change.ops(&document, "a").unwrap();
        assert!(matches!(&ops[..], [Op::Append(_, pin), Op::Remove(path)]
            if pin == "leaf" && path.last() == Some(&Step::Index(0))));
        let ops = change.ops(&document, "b").unwrap();
        assert!(matches!(&ops[..], [Op::Set(_, pins)] if *pins == json!(["ca", "leaf"])));
    }

    #[test]
    fn a_pin_is_a_digest_in_base64() {
        assert!(pin("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=").is_ok());
        for text in ["sha256/abc", "sha1/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", ""] {
            assert!(pin(text).is_err(), "{text}");
        }
    }
}
