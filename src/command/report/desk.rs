//! What a report is made from: inventory, history and a window, and the figures of each kind.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::window::Chosen;
use super::{CommonArgs, ReportKind};
use crate::command::record::intervals;
use crate::context::Context;
use crate::history::{Known, Store};
use crate::inventory::{Inventory, select};
use crate::model::{Error, Result, Server};
use crate::render::Output;
use crate::report::{self, Proof};
use crate::stats::sla::Verdict;
use crate::stats::span::Span;
use crate::stats::window::zone;
use crate::view;

/// From so many servers on it is worth while to add them up over several connections.
const MANY_SERVERS: usize = 64;
const MOST_CONNECTIONS: usize = 4;

/// What a report is made from.
pub(super) struct Desk<'a> {
    args: &'a CommonArgs,
    inventory: Inventory,
    store: Store,
    /// Further connections, where there are many servers to add up.
    more_stores: Vec<Store>,
    pub(super) servers: Vec<Server>,
    known: HashMap<String, Known>,
    chosen: Chosen,
    /// One instant for report and proof.
    now: Timestamp,
}

impl<'a> Desk<'a> {
    pub(super) async fn open(args: &'a CommonArgs, context: &Context) -> Result<Desk<'a>> {
        let inventory = context.load_inventory()?;
        let now = context.clock.now();
        let chosen = args.window.choose_past(now)?;
        let servers = select(&inventory, &args.selector.selection())?;
        let servers: Vec<Server> = servers.into_iter().cloned().collect();
        let store = context.look_at_history(&inventory).await?;
        prepare(&store, &inventory, context, now).await;
        let known = report::known(&store).await?;
        let mut more_stores = Vec::new();
        if servers.len() >= MANY_SERVERS {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 1..processors.min(MOST_CONNECTIONS) {
                more_stores.push(context.look_at_history(&inventory).await?);
            }
        }
        Ok(Desk { args, inventory, store, more_stores, servers, known, chosen, now })
    }

    fn known(&self, server: &Server) -> Option<&Known> {
        self.known.get(&server.name)
    }

    fn is_known(&self, server: &Server) -> bool {
        self.known(server).is_some()
    }

    fn head(&self, kind: &'static str) -> view::report::Head {
        view::report::Head {
            kind,
            generated_at: self.now,
            inventory: self.inventory.path.display().to_string(),
            history: self.store.place().to_string(),
            window: self.chosen.window,
            zone: self.chosen.zone.clone(),
            notes: self.notes(kind),
        }
    }

    fn notes(&self, kind: &str) -> Vec<String> {
        let named = |of: &dyn Fn(&Server) -> bool| {
            let named: Vec<&str> = self
                .servers
                .iter()
                .filter(|server| of(server))
                .map(|server| server.name.as_str())
                .collect();
            match named.as_slice() {
                [] => None,
                [one] => Some((*one).to_owned()),
                many => Some(format!("{} servers, such as {}", many.len(), many[0])),
            }
        };
        let without = named(&|server| !self.is_known(server))
            .map(|named| format!("History has nothing of {named}."));
        let kept_from = |server: &Server| self.known(server).and_then(|known| known.pruned_to);
        let is_cut_off = |server: &Server| kept_from(server) > Some(self.chosen.window.from);
        let cut_off = named(&is_cut_off).map(|named| {
            let last =
                self.servers.iter().filter(|server| is_cut_off(server)).filter_map(kept_from);
            let last = report::instant(last.max().unwrap_or_default());
            let what = match kind {
                "availability" | "incident" | "security" => "nothing is known from then",
                "sla" => "where time of a period counts from then, there is no verdict",
                _ => "the figures are of roll-ups, of hours at first and of days (UTC) later",
            };
            format!("Of {named} readings from before {last} are no longer kept: {what}.")
        });
        let cut = self.chosen.is_cut.then(|| {
            "The window that was asked for ends in the future; all is told up to now.".to_owned()
        });
        cut.into_iter().chain(without).chain(cut_off).collect()
    }

    pub(super) async fn report(
        &self,
        kind: &ReportKind,
        for_vendor: bool,
    ) -> Result<(Output, Option<Verdict>)> {
        let window = self.chosen.window;
        let now = self.now.as_millisecond();
        let output = match kind {
            ReportKind::Summary(_) => {
                view::report::summary::output(self.head("summary"), self.added(false).await?)
            }
            ReportKind::Performance(_) => {
                let rows = self.added(true).await?;
                view::report::performance::output(self.head("performance"), rows)
            }
            ReportKind::Errors(_) => {
                view::report::errors::output(self.head("errors"), self.added(false).await?)
            }
            ReportKind::Availability(_) => {
                let mut all = Vec::new();
                for server in &self.servers {
                    let known = self.is_known(server);
                    let zone = &self.chosen.zone;
                    all.push(
                        report::availability(&self.store, server, known, window, zone, now).await?,
                    );
                }
                view::report::availability::output(self.head("availability"), all)
            }
            ReportKind::Incident(_) => {
                let mut all = Vec::new();
                for server in &self.servers {
                    let known = self.is_known(server);
                    let zone = &self.chosen.zone;
                    let one =
                        report::availability(&self.store, server, known, window, zone, now).await?;
                    all.extend(one.incidents);
                }
                all.sort_by_key(|outage| outage.from);
                view::report::incident::output(self.head("incident"), all)
            }
            ReportKind::Sla(_) => {
                let agreed = self.agreed().await?;
                let verdict = report::worst(&agreed);
                let mut head = self.head("sla");
                if !self.chosen.is_said || self.chosen.month.is_some() {
                    head.window = running(&agreed).unwrap_or(head.window);
                }
                if !self.chosen.is_zone_said {
                    head.zone = zone_of(&agreed).unwrap_or(head.zone);
                }
                let output = match (for_vendor, agreed.first().zip(self.servers.first())) {
                    (true, Some((one, server))) => {
                        let all = &self.inventory.servers;
                        let cleared = report::for_vendor(one.clone(), server, all);
                        view::report::sla::for_vendor(head, &cleared)
                    }
                    (true, None) => {
                        return Err(Error::usage("nothing was agreed about this server")
                            .hint("sla: {availability: 99.9%} in the inventory says what was"));
                    }
                    (false, _) => view::report::sla::output(head, agreed),
                };
                return Ok((output, Some(verdict.unwrap_or(Verdict::Unknown))));
            }
            ReportKind::Trends(_) => {
                let zone = &self.chosen.zone;
                let mut lines = Vec::new();
                for server in &self.servers {
                    lines.extend(
                        report::trends(&self.store, server, self.known(server), window, zone)
                            .await?,
                    );
                }
                view::report::trends::output(self.head("trends"), lines)
            }
            ReportKind::Capacity(args) => {
                let zone = &self.chosen.zone;
                let mut lines = Vec::new();
                for server in &self.servers {
                    let known = self.known(server);
                    lines.extend(report::capacity(&self.store, server, known, window, zone).await?);
                }
                let (mut lines, notes) = report::drawn(lines, &args.lines);
                lines.retain(report::Line::tells_capacity);
                let mut head = self.head("capacity");
                head.notes.extend(notes);
                view::report::capacity::output(head, lines)
            }
            ReportKind::Security(_) => {
                let mut events = Vec::new();
                for server in self.servers.iter().filter(|server| self.is_known(server)) {
                    events.extend(report::security(&self.store, server, window).await?);
                }
                events.sort_by_key(|event| event.first);
                view::report::security::output(self.head("security"), events)
            }
            ReportKind::Verify(_) => Output::default(),
        };
        Ok((output, None))
    }

    /// Figures by server, or by what servers are added up by, in the order of the inventory; with
    /// response times over time where they are wanted.
    async fn added(&self, over_time: bool) -> Result<Vec<report::Row>> {
        let mut rows: Vec<report::Row> = Vec::new();
        let figures = self.figures(over_time).await?;
        for (server, figures) in self.servers.iter().zip(figures) {
            let name = match &self.args.group_by {
                None => server.name.clone(),
                Some(by) => by.of(server),
            };
            match rows.iter_mut().find(|row| self.args.group_by.is_some() && row.name == name) {
                Some(row) => row.merge(&figures),
                None => rows.push(report::Row::new(name, server, figures)),
            }
        }
        Ok(rows)
    }

    /// The figures of each server, in their order; every connection has its share of them.
    async fn figures(&self, over_time: bool) -> Result<Vec<report::Figures>> {
        let stores = || std::iter::once(&self.store).chain(&self.more_stores);
        let share = self.servers.len().div_ceil(stores().count()).max(1);
        let window = self.chosen.window;
        let some = async |store: &Store, servers: &[Server]| {
            let mut all = Vec::with_capacity(servers.len());
            for server in servers {
                let known = self.known(server);
                let mut figures = report::figures(store, server, known, window).await?;
                if over_time {
                    figures.over_time = report::over_time(store, known, window).await?;
                }
                all.push(figures);
            }
            Ok::<_, Error>(all)
        };
        // Most of it is arithmetic, so that each needs a processor of its own.
        let runtime = tokio::runtime::Handle::current();
        let parts = std::thread::scope(|scope| {
            let parts = self.servers.chunks(share).zip(stores());
            let threads = parts.map(|(servers, store)| {
                let (runtime, some) = (runtime.clone(), &some);
                scope.spawn(move || runtime.block_on(some(store, servers)))
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        let mut figures = Vec::with_capacity(self.servers.len());
        for part in parts {
            figures.extend(part.map_err(|_| Error::internal("adding up broke off"))??);
        }
        Ok(figures)
    }

    pub(super) async fn agreed(&self) -> Result<Vec<report::Agreed>> {
        let now = self.now.as_millisecond();
        let mut all = Vec::new();
        for server in &self.servers {
            let known = self.known(server);
            // Where nobody names a window, it is the period that is running.
            let window = match self.chosen.is_said {
                true => self.chosen.by(&report::calendar(server)?, self.now)?,
                false => Span::new(now - 1, now),
            };
            all.extend(report::sla(&self.store, server, known, window, now).await?);
        }
        Ok(all)
    }

    pub(super) async fn proof(&self, kind: &ReportKind, for_vendor: bool) -> Result<Proof> {
        // Where nobody names a window, agreements are proven for what is running of their periods.
        let running = match kind {
            ReportKind::Sla(_) if !self.chosen.is_said => {
                report::running(&self.servers, self.now.as_millisecond())?
            }
            // Each agreement's month has the time that is in all of them, and no other month has.
            ReportKind::Sla(_) => {
                let mut shared = None;
                for server in self.servers.iter().filter(|server| server.agreement.is_some()) {
                    let month = self.chosen.by(&report::calendar(server)?, self.now)?;
                    shared = Some(shared.map_or(month, |shared: Span| shared.intersect(&month)));
                }
                shared.filter(|shared| !shared.is_empty())
            }
            _ => None,
        };
        let servers = self.servers.iter().map(|server| (server, self.known(server)));
        let servers: Vec<_> = servers.filter(|(_, known)| known.is_some()).collect();
        let window = running.unwrap_or(self.chosen.window);
        let proof = report::prove(&self.store, &servers, window, self.now).await?;
        match servers.first().filter(|_| for_vendor) {
            Some((server, _)) => report::proof_for_vendor(proof, server, &self.inventory.servers),
            None => Ok(proof),
        }
    }
}

/// Rolls up what is new. Who may only read gets the same figures from readings, more slowly.
async fn prepare(store: &Store, inventory: &Inventory, context: &Context, now: Timestamp) {
    if let Err(error) = store.roll_up(now, &intervals(inventory)).await {
        context.verbose(1, &format!("nothing was rolled up: {}", error.message));
    }
}

/// From the beginning to the end of all periods.
fn running(agreed: &[report::Agreed]) -> Option<Span> {
    let periods = || agreed.iter().flat_map(|one| &one.periods);
    let from = periods().map(|period| period.from.as_millisecond()).min()?;
    let to = periods().map(|period| period.to.as_millisecond()).max()?;
    Some(Span::new(from, to))
}

/// The zone that all agreements have.
fn zone_of(agreed: &[report::Agreed]) -> Option<TimeZone> {
    let name = &agreed.first()?.agreement.time_zone;
    agreed.iter().all(|one| one.agreement.time_zone == *name).then(|| zone(name).ok()).flatten()
}
