//! What the clients of one process share.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use url::Url;

use super::body::LARGE_BODIES;
use super::proxy::Environment;
use super::resolve::Names;
use super::tls::Trust;
use crate::model::server::{RateLimit, Server};
use crate::model::{Clock, Secret};

/// Is told of every exchange in one line.
type Trace = Box<dyn Fn(&str) + Send + Sync>;

/// Trust anchors, proxy settings, rate limits and bounds of one process.
pub struct Transport {
    pub(super) clock: Clock,
    pub(super) trust: Trust,
    pub(super) proxies: Environment,
    pub(super) large_bodies: Semaphore,
    pub(super) trace: Option<Trace>,
    pub(super) names: Names,
    no_tls: OnceLock<rustls::ClientConfig>,
    limiters: Mutex<HashMap<String, Arc<DefaultDirectRateLimiter>>>,
}

/// The secrets that a connection needs before anything is sent on it.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The PEM private key of `tls.client_certificate`, or the password of its PKCS#12 file.
    pub certificate_secret: Option<Secret>,
    /// Of `network.proxy`.
    pub proxy_password: Option<Secret>,
}

impl Transport {
    /// Reads the proxy variables; the trust store is read when it is first needed.
    #[must_use]
    pub fn new(clock: Clock) -> Transport {
        Transport {
            clock,
            trust: Trust::default(),
            proxies: Environment::read(),
            large_bodies: Semaphore::new(LARGE_BODIES),
            trace: None,
            names: Names::System,
            no_tls: OnceLock::new(),
            limiters: Mutex::default(),
        }
    }

    /// The present instant by the clock that this run goes by.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Host and port of the proxy that a server's requests go through; `None`: straight.
    #[must_use]
    pub fn proxy_endpoint(&self, server: &Server) -> Option<(String, u16)> {
        super::proxy::endpoint(server, &self.proxies)
    }

    /// Has every exchange told in one line, without query values and secrets.
    #[must_use]
    pub fn traced(mut self, trace: impl Fn(&str) + Send + Sync + 'static) -> Transport {
        self.trace = Some(Box::new(trace));
        self
    }

    /// Has names lead where a test says, and no request go through a proxy.
    #[cfg(test)]
    #[must_use]
    pub fn bent(
        mut self,
        tell: impl Fn(&str) -> Vec<std::net::IpAddr> + Send + Sync + 'static,
    ) -> Transport {
        self.names = Names::Told(Arc::new(tell));
        self.proxies = Environment::Empty;
        self
    }

    /// Waits until the origin's rate limit lets one more request through; returns how long.
    pub(super) async fn admit(&self, url: &Url, limit: RateLimit) -> Duration {
        let limiter = self.limiter(url, limit);
        let clock = DefaultClock::default();
        let mut waited = Duration::ZERO;
        while let Err(not_until) = limiter.check() {
            let wait = not_until.wait_time_from(clock.now());
            waited += wait;
            tokio::time::sleep(wait).await;
        }
        waited
    }

    /// Settings for a client that never speaks TLS: nothing is trusted.
    pub(super) fn no_tls(&self) -> rustls::ClientConfig {
        self.no_tls.get_or_init(super::tls::nothing_trusted).clone()
    }

    fn limiter(&self, url: &Url, limit: RateLimit) -> Arc<DefaultDirectRateLimiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limiter) = limiters.get(&url[..url::Position::BeforePath]) {
            return limiter.clone();
        }
        // A rate of 0 would be no rate at all; the inventory refuses it.
        let period =
            Duration::from_secs_f64(1.0 / limit.requests_per_second.clamp(0.001, 1_000_000.0));
        let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period)
            .map_or_else(|| Quota::per_second(burst), |quota| quota.allow_burst(burst));
        let limiter = Arc::new(RateLimiter::direct(quota));
        limiters.insert(url[..url::Position::BeforePath].to_owned(), limiter.clone());
        limiter
    }
}
