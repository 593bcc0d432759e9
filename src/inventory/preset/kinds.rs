//! What a preset's file holds: every key has its type, and a key that is not known is an error.
//!
//! Blocks carry their source and its date. What a block lists under `unconfirmed` was not seen in
//! the vendor's own documentation or behaviour.

use std::time::Duration;

use jiff::civil::Date;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::detect::Detection;
use crate::inventory::raw_auth::Method;
use crate::model::{self, MonitoringPolicy};

/// What is known of a kind of server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    pub name: String,
    pub title: String,
    pub kind: PresetKind,
    /// One or two sentences.
    pub summary: String,
    /// What a base URL looks like, with `{placeholders}`, or the one that there is.
    pub base_url: String,
    /// What only the person who registers a server can know.
    #[serde(default)]
    pub placeholders: Vec<Placeholder>,
    #[serde(default)]
    pub environments: Vec<Environment>,
    pub fhir_versions: Vec<String>,
    pub sign_in: SignIn,
    pub bulk: Bulk,
    pub limits: Limits,
    pub monitoring: Monitoring,
    /// How a server of this vendor is told from others; `None` where nothing tells it.
    #[serde(default)]
    pub detect: Option<Detection>,
    /// Values that a server of this vendor starts from, as they could stand in an inventory.
    pub settings: Value,
    /// Keys of `settings`, such as `checks.health`, that were not seen at the vendor.
    #[serde(default)]
    pub unconfirmed_settings: Vec<String>,
    pub facts: Vec<Fact>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresetKind {
    /// Software that one runs oneself.
    Server,
    /// A product or a service that somebody else runs under contract.
    Hosted,
    /// A test server that others run for everybody.
    Public,
    /// What stands between client and server.
    Gateway,
}

/// A part of a URL that differs from one server to the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placeholder {
    pub name: String,
    /// What to ask for.
    pub ask: String,
    #[serde(default)]
    pub example: Option<String>,
}

/// A place where the vendor runs it, such as `sandbox` or `production`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    pub name: String,
    pub base_url: String,
    #[serde(default)]
    pub token_url: Option<String>,
    #[serde(default)]
    pub note: Option<String>,
    pub source: String,
    pub date: Option<Date>,
    #[serde(default)]
    pub unconfirmed: bool,
}

/// Which ways of signing in there are, and what a token request looks like.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The method to propose.
    pub usual: Method,
    /// All that are offered, the usual one among them.
    pub methods: Vec<Offer>,
    /// Where tokens are asked for, with the placeholders of `base_url`, `{base}` for the base URL
    /// and `{origin}` for its scheme, host and port; `None`: by discovery alone.
    #[serde(default)]
    pub token_url: Option<String>,
    /// Whether `/.well-known/smart-configuration` is there without a token.
    #[serde(default)]
    pub smart_configuration: Option<bool>,
    #[serde(default)]
    pub scopes: Option<Scopes>,
    /// Headers that go beside the credential.
    #[serde(default)]
    pub headers: Vec<ExtraHeader>,
    #[serde(default)]
    pub token_life: Option<Span>,
    /// The longest life of a signed assertion.
    #[serde(default)]
    pub assertion_life: Option<Span>,
    /// How a credential is registered and how long it lasts.
    #[serde(default)]
    pub credential: Option<String>,
    pub source: String,
    pub date: Option<Date>,
    #[serde(default)]
    pub unconfirmed: Vec<String>,
}

impl SignIn {
    /// The usual method as the inventory writes it.
    #[must_use]
    pub fn usual_method(&self) -> &'static str {
        crate::inventory::sign_in::name(self.usual)
    }
}

/// One way of signing in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    pub method: Method,
    /// Signatures that are taken, the usual one first.
    #[serde(default)]
    pub algorithms: Vec<String>,
    #[serde(default)]
    pub note: Option<String>,
    #[serde(default)]
    pub unconfirmed: bool,
}

impl Offer {
    /// The method as the inventory writes it.
    #[must_use]
    pub fn method_name(&self) -> &'static str {
        crate::inventory::sign_in::name(self.method)
    }
}

