//! Threads that send: each with a runtime, a share of the connections and books of its own.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Broken, Open, Patience};
use super::tally::{Latency, Tally};
use super::{Ended, GRACE, LOOK, Measured, PER_WORKER, Shared};
use crate::http::{Failure, Stage};
use crate::model::Code;

/// A timer rings this late at most; what is later is not the timer's fault.
const GRAIN: Duration = Duration::from_millis(2);
/// Between two attempts to connect that fail.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub struct Worker {
    thread: std::thread::JoinHandle<()>,
    books: Arc<Books>,
    /// Ends it whatever is on its way.
    cut: watch::Sender<bool>,
}

/// Only the worker writes into them while it runs.
struct Books {
    pages: Mutex<Pages>,
    in_flight: AtomicU64,
}

struct Pages {
    operations: Vec<Tally>,
    connects: Latency,
    late: u64,
    last: Option<Instant>,
}

impl Books {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts as many as are worth it.
///
/// # Errors
/// When the machine gives no thread.
pub fn start(shared: &Arc<Shared>) -> Result<Vec<Worker>, Failure> {
    let connections = shared.plan.connections.max(1);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = connections.div_ceil(PER_WORKER).min(cores);
    let share = |index: usize| connections * index / count..connections * (index + 1) / count;
    (0..count).map(|index| one(shared, share(index))).collect()
}

fn one(shared: &Arc<Shared>, share: Range<usize>) -> Result<Worker, Failure> {
    let no_thread = |error: std::io::Error| {
        Failure::new(
            Stage::Setup,
            Code::new("check.skipped"),
            format!(
                "this machine gives no thread to work on: {}",
                crate::model::error::io_reason(&error)
            ),
        )
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
    let books = Arc::new(Books {
        pages: Mutex::new(Pages {
            operations: vec![Tally::default(); shared.sizes.len()],
            connects: Latency::default(),
            late: 0,
            last: None,
        }),
        in_flight: AtomicU64::new(0),
    });
    let (cut, mut is_cut) = watch::channel(false);
    let (shared, theirs) = (Arc::clone(shared), Arc::clone(&books));
    let work = move || {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for index in share {
                tasks.spawn(connection(Arc::clone(&shared), Arc::clone(&theirs), index));
            }
            let all = async { while tasks.join_next().await.is_some() {} };
            tokio::select! {
                () = all => {}
                _ = is_cut.changed() => {}
            }
        });
    };
    let thread =
        std::thread::Builder::new().name("load".to_owned()).spawn(work).map_err(no_thread)?;
    Ok(Worker { thread, books, cut })
}

/// Waits for what is on its way, a while, and adds up.
///
/// # Errors
/// Never so far as is known; a thread that broke is told.
pub async fn collect(
    shared: &Shared,
    workers: Vec<Worker>,
    ended: Ended,
) -> Result<Measured, Failure> {
    let end = Instant::now();
    let grace = if ended == Ended::Asked { GRACE / 5 } else { GRACE };
    while !workers.iter().all(Worker::is_done) && end.elapsed() < grace {
        tokio::time::sleep(LOOK.min(grace)).await;
    }
    let mut measured = Measured {
        operations: vec![Tally::default(); shared.sizes.len()],
        connects: Latency::default(),
        ended,
        elapsed: Duration::ZERO,
        scheduled: None,
        late: 0,
        unfinished: 0,
        renewals: 0,
        request_id: String::new(),
    };
    let mut last = if ended == Ended::Requests { shared.start } else { end };
    for worker in workers {
        // Who is done already hears nothing.
        let _ = worker.cut.send(true);
        // The thread ends now: at most one request's work is between it and its end.
        if worker.thread.join().is_err() {
            return Err(Failure::new(
                Stage::Setup,
                Code::new("check.skipped"),
                "a thread of the load generator broke off",
            ));
        }
        let pages = worker.books.pages();
        for (sum, part) in measured.operations.iter_mut().zip(&pages.operations) {
            sum.add(part);
        }
        measured.connects.add(&pages.connects);
        measured.late += pages.late;
        measured.unfinished += worker.books.in_flight.load(Ordering::Relaxed);
        last = last.max(pages.last.unwrap_or(last));
    }
    measured.elapsed = last.saturating_duration_since(shared.start);
    let active = end.saturating_duration_since(shared.start).min(shared.plan.duration);
    measured.scheduled = shared.schedule.map(|schedule| {
        schedule.due_within(active).min(shared.plan.max_requests.unwrap_or(u64::MAX))
    });
    Ok(measured)
}

