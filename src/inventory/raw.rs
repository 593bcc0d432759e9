//! The one description of the inventory's file: what may stand in it and what each key means.
//!
//! The JSON Schema is made from these types, the file is walked by that schema, and what passes is
//! read into these types. Every key is optional here, so that a layer (`defaults`, a preset, a
//! server's entry) is the same type; what has to be there is seen to after the layers are merged.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::Value;

use super::layer::Layer;
use super::leaf::{Length, Pause};
use super::raw_auth::SignIn;
use super::raw_later::{RawAlerts, RawGroup, RawHistory, RawJob, RawSchedule, RawSla};
use super::raw_transport::{RawNetwork, RawTls};
use super::reference::{RawCanary, RawHeaderValue};

/// A record of the file: every key optional, layers filled in key by key.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    }) => {
        #[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
        $(#[$meta])*
        pub(super) struct $name {
            $($(#[$field_meta])* pub(super) $field: Option<$type>,)*
        }

        impl Layer for $name {
            fn fill(&mut self, lower: &Self) {
                $(self.$field.fill(&lower.$field);)*
            }
        }
    };
}
pub(super) use record;

record! {
    /// The FHIR servers that an organisation depends on, and how each is reached, checked and watched.
    #[schemars(title = "fhirctl inventory", extend("required" = ["version"]))]
    RawInventory {
        /// Version of this file's form.
        #[schemars(extend("const" = 1))]
        version: u32,
        /// Values for every server; a server's own entry wins over them.
        defaults: RawDefaults,
        /// Values for the servers whose labels match; for each server the last entry that matches counts.
        defaults_for: Vec<RawRule>,
        /// The servers, in the order in which they are shown.
        servers: Vec<RawServer>,
        /// Servers that belong together, such as a primary and its stand-in.
        groups: Vec<RawGroup>,
        /// Recurring data work.
        jobs: Vec<RawJob>,
        /// Who is told of what.
        alerts: RawAlerts,
        /// Where results are kept, and for how long.
        history: RawHistory,
    }
}

record! {
    /// One FHIR server.
    #[schemars(extend("required" = ["name", "url"]))]
    RawServer {
        /// Letters, digits, - _ and . ; not a command of fhirctl.
        #[schemars(extend("x-kind" = "name", "pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength" = 128))]
        name: String,
        /// The FHIR base URL, without a query and without a credential.
        #[schemars(extend("x-kind" = "base-url", "pattern" = "^https?://[^@?#]+$"))]
        url: String,
        /// A preset, by its name; fhirctl vendors lists them.
        #[schemars(extend("enum" = super::preset::names().collect::<Vec<_>>()))]
        vendor: String,
        /// The FHIR version that the server should speak.
        #[schemars(extend("enum" = ["STU3", "R4", "R4B", "R5"]))]
        fhir_version: String,
        /// What it is, in a few words.
        description: String,
        /// Whose it is.
        organization: String,
        /// Who runs fhirctl; also sent in the User-Agent.
        contact: RawContact,
        /// Whom to call at the server's vendor or operator.
        support: RawContact,
        /// Keys and values to select by.
        labels: BTreeMap<String, String>,
        /// Whether it is in use; an inactive server is checked only by its exact name.
        active: bool,
        /// How to sign in.
        auth: SignIn,
        /// Lets a credential go over plain HTTP to this server.
        allow_insecure: bool,
        /// Headers that every request carries; a secret value is a reference.
        #[schemars(extend("x-keys" = "header"))]
        extra_headers: BTreeMap<String, RawHeaderValue>,
        /// Trust, pins and the client's own certificate.
        tls: RawTls,
        /// Which way requests go.
        network: RawNetwork,
        /// The form of FHIR that is asked for.
        format: RawFormat,
        /// Whether compressed answers are asked for.
        compression: bool,
        /// What data commands may reuse; a verdict never comes from a cache.
        cache: RawCache,
        /// Of one request.
        timeouts: RawTimeouts,
        /// For one server's whole check.
        deadline: Length,
        /// For data commands; a probe makes one attempt.
        retry: RawRetry,
        /// Per origin; not for file downloads.
        rate_limit: RawRateLimit,
        /// Connections that are kept open.
        pool: RawPool,
        /// Above which times an answer is slow.
        thresholds: RawThresholds,
        /// What is checked, and what is expected.
        checks: RawChecks,
        /// When the monitor checks it.
        schedule: RawSchedule,
        /// What was agreed on availability and speed.
        sla: RawSla,
        /// Known troubles that do not count until a day; they are shown as accepted.
        accept: Vec<RawAccept>,
        /// Planned windows; during one the server is checked but does not count.
        maintenance: Vec<RawMaintenance>,
        /// The vendor's approval of being watched; some forbid scheduled checks without one.
        terms: RawTerms,
    }
}

/// Values for many servers: all that a server may say but its name and its URL.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct RawDefaults(pub(super) RawServer);

impl Layer for RawDefaults {
    fn fill(&mut self, lower: &Self) {
        self.0.fill(&lower.0);
    }
}

impl JsonSchema for RawDefaults {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawDefaults".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawServer::json_schema(generator);
        schema.remove("required");
        schema.insert("description".into(), "Values for many servers.".into());
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for own in ["name", "url"] {
                properties.shift_remove(own);
            }
        }
        schema
    }
}

