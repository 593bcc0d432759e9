//! `auth status [SELECTOR…]`: what is known of each credential; nothing is sent.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::auth::{self, Keeper, Record, Token};
use crate::command::selector::SelectorArgs;
use crate::context::{Context, Outcome};
use crate::inventory;
use crate::model::server::Server;
use crate::model::{Exit, Result};
use crate::render::{Block, Cell, Output, Table, Tone};

/// Show each server's sign-in: whether its secret is there, its token, and whether it is held back
///
/// Nothing is sent to any server. Exit code 77 when a secret is missing or held back.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub selector: SelectorArgs,
}

/// # Errors
/// When the inventory cannot be used or nothing matches.
pub async fn run(args: &StatusArgs, context: &Context) -> Result<Outcome> {
    let inventory = context.load_inventory()?;
    let servers = inventory::select(&inventory, &args.selector.selection())?;
    let surroundings = context.surroundings(&inventory);
    let now = context.clock.now();
    let records = surroundings.keeper.records(None);
    let mut lines = Vec::with_capacity(servers.len());
    for server in servers {
        lines.push(Line::of(&surroundings.keeper, server, &records, now).await);
    }
    let exit = if lines.iter().any(|line| line.problem.is_some() || line.held.is_some()) {
        Exit(77)
    } else {
        Exit::OK
    };
    let table = Table {
        head: ["SERVER", "METHOD", "STATE", "SINCE", "TOKEN", "SCOPES"].map(str::to_owned).to_vec(),
        rows: lines.iter().map(|line| line.row(now)).collect(),
    };
    let mut document = vec![Block::Table(table.clone())];
    for line in &lines {
        if let Some(problem) = &line.problem {
            document.push(Block::text(format!("{}: {problem}", line.server)));
        }
    }
    let json = json!({
        "schema": "fhirctl/auth-status/v1",
        "exit_code": exit.0,
        "servers": lines.iter().map(|line| line.json(now)).collect::<Vec<_>>(),
    });
    Ok(Outcome {
        output: Some(Output { json, document, rows: Some(table), ..Output::default() }),
        exit,
    })
}

struct Line {
    server: String,
    method: &'static str,
    references: Vec<String>,
    /// Why the secret cannot be had.
    problem: Option<String>,
    token: Option<Token>,
    record: Record,
    held: Option<Timestamp>,
    expires: Option<jiff::civil::Date>,
}

impl Line {
    async fn of(keeper: &Keeper, server: &Server, records: &[Record], now: Timestamp) -> Line {
        let mut problem = None;
        for reference in server.references() {
            if let Err(error) = keeper.credentials().resolve(reference).await {
                problem = Some(error.message);
                break;
            }
        }
        let token = match problem {
            None => auth::kept(keeper, server).await.ok().flatten(),
            Some(_) => None,
        };
        let record = records
            .iter()
            .filter(|record| record.server == server.name)
            .max_by_key(|record| record.accepted_at.max(record.refused_at))
            .cloned()
            .unwrap_or_default();
        Line {
            server: server.name.clone(),
            method: server.auth.method(),
            references: server.references().iter().map(ToString::to_string).collect(),
            problem,
            token,
            held: record.held_until(now),
            record,
            expires: server.sign_in.expires,
        }
    }

    fn state(&self) -> (&'static str, Tone) {
        if self.method == "none" {
            ("open", Tone::Dim)
        } else if self.problem.is_some() {
            ("missing", Tone::Bad)
        } else if self.held.is_some() {
            ("held back", Tone::Bad)
        } else if self.record.refusals > 0 {
            ("refused", Tone::Bad)
        } else if self.record.is_proven() || self.token.is_some() {
            ("accepted", Tone::Good)
        } else {
            ("not tried", Tone::Dim)
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Cell> {
        let (state, tone) = self.state();
        let state = match (self.held, &self.record.code) {
            (Some(until), Some(code)) => {
                format!("{state} until {} ({code})", until.strftime("%H:%M UTC"))
            }
            (None, Some(code)) if self.record.refusals > 0 => format!("{state} ({code})"),
            _ => state.to_owned(),
        };
        let day = |at: Option<Timestamp>| {
            at.map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default()
        };
        let token = match &self.token {
            Some(token) if token.expires_at > now => {
                let left = token.expires_at.as_second() - now.as_second();
                let renews = if token.refresh_token.is_some() { ", renews itself" } else { "" };
                format!("ends in {}{renews}", human(left))
            }
            Some(token) if token.refresh_token.is_some() => "ended, renews itself".to_owned(),
            Some(_) => "ended".to_owned(),
            None => String::new(),
        };
        let scopes = self.token.as_ref().and_then(|token| token.scopes.clone()).unwrap_or_default();
        vec![
            self.server.as_str().into(),
            self.method.into(),
            Cell::toned(state, tone),
            day(self.record.since).as_str().into(),
            token.as_str().into(),
            scopes.join(" ").as_str().into(),
        ]
    }

    fn json(&self, now: Timestamp) -> Value {
        json!({
            "name": self.server,
            "method": self.method,
            "state": self.state().0.replace(' ', "_"),
            "references": self.references,
            "problem": self.problem,
            "since": self.record.since,
            "accepted_at": self.record.accepted_at,
            "refusals": self.record.refusals,
            "refused_at": self.record.refused_at,
            "code": self.record.code,
            "held_until": self.held,
            "expires": self.expires,
            "token": self.token.as_ref().map(|token| json!({
                "endpoint": token.endpoint,
                "obtained_at": token.obtained_at,
                "expires_at": token.expires_at,
                "fresh": token.is_fresh(now),
                "scopes": token.scopes,
                "renewable": token.refresh_token.is_some(),
            })),
        })
    }
}

fn human(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
