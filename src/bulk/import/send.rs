//! Bundles on their way: a few at once, each to its end, and every end in the ledger.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::bundle::Verb;
use super::chunk::{self, Chunk, Limits};
use super::count;
use super::delivery::Fate;
use super::ledger::{Ledger, Reject, Settled, Tally};
use super::plan::{self, Plan, Step, Unfit};
use super::post::{Shared, uncertain};
use super::report::{self, Counts, Summary};
use super::source::Input;
use super::window::Gate;
use crate::auth::caller::Caller;
use crate::bulk::halt::Halt;
use crate::http::Client;
use crate::model::Error;

/// The key under which the end of an import is noted.
const FINISHED: &str = "finished";

/// How resources are sent.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Transactions instead of batches.
    pub is_atomic: bool,
    /// The server gives ids; everything in one transaction.
    pub assigns_ids: bool,
    pub limits: Limits,
    /// Most bundles under way.
    pub in_flight: usize,
    /// What to do with a transaction of which nobody knows whether it arrived.
    pub uncertain: Uncertain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncertain {
    Say,
    Send,
}

/// How far it is, for whoever looks on.
#[derive(Debug, Default)]
pub struct Standing {
    /// 0 until everything was read once.
    pub total: AtomicU64,
    pub settled: AtomicU64,
    pub rejected: AtomicU64,
}

/// Sends everything that is not done yet. The second value says that all was done before.
///
/// # Errors
/// Why it stopped. What is in the ledger stays done.
pub async fn run(
    caller: &Arc<Caller>,
    inputs: &Arc<Vec<Input>>,
    settings: Settings,
    ledger: &mut Ledger,
    standing: &Standing,
) -> Result<(Summary, bool), Halt> {
    if let Some(summary) = ledger.fact::<Summary>(FINISHED)? {
        return Ok((summary, true));
    }
    let plan = Arc::new(look(inputs, settings, ledger).await?);
    standing.total.store(plan.total, Ordering::Relaxed);
    let client = caller.client().map_err(|failure| Halt::of(failure, false))?;
    let mut types: Vec<&String> = plan.read.keys().chain(plan.deletions.keys()).collect();
    types.sort();
    types.dedup();
    let before: Counts = match ledger.fact("before")? {
        Some(before) => before,
        None => {
            let before = count::totals(caller, &client, types.iter().copied()).await;
            ledger.note(&[("before", json!(before))])?;
            before
        }
    };
    let shared = Arc::new(Shared {
        caller: Arc::clone(caller),
        gate: Gate::new(settings.in_flight),
        settings,
        base: format!("{}/", caller.server.url.as_str()),
    });
    let mut sender = Sender { shared, ledger, standing, clients: vec![client] };
    if settings.assigns_ids {
        sender.at_once(&plan, inputs).await?;
    } else {
        for (number, step) in (0_u32..).zip(&plan.steps) {
            sender.step(number, step, &plan, inputs).await?;
        }
    }
    let after = match sender.clients.pop() {
        Some(client) => count::totals(caller, &client, types.iter().copied()).await,
        None => Counts::new(),
    };
    let tallies = ledger.tallies()?;
    let unfit = ledger.unfit_by_type()?;
    let summary = report::summary(&plan.read, &tallies, &unfit, &before, &after);
    ledger.note(&[(FINISHED, json!(summary))])?;
    Ok((summary, false))
}

/// Reads everything once; what cannot be sent goes into the ledger.
async fn look(
    inputs: &Arc<Vec<Input>>,
    settings: Settings,
    ledger: &mut Ledger,
) -> Result<Plan, Halt> {
    let (send, mut receive) = mpsc::channel::<Unfit>(1000);
    let inputs = Arc::clone(inputs);
    let work = tokio::task::spawn_blocking(move || {
        plan::look(&inputs, settings.limits.max_line, !settings.assigns_ids, &mut |unfit| {
            send.blocking_send(unfit).map_err(|_| Error::internal("nobody takes what is unfit"))
        })
    });
    let mut is_first = true;
    loop {
        let mut some = Vec::new();
        let count = receive.recv_many(&mut some, 1000).await;
        if count > 0 || is_first {
            let rejects: Vec<Reject> = some.into_iter().map(unfit_reject).collect();
            ledger.unfit(is_first, &rejects)?;
            is_first = false;
        }
        if count == 0 {
            break;
        }
    }
    let plan = work.await.map_err(|error| Error::internal(error.to_string()))??;
    Ok(plan)
}

