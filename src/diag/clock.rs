//! `clock`: our clock against the server's and the identity provider's.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::model::{Code, Observation, Party, Status};

/// A `Date` is cut off to the second, and an answer is on its way for a while.
const NOTHING_MS: i64 = 5_000;
/// More than this is worth mending: an assertion may be refused for it.
const MUCH_MS: i64 = 30_000;
/// Nobody takes an assertion that is so much off (SMART, "Client Authentication": five minutes).
const TOO_MUCH_MS: i64 = 300_000;

#[derive(Debug, Serialize, JsonSchema)]
struct Details {
    /// Our clock less the server's.
    server_skew_ms: Option<i64>,
    /// Our clock less that of the identity provider.
    identity_provider_skew_ms: Option<i64>,
    /// Our clock less the machine's hardware clock.
    hardware_skew_ms: Option<i64>,
    /// Whether this machine says that its clock is synchronised.
    is_synchronized: bool,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let report = desk.report().await;
    let skew = |check: &Observation| check.http.as_ref().and_then(|http| http.clock_skew_ms);
    let of = |wanted: &dyn Fn(&str) -> bool| {
        report.checks.iter().filter(|check| wanted(&check.name)).find_map(skew)
    };
    let now = desk.surroundings.clock.now().as_millisecond();
    let details = Details {
        server_skew_ms: of(&|name| name != "auth"),
        identity_provider_skew_ms: of(&|name| name == "auth"),
        hardware_skew_ms: hardware_clock().map(|seconds| off_by_zone(now - seconds * 1000)),
        is_synchronized: Path::new("/run/systemd/timesync/synchronized").exists(),
    };
    let mut topic = Topic::new(TopicName::Clock);
    let shown = |skew: Option<i64>| skew.map_or("not known".to_owned(), words);
    topic.fact("against the server", shown(details.server_skew_ms));
    topic.fact("against the identity provider", shown(details.identity_provider_skew_ms));
    topic.fact("against the hardware clock", shown(details.hardware_skew_ms));
    topic.fact(
        "synchronised",
        if details.is_synchronized {
            "yes, says this machine"
        } else {
            "this machine does not say so"
        },
    );
    topic.problems.extend(judge(&details));
    topic = match details.server_skew_ms.or(details.identity_provider_skew_ms) {
        Some(skew) => topic.good(format!("the clocks agree: {}", words(skew))),
        None => topic.good("no answer carried a date to compare with"),
    };
    topic.details(&details);
    topic
}

fn judge(found: &Details) -> Option<Problem> {
    let (who, skew) = match (found.server_skew_ms, found.identity_provider_skew_ms) {
        (Some(skew), other) if skew.abs() >= other.unwrap_or(0).abs() => ("the server", skew),
        (_, Some(skew)) => ("the identity provider", skew),
        _ => return None,
    };
    if skew.abs() <= MUCH_MS {
        return None;
    }
    let (party, why) = whose(found, who);
    let behind = if skew < 0 { "behind" } else { "ahead of" };
    let problem = Problem::new(
        Code::new("auth.clock_skew"),
        format!("this machine's clock is {} {behind} the clock of {who}; {why}", amount(skew)),
    )
    .at(if skew.abs() > TOO_MUCH_MS { Status::Critical } else { Status::Warning })
    .by(party);
    Some(match party {
        Party::Ours => problem.next_step("set this machine's clock right: timedatectl set-ntp true"),
        _ => problem.next_step(format!(
            "tell whoever runs {who} that its clock is off by {}; compare: curl -sI URL | grep -i date",
            amount(skew)
        )),
    })
}

/// Of several clocks the one that differs from the others is wrong.
fn whose(found: &Details, who: &str) -> (Party, &'static str) {
    let theirs = if who == "the server" { Party::Vendor } else { Party::IdentityProvider };
    let others = match (found.server_skew_ms, found.identity_provider_skew_ms) {
        (Some(server), Some(provider)) => Some((server - provider).abs() <= MUCH_MS),
        _ => None,
    };
    match found.hardware_skew_ms {
        Some(skew) if skew.abs() > MUCH_MS => {
            return (Party::Ours, "the hardware clock of this machine differs from it, too");
        }
        Some(_) if others != Some(true) => {
            return (theirs, "the hardware clock of this machine agrees with ours");
        }
        _ => {}
    }
    match others {
        Some(false) => (theirs, "the other side's two clocks do not agree with each other"),
        _ if found.is_synchronized => (theirs, "this machine says that its clock is synchronised"),
        _ => (Party::Ours, "nothing here says that ours is synchronised"),
    }
}

fn words(skew_ms: i64) -> String {
    match skew_ms {
        skew if skew.abs() <= NOTHING_MS => "no difference".to_owned(),
        skew if skew < 0 => format!("ours is {} behind", amount(skew)),
        skew => format!("ours is {} ahead", amount(skew)),
    }
}

fn amount(skew_ms: i64) -> String {
    let seconds = skew_ms.unsigned_abs() / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Seconds since 1970 as the first hardware clock has them, where there is one.
fn hardware_clock() -> Option<i64> {
    std::fs::read_to_string("/sys/class/rtc/rtc0/since_epoch").ok()?.trim().parse().ok()
}

/// Some hardware clocks run in local time: whole quarters of an hour say nothing.
fn off_by_zone(skew_ms: i64) -> i64 {
    const QUARTER: i64 = 15 * 60 * 1000;
    let rest = skew_ms.rem_euclid(QUARTER);
    let nearest = if rest > QUARTER / 2 { rest - QUARTER } else { rest };
    if nearest.abs() <= MUCH_MS && skew_ms.abs() <= 14 * 60 * 60 * 1000 { nearest } else { skew_ms }
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let mut commands = vec![Command::new(&["date", "-u"])];
    if let Ok(url) = desk.url("metadata") {
        commands.push(curl(&desk.server, &url).with(&["-o", "/dev/null", "-D", "-"]));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_differs_from_the_others_is_wrong() {
        let minutes = |count: i64| Some(count * 60_000);
        for (server, provider, hardware, synchronized, party) in [
            (minutes(10), None, None, false, Party::Ours),
            (minutes(10), None, None, true, Party::Vendor),
            (minutes(10), minutes(10), None, false, Party::Ours),
            (minutes(10), Some(0), None, false, Party::Vendor),
            (Some(0), minutes(-10), None, false, Party::IdentityProvider),
            (minutes(10), None, minutes(10), false, Party::Ours),
            (minutes(10), None, Some(0), false, Party::Vendor),
        ] {
            let found = Details {
                server_skew_ms: server,
                identity_provider_skew_ms: provider,
                hardware_skew_ms: hardware,
                is_synchronized: synchronized,
            };
            let problem = judge(&found).unwrap();
            assert_eq!(problem.party, party, "{found:?}");
            assert_eq!(problem.status, Status::Critical);
        }
    }

    #[test]
    fn a_hardware_clock_in_local_time_is_no_skew() {
        assert_eq!(off_by_zone(2 * 3_600_000 + 1_000), 1_000);
        assert_eq!(off_by_zone(-5 * 3_600_000 - 1_000), -1_000);
        assert_eq!(off_by_zone(600_000), 600_000);
    }
}
