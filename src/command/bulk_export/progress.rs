//! How far an export is: bars on a terminal, a line a minute elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::metrics::{End, Metrics};
use crate::bulk::export::Identity;
use crate::bulk::transfer::Event;
use crate::context::{Context, complain};
use crate::model::text::one_line;

/// How often something is said where no bar is drawn.
const EVERY: Duration = Duration::from_secs(60);
/// How often the file for a scraper is written.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// Shows one export.
pub(super) struct Screen {
    server: String,
    bars: MultiProgress,
    head: ProgressBar,
    draws: bool,
    is_quiet: bool,
    metrics: Option<Metrics>,
    state: Mutex<State>,
}

struct State {
    files: HashMap<u32, ProgressBar>,
    total: u64,
    done: u64,
    missing: u64,
    resources: u64,
    bytes: u64,
    since: Instant,
    said: Instant,
    measured: Option<Instant>,
    /// Whether it was told that the file for a scraper cannot be written.
    is_unmeasured: bool,
    waiting: String,
}

impl Screen {
    pub(super) fn new(context: &Context, identity: &Identity, metrics: Option<Metrics>) -> Screen {
        let draws = context.shows_progress();
        let target =
            if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let head = bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            head.set_style(style);
        }
        if draws {
            head.enable_steady_tick(Duration::from_millis(150));
        }
        let now = Instant::now();
        Screen {
            server: identity.server.clone(),
            bars,
            head,
            draws,
            is_quiet: context.options.quiet,
            metrics,
            state: Mutex::new(State {
                files: HashMap::new(),
                total: 0,
                done: 0,
                missing: 0,
                resources: 0,
                bytes: 0,
                since: now,
                said: now,
                measured: None,
                is_unmeasured: false,
                waiting: "asking for the export".to_owned(),
            }),
        }
    }

    pub(super) fn tell(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::KickOff { .. } => "asking for the export".clone_into(&mut state.waiting),
            Event::Started { oddities, .. } => {
                "the server has begun".clone_into(&mut state.waiting);
                for oddity in oddities {
                    self.say(&format!("warning: {oddity}"));
                }
            }
            Event::Waiting { progress, trouble, wait } => {
                let what = trouble.as_ref().or(progress.as_ref());
                state.waiting = format!(
                    "waiting for {}{}; next look in {}",
                    self.server,
                    what.map(|what| format!(": {}", one_line(what))).unwrap_or_default(),
                    human(*wait)
                );
            }
            Event::Manifest { output, error, deleted, .. } => {
                state.waiting =
                    format!("{output} files of data, {error} of errors, {deleted} of deletions");
            }
            Event::Joining { name } => state.waiting = format!("joining {name}"),
            Event::FilesBegin { files, done } => {
                (state.total, state.done) = (*files, *done);
                state.since = Instant::now();
            }
            Event::FileStarted { file, name, length, .. } => {
                self.begin(&mut state, *file, name, *length);
            }
            Event::Bytes { file, bytes } => {
                state.bytes += bytes;
                if let Some(bar) = state.files.get(file) {
                    bar.inc(*bytes);
                }
            }
            Event::FileAgain { file, message, wait, .. } => {
                let what = format!("{message}; again in {}", human(*wait));
                match state.files.get(file) {
                    Some(bar) => bar.set_message(one_line(&what)),
                    None => self.say(&format!("note: {what}")),
                }
            }
            Event::FileResumed { .. } => {}
            Event::FileUploads { file } => {
                if let Some(bar) = state.files.get(file) {
                    bar.set_message("uploading");
                }
            }
            Event::FileDone { file, lines, .. } => {
                state.done += 1;
                state.resources += lines;
                self.end(&mut state, *file);
            }
            Event::FileGivenUp { file, code, message, .. } => {
                state.missing += 1;
                self.end(&mut state, *file);
                self.say(&format!("warning: a file is given up: {message} ({code})"));
            }
            Event::Finished { .. } => "done".clone_into(&mut state.waiting),
        }
        self.refresh(&mut state);
    }

    fn begin(&self, state: &mut State, file: u32, name: &str, length: Option<u64>) {
        if !self.draws {
            return;
        }
        let bar = match length {
            Some(length) => ProgressBar::new(length),
            None => ProgressBar::new_spinner(),
        };
        let bar = self.bars.add(bar);
        let template = match length {
            Some(_) => {
                "  {prefix:32!} {bar:24} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {msg}"
            }
            None => "  {prefix:32!} {bytes:>10} {bytes_per_sec:>12} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        if let Some(old) = state.files.insert(file, bar) {
            old.finish_and_clear();
        }
    }

    fn end(&self, state: &mut State, file: u32) {
        if let Some(bar) = state.files.remove(&file) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn refresh(&self, state: &mut State) {
        let now = Instant::now();
        if self.draws {
            self.head.set_message(line(&self.server, state));
        } else if now.duration_since(state.said) >= EVERY {
            state.said = now;
            self.say(&line(&self.server, state));
        }
        if state.measured.is_none_or(|at| now.duration_since(at) >= METRICS_EVERY) {
            state.measured = Some(now);
            self.measure(state, None);
        }
    }

    /// Writes the file for a scraper; told once when that fails, and not the end of the export.
    fn measure(&self, state: &mut State, end: Option<&End>) {
        let Some(metrics) = &self.metrics else { return };
        if let Err(error) = metrics.write(end)
            && !std::mem::replace(&mut state.is_unmeasured, true)
        {
            self.say(&format!("warning: the metrics are not up to date: {}", error.message));
        }
    }

    fn say(&self, text: &str) {
        if self.is_quiet {
            return;
        }
        if self.draws {
            let _ = self.bars.println(text);
        } else {
            complain(text);
        }
    }

    pub(super) fn finish(&self, end: &End) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in state.files.values() {
            bar.finish_and_clear();
        }
        self.head.finish_and_clear();
        // Said again: the last word is the one that alerts are made of.
        state.is_unmeasured = false;
        self.measure(&mut state, Some(end));
    }
}

fn line(server: &str, state: &State) -> String {
    if state.total == 0 {
        return format!("{server}: {}", state.waiting);
    }
    let seconds = state.since.elapsed().as_secs_f64().max(0.001);
    let ended = state.done + state.missing;
    let mut text = format!(
        "{server}: {ended} of {} files, {} resources, {:.1} MiB, {:.1} MiB/s",
        state.total,
        state.resources,
        state.bytes as f64 / 1_048_576.0,
        state.bytes as f64 / 1_048_576.0 / seconds
    );
    if ended > 0 && ended < state.total {
        let left = seconds / ended as f64 * (state.total - ended) as f64;
        text.push_str(&format!(", about {} left", human(Duration::from_secs_f64(left))));
    }
    text
}

fn human(duration: Duration) -> String {
    let rounded = match duration.as_secs() {
        0..=9 => {
            Duration::from_millis(u64::try_from(duration.as_millis() / 100 * 100).unwrap_or(0))
        }
        _ => Duration::from_secs(duration.as_secs()),
    };
    humantime::format_duration(rounded).to_string()
}