fn unfit_reject(unfit: Unfit) -> Reject {
    Reject {
        file: unfit.file,
        line: unfit.line,
        part: 0,
        resource_type: unfit.resource_type,
        status: None,
        code: "bulk.bad_line".to_owned(),
        issues: String::new(),
        message: unfit.message,
    }
}

struct Sender<'a> {
    shared: Arc<Shared>,
    ledger: &'a mut Ledger,
    standing: &'a Standing,
    /// Those that nobody uses now.
    clients: Vec<Arc<Client>>,
}

/// A chunk that came to its end, or did not.
struct Ended {
    client: Arc<Client>,
    chunk: Chunk,
    fates: Result<Vec<(Fate, u32)>, Halt>,
}

impl Sender<'_> {
    async fn step(
        &mut self,
        number: u32,
        step: &Step,
        plan: &Arc<Plan>,
        inputs: &Arc<Vec<Input>>,
    ) -> Result<(), Halt> {
        let done =
            if self.ledger.is_over(number)? { None } else { Some(self.ledger.done(number)?) };
        let Some(done) = done else {
            return Ok(());
        };
        let limits = self.shared.settings.limits;
        let (send, mut receive) = mpsc::channel(2);
        let (step, plan, inputs) = (step.clone(), Arc::clone(plan), Arc::clone(inputs));
        let reader = tokio::task::spawn_blocking(move || {
            chunk::read(&step, &plan, &inputs, limits, &mut |chunk| {
                done.contains(&chunk.number) || send.blocking_send(chunk).is_ok()
            })
        });
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        let mut under_way: HashMap<u64, u32> = HashMap::new();
        let mut held: Option<Chunk> = None;
        let mut has_more = true;
        let mut halt: Option<Halt> = None;
        loop {
            let has_room = tasks.len() < self.shared.settings.in_flight && halt.is_none();
            // A resource that stands twice is sent in its order.
            let is_clear =
                |chunk: &Chunk| !chunk.keys().iter().any(|key| under_way.contains_key(key));
            if has_room && let Some(chunk) = held.take_if(|chunk| is_clear(chunk)) {
                for key in chunk.keys() {
                    *under_way.entry(key).or_default() += 1;
                }
                self.start(&mut tasks, chunk)?;
            }
            if halt.is_some() {
                // What is under way comes to its end; nothing new is begun.
                held = None;
                has_more = false;
                receive.close();
            }
            tokio::select! {
                chunk = receive.recv(), if held.is_none() && has_more => {
                    has_more = chunk.is_some();
                    held = chunk;
                }
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    let mut all = vec![ended];
                    while let Some(more) = tasks.try_join_next() {
                        all.push(more);
                    }
                    if let Some(stop) = self.settle(number, all, &mut under_way)? {
                        halt.get_or_insert(stop);
                    }
                }
                else => break,
            }
        }
        drop(receive);
        let read = reader.await.map_err(|error| Error::internal(error.to_string()))?;
        if let Some(halt) = halt {
            return Err(halt);
        }
        read?;
        Ok(self.ledger.over(number)?)
    }

    fn start(&mut self, tasks: &mut JoinSet<Ended>, chunk: Chunk) -> Result<(), Halt> {
        let client = match self.clients.pop() {
            Some(client) => client,
            None => self.shared.caller.client().map_err(|failure| Halt::of(failure, true))?,
        };
        let shared = Arc::clone(&self.shared);
        tasks.spawn(async move {
            let fates = shared.deliver(&client, &chunk.items).await;
            Ended { client, chunk, fates }
        });
        Ok(())
    }

    /// Notes what came to its end; gives why something did not.
    fn settle(
        &mut self,
        step: u32,
        all: Vec<Result<Ended, tokio::task::JoinError>>,
        under_way: &mut HashMap<u64, u32>,
    ) -> Result<Option<Halt>, Halt> {
        let mut settled = Vec::new();
        let mut halt = None;
        for ended in all {
            let ended = ended.map_err(|error| Error::internal(error.to_string()))?;
            self.clients.push(ended.client);
            for key in ended.chunk.keys() {
                if let Some(count) = under_way.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        under_way.remove(&key);
                    }
                }
            }
            match ended.fates {
                Ok(fates) => settled.push(settled_of(step, &ended.chunk, fates)),
                Err(stop) => {
                    halt.get_or_insert(stop);
                }
            }
        }
        self.ledger.settle(&settled)?;
        for chunk in &settled {
            let items: u64 =
                chunk.tallies.values().map(|it| it.accepted + it.deleted + it.rejected).sum();
            self.standing.settled.fetch_add(items, Ordering::Relaxed);
            self.standing.rejected.fetch_add(chunk.rejects.len() as u64, Ordering::Relaxed);
        }
        Ok(halt)
    }

    /// Sends everything in one transaction that must not be sent twice.
    async fn at_once(&mut self, plan: &Arc<Plan>, inputs: &Arc<Vec<Input>>) -> Result<(), Halt> {
        let done = self.ledger.is_over(0)? || !self.ledger.done(0)?.is_empty();
        if done {
            return Ok(());
        }
        let limits = self.shared.settings.limits;
        let (plan, inputs) = (Arc::clone(plan), Arc::clone(inputs));
        let whole = tokio::task::spawn_blocking(move || chunk::whole(&plan, &inputs, limits));
        let chunk = whole.await.map_err(|error| Error::internal(error.to_string()))??;
        if chunk.items.is_empty() {
            return Ok(());
        }
        if !self.ledger.sending(0, 0)? && self.shared.settings.uncertain == Uncertain::Say {
            return Err(uncertain("the transaction was sent"));
        }
        let client = match self.clients.pop() {
            Some(client) => client,
            None => self.shared.caller.client().map_err(|failure| Halt::of(failure, true))?,
        };
        let fates = self.shared.deliver(&client, &chunk.items).await;
        if let Err(halt) = &fates
            && halt.code.as_str() != "bulk.import_uncertain"
        {
            self.ledger.not_sent(0, 0)?;
        }
        let ended = Ended { client, chunk, fates };
        match self.settle(0, vec![Ok(ended)], &mut HashMap::new())? {
            Some(halt) => Err(halt),
            None => Ok(()),
        }
    }
}

