//! A server as it is used: every value parsed, every default filled in.
//!
//! The inventory makes these out of what stands in the file; nothing else does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use url::Url;

pub use super::base_url::{BaseUrl, BaseUrlError, is_loopback};
pub use super::sign_in::{
    Algorithm, ApiKeyPlace, Auth, AwsKeys, AwsSigv4, Azure, AzureProof, Flow, Google, OAuth2,
    SignInPolicy, SmartBackend, TokenAuth,
};
use super::{Agreement, Code, Monitoring, Schedule, SecretRef, State, Terms};

/// One server of the inventory, ready to be used.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub url: BaseUrl,
    /// Name of the preset.
    pub vendor: Option<String>,
    pub fhir_version: Option<FhirVersion>,
    pub description: Option<String>,
    pub organization: Option<String>,
    pub contact: Contact,
    pub support: Contact,
    pub labels: BTreeMap<String, String>,
    pub active: bool,
    pub auth: Auth,
    /// How the credential is kept, shared and held back.
    pub sign_in: SignInPolicy,
    /// Whether `/metadata` is open; when not, it is asked for with the credential.
    pub metadata_needs_auth: bool,
    pub extra_headers: BTreeMap<String, HeaderValue>,
    pub tls: Tls,
    pub network: Network,
    pub format: Format,
    pub compression: bool,
    /// How long a CapabilityStatement may be reused by data commands.
    pub metadata_cache: Option<Duration>,
    pub timeouts: Timeouts,
    /// For the server's whole check.
    pub deadline: Duration,
    pub retry: Retry,
    pub rate_limit: RateLimit,
    pub pool: Pool,
    pub thresholds: Thresholds,
    pub checks: Checks,
    pub accept: Vec<Accept>,
    pub maintenance: Vec<Maintenance>,
    /// Lets a credential go over plain HTTP to this server.
    pub allow_insecure: bool,
    /// `None`: nobody said when.
    pub schedule: Option<Schedule>,
    /// `None`: nothing was agreed.
    pub agreement: Option<Agreement>,
    /// What its vendor says of being watched.
    pub monitoring: Monitoring,
    /// The approval that a vendor's terms ask for.
    pub terms: Option<Terms>,
}

impl Server {
    /// Every secret reference that it holds.
    #[must_use]
    pub fn references(&self) -> Vec<&SecretRef> {
        let headers = self.extra_headers.values().filter_map(|value| match value {
            HeaderValue::Secret(reference) => Some(reference),
            HeaderValue::Plain(_) => None,
        });
        let canaries = self.checks.read.iter().filter_map(|read| match &read.target {
            ReadTarget::Secret(reference) => Some(reference),
            ReadTarget::Reference(_) => None,
        });
        let key = self.tls.client_certificate.iter().filter_map(|client| client.reference());
        let proxy = self.network.proxy.iter().filter_map(|proxy| proxy.login.as_ref());
        let password = proxy.map(|login| &login.password);
        let all = self.auth.references().into_iter().chain(headers).chain(canaries);
        all.chain(key).chain(password).collect()
    }

    /// Whether it is in use at this instant.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        if !self.active {
            State::Inactive
        } else if self.maintenance.iter().any(|window| window.covers(now)) {
            State::Maintenance
        } else {
            State::Active
        }
    }
}

/// The versions of FHIR that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FhirVersion {
    #[serde(rename = "DSTU2")]
    Dstu2,
    #[serde(rename = "STU3")]
    Stu3,
    R4,
    R4B,
    R5,
}