/// Values for the servers that match.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RawRule {
    pub(super) select: Option<String>,
    #[serde(flatten)]
    pub(super) settings: RawServer,
}

impl Layer for RawRule {}

impl JsonSchema for RawRule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawDefaults::json_schema(generator);
        schema.insert("description".into(), "Values for the servers that match.".into());
        schema.insert("required".into(), serde_json::json!(["select"]));
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert(
                "select".into(),
                serde_json::json!({
                    "description": "Labels that have to match: key=value and key!=value, joined by commas. vendor counts as a label.",
                    "type": "string",
                    "x-kind": "condition",
                }),
            );
        }
        schema
    }
}

record! {
    /// Whom to call.
    RawContact {
        name: String,
        email: String,
        phone: String,
        /// A web address for tickets.
        #[schemars(extend("x-kind" = "url"))]
        portal: String,
        /// The account or contract number to name.
        account: String,
    }
}

record! {
    /// What data commands may reuse.
    RawCache {
        /// How long a CapabilityStatement is good.
        metadata: Pause,
    }
}

record! {
    /// Of one request.
    RawTimeouts {
        /// Name lookup, TCP and TLS handshakes.
        connect: Length,
        /// The longest silence while an answer is awaited or read.
        read: Length,
        /// The longest silence while a request is sent.
        write: Length,
        /// From the first byte sent to the last byte read.
        total: Length,
    }
}

record! {
    /// For data commands.
    RawRetry {
        /// How often a request is sent at most.
        #[schemars(range(min = 1, max = 100))]
        attempts: u32,
        /// The pause before the second attempt; it doubles from then on.
        backoff: Pause,
        /// The longest pause.
        max_backoff: Length,
    }
}

record! {
    /// Per origin.
    RawRateLimit {
        #[schemars(extend("exclusiveMinimum" = 0))]
        requests_per_second: f64,
        /// How many may go at once after a quiet time.
        #[schemars(range(min = 1, max = 100_000))]
        burst: u32,
    }
}

record! {
    /// Connections that are kept open.
    RawPool {
        #[schemars(range(min = 1, max = 10_000))]
        max_connections: u32,
        idle_timeout: Length,
    }
}

record! {
    /// Above which times an answer is slow.
    RawThresholds {
        health: RawThreshold,
        metadata: RawThreshold,
        search: RawThreshold,
    }
}

record! {
    /// Two bounds.
    RawThreshold {
        warning: Length,
        critical: Length,
    }
}

record! {
    /// What is checked, and what is expected.
    RawChecks {
        health: RawHealth,
        metadata: RawMetadata,
        /// Paths that have to answer with a searchset.
        #[schemars(extend("x-items" = "query"))]
        search: Vec<String>,
        /// Synthetic records that have to be there.
        read: Vec<RawRead>,
        /// FHIRPath expressions that have to hold over an answer.
        #[serde(rename = "assert")]
        assertions: Vec<RawAssert>,
        /// Where diag and check find the server's own metrics.
        resources: RawResources,
        /// Of which types check counts the resources now and then.
        counts: RawCounts,
    }
}

record! {
    /// Resource counts over time, for report capacity; they change no verdict.
    RawCounts {
        /// Resource types; of each TYPE?_summary=count is asked for.
        #[schemars(extend("x-items" = "type"))]
        types: Vec<String>,
        /// How often at most; 6h where nothing is said.
        every: Length,
    }
}

impl RawServer {
    /// Whether this layer speaks of the server's own metrics.
    pub(super) fn names_metrics(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.resources.is_some())
    }

    /// Has the metrics read now and then, where they are spoken of.
    pub(super) fn read_metrics(&mut self, every: Length) {
        if let Some(resources) = self.checks.as_mut().and_then(|checks| checks.resources.as_mut()) {
            resources.every.get_or_insert(every);
        }
    }
}

