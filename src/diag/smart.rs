//! `smart`: what the server publishes about its sign-in, against SMART App Launch and against what
//! the CapabilityStatement and the inventory say (SMART App Launch 2.2, section Conformance).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::shell::{Command, curl};
use super::{Desk, Problem, Topic, TopicName};
use crate::auth::discovery::SmartConfiguration;
use crate::fhir::body::{BodyKind, sniff};
use crate::fhir::capability;
use crate::model::server::{Algorithm, Auth, Flow, TokenAuth, is_loopback};
use crate::model::text::{bounded, one_line};
use crate::model::{Code, Party, Severity, Status};

const WELL_KNOWN: &str = ".well-known/smart-configuration";

/// Endpoints that have to be absolute URLs.
const ENDPOINTS: [&str; 7] = [
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "registration_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
    "management_endpoint",
];

/// What was found, for programs.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct SmartDetails {
    /// Whether the server publishes a SMART configuration.
    pub published: bool,
    pub issuer: Option<String>,
    pub token_endpoint: Option<String>,
    pub authorization_endpoint: Option<String>,
    pub capabilities: Vec<String>,
    pub scopes_supported: usize,
    pub findings: Vec<SmartFinding>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SmartFinding {
    pub severity: Severity,
    /// Such as `token_endpoint`.
    pub field: String,
    pub message: String,
    /// Whether it keeps our own sign-in from working, and not only somebody's.
    pub concerns_us: bool,
}

pub(super) async fn run(desk: &Desk) -> Topic {
    let mut topic = Topic::new(TopicName::Smart);
    let needs_it = matches!(&desk.server.auth, Auth::SmartBackend(smart) if smart.token_url.is_none())
        || matches!(&desk.server.auth, Auth::OAuth2(oauth2) if oauth2.token_url.is_none());
    let exchange = match desk.url(WELL_KNOWN) {
        Ok(url) => desk.get_open(&url, &[]).await,
        Err(failure) => Err(failure),
    };
    let exchange = match exchange {
        Ok(exchange) => exchange,
        Err(failure) => {
            topic.problem(Problem::from(&failure));
            return topic;
        }
    };
    let form = sniff(exchange.content_type(), &exchange.body);
    let status = exchange.status();
    let document = (status == 200 && form == BodyKind::Json)
        .then(|| serde_json::from_slice::<Value>(&exchange.body).ok())
        .flatten()
        .filter(Value::is_object);
    let parsed = SmartConfiguration::parse(&exchange.body, &desk.server.url).ok();
    let (Some(document), Some(known)) = (document, parsed) else {
        topic.details(&SmartDetails::default());
        return missing(desk, topic, needs_it, status, form);
    };
    let mut findings = against_specification(&document, exchange.content_type());
    // A server with its sign-in switched off publishes a document without the endpoints.
    let is_idle = known.token_endpoint.is_none() && !desk.server.auth.uses_tokens();
    against_inventory(&desk.server.auth, &known, &mut findings);
    against_statement(desk, &known, &mut findings).await;
    if is_idle {
        topic.note("it publishes no token endpoint, and none is needed by this sign-in");
    } else if desk.server.auth.uses_tokens() {
        topic.problems.extend(problems(&findings));
    }
    let rules = findings.iter().filter(|it| it.severity == Severity::Error).count();
    let good = match rules {
        0 => "the SMART configuration is published, and fits".to_owned(),
        _ => format!(
            "the SMART configuration is published; it breaks rules ({rules}), and our sign-in does \
             not need it"
        ),
    };
    let details = SmartDetails {
        published: true,
        issuer: known.issuer.as_deref().map(shown),
        token_endpoint: known.token_endpoint.as_deref().map(shown_url),
        authorization_endpoint: known.authorization_endpoint.as_deref().map(shown_url),
        capabilities: known.capabilities.iter().take(100).map(|it| shown(it)).collect(),
        scopes_supported: known.scopes_supported.len(),
        findings,
    };
    show(&mut topic, &details);
    topic.details(&details);
    topic.good(good)
}

/// Nothing usable is published: that matters only to a sign-in that is discovered.
fn missing(desk: &Desk, mut topic: Topic, needs_it: bool, status: u16, form: BodyKind) -> Topic {
    let what = match status {
        200 => format!("{WELL_KNOWN}: HTTP 200 with {} that is no configuration", form.as_str()),
        _ => format!("{WELL_KNOWN}: HTTP {status}"),
    };
    topic.fact("published", what.clone());
    if needs_it {
        topic.problem(Problem::new(
            Code::new("smart.not_published"),
            format!("{what}, and the inventory names no token_url: there is nothing to sign in at"),
        ));
    }
    let method = desk.server.auth.method();
    topic.good(format!("no SMART configuration, and the sign-in {method} needs none"))
}