impl FhirVersion {
    /// From a `fhirVersion` such as `4.0.1`; `None` for a version that was never published.
    #[must_use]
    pub fn of(version: &str) -> Option<FhirVersion> {
        let mut parts = version.split(['.', '-']);
        match (parts.next()?, parts.next()?) {
            ("1", "0") => Some(FhirVersion::Dstu2),
            ("3", "0") => Some(FhirVersion::Stu3),
            ("4", "0") => Some(FhirVersion::R4),
            ("4", "3") => Some(FhirVersion::R4B),
            ("5", "0") => Some(FhirVersion::R5),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FhirVersion::Dstu2 => "DSTU2",
            FhirVersion::Stu3 => "STU3",
            FhirVersion::R4 => "R4",
            FhirVersion::R4B => "R4B",
            FhirVersion::R5 => "R5",
        }
    }

    /// The `fhirVersion` parameter of a media type: `4.0`.
    #[must_use]
    pub fn mime_parameter(self) -> &'static str {
        match self {
            FhirVersion::Dstu2 => "1.0",
            FhirVersion::Stu3 => "3.0",
            FhirVersion::R4 => "4.0",
            FhirVersion::R4B => "4.3",
            FhirVersion::R5 => "5.0",
        }
    }
}

impl std::fmt::Display for FhirVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Json,
    Xml,
}

/// Whom to call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contact {
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub portal: Option<String>,
    pub account: Option<String>,
}

/// The value of an extra header: plain, or kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    Plain(String),
    Secret(SecretRef),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file whose certificates replace the system's trust store for this server.
    pub ca: Option<PathBuf>,
    /// Whether the system's trust store counts beside `ca`: for other hosts than the server's own.
    pub ca_adds: bool,
    pub min_version: TlsVersion,
    pub expiry_warning: Duration,
    pub expiry_critical: Duration,
    /// `sha256/…`: base64 of the SHA-256 of a SubjectPublicKeyInfo in the chain.
    pub pins: Vec<String>,
    pub client_certificate: Option<ClientCertificate>,
}

/// The certificate that proves who we are, with the reference to what unlocks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A PEM file with the chain, our own certificate first, and the PEM private key.
    Pem { certificate: PathBuf, key: SecretRef },
    /// One encrypted file with chain and key. `None`: its password is empty.
    Pkcs12 { file: PathBuf, password: Option<SecretRef> },
}

impl ClientCertificate {
    /// The file with the certificate.
    #[must_use]
    pub fn file(&self) -> &std::path::Path {
        match self {
            ClientCertificate::Pem { certificate, .. } => certificate,
            ClientCertificate::Pkcs12 { file, .. } => file,
        }
    }

    /// Where the key, or the password of the file that holds it, is kept.
    #[must_use]
    pub fn reference(&self) -> Option<&SecretRef> {
        match self {
            ClientCertificate::Pem { key, .. } => Some(key),
            ClientCertificate::Pkcs12 { password, .. } => password.as_ref(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Empty: any address.
    pub allowed_addresses: Vec<IpNet>,
    pub source_address: Option<std::net::IpAddr>,
    /// Networks of ours that the vendor has on its allow list; empty: not known.
    pub egress: Vec<IpNet>,
    /// Answers with the address that it is called from.
    pub egress_echo: Option<Url>,
    /// `None`: as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    pub proxy: Option<Proxy>,
    /// Set by who makes a client, not by the inventory.
    pub metadata_service: MetadataService,
}

/// The way out, and how to sign in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Without user and password.
    pub url: Url,
    pub login: Option<ProxyLogin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyLogin {
    pub username: String,
    pub password: SecretRef,
}

/// Whether link-local addresses and the metadata services of clouds may be connected to: they hand
/// out credentials to whoever asks from this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataService {
    /// Only where the URL itself names the address: a name that leads there was bent.
    #[default]
    ByAddress,
    /// Not even then. For addresses that others tell us, such as a discovered token endpoint.
    Refused,
    /// For sign-in methods that ask such a service.
    Allowed,
}

/// Of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name lookup, TCP and TLS handshakes.
    pub connect: Duration,
    /// The longest silence while an answer is awaited or read.
    pub read: Duration,
    /// The longest silence while a request is sent.
    pub write: Duration,
    pub total: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub attempts: u32,
    pub backoff: Duration,
    pub max_backoff: Duration,
}

/// Per origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    pub requests_per_second: f64,
    pub burst: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub max_connections: usize,
    pub idle_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub warning: Duration,
    pub critical: Duration,
}

