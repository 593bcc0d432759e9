//! `show NAME --pins`: the keys that a server shows now, and those that the inventory holds.

use serde_json::{Value, json};

use crate::auth;
use crate::command::change;
use crate::context::{Context, Outcome};
use crate::http::{Client, Failure, Presented};
use crate::inventory::Inventory;
use crate::model::server::Server;
use crate::model::{Error, ErrorKind, Result};
use crate::render::{Block, Cell, Output, Table, Tone};

/// Looks at the certificates and prints their pins, whether or not they would be trusted.
///
/// # Errors
/// Exit 69 when no certificate came, 77 when the proxy's password cannot be had.
pub async fn run(server: &Server, inventory: &Inventory, context: &Context) -> Result<Outcome> {
    let seen = look(server, inventory, context).await?;
    let pins = &server.tls.pins;
    let is_set = |pin: &String| pins.contains(pin);
    let is_shown = |pin: &String| seen.chain.iter().any(|shown| shown.pin == *pin);
    let matches = (!pins.is_empty()).then(|| pins.iter().any(is_shown));
    let certificates: Vec<Value> = seen
        .chain
        .iter()
        .enumerate()
        .map(|(index, certificate)| {
            json!({
                "position": index,
                "subject": certificate.subject,
                "not_after": certificate.not_after,
                "pin": certificate.pin,
                "configured": is_set(&certificate.pin),
            })
        })
        .collect();
    let configured: Vec<Value> =
        pins.iter().map(|pin| json!({"pin": pin, "presented": is_shown(pin)})).collect();
    let json = json!({
        "schema": "fhirctl/show-pins/v1",
        "inventory": change::shown(&inventory.path),
        "name": server.name,
        "url": server.url.as_str(),
        "verified": seen.trouble.is_none(),
        "trouble": seen.trouble.as_ref().map(|it| json!({"code": it.code, "message": it.message})),
        "matches": matches,
        "certificates": certificates,
        "pins": configured,
    });
    let mut rows: Vec<Vec<Cell>> = seen
        .chain
        .iter()
        .enumerate()
        .map(|(index, certificate)| {
            let role = if index == 0 { "its own" } else { "above it" };
            let state = match is_set(&certificate.pin) {
                true => Cell::toned("pinned", Tone::Good),
                false => Cell::toned("not pinned", Tone::Dim),
            };
            vec![
                Cell::toned(&certificate.pin, Tone::Strong),
                state,
                role.into(),
                certificate.not_after.strftime("%F").to_string().into(),
                certificate.subject.as_str().into(),
            ]
        })
        .collect();
    rows.extend(pins.iter().filter(|pin| !is_shown(pin)).map(|pin| {
        vec![
            Cell::toned(pin, Tone::Strong),
            Cell::toned("pinned, not shown", Tone::Warning),
            Cell::default(),
            Cell::default(),
            Cell::default(),
        ]
    }));
    let head = ["PIN", "STATE", "CERTIFICATE", "ENDS", "SUBJECT"].map(str::to_owned).to_vec();
    let table = Table { head, rows };
    let mut document = vec![Block::Heading(server.name.clone()), Block::Table(table.clone())];
    document.extend(
        remarks(&server.name, &seen, matches)
            .into_iter()
            .map(|(words, tone)| Block::Text(vec![Cell::toned(words, tone)])),
    );
    Ok(Outcome::printed(Output { json, document, rows: Some(table), ..Output::default() }))
}

fn remarks(name: &str, seen: &Presented, matches: Option<bool>) -> Vec<(String, Tone)> {
    let mut remarks = Vec::new();
    if let Some(trouble) = &seen.trouble {
        let words = format!("Not to be trusted: {} ({})", trouble.message, trouble.code);
        remarks.push((words, Tone::Bad));
    }
    match matches {
        Some(true) => {}
        Some(false) => {
            let words = "No pinned key is among them: requests to this server are refused.";
            remarks.push((words.to_owned(), Tone::Bad));
        }
        None => remarks.push((
            format!("No pin is set. fhirctl auth pins accept {name} sets the server's own key."),
            Tone::Dim,
        )),
    }
    remarks
}

/// What a server shows now. Nothing is sent to it.
///
/// # Errors
/// Exit 69 when no certificate came, 77 when the proxy's password cannot be had.
pub(in crate::command) async fn look(
    server: &Server,
    inventory: &Inventory,
    context: &Context,
) -> Result<Presented> {
    let surroundings = context.surroundings(inventory);
    let way = auth::way_out(server, &surroundings.credentials)
        .await
        .map_err(|failure| ended(ErrorKind::Credential, &failure))?;
    Client::look(server, &way, surroundings.transport.clone())
        .await
        .map_err(|failure| ended(ErrorKind::Unavailable, &failure))
}

fn ended(kind: ErrorKind, failure: &Failure) -> Error {
    let error = Error::new(kind, format!("{} ({})", failure.message, failure.code));
    match failure.hint.as_deref().or(failure.code.hint()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
