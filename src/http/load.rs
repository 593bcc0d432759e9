//! Many requests at once, measured: the transport of the load generator.
//!
//! Its connections are its own, and so is what bounds them: the trust, the pins, the client
//! certificate, the allowed addresses, the source address and the timeouts are those of every
//! request to the server. HTTP/1.1 only, one request at a time on each connection, bodies counted
//! and thrown away. The inventory's rate limit does not hold here.
//!
//! Cheap by how it is built: each worker is a thread with a runtime of its own, what is sent is made
//! once, and the connection is driven by the very task that waits for the answer.

mod connection;
mod schedule;
mod tally;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri};
use url::Url;

use super::client::{self, Client};
use super::exchange::{Body, Credential};
use super::{Failure, Identity, Stage, Transport};
use crate::model::Code;
use crate::model::server::Server;

use connection::Opener;
use schedule::Schedule;
pub use tally::{Latency, Tally};

/// How long requests that are on their way at the end are waited for.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether to stop.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether a token has to be renewed.
const RENEW: Duration = Duration::from_secs(1);
/// Connections of one worker thread: below that, more threads cost more than they bring.
const PER_WORKER: usize = 64;

/// One kind of request and what it is sent to, in turn.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: Method,
    pub targets: Vec<Target>,
    /// Its share among the others.
    pub weight: u32,
    /// What a good answer is like, as far as it can be told for nothing.
    pub likeness: Likeness,
}

/// What the answers under load are held against: as good as free, so that it can be done for each.
#[derive(Clone, Debug, Default)]
pub struct Likeness {
    /// The media type that a good answer had; `None`: any is taken.
    pub content_type: Option<HeaderValue>,
    /// Whether another media type is as good; asked only where it is not the same to the byte.
    pub is_alike: Option<fn(&str) -> bool>,
    /// Whether a good answer had a body.
    pub has_body: bool,
}

impl Likeness {
    /// Whether an answer of this media type could be a good one.
    fn takes(&self, content_type: Option<&HeaderValue>) -> bool {
        let Some(good) = &self.content_type else { return true };
        match content_type {
            Some(found) if found == good => true,
            Some(found) => {
                found.to_str().is_ok_and(|text| self.is_alike.is_some_and(|alike| alike(text)))
            }
            None => false,
        }
    }
}

/// One address, with a form where it is posted to.
#[derive(Clone, Debug)]
pub struct Target {
    pub url: Url,
    pub form: Option<String>,
}

/// How much is sent, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    pub connections: usize,
    /// Requests a second, on schedule whatever the answers do; `None`: each connection sends its next
    /// request when it has its answer.
    pub rate: Option<f64>,
    pub duration: Duration,
    /// How long it takes until the full rate, or the last connection, is there.
    pub ramp: Duration,
    pub max_requests: Option<u64>,
    /// Stops at this share of failed requests, in percent.
    pub stop_on_errors: Option<f64>,
    pub accept: &'static str,
}

/// How far it is, for who watches; and the way to end it early.
#[derive(Debug, Default)]
pub struct Watch {
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub stop: AtomicBool,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Time,
    Requests,
    Errors,
    Asked,
}

/// What came of it.
#[derive(Debug)]
pub struct Measured {
    /// In the order of the operations.
    pub operations: Vec<Tally>,
    /// How long it took to open a connection.
    pub connects: Latency,
    pub ended: Ended,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Requests that the schedule had for this time; `None` without a rate.
    pub scheduled: Option<u64>,
    /// Requests whose connection was still busy when it was their turn.
    pub late: u64,
    /// Requests that were still without an answer when it ended.
    pub unfinished: u64,
    /// How often a token was renewed on the way.
    pub renewals: u64,
    /// Our id of all of these requests, as the server saw it.
    pub request_id: String,
}

/// Gives the credential as it is now; renews a token that is about to end.
pub type Renew<'a> =
    dyn Fn() -> BoxFuture<'a, Result<Option<Credential>, Failure>> + Send + Sync + 'a;

/// Requests between two of which this long or this many lie before errors can stop a run.
const ERRORS_AFTER: u64 = 50;

