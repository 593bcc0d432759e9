//! The least time between two equal exports: a short rest is waited for, a long one is told.

use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::{habits, interrupted, state};
use crate::bulk::again;
use crate::bulk::halt::Halt;
use crate::bulk::objects::Destination;
use crate::bulk::request::ExportRequest;
use crate::context::{Context, stop_signal};
use crate::model::Result;
use crate::model::server::Server;

/// What is done when a vendor takes the same export only once in a while.
#[derive(Clone, Debug, Args)]
pub struct AgainArgs {
    /// How long to wait at most where the vendor takes the same export again only later
    #[arg(long, value_name = "D", default_value = "5m", value_parser = parse_pause)]
    pub wait: Duration,

    /// The least time between two equal exports, 0s for none; otherwise the vendor's
    #[arg(long, value_name = "D", value_parser = parse_pause)]
    pub min_interval: Option<Duration>,
}

fn parse_pause(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write it as a number and a unit, such as 0s, 30s, 5m or 24h".to_owned())
}

/// Comes back when the server takes the export of a destination. One that it has taken before is gone on
/// with whenever that is.
///
/// # Errors
/// Exit 75 with the instant when that is too far away.
pub(in crate::command) async fn admit(
    context: &Context,
    server: &Server,
    request: &ExportRequest,
    destination: &Destination,
    args: &AgainArgs,
) -> Result<()> {
    let interval = args.min_interval.or_else(|| habits::again_after(server));
    let Some(interval) = interval.and_then(|it| SignedDuration::try_from(it).ok()) else {
        return Ok(());
    };
    let state = state()?;
    if interval.is_zero() || again::kicked_off(&state, destination)?.is_some() {
        return Ok(());
    }
    let Some(last) = again::last_kick_off(&state, server, &request.level)? else { return Ok(()) };
    let Ok(free) = last.checked_add(interval) else { return Ok(()) };
    let rest = rest(context.clock.now(), free);
    if rest.is_zero() {
        return Ok(());
    }
    // Rounded up: it is to be written behind --wait.
    let shown = humantime::format_duration(Duration::from_secs(rest.as_secs() + 1));
    if rest > args.wait {
        let message = format!(
            "{} took this export at {}, and takes it again from {} on, in {shown}",
            server.name,
            instant(last),
            instant(free),
        );
        return Err(Halt::later("bulk.too_early", message)
            .hint(format!(
                "run the same command again then, or let it wait: --wait \"{shown}\"; \
                 where this server has another rule: --min-interval, 0s for none"
            ))
            .into());
    }
    context.notice(&format!(
        "note: {} takes this export again from {} on; waiting {shown}",
        server.name,
        instant(free)
    ));
    tokio::select! {
        () = until(context, free) => Ok(()),
        exit = stop_signal() => Err(interrupted(exit).into()),
    }
}

/// Waits by the clock on the wall, also where the machine sleeps meanwhile.
pub(in crate::command) async fn until(context: &Context, at: Timestamp) {
    loop {
        let rest = rest(context.clock.now(), at);
        if rest.is_zero() {
            return;
        }
        tokio::time::sleep(rest.min(Duration::from_secs(30))).await;
    }
}

/// An instant for people, to the second; what is left of one is not yet over.
pub(in crate::command) fn instant(at: Timestamp) -> String {
    let whole = at.checked_add(SignedDuration::from_nanos(999_999_999)).unwrap_or(at);
    whole.strftime("%FT%TZ").to_string()
}

fn rest(now: Timestamp, at: Timestamp) -> Duration {
    at.duration_since(now).max(SignedDuration::ZERO).unsigned_abs()
}
