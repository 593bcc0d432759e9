//! The order of the checks of one server, and the running of many servers at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use super::checks::metadata::Statement;
use super::checks::{assert, auth, capability, health, metadata, read, search, stages};
use super::gauges::{self, Gauged};
use super::session::Session;
use super::verdict::{Draft, conclude, left_out, unchecked, whole};
use super::{CheckName, Options, Shown, Surroundings};
use crate::fhir::drift::Snapshot;
use crate::http::{Failure, Stage};
use crate::model::server::{AssertCheck, Auth, HealthCheck, ReadCheck, Server};
use crate::model::{Code, Observation, ServerReport, Status};

/// The pause before a first retry; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A server's report, and its CapabilityStatement where it was asked to be kept.
pub struct Checked {
    pub report: ServerReport,
    pub snapshot: Option<Snapshot>,
    /// Where every stage was asked for and a CapabilityStatement came.
    pub shown: Option<Shown>,
    /// What was asked for beside the checks.
    pub gauged: Gauged,
}

/// Checks many servers, at most `concurrency` at once, and gives the reports in the order of the
/// servers. `done` is called with each report as it is finished.
pub async fn check_all(
    servers: Vec<Arc<Server>>,
    surroundings: &Surroundings,
    options: &Options,
    concurrency: usize,
    mut done: impl FnMut(&ServerReport),
) -> Vec<Checked> {
    let count = servers.len();
    let mut running = futures_util::stream::iter(servers.into_iter().enumerate())
        .map(|(index, server)| {
            let surroundings = surroundings.clone();
            let options = options.clone();
            let name = server.clone();
            let task =
                tokio::spawn(async move { check_one(&server, &surroundings, &options).await });
            async move { (index, name, task.await) }
        })
        .buffer_unordered(concurrency.max(1));
    let mut finished: Vec<Option<Checked>> = (0..count).map(|_| None).collect();
    while let Some((index, server, result)) = running.next().await {
        let checked = result.unwrap_or_else(|_| Checked {
            report: unchecked(
                &server,
                surroundings.clock.now(),
                "the check broke off inside fhirctl; please report this",
            ),
            snapshot: None,
            shown: None,
            gauged: Gauged::default(),
        });
        done(&checked.report);
        finished[index] = Some(checked);
    }
    finished.into_iter().flatten().collect()
}

/// Runs every check of one server that the options want.
pub async fn check_one(server: &Server, surroundings: &Surroundings, options: &Options) -> Checked {
    let started = Instant::now();
    let deadline = started + server.deadline;
    let mut run = Run::new(server, surroundings, options);
    match Session::open(server, surroundings, options, deadline).await {
        Ok(mut session) => {
            run.checks(&mut session).await;
            let checked = run.finish(started);
            Checked { gauged: gauges_of(&mut session, options).await, ..checked }
        }
        Err(failure) => {
            run.cannot_start(&failure);
            run.finish(started)
        }
    }
}

/// What is due beside the checks, in the time that they left.
async fn gauges_of(session: &mut Session<'_>, options: &Options) -> Gauged {
    let has_any = session.server.checks.has_gauges();
    let Some(asked) = options.gauges.clone().filter(|_| has_any) else { return Gauged::default() };
    match tokio::time::timeout(session.remaining(), asked).await {
        Ok(Some(asked)) => gauges::collect(session, &asked).await,
        Ok(None) | Err(_) => Gauged::default(),
    }
}

/// What has been observed so far.
struct Run<'a> {
    server: &'a Server,
    surroundings: &'a Surroundings,
    options: &'a Options,
    stages: Vec<Observation>,
    checks: Vec<Observation>,
    fhir_version: Option<String>,
    software: Option<String>,
    certificate: Option<crate::model::Certificate>,
    snapshot: Option<Snapshot>,
    shown: Option<Shown>,
}

