//! One file per verb: its arguments above what it does.
//!
//! Enters: parsed arguments and the context. Leaves: an [`Outcome`](crate::context::Outcome). A
//! command puts rooms together; it speaks no HTTP and prints nothing itself.

pub mod activate;
pub mod add;
pub mod audit;
pub mod auth;
pub mod bulk_export;
pub mod bulk_import;
mod change;
pub mod check;
pub mod complete;
pub mod completions;
pub mod deactivate;
pub mod demo;
pub mod diag;
pub mod doctor;
pub mod expiring;
pub mod explain;
pub mod history;
pub mod incidents;
pub mod init;
pub mod lint;
pub mod list;
pub mod maintenance;
pub mod man;
pub mod migrate;
pub mod query;
mod record;
pub mod remove;
pub mod rename;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod schema;
pub mod selector;
pub mod set;
pub mod show;
pub mod status;
pub mod sync;
pub mod test;
pub mod vendors;
pub mod version;

use crate::context::Context;
use crate::model::{Error, ErrorKind, Result};

/// Asks before something is done that cannot be taken back; `--yes` answers.
///
/// # Errors
/// Exit 64 where nobody can be asked, 130 when the answer is no.
fn confirm(context: &Context, question: &str) -> Result<()> {
    if context.options.yes {
        return Ok(());
    }
    if !context.may_ask() {
        let what = question.trim_end_matches('?');
        return Err(
            Error::usage(format!("{what}: this has to be confirmed")).hint("--yes confirms it")
        );
    }
    let answer =
        dialoguer::Confirm::new().with_prompt(question).default(false).interact().unwrap_or(false);
    if answer { Ok(()) } else { Err(Error::new(ErrorKind::Interrupted, "nothing was done")) }
}

/// Items of a list as objects of their own, each with its schema first.
fn lines(schema: &str, items: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let line = |item: &serde_json::Value| {
        let mut line = serde_json::Map::new();
        line.insert("schema".to_owned(), schema.into());
        line.extend(item.as_object().cloned().unwrap_or_default());
        serde_json::Value::Object(line)
    };
    items.iter().map(line).collect()
}

/// Who is at the keyboard.
pub(crate) fn author() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| "unknown".to_owned(), |user| user.name)
}