/// Findings as problems: what keeps us out is critical, what breaks a rule a warning at most once.
fn problems(findings: &[SmartFinding]) -> Vec<Problem> {
    let mut list = Vec::new();
    let named = |wanted: &dyn Fn(&&SmartFinding) -> bool| {
        let found: Vec<_> = findings.iter().filter(wanted).collect();
        let first = found.first()?;
        let more = match found.len() {
            1 => String::new(),
            count => format!("; and {} more", count - 1),
        };
        Some(format!("{}: {}{more}", first.field, first.message))
    };
    if let Some(message) = named(&|it| it.concerns_us && it.severity == Severity::Error) {
        list.push(Problem::new(Code::new("smart.mismatch"), message).by(Party::Undetermined));
    } else if let Some(message) = named(&|it| it.concerns_us && it.severity == Severity::Warning) {
        list.push(
            Problem::new(Code::new("smart.mismatch"), message)
                .at(Status::Warning)
                .by(Party::Undetermined),
        );
    }
    if let Some(message) = named(&|it| !it.concerns_us && it.severity == Severity::Error) {
        list.push(Problem::new(Code::new("smart.invalid_configuration"), message));
    }
    list
}

struct Findings(Vec<SmartFinding>);

impl Findings {
    fn add(&mut self, severity: Severity, field: &str, message: impl Into<String>) {
        self.0.push(SmartFinding {
            severity,
            field: field.to_owned(),
            message: message.into(),
            concerns_us: false,
        });
    }
}

/// What the specification demands of the document itself.
fn against_specification(document: &Value, content_type: Option<&str>) -> Vec<SmartFinding> {
    use Severity::{Error, Info, Warning};
    let mut found = Findings(Vec::new());
    let list = |name: &str| -> Vec<&str> {
        let items = document[name].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(Value::as_str).collect()
    };
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        found.add(Info, "Content-Type", "it is not application/json");
    }
    let capabilities = list("capabilities");
    let can = |name: &str| capabilities.contains(&name);
    if !document["capabilities"].is_array() {
        found.add(Error, "capabilities", "missing, or no array");
    }
    let launches = can("launch-ehr") || can("launch-standalone");
    let sso = can("sso-openid-connect");
    for (name, is_needed, why) in [
        ("token_endpoint", true, "always demanded"),
        ("authorization_endpoint", launches, "demanded of a server that launches apps"),
        ("issuer", sso, "demanded with sso-openid-connect"),
        ("jwks_uri", sso, "demanded with sso-openid-connect"),
    ] {
        if is_needed && document[name].as_str().is_none_or(str::is_empty) {
            found.add(Error, name, format!("missing; it is {why}"));
        }
    }
    for name in ENDPOINTS {
        let Some(text) = document[name].as_str() else {
            if !document[name].is_null() {
                found.add(Error, name, "it is no text");
            }
            continue;
        };
        match Url::parse(text) {
            Err(_) => found.add(Warning, name, "it is relative; absolute URLs are demanded"),
            Ok(url) if url.scheme() != "https" && !is_loopback(&url) => {
                found.add(Error, name, "it is not HTTPS");
            }
            Ok(_) => {}
        }
    }
    let grants = list("grant_types_supported");
    if grants.is_empty() {
        found.add(Warning, "grant_types_supported", "missing; demanded since SMART 2.0");
    } else if launches && !grants.contains(&"authorization_code") {
        found.add(
            Warning,
            "grant_types_supported",
            "authorization_code is not in it, though apps are launched",
        );
    }
    let challenges = list("code_challenge_methods_supported");
    if challenges.contains(&"plain") {
        found.add(Error, "code_challenge_methods_supported", "plain is in it; it must not be");
    }
    if launches && !challenges.contains(&"S256") {
        found.add(Warning, "code_challenge_methods_supported", "S256 is not in it");
    }
    let algorithms = list("token_endpoint_auth_signing_alg_values_supported");
    if can("client-confidential-asymmetric")
        && !algorithms.iter().any(|name| matches!(*name, "RS384" | "ES384"))
    {
        found.add(
            Warning,
            "token_endpoint_auth_signing_alg_values_supported",
            "neither RS384 nor ES384 is in it, though clients sign assertions",
        );
    }
    for name in ["scopes_supported", "response_types_supported"] {
        if document[name].is_null() {
            found.add(Info, name, "missing; it is recommended");
        }
    }
    found.0
}

