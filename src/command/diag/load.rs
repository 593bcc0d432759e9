//! The flags of `diag NAME load`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use crate::diag::{Expectation, LoadOptions, Mix, Options, TopicName, is_production};
use crate::model::server::Server;
use crate::model::{Error, Exit, Result};

/// How much load; only for the topic load.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// load: connections that are kept busy, or share the rate [default: 8]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: Option<u16>,

    /// load: requests a second on schedule, whatever the answers do; 250 or 250/s
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate: Option<f64>,

    /// load: how long [default: 10s]
    #[arg(long, value_name = "D", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// load: how long until all connections, or the whole rate, are there [default: 0s]
    #[arg(long, value_name = "D", value_parser = parse_time)]
    pub ramp: Option<Duration>,

    /// load: end after so many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_requests: Option<u64>,

    /// load: a YAML list of {method, path, weight} [default: what the inventory declares]
    #[arg(long, value_name = "FILE")]
    pub mix: Option<PathBuf>,

    /// load: what has to hold, such as p95<500ms, errors<1% or rate>100; may be repeated
    #[arg(long, value_name = "EXPECTATION")]
    pub expect: Vec<Expectation>,

    /// load: stop when this share of the requests fails, in percent; 100 never stops
    /// [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub stop_on_errors: Option<f64>,
}

impl LoadArgs {
    /// What the topic works with.
    ///
    /// # Errors
    /// Exit 64 for a server in production without `--yes`, and for a mix that cannot be used; nothing
    /// has been sent then.
    pub fn options(&self, topics: &[TopicName], server: &Server, yes: bool) -> Result<LoadOptions> {
        let wanted = topics.contains(&TopicName::Load);
        if wanted && is_production(server) && !yes {
            return Err(Error::usage(format!(
                "{} is labelled env=prod, and load would be felt by whoever uses it",
                server.name
            ))
            .hint("Try a test system, or say --yes when its operator has agreed."));
        }
        let mix = match &self.mix {
            Some(path) if wanted => Some(Mix::read(path)?),
            _ => None,
        };
        let usual = LoadOptions::default();
        Ok(LoadOptions {
            connections: self.connections.map_or(usual.connections, usize::from),
            rate: self.rate,
            duration: self.duration.unwrap_or(usual.duration).max(Duration::from_millis(1)),
            ramp: self.ramp.unwrap_or(usual.ramp),
            max_requests: self.max_requests,
            mix,
            expect: self.expect.clone(),
            stop_on_errors: self.stop_on_errors.unwrap_or(usual.stop_on_errors),
            ..usual
        })
    }
}

/// Who listens for the word to stop.
pub struct Watching(tokio::task::JoinHandle<()>, Arc<Mutex<Option<Exit>>>);

impl Watching {
    /// Listens no more; the exit code where it was told to stop.
    pub async fn end(self) -> Option<Exit> {
        self.0.abort();
        // What it did before it heard that is kept.
        let _ = self.0.await;
        *self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a load test with what it has measured, and lets a write clean up, at Ctrl-C and SIGTERM;
/// everything else they end at once.
pub fn watch(topics: &[TopicName], options: &Options) -> Watching {
    let (stop, load) = (Arc::clone(&options.stop), Arc::clone(&options.load.watch));
    let wanted = topics.iter().any(|name| matches!(name, TopicName::Load | TopicName::Write));
    let heard = Arc::new(Mutex::new(None));
    let told = Arc::clone(&heard);
    let task = tokio::spawn(async move {
        if wanted {
            let exit = crate::context::stop_signal().await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
            load.stop.store(true, Ordering::Relaxed);
            stop.say();
        }
    });
    Watching(task, heard)
}

fn parse_rate(text: &str) -> std::result::Result<f64, String> {
    let number = text.trim().trim_end_matches("/s");
    match number.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1_000_000.0 => Ok(rate),
        _ => Err("write requests a second, such as 0.5, 250 or 250/s".to_owned()),
    }
}

fn parse_percent(text: &str) -> std::result::Result<f64, String> {
    match text.trim().trim_end_matches('%').parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("write a share in percent, above 0 and up to 100".to_owned()),
    }
}

fn parse_time(text: &str) -> std::result::Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= Duration::from_secs(24 * 3600) => Ok(time),
        Ok(_) => Err("a load test takes a day at most".to_owned()),
        Err(_) => Err("write it as a number and a unit, such as 500ms, 30s or 5m".to_owned()),
    }
}
