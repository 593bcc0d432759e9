//! One exchange with one server, measured, bounded and classified.
//!
//! Enters: a [`Server`](crate::model::Server)'s settings and a [`Request`]. Leaves: an [`Exchange`]
//! (whatever the server answered) or a [`Failure`] with its reason code. Called by auth and probe.
//! This is the only room that knows the HTTP library, TLS and the resolver.

mod body;
mod classify;
mod client;
mod dial;
mod exchange;
mod identity;
pub mod load;
pub mod machine;
mod proxy;
mod redact;
mod resolve;
mod retry;
mod signing;
mod timing;
mod tls;
mod transport;

pub use client::{Answer, Client, Presented, PresentedCertificate};
pub use exchange::{Body, Call, Credential, Exchange, Request, Signer, Unsigned};
pub use identity::{CertificateFacts, certificate_facts, certificates_in};
pub use proxy::environment as proxy_environment;
pub use resolve::Rules;
pub use retry::parse_retry_after;
pub use tls::client_config;
pub use transport::{Identity, Transport};

use crate::model::{Code, HttpFacts, Timing};

/// Where an exchange broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before anything was sent: a file or setting of ours.
    Setup,
    Dns,
    Tcp,
    Tls,
    Http,
}

/// An exchange that did not end with an answer.
#[derive(Clone, Debug)]
pub struct Failure {
    pub stage: Stage,
    pub code: Code,
    /// Our words; names hosts and files, never secrets or content.
    pub message: String,
    /// Better advice than the code's own, where this case allows it.
    pub hint: Option<String>,
    /// The other side's own words, for a live screen and never for a log.
    pub server_text: Option<String>,
    pub timing: Option<Timing>,
    pub http: Option<HttpFacts>,
}

impl Failure {
    #[must_use]
    pub fn new(stage: Stage, code: Code, message: impl Into<String>) -> Failure {
        Failure {
            stage,
            code,
            message: message.into(),
            hint: None,
            server_text: None,
            timing: None,
            http: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn server_text(mut self, text: Option<String>) -> Failure {
        self.server_text = text;
        self
    }
}