/// What the inventory expects of it: only this keeps us from signing in.
fn against_inventory(auth: &Auth, known: &SmartConfiguration, findings: &mut Vec<SmartFinding>) {
    let mut add = |severity, field: &str, message: String| {
        findings.push(SmartFinding {
            severity,
            field: field.to_owned(),
            message,
            concerns_us: true,
        });
    };
    let (token_url, scopes, grant) = match auth {
        Auth::SmartBackend(smart) => (&smart.token_url, &smart.scopes, "client_credentials"),
        Auth::OAuth2(oauth2) => (
            &oauth2.token_url,
            &oauth2.scopes,
            match oauth2.flow {
                Flow::ClientCredentials => "client_credentials",
                Flow::AuthorizationCode => "authorization_code",
            },
        ),
        _ => return,
    };
    if let (Some(ours), Some(theirs)) = (token_url, known.token_endpoint.as_deref())
        && Url::parse(theirs).is_ok_and(|theirs| theirs != *ours)
    {
        add(
            Severity::Warning,
            "token_endpoint",
            format!(
                "the server publishes {}, the inventory has {}",
                shown_url(theirs),
                shown_url(ours.as_str())
            ),
        );
    }
    if token_url.is_none() && known.token_endpoint.is_none() {
        add(
            Severity::Error,
            "token_endpoint",
            "not published, and the inventory names no token_url".to_owned(),
        );
    }
    let lacks = |list: &[String], name: &str| !list.is_empty() && !list.iter().any(|it| it == name);
    if lacks(&known.grant_types_supported, grant) {
        add(
            Severity::Warning,
            "grant_types_supported",
            format!("{grant} is not in it, and we use it"),
        );
    }
    let method = match auth {
        Auth::SmartBackend(_) => Some("private_key_jwt"),
        Auth::OAuth2(oauth2) => oauth2.client_secret.as_ref().map(|_| match oauth2.token_auth {
            TokenAuth::Basic => "client_secret_basic",
            TokenAuth::Post => "client_secret_post",
        }),
        _ => None,
    };
    if let Some(method) = method
        && lacks(&known.token_endpoint_auth_methods_supported, method)
    {
        add(
            Severity::Warning,
            "token_endpoint_auth_methods_supported",
            format!("{method} is not in it, and we use it"),
        );
    }
    if let Auth::SmartBackend(smart) = auth
        && let Some(algorithm) = smart.algorithm.map(Algorithm::as_str)
        && lacks(&known.token_endpoint_auth_signing_alg_values_supported, algorithm)
    {
        add(
            Severity::Warning,
            "token_endpoint_auth_signing_alg_values_supported",
            format!("{algorithm} is not in it, and we sign with it"),
        );
    }
    // A list of scopes need not be complete, and wildcards stand for many: only a note.
    let absent: Vec<&str> = scopes
        .iter()
        .flatten()
        .map(String::as_str)
        .filter(|scope| lacks(&known.scopes_supported, scope))
        .collect();
    if !absent.is_empty() {
        add(
            Severity::Info,
            "scopes_supported",
            format!("does not list {}, which we ask for", bounded(&absent.join(", "), 200)),
        );
    }
}

/// CS-13: the CapabilityStatement's own URLs, where it has some.
async fn against_statement(
    desk: &Desk,
    known: &SmartConfiguration,
    findings: &mut Vec<SmartFinding>,
) {
    let Ok(exchange) = desk.statement().await else { return };
    let form = sniff(exchange.content_type(), &exchange.body);
    let Ok(statement) = capability::parse(form, &exchange.body) else { return };
    let mut add = |severity, message: String| {
        findings.push(SmartFinding {
            severity,
            field: "CapabilityStatement".to_owned(),
            message,
            concerns_us: false,
        });
    };
    let mut services = statement.server_rest().flat_map(|rest| &rest.security.services);
    let named = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.contains("smart") || name.contains("oauth")
    };
    if known.token_endpoint.is_some() && !services.any(|service| named(service)) {
        add(
            Severity::Info,
            "rest.security.service names neither SMART-on-FHIR nor OAuth".to_owned(),
        );
    }
    for (name, uri) in statement.server_rest().flat_map(|rest| &rest.security.oauth_uris) {
        let published = match &**name {
            "token" => &known.token_endpoint,
            "authorize" => &known.authorization_endpoint,
            "register" => &known.registration_endpoint,
            "manage" => &known.management_endpoint,
            "introspect" => &known.introspection_endpoint,
            "revoke" => &known.revocation_endpoint,
            _ => continue,
        };
        let Some(published) = published else { continue };
        let is_same = match (Url::parse(uri.trim()), Url::parse(published)) {
            (Ok(one), Ok(other)) => one == other,
            _ => uri.trim() == published,
        };
        if !is_same {
            add(
                Severity::Warning,
                format!(
                    "oauth-uris says {} is {}, {WELL_KNOWN} says {}",
                    shown(name),
                    shown_url(uri),
                    shown_url(published)
                ),
            );
        }
    }
}