/// How scopes are spelt and asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scopes {
    /// `v1`: `system/Patient.read`; `v2`: `system/Patient.rs`.
    #[serde(default)]
    pub spelling: Vec<ScopeSpelling>,
    pub habit: ScopeHabit,
    /// What to ask for where nothing else is wanted.
    #[serde(default)]
    pub usual: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeSpelling {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeHabit {
    /// No scope parameter: the registration decides.
    NoneSent,
    /// One scope for each type; wildcards are refused.
    ListEach,
    /// `system/*.read` or `system/*.rs` will do.
    Wildcard,
    /// One fixed scope of the platform.
    Fixed,
}

/// A header that goes beside the credential.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraHeader {
    pub name: String,
    /// What goes into it.
    pub ask: String,
    /// Whether the value is a secret, and kept as one.
    pub secret: bool,
    /// Whether a request fails without it.
    pub required: bool,
    #[serde(default)]
    pub unconfirmed: bool,
}

/// Bulk export, and import where there is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bulk {
    /// What can be exported; empty: there is no export.
    pub levels: Vec<BulkLevel>,
    /// How an export is asked for.
    #[serde(default)]
    pub methods: Vec<BulkMethod>,
    /// What a status URL looks like below `{base}`.
    #[serde(default)]
    pub status_url: Option<String>,
    /// The `Retry-After` that it sends, or the pause that the vendor asks for.
    #[serde(default)]
    pub poll_every: Option<Span>,
    /// How long files are kept.
    #[serde(default)]
    pub retention: Option<Span>,
    /// How many exports may run at once.
    #[serde(default)]
    pub concurrent: Option<u32>,
    /// How soon the same export may be asked for again.
    #[serde(default)]
    pub again_after: Option<Span>,
    /// Whether `_since` is taken.
    #[serde(default)]
    pub since: Option<bool>,
    /// What `_type` and its relatives take.
    #[serde(default)]
    pub types: Option<String>,
    /// What a file's request has to carry.
    #[serde(default)]
    pub files: Option<FileSignIn>,
    /// How records come in again, where there is a way.
    #[serde(default)]
    pub import: Option<String>,
    pub source: String,
    pub date: Option<Date>,
    #[serde(default)]
    pub unconfirmed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BulkLevel {
    System,
    Patient,
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BulkMethod {
    Get,
    Post,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSignIn {
    /// The same token as the export.
    Token,
    /// Nothing: the URL itself is signed, or a redirect leads to one that is.
    SignedUrl,
    /// A credential of the object store.
    ObjectStore,
    /// Nothing at all.
    Open,
}

/// How much may be asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Entries of a search page where `_count` does not say.
    #[serde(default)]
    pub page_default: Option<u32>,
    #[serde(default)]
    pub page_max: Option<u32>,
    /// How many requests in which time.
    #[serde(default)]
    pub requests: Option<String>,
    /// What a request over the limit gets.
    #[serde(default)]
    pub refusal: Option<String>,
    pub source: String,
    pub date: Option<Date>,
    #[serde(default)]
    pub unconfirmed: Vec<String>,
}

/// Whether checks on a schedule agree with the vendor's terms.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitoring {
    pub policy: MonitoringPolicy,
    #[serde(default)]
    pub least_interval: Option<Span>,
    pub source: String,
    pub date: Option<Date>,
    #[serde(default)]
    pub unconfirmed: bool,
}

impl Preset {
    /// What a server of this vendor carries of it.
    #[must_use]
    pub fn monitoring(&'static self) -> model::Monitoring {
        model::Monitoring {
            policy: self.monitoring.policy,
            least_interval: self.monitoring.least_interval.map(|span| span.0),
            source: Some(&self.monitoring.source),
        }
    }
}

/// Something else that is known, and from where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    pub topic: Topic,
    pub text: String,
    /// What to do about it.
    #[serde(default)]
    pub advice: Option<String>,
    pub source: String,
    /// When the source was read, or the date it carries.
    pub date: Option<Date>,
    #[serde(default)]
    pub unconfirmed: bool,
}

/// What a fact is about, in the order in which facts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    BaseUrl,
    SignIn,
    Health,
    Metadata,
    Smart,
    Bulk,
    Limits,
    Events,
    Fault,
}

impl Topic {
    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Topic::BaseUrl => "Base URL",
            Topic::SignIn => "Sign-in",
            Topic::Health => "Health",
            Topic::Metadata => "Metadata",
            Topic::Smart => "SMART",
            Topic::Bulk => "Bulk data",
            Topic::Limits => "Limits",
            Topic::Events => "Events",
            Topic::Fault => "Known faults",
        }
    }
}

/// A length of time, written as `10m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Span).map_err(D::Error::custom)
    }
}