/// One connection's life: requests one after the other, opened again when it ends.
async fn connection(shared: Arc<Shared>, books: Arc<Books>, index: usize) {
    let end = shared.start + shared.plan.duration;
    let connections = shared.plan.connections.max(1);
    let mut open: Option<Open> = None;
    let mut patience = Patience::new(Instant::now() + shared.total);
    let mut heads = shared.heads();
    let mut version = shared.version.load(Ordering::Acquire);
    // Each begins at another place of the order, and at another target.
    let mut turn = shared.order.len() * index / connections;
    let mut targets = vec![index; shared.sizes.len()];
    let mut pause = PAUSE;
    let mut last: Option<Instant> = None;
    if shared.schedule.is_none() {
        let begin = shared.start + shared.plan.ramp.mul_f64(index as f64 / connections as f64);
        if !wait(&shared, &mut open, begin.min(end)).await {
            return;
        }
    }
    loop {
        let counts = shared.schedule.is_some() || shared.plan.max_requests.is_some();
        let number = if counts { shared.next.fetch_add(1, Ordering::Relaxed) } else { 0 };
        if shared.plan.max_requests.is_some_and(|most| number >= most) {
            return;
        }
        // Of a request that is sent at once; reading the clock is a good part of what one costs.
        let mut sent = last.take().unwrap_or_else(Instant::now);
        let mut from = sent;
        // What was due and could not be sent in its time is not sent later: the count shows it.
        if from >= end || shared.is_stopped() {
            return;
        }
        if let Some(schedule) = shared.schedule {
            let due = shared.start + schedule.due(number);
            if due >= end {
                return;
            }
            if due > from {
                if !wait(&shared, &mut open, due).await {
                    return;
                }
                sent = Instant::now();
                from = sent;
                if from > due + GRAIN {
                    from = due;
                }
            } else {
                // Measured from when it should have been sent, or a slow answer would hide how long
                // the requests behind it had to wait.
                if from > due + GRAIN {
                    books.pages().late += 1;
                }
                from = due;
            }
        }
        if version != shared.version.load(Ordering::Acquire) {
            version = shared.version.load(Ordering::Acquire);
            heads = shared.heads();
        }
        let operation = usize::from(shared.order[turn % shared.order.len()]);
        let target = targets[operation] % shared.sizes[operation];
        turn += 1;
        targets[operation] += 1;
        let sent_as = (&heads[operation][target], &shared.likenesses[operation]);
        books.in_flight.fetch_add(1, Ordering::Relaxed);
        let deadline = sent + shared.total;
        let result = loop {
            if open.as_ref().is_none_or(Open::is_over) {
                open = None;
                let began = Instant::now();
                match shared.opener.open().await {
                    Ok(opened) => {
                        books.pages().connects.record(began.elapsed());
                        open = Some(opened);
                        pause = PAUSE;
                    }
                    Err(failure) => break Err((failure, true)),
                }
            }
            let Some(connection) = &mut open else { continue };
            match connection.exchange(&shared.opener, sent_as, &mut patience, sent, deadline).await
            {
                Ok(answered) => break Ok(answered),
                Err(Broken::NotSent) => open = None,
                Err(Broken::Failed(failure)) => {
                    open = None;
                    break Err((*failure, false));
                }
            }
        };
        let now = Instant::now();
        last = Some(now);
        let failed = match &result {
            Ok(answered) => answered.status >= 300 || !answered.is_alike,
            Err(_) => true,
        };
        let unreachable = matches!(&result, Err((_, true)));
        {
            let mut pages = books.pages();
            pages.last = Some(now);
            let tally = &mut pages.operations[operation];
            let time = now.saturating_duration_since(from);
            match result {
                Ok(answered) if answered.status < 300 && !answered.is_alike => {
                    tally.unlike(answered.status, answered.bytes, time);
                }
                Ok(answered) => tally.answered(answered.status, answered.bytes, time),
                Err((failure, _)) => tally.failed(failure, time),
            }
        }
        books.in_flight.fetch_sub(1, Ordering::Relaxed);
        shared.count(failed);
        if unreachable {
            // Whoever refuses connections is not asked in a tight loop.
            last = None;
            if !wait(&shared, &mut open, (now + pause).min(end)).await {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Waits until an instant; `false` when nothing more is to be sent.
async fn wait(shared: &Shared, open: &mut Option<Open>, until: Instant) -> bool {
    loop {
        if shared.is_stopped() {
            return false;
        }
        let now = Instant::now();
        if now >= until {
            return true;
        }
        let slice = until.min(now + LOOK * 2);
        match open.as_mut().filter(|open| !open.is_over()) {
            Some(open) => open.idle(slice).await,
            None => tokio::time::sleep_until(slice.into()).await,
        }
    }
}