/// A text of the server's, fit to be shown.
fn shown(text: &str) -> String {
    bounded(&one_line(text), 200)
}

/// A URL without user, password and query.
fn shown_url(text: &str) -> String {
    match Url::parse(text.trim()) {
        Ok(url) => {
            let origin = url.origin().ascii_serialization();
            shown(&format!("{origin}{}", url.path()))
        }
        Err(_) => "no URL".to_owned(),
    }
}

fn show(topic: &mut Topic, details: &SmartDetails) {
    for (name, value) in [
        ("issuer", &details.issuer),
        ("token endpoint", &details.token_endpoint),
        ("authorization endpoint", &details.authorization_endpoint),
    ] {
        topic.fact(name, value.clone().unwrap_or_else(|| "-".to_owned()));
    }
    topic.fact("capabilities", bounded(&details.capabilities.join(", "), 500));
    let rows = details.findings.iter().map(|finding| {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "note",
        };
        vec![severity.to_owned(), finding.field.clone(), finding.message.clone()]
    });
    topic.table("findings", &["severity", "field", "what"], rows.collect());
}

pub(super) fn commands(desk: &Desk) -> Vec<Command> {
    let url = desk.url(WELL_KNOWN);
    url.map(|url| vec![curl(&desk.server, &url)]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "token_endpoint": "https://h/token", "grant_types_supported": ["client_credentials"],
            "capabilities": ["client-confidential-asymmetric", "permission-v2"],
            "code_challenge_methods_supported": ["S256"], "scopes_supported": ["system/*.rs"],
            "response_types_supported": ["code"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS384"],
        })
    }

    #[test]
    fn a_document_is_held_against_the_specification() {
        assert_eq!(against_specification(&good(), Some("application/json")), Vec::new());
        let cases: [(&str, Value, Severity, &str); 7] = [
            ("token_endpoint", Value::Null, Severity::Error, "always demanded"),
            ("token_endpoint", json!("token"), Severity::Warning, "relative"),
            ("token_endpoint", json!("http://h/token"), Severity::Error, "not HTTPS"),
            ("capabilities", Value::Null, Severity::Error, "missing"),
            (
                "code_challenge_methods_supported",
                json!(["S256", "plain"]),
                Severity::Error,
                "must not be",
            ),
            ("grant_types_supported", Value::Null, Severity::Warning, "since SMART 2.0"),
            (
                "token_endpoint_auth_signing_alg_values_supported",
                json!(["HS256"]),
                Severity::Warning,
                "neither RS384",
            ),
        ];
        for (field, value, severity, part) in cases {
            let mut document = good();
            document[field] = value;
            let found = against_specification(&document, Some("application/json; charset=utf-8"));
            assert!(
                found.iter().any(|it| {
                    it.field == field && it.severity == severity && it.message.contains(part)
                }),
                "{field} {part}: {found:?}"
            );
        }
    }

    #[test]
    fn an_app_launch_needs_more() {
        let mut document = good();
        document["capabilities"] = json!(["launch-ehr", "sso-openid-connect"]);
        document["code_challenge_methods_supported"] = json!([]);
        let fields: Vec<String> = against_specification(&document, Some("application/json"))
            .into_iter()
            .map(|finding| finding.field)
            .collect();
        for field in [
            "authorization_endpoint",
            "issuer",
            "jwks_uri",
            "grant_types_supported",
            "code_challenge_methods_supported",
        ] {
            assert!(fields.iter().any(|known| known == field), "{field}: {fields:?}");
        }
    }
}