/// Above `warning` an answer is slow; above `critical` that is critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub health: Threshold,
    pub metadata: Threshold,
    pub search: Threshold,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checks {
    /// `None`: the server has no health endpoint that we know of.
    pub health: Option<HealthCheck>,
    pub metadata: MetadataCheck,
    /// Paths below the base URL, such as `Patient?_summary=count`.
    pub search: Vec<String>,
    pub read: Vec<ReadCheck>,
    pub assert: Vec<AssertCheck>,
    /// `None`: the server shows no metrics that we know of.
    pub resources: Option<ResourcesCheck>,
    pub counts: CountsCheck,
}

impl Checks {
    /// Whether `check` asks for more than what it judges.
    #[must_use]
    pub fn has_gauges(&self) -> bool {
        let reads = self.resources.as_ref().is_some_and(|check| check.every.is_some());
        reads || !self.counts.types.is_empty()
    }
}

/// Where a server tells of its own memory, threads, pools and disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcesCheck {
    pub place: MetricsPlace,
    pub format: MetricsFormat,
    /// How often `check` reads them at most; `None`: never, since the inventory does not speak of them.
    pub every: Option<Duration>,
}

/// Of which types `check` counts the resources now and then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountsCheck {
    /// Each once.
    pub types: Vec<String>,
    /// How often at most.
    pub every: Duration,
}

impl Default for CountsCheck {
    fn default() -> CountsCheck {
        CountsCheck { types: Vec::new(), every: Duration::from_secs(6 * 3600) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsPlace {
    /// With a leading slash: from the root of the host. Without: below the base URL.
    Path(String),
    /// At another port or host, as the inventory says; no credential goes there.
    Url(Url),
}

/// What a metrics endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsFormat {
    /// By what it answers.
    #[default]
    Auto,
    /// The text format of Prometheus, or OpenMetrics.
    Prometheus,
    /// Spring Boot's `/actuator/metrics`: JSON, one address for each metric.
    Actuator,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// With a leading slash: from the root of the host. Without: below the base URL.
    pub path: String,
    pub status: u16,
    /// Every member has to be in the body with this value.
    pub json: Option<serde_json::Value>,
    /// A text that has to be in the body.
    pub contains: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataCheck {
    pub fhir_version: Option<FhirVersion>,
    pub resources: Vec<String>,
    /// Resource type to interactions.
    pub interactions: BTreeMap<String, Vec<String>>,
    pub operations: Vec<String>,
    pub profiles: Vec<String>,
    pub formats: Vec<String>,
    /// Resource type to search parameters.
    pub search_parameters: BTreeMap<String, Vec<String>>,
    pub extensions: Vec<String>,
    /// Makes findings of severity error critical and warnings warning.
    pub strict: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCheck {
    pub target: ReadTarget,
    /// Only a record that is declared synthetic is read.
    pub synthetic: bool,
}

/// The canary's reference, `Patient/canary-1`, or where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadTarget {
    Reference(String),
    Secret(SecretRef),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertCheck {
    /// Path below the base URL.
    pub query: String,
    /// FHIRPath; it holds when it yields true.
    pub expression: String,
}

/// A known trouble that does not count until a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    pub code: Code,
    pub reason: String,
    /// The last day on which it holds, UTC.
    pub until: Option<Date>,
}

/// A planned window, `[from, until)`. `until: None` is one that was switched on by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Maintenance {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub reason: Option<String>,
    /// When it was entered, where that was after it had begun.
    pub entered: Option<Timestamp>,
    pub entered_by: Option<String>,
}

impl Maintenance {
    #[must_use]
    pub fn covers(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }
}