record! {
    /// The metrics endpoint.
    RawResources {
        /// false switches off what the preset brings.
        enabled: bool,
        /// With a leading slash from the root of the host, without one below the base URL.
        #[schemars(extend("x-kind" = "query"))]
        path: String,
        /// At another port or host, in place of path; it is asked without the credential.
        #[schemars(extend("x-kind" = "url"))]
        url: String,
        /// auto tells the two apart by the answer.
        format: RawMetricsFormat,
        /// How often check reads them at most, for report capacity: 5m where the inventory names their
        /// place, and never where only the preset does and nothing is said.
        every: Length,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawMetricsFormat {
    Auto,
    Prometheus,
    Actuator,
}

impl Layer for RawMetricsFormat {}

record! {
    /// The health endpoint.
    RawHealth {
        /// false switches off the check that the preset brings.
        enabled: bool,
        /// With a leading slash from the root of the host, without one below the base URL.
        #[schemars(extend("x-kind" = "query"))]
        path: String,
        expect: RawHealthExpect,
    }
}

record! {
    /// What a healthy answer is.
    RawHealthExpect {
        /// The HTTP status.
        #[schemars(range(min = 100, max = 599))]
        status: u16,
        /// Members that have to be in the body with these values.
        #[schemars(extend("x-kind" = "object"))]
        json: Value,
        /// A text that has to be in the body.
        contains: String,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFormat {
    Json,
    Xml,
}

record! {
    /// The CapabilityStatement.
    RawMetadata {
        /// What it has to declare.
        expect: RawMetadataExpect,
        /// Whether findings count in the status.
        strict: bool,
        /// Whether /metadata is open; when not, it is asked for with the credential.
        open: bool,
    }
}

record! {
    /// What the CapabilityStatement has to declare.
    RawMetadataExpect {
        #[schemars(extend("enum" = ["STU3", "R4", "R4B", "R5"]))]
        fhir_version: String,
        #[schemars(extend("x-items" = "type"))]
        resources: Vec<String>,
        /// Resource type to interactions.
        #[schemars(extend("x-keys" = "type"))]
        interactions: BTreeMap<String, Vec<Interaction>>,
        operations: Vec<String>,
        profiles: Vec<String>,
        formats: Vec<String>,
        /// Resource type to search parameters.
        #[schemars(extend("x-keys" = "type"))]
        search_parameters: BTreeMap<String, Vec<String>>,
        extensions: Vec<String>,
    }
}

/// An interaction, by its code in FHIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Interaction {
    Read,
    Vread,
    Update,
    Patch,
    Delete,
    HistoryInstance,
    HistoryType,
    Create,
    SearchType,
}

impl Layer for Interaction {}

record! {
    /// A record that has to be there.
    #[schemars(extend("required" = ["ref"]))]
    RawRead {
        /// Such as Patient/canary-1, or a secret reference to it.
        #[serde(rename = "ref")]
        target: RawCanary,
        /// Says that the record is of no real patient; without it nothing is read.
        synthetic: bool,
    }
}

record! {
    /// An expression that has to hold.
    #[schemars(extend("required" = ["query", "expression"]))]
    RawAssert {
        /// Path below the base URL.
        #[schemars(extend("x-kind" = "query"))]
        query: String,
        /// FHIRPath.
        expression: String,
    }
}

record! {
    /// A known trouble.
    #[schemars(extend("required" = ["code", "reason"]))]
    RawAccept {
        /// The reason code that is accepted.
        #[schemars(extend("x-kind" = "code"))]
        code: String,
        /// Why, and under which case number.
        reason: String,
        /// The last day on which it holds.
        #[schemars(extend("x-kind" = "day", "format" = "date"))]
        until: String,
    }
}

record! {
    /// A planned window, from its beginning up to its end.
    RawMaintenance {
        #[schemars(extend("x-kind" = "instant", "format" = "date-time"))]
        from: String,
        #[schemars(extend("x-kind" = "instant", "format" = "date-time"))]
        until: String,
        reason: String,
        /// When it was entered, where that was after it had begun.
        #[schemars(extend("x-kind" = "instant", "format" = "date-time"))]
        entered: String,
        /// Who entered it.
        entered_by: String,
    }
}

record! {
    /// An approval that the vendor's terms ask for.
    #[schemars(extend("required" = ["approved_by", "reference"]))]
    RawTerms {
        /// Who approved of it.
        approved_by: String,
        /// The contract, ticket or letter that says so.
        reference: String,
        /// The last day on which it holds.
        #[schemars(extend("x-kind" = "day", "format" = "date"))]
        until: String,
    }
}
