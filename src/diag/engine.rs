//! Which topics run when.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::shell::Command;
use super::topic::Turn;
use super::{
    Desk, Problem, Topic, TopicName, auth, bulk, capability, clock, dns, egress, health, load,
    perf, ping, proxy, query, redirects, resources, smart, tcp, tls, trace, validate, write,
};
use crate::model::{Code, Status};
use crate::probe::acceptance;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Begun(TopicName),
    Done(TopicName),
}

/// A topic that keeps to the deadline itself has this long to say what it found until then.
const GRACE: Duration = Duration::from_millis(250);

/// Looks at a server from several sides. What is on the wire is looked at first and all at once,
/// then what needs an answering server, then, one after the other, what measures or changes.
/// `tell` is called as each topic begins and ends.
pub async fn diagnose(desk: &Desk, topics: &[TopicName], mut tell: impl FnMut(Step)) -> Vec<Topic> {
    let mut found: Vec<Topic> = Vec::with_capacity(topics.len());
    for turn in [Turn::Wire, Turn::Talk, Turn::Alone] {
        let names: Vec<_> = topics.iter().copied().filter(|name| name.turn() == turn).collect();
        if names.is_empty() {
            continue;
        }
        let broken = if turn == Turn::Wire { None } else { out_of_reach(desk, &found).await };
        if let Some(why) = broken {
            for name in names {
                let why = format!("not looked at: {why}");
                found.push(Topic::left_out(name, Code::new("check.skipped"), why));
                tell(Step::Done(name));
            }
        } else if turn == Turn::Alone {
            for name in names {
                tell(Step::Begun(name));
                found.push(look(desk, name).await);
                tell(Step::Done(name));
            }
        } else {
            names.iter().for_each(|name| tell(Step::Begun(*name)));
            let mut running: FuturesUnordered<_> =
                names.into_iter().map(|name| look(desk, name)).collect();
            while let Some(topic) = running.next().await {
                tell(Step::Done(topic.name));
                found.push(topic);
            }
        }
    }
    found.sort_by_key(|topic| topic.name);
    found
}

/// What makes it pointless to talk to the server, where something does.
async fn out_of_reach(desk: &Desk, found: &[Topic]) -> Option<String> {
    if let Some(health) = found.iter().find(|topic| topic.name == TopicName::Health) {
        return health::out_of_reach(health);
    }
    // Topics were named one by one: what they need is looked at all the same.
    let report = within(desk, desk.report()).await.ok()?;
    health::out_of_reach(&health::topic_of(report))
}

/// Why something did not come to its end.
enum Cut {
    Late,
    Stopped,
}

/// Works until the deadline, or until it is told to stop.
async fn within<T>(desk: &Desk, work: impl Future<Output = T>) -> Result<T, Cut> {
    let end = tokio::time::Instant::from_std(desk.deadline + GRACE);
    tokio::select! {
        // What is ready counts, however late it is.
        biased;
        done = work => Ok(done),
        () = desk.options.stop.said() => Err(Cut::Stopped),
        () = tokio::time::sleep_until(end) => Err(Cut::Late),
    }
}

/// Runs one topic and lets its worst problem speak.
async fn look(desk: &Desk, name: TopicName) -> Topic {
    let started = Instant::now();
    let mut topic = if desk.options.stop.is_said() {
        stopped(name)
    } else if matches!(name, TopicName::Load | TopicName::Write) {
        // They end of themselves: one measures for a time that was asked for, one cleans up.
        run(desk, name).await
    } else {
        match within(desk, run(desk, name)).await {
            Ok(topic) => topic,
            Err(Cut::Stopped) => stopped(name),
            Err(Cut::Late) => late(desk, name),
        }
    };
    topic.commands(&commands(desk, name));
    accept(desk, &mut topic.problems);
    for step in topic.problems.iter_mut().filter_map(|problem| problem.next_step.as_mut()) {
        *step = named(step, &desk.server.name);
    }
    topic.conclude(started.elapsed().as_secs_f64() * 1000.0);
    topic
}

/// A command that can be typed as it stands.
fn named(step: &str, name: &str) -> String {
    let word = |word: &str| {
        let is_place = word.trim_end_matches([',', '.', ';', ':', ')']) == "NAME";
        if is_place { word.replacen("NAME", name, 1) } else { word.to_owned() }
    };
    step.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn stopped(name: TopicName) -> Topic {
    Topic::left_out(name, Code::new("check.skipped"), "stopped by hand before it was done")
}

fn late(desk: &Desk, name: TopicName) -> Topic {
    let limit = desk.deadline.saturating_duration_since(desk.begun).as_millis() as f64 / 1000.0;
    let mut topic = Topic::new(name);
    topic.problem(Problem::new(
        Code::new("check.deadline"),
        format!("{} did not come to its end within the {limit} s of this diagnosis", name.as_str()),
    ));
    topic
}

async fn run(desk: &Desk, name: TopicName) -> Topic {
    match name {
        TopicName::Dns => dns::run(desk).await,
        TopicName::Tcp => tcp::run(desk).await,
        TopicName::Tls => tls::run(desk).await,
        TopicName::Ping => ping::run(desk).await,
        TopicName::Trace => trace::run(desk).await,
        TopicName::Clock => clock::run(desk).await,
        TopicName::Proxy => proxy::run(desk).await,
        TopicName::Redirects => redirects::run(desk).await,
        TopicName::Egress => egress::run(desk).await,
        TopicName::Health => health::run(desk).await,
        TopicName::Auth => auth::run(desk).await,
        TopicName::Perf => perf::run(desk).await,
        TopicName::Load => load::run(desk).await,
        TopicName::Resources => resources::run(desk).await,
        TopicName::Bulk => bulk::run(desk).await,
        TopicName::Write => write::run(desk).await,
        TopicName::Capability => capability::run(desk).await,
        TopicName::Query => query::run(desk).await,
        TopicName::Smart => smart::run(desk).await,
        TopicName::Validate => validate::run(desk).await,
    }
}

/// What somebody without this program would type to look at the same thing.
#[must_use]
pub fn commands(desk: &Desk, name: TopicName) -> Vec<Command> {
    match name {
        TopicName::Dns => dns::commands(desk),
        TopicName::Tcp => tcp::commands(desk),
        TopicName::Tls => tls::commands(desk),
        TopicName::Ping => ping::commands(desk),
        TopicName::Trace => trace::commands(desk),
        TopicName::Clock => clock::commands(desk),
        TopicName::Proxy => proxy::commands(desk),
        TopicName::Redirects => redirects::commands(desk),
        TopicName::Egress => egress::commands(desk),
        TopicName::Health => health::commands(desk),
        TopicName::Auth => auth::commands(desk),
        TopicName::Perf => perf::commands(desk),
        TopicName::Load => load::commands(desk),
        TopicName::Resources => resources::commands(desk),
        TopicName::Bulk => bulk::commands(desk),
        TopicName::Write => write::commands(desk),
        TopicName::Capability => capability::commands(desk),
        TopicName::Query => query::commands(desk),
        TopicName::Smart => smart::commands(desk),
        TopicName::Validate => validate::commands(desk),
    }
}

/// Marks what the inventory accepts for the time being.
fn accept(desk: &Desk, problems: &mut [Problem]) {
    let now = desk.surroundings.clock.now();
    for problem in problems.iter_mut().filter(|problem| problem.status != Status::Healthy) {
        problem.accepted =
            acceptance(&desk.server.accept, problem.code, now).map(|accepted| accepted.reason);
    }
}