/// Sends the operations by their weights until the plan's end.
///
/// # Errors
/// Before anything is sent: settings that make no connection, a proxy, a credential that would go over
/// plain HTTP or signs each request, a name that leads nowhere. What fails later is counted.
pub async fn run(
    server: &Server,
    identity: &Identity,
    transport: Arc<Transport>,
    renew: &Renew<'_>,
    operations: &[Operation],
    plan: &Plan,
    watch: Arc<Watch>,
) -> Result<Measured, Failure> {
    let credential = renew().await?;
    let client = Client::new(server, identity, Arc::clone(&transport))?;
    refuse(&client, credential.as_ref(), operations)?;
    let opener = Opener::new(server, identity, &transport).await?;
    let request_id = uuid::Uuid::new_v4().to_string();
    let words = Words { server, plan, request_id: &request_id };
    let shared = Arc::new(Shared {
        plan: plan.clone(),
        opener,
        order: order(operations),
        sizes: operations.iter().map(|operation| operation.targets.len()).collect(),
        likenesses: operations.iter().map(|operation| operation.likeness.clone()).collect(),
        heads: Mutex::new(Arc::new(words.heads(operations, credential.as_ref())?)),
        version: AtomicU64::new(0),
        schedule: plan.rate.map(|rate| Schedule::new(rate, plan.ramp)),
        next: AtomicU64::new(0),
        watch: Arc::clone(&watch),
        by_errors: AtomicBool::new(false),
        start: Instant::now(),
        total: server.timeouts.total,
    });
    let workers = worker::start(&shared)?;
    let mut renewals = 0;
    let ended = {
        let renewing = async {
            let mut held = credential;
            loop {
                tokio::time::sleep(RENEW).await;
                let Ok(now) = renew().await else { continue };
                let changed =
                    now.as_ref().map(|now| &now.headers) != held.as_ref().map(|held| &held.headers);
                if !changed {
                    continue;
                }
                if let Ok(heads) = words.heads(operations, now.as_ref()) {
                    shared.replace(heads);
                    renewals += 1;
                    held = now;
                }
            }
        };
        tokio::select! {
            ended = shared.end(&workers) => ended,
            () = renewing => Ended::Asked,
        }
    };
    let mut measured = worker::collect(&shared, workers, ended).await?;
    measured.renewals = renewals;
    measured.request_id = request_id;
    Ok(measured)
}

/// What cannot be done, told before anything is sent.
fn refuse(
    client: &Client,
    credential: Option<&Credential>,
    operations: &[Operation],
) -> Result<(), Failure> {
    if client.is_proxied() {
        return Err(Failure::new(
            Stage::Setup,
            Code::new("network.proxy"),
            "load is measured on direct connections, and this server is reached through a proxy",
        )
        .hint(
            "Name the server in NO_PROXY or drop network.proxy, where it can be reached directly.",
        ));
    }
    if credential.is_some_and(|credential| credential.signer.is_some()) {
        return Err(Failure::new(
            Stage::Setup,
            Code::new("check.not_applicable"),
            "this sign-in signs each request anew, which would be measured instead of the server",
        )
        .hint("Measure with a sign-in that sends a token, or against a node without one."));
    }
    for target in operations.iter().flat_map(|operation| &operation.targets) {
        let body = target.form.as_deref().map(|form| Body {
            content_type: FORM,
            bytes: form.as_bytes(),
            confidential: false,
        });
        client.check_transport(&target.url, credential, body.as_ref())?;
    }
    Ok(())
}

const FORM: &str = "application/x-www-form-urlencoded";

/// What workers share.
struct Shared {
    plan: Plan,
    opener: Opener,
    /// Indices of operations, each as often as it weighs.
    order: Vec<u16>,
    /// How many targets each operation has.
    sizes: Vec<usize>,
    /// What the answers to each operation are held against.
    likenesses: Vec<Likeness>,
    heads: Mutex<Arc<Heads>>,
    /// Of `heads`; a change is seen without taking the lock.
    version: AtomicU64,
    schedule: Option<Schedule>,
    /// The number of the next request of all.
    next: AtomicU64,
    watch: Arc<Watch>,
    by_errors: AtomicBool,
    start: Instant,
    total: Duration,
}

/// Requests as they are sent: for each operation one of each target.
type Heads = Vec<Vec<Head>>;

struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Shared {
    fn heads(&self) -> Arc<Heads> {
        Arc::clone(&self.heads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, heads: Heads) {
        *self.heads.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(heads);
        self.version.fetch_add(1, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.watch.stop.load(Ordering::Relaxed) || self.by_errors.load(Ordering::Relaxed)
    }

    /// Counts a request that is over, and stops where too many fail.
    fn count(&self, failed: bool) {
        let done = self.watch.done.fetch_add(1, Ordering::Relaxed) + 1;
        if !failed {
            return;
        }
        let failed = self.watch.failed.fetch_add(1, Ordering::Relaxed) + 1;
        let after = ERRORS_AFTER.max(2 * self.plan.connections as u64);
        if let Some(percent) = self.plan.stop_on_errors
            && done >= after
            && failed as f64 * 100.0 >= percent * done as f64
        {
            self.by_errors.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until nothing more is to be sent.
    async fn end(&self, workers: &[worker::Worker]) -> Ended {
        loop {
            if self.by_errors.load(Ordering::Relaxed) {
                return Ended::Errors;
            }
            if self.watch.stop.load(Ordering::Relaxed) {
                return Ended::Asked;
            }
            let left = self.plan.duration.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return Ended::Time;
            }
            if workers.iter().all(worker::Worker::is_done) {
                return Ended::Requests;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

/// What every request says.
struct Words<'a> {
    server: &'a Server,
    plan: &'a Plan,
    request_id: &'a str,
}

impl Words<'_> {
    fn heads(
        &self,
        operations: &[Operation],
        credential: Option<&Credential>,
    ) -> Result<Heads, Failure> {
        let one = |operation: &Operation, target: &Target| self.head(operation, target, credential);
        operations
            .iter()
            .map(|operation| operation.targets.iter().map(|to| one(operation, to)).collect())
            .collect()
    }

    fn head(
        &self,
        operation: &Operation,
        target: &Target,
        credential: Option<&Credential>,
    ) -> Result<Head, Failure> {
        let url = client::with_key(&target.url, credential);
        let unusable =
            || Failure::new(Stage::Setup, Code::new("http.status"), "an address cannot be sent");
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let uri = path.parse::<Uri>().map_err(|_| unusable())?;
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(header::HOST, HeaderValue::from_str(authority).map_err(|_| unusable())?);
        headers.insert(header::ACCEPT, HeaderValue::from_static(self.plan.accept));
        let encoding = if self.server.compression { "gzip, br, zstd, deflate" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert(header::USER_AGENT, client::user_agent(self.server));
        if let Ok(id) = HeaderValue::from_str(self.request_id) {
            headers.insert("x-request-id", id);
        }
        if target.form.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
        }
        for (name, value) in credential.iter().flat_map(|credential| &credential.headers) {
            headers.insert(name.clone(), value.clone());
        }
        let body = target.form.clone().map(Bytes::from).unwrap_or_default();
        Ok(Head { method: operation.method.clone(), uri, headers, body })
    }
}

/// Each operation as often as it weighs, mixed the same way in every run.
fn order(operations: &[Operation]) -> Vec<u16> {
    let mut order = Vec::new();
    for (index, operation) in (0_u16..).zip(operations) {
        order.extend(std::iter::repeat_n(index, operation.weight.clamp(1, 1000) as usize));
    }
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_share_in_the_order() {
        let operation = |weight| Operation {
            method: Method::GET,
            targets: Vec::new(),
            weight,
            likeness: Likeness::default(),
        };
        let order = order(&[operation(3), operation(1), operation(0)]);
        let share = |index: u16| order.iter().filter(|one| **one == index).count();
        assert_eq!((share(0), share(1), share(2)), (3, 1, 1));
    }

    #[test]
    fn an_answer_of_another_media_type_is_not_like_a_good_one() {
        let likeness = Likeness {
            content_type: Some(HeaderValue::from_static("application/fhir+json")),
            is_alike: Some(|text| text.contains("json")),
            has_body: true,
        };
        for (found, expected) in [
            (Some("application/fhir+json"), true),
            (Some("application/json;charset=utf-8"), true),
            (Some("text/html"), false),
            (None, false),
        ] {
            let found = found.map(HeaderValue::from_static);
            assert_eq!(likeness.takes(found.as_ref()), expected, "{found:?}");
        }
        assert!(Likeness::default().takes(None));
    }
}