impl<'a> Run<'a> {
    fn new(server: &'a Server, surroundings: &'a Surroundings, options: &'a Options) -> Run<'a> {
        Run {
            server,
            surroundings,
            options,
            stages: Vec::new(),
            checks: Vec::new(),
            fhir_version: None,
            software: None,
            certificate: None,
            snapshot: None,
            shown: None,
        }
    }

    async fn checks(&mut self, session: &mut Session<'_>) {
        let server = self.server;
        match server.auth {
            Auth::None => self.not_declared(CheckName::Auth, "no sign-in is configured"),
            _ => self.attempt(session, Job::Auth).await,
        }
        match &server.checks.health {
            Some(check) => self.attempt(session, Job::Health(check)).await,
            None => self.not_declared(CheckName::Health, "no health endpoint is known"),
        }
        self.attempt(session, Job::Metadata).await;
        for (index, query) in server.checks.search.iter().enumerate() {
            self.attempt(session, Job::Search(index, query)).await;
        }
        if server.checks.search.is_empty() {
            self.not_declared(CheckName::Search, "no search is declared");
        }
        for (index, check) in server.checks.read.iter().enumerate() {
            if check.synthetic {
                self.attempt(session, Job::Read(index, check)).await;
            } else if self.options.wants(CheckName::Read) {
                self.leave_out(
                    CheckName::Read,
                    "check.not_applicable",
                    "only a record marked synthetic: true is read",
                );
            }
        }
        if server.checks.read.is_empty() {
            self.not_declared(CheckName::Read, "no canary is declared");
        }
        for (index, check) in server.checks.assert.iter().enumerate() {
            self.attempt(session, Job::Assert(index, check)).await;
        }
        if server.checks.assert.is_empty() {
            self.not_declared(CheckName::Assert, "no assertion is declared");
        }
        self.certificate = session.client().certificate();
        self.stages = stages::observe(session, self.surroundings.clock.now());
    }

    /// Runs one check, again after a failure as often as the options say.
    async fn attempt(&mut self, session: &mut Session<'_>, job: Job<'_>) {
        let name = job.name();
        if !self.options.wants(name) {
            return;
        }
        if session.broken.is_some() {
            return self.leave_out(name, "check.skipped", "an earlier stage broke");
        }
        if needs_credential(name) && self.server.auth != Auth::None && !session.can_sign_in().await
        {
            return self.leave_out(
                name,
                "check.skipped",
                "there is no credential that may be offered",
            );
        }
        let started = Instant::now();
        let mut pause = RETRY_PAUSE;
        let mut attempts = 1;
        let (draft, statement) = loop {
            if session.remaining().is_zero() {
                return self.leave_out(name, "check.deadline", "the server's deadline had passed");
            }
            let (draft, statement) = job.perform(session).await;
            let again = attempts <= self.options.retries
                && draft.status() != Status::Healthy
                && may_retry(&draft)
                && session.remaining() > pause;
            if !again {
                break (draft, statement);
            }
            // What broke may have mended itself: the next attempt is a fresh one.
            session.broken = None;
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause *= 2;
            attempts += 1;
        };
        // A failure below HTTP is told once, by its own stage.
        if session.broken.is_some() {
            return self.leave_out(name, "check.skipped", "an earlier stage broke");
        }
        let now = self.surroundings.clock.now();
        self.checks.push(conclude(job.label(), draft, self.server, attempts, started, now));
        if let Some(statement) = statement {
            self.fhir_version = statement.fhir_version;
            self.software = statement.software;
            self.shown = statement.shown;
            self.drift(statement.snapshot);
        }
    }

    fn drift(&mut self, snapshot: Option<Snapshot>) {
        let Some(snapshot) = snapshot else { return };
        let baseline =
            self.options.baseline.as_ref().filter(|_| self.options.wants(CheckName::Capability));
        if let Some(baseline) = baseline {
            match baseline.servers.get(&self.server.name) {
                Some(known) => {
                    let draft = capability::judge(known, &snapshot);
                    let now = self.surroundings.clock.now();
                    let name = CheckName::Capability.as_str().to_owned();
                    self.checks.push(conclude(name, draft, self.server, 1, Instant::now(), now));
                }
                None => self.leave_out(
                    CheckName::Capability,
                    "check.not_applicable",
                    "the baseline does not know this server",
                ),
            }
        }
        self.snapshot = self.options.keep_snapshots.then_some(snapshot);
    }

    /// Nothing could be sent: our own settings are at fault.
    fn cannot_start(&mut self, failure: &Failure) {
        let now = self.surroundings.clock.now();
        let name = if failure.code.as_str().starts_with("auth.") {
            CheckName::Auth
        } else {
            stages::home(failure.stage.min(Stage::Tls))
        };
        let mut observation = conclude(
            name.as_str().to_owned(),
            Draft::broken(failure),
            self.server,
            1,
            Instant::now(),
            now,
        );
        observation.party = Some(crate::model::Party::Ours);
        self.stages.push(observation);
        for name in [
            CheckName::Health,
            CheckName::Metadata,
            CheckName::Search,
            CheckName::Read,
            CheckName::Assert,
        ] {
            let declared = match name {
                CheckName::Health => self.server.checks.health.is_some(),
                CheckName::Search => !self.server.checks.search.is_empty(),
                CheckName::Read => !self.server.checks.read.is_empty(),
                CheckName::Assert => !self.server.checks.assert.is_empty(),
                _ => true,
            };
            if self.options.wants(name) && (declared || self.options.every_stage) {
                self.leave_out(name, "check.skipped", "an earlier stage broke");
            }
        }
    }

    fn not_declared(&mut self, name: CheckName, why: &str) {
        if self.options.every_stage && self.options.wants(name) {
            self.leave_out(name, "check.not_applicable", why);
        }
    }

    fn leave_out(&mut self, name: CheckName, code: &'static str, why: &str) {
        let now = self.surroundings.clock.now();
        self.checks.push(left_out(name, Code::new(code), why, now));
    }

    fn expiry_days(&self) -> Option<(f64, f64)> {
        let days = |limit: Duration| limit.as_secs_f64() / 86_400.0;
        let tls = &self.server.tls;
        self.certificate.as_ref().map(|_| (days(tls.expiry_warning), days(tls.expiry_critical)))
    }

    fn finish(self, started: Instant) -> Checked {
        let certificate_threshold_days = self.expiry_days();
        let mut checks = self.stages;
        checks.extend(self.checks);
        let whole = whole(&checks, self.fhir_version.as_deref(), self.software.as_deref());
        let report = ServerReport {
            name: self.server.name.clone(),
            url: self.server.url.to_string(),
            vendor: self.server.vendor.clone(),
            state: self.server.state(self.surroundings.clock.now()),
            status: whole.status,
            code: whole.code,
            message: whole.message,
            party: whole.party,
            duration_ms: started.elapsed().as_secs_f64() * 1000.0,
            fhir_version: self.fhir_version,
            software: self.software,
            certificate_threshold_days,
            certificate: self.certificate,
            checks,
        };
        Checked { report, snapshot: self.snapshot, shown: self.shown, gauged: Gauged::default() }
    }
}

/// One check with what it needs to know.
#[derive(Clone, Copy)]
enum Job<'a> {
    Auth,
    Health(&'a HealthCheck),
    Metadata,
    Search(usize, &'a str),
    Read(usize, &'a ReadCheck),
    Assert(usize, &'a AssertCheck),
}

impl Job<'_> {
    fn name(self) -> CheckName {
        match self {
            Job::Auth => CheckName::Auth,
            Job::Health(_) => CheckName::Health,
            Job::Metadata => CheckName::Metadata,
            Job::Search(..) => CheckName::Search,
            Job::Read(..) => CheckName::Read,
            Job::Assert(..) => CheckName::Assert,
        }
    }

    /// The name, with a number from the second of its kind on.
    fn label(self) -> String {
        let name = self.name().as_str();
        match self {
            Job::Search(index, _) | Job::Read(index, _) | Job::Assert(index, _) if index > 0 => {
                format!("{name}[{index}]")
            }
            _ => name.to_owned(),
        }
    }

    async fn perform(self, session: &mut Session<'_>) -> (Draft, Option<Statement>) {
        let draft = match self {
            Job::Metadata => return metadata::run(session).await,
            Job::Auth => auth::run(session).await,
            Job::Health(check) => health::run(session, check).await,
            Job::Search(_, query) => search::run(session, query).await,
            Job::Read(_, check) => read::run(session, check).await,
            Job::Assert(_, check) => assert::run(session, check).await,
        };
        (draft, None)
    }
}

fn needs_credential(name: CheckName) -> bool {
    matches!(name, CheckName::Search | CheckName::Read | CheckName::Assert)
}

/// A refused credential is not offered again, and what is missing here does not come by waiting.
fn may_retry(draft: &Draft) -> bool {
    draft.problems.iter().all(|problem| !problem.code.as_str().starts_with("auth."))
}