fn settled_of(step: u32, chunk: &Chunk, fates: Vec<(Fate, u32)>) -> Settled {
    let mut settled = Settled { step, number: chunk.number, ..Settled::default() };
    for (item, (fate, retried)) in chunk.items.iter().zip(fates) {
        let tally: &mut Tally = settled.tallies.entry(item.resource_type.clone()).or_default();
        tally.retried += u64::from(retried);
        match fate {
            Fate::Accepted(_) if item.verb == Verb::Delete => tally.deleted += 1,
            // Nothing is left to delete.
            Fate::Rejected { status: Some(404 | 410), .. } if item.verb == Verb::Delete => {
                tally.deleted += 1;
            }
            Fate::Accepted(status) => {
                tally.accepted += 1;
                tally.created += u64::from(status == 201);
            }
            Fate::Rejected { status, issues } => {
                tally.rejected += 1;
                let issues = issues.join(",");
                let message = match (status, issues.as_str()) {
                    (None, _) => "the server's answer says nothing of it".to_owned(),
                    (Some(status), "") => format!("the server refused it: HTTP {status}"),
                    (Some(status), codes) => {
                        format!("the server refused it: HTTP {status}, issue {codes}")
                    }
                };
                settled.rejects.push(Reject {
                    file: item.file,
                    line: item.line,
                    part: item.part,
                    resource_type: Some(item.resource_type.clone()),
                    status,
                    code: "bulk.rejected".to_owned(),
                    issues,
                    message,
                });
            }
        }
    }
    settled
}
