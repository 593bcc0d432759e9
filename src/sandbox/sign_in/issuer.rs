//! The provider beside a server: token endpoint, published keys, and the tokens it gave out.
//!
//! RFC 6749, RFC 7523, RFC 7636, SMART App Launch 2.2; the forms of Microsoft Entra ID and Google.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

mod authorize;

use self::authorize::Code;
use super::defect::Defect;
use super::keys::{self, Pair};
use super::{Credential, Method, same, scheme, text};
use crate::model::{Result, Secret};
use crate::sandbox::site::{locked, pairs};
use crate::serve::{
    Body, HeaderMap, HeaderValue, Method as Verb, Received, Request, Response, StatusCode, header,
};

pub(super) const CLIENT_ID: &str = "sandbox-client";
pub(super) const TENANT: &str = "sandbox-tenant";
pub(super) const ACCOUNT: &str = "probe@sandbox.iam.gserviceaccount.com";
/// What the client is registered for.
pub(super) const SCOPE: &str = "system/*.rs";
const REDUCED: &str = "system/Observation.rs";
/// How long a token lives, in seconds, unless told.
pub const TOKEN_LIFE: u32 = 300;
/// Most bytes of the key set that is too long.
const HUGE: usize = 50 * 1024 * 1024;

/// A provider with the one client that it knows.
pub(super) struct Issuer {
    method: Method,
    /// Such as `http://127.0.0.1:40001`.
    origin: String,
    secret: Secret,
    pub(super) keys: Vec<Pair>,
    life: u32,
    defect: Option<Defect>,
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    tokens: HashMap<String, Grant>,
    refresh: HashMap<String, Vec<String>>,
    codes: HashMap<String, Code>,
    /// Assertions that were seen.
    used: HashSet<String>,
}

struct Grant {
    scopes: Vec<String>,
    until: Timestamp,
}

/// A refusal (RFC 6749 §5.2).
struct Refused {
    status: StatusCode,
    error: &'static str,
    description: String,
}

fn refuse<T>(error: &'static str, description: impl Into<String>) -> Result<T, Refused> {
    let status = match error {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    Err(Refused { status, error, description: description.into() })
}

impl Issuer {
    pub(super) fn new(
        method: Method,
        origin: String,
        secret: Secret,
        life: u32,
        defect: Option<Defect>,
    ) -> Result<Issuer> {
        let keys = match method {
            Method::SmartBackend => vec![Pair::ec("sandbox-es384")?, Pair::rsa("sandbox-rs384")?],
            Method::Google => vec![Pair::rsa("sandbox-google")?],
            _ => Vec::new(),
        };
        Ok(Issuer { method, origin, secret, keys, life, defect, given: Mutex::default() })
    }

    pub(super) fn token_url(&self) -> String {
        match self.method {
            Method::Azure => format!("{}/{TENANT}/oauth2/v2.0/token", self.origin),
            Method::Google => format!("{}/token", self.origin),
            _ => format!("{}/oauth2/token", self.origin),
        }
    }

    pub(super) fn jwks_url(&self) -> String {
        format!("{}/jwks.json", self.origin)
    }

    /// Answers what belongs to the provider; `None` when the path is the server's.
    pub(super) fn answer(&self, request: &Request, now: Timestamp) -> Option<Response<Body>> {
        let now = self.clock(now);
        let is_post = request.method == Verb::POST;
        let mut response = match request.path.as_str() {
            "/jwks.json" => self.published(),
            "/oauth2/authorize" if self.method == Method::Oauth2 => self.authorize(request, now),
            "/metadata/identity/oauth2/token" if self.method == Method::Azure => {
                self.machine(request, now)
            }
            path if self.token_url().ends_with(path) && path.ends_with("/token") => match is_post {
                true => self.token(request, now),
                false => told(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "invalid_request"})),
            },
            _ => return None,
        };
        if let (Some(Defect::Clock(_)), Ok(date)) =
            (self.defect, HeaderValue::from_str(&http_date(now)))
        {
            response.headers_mut().insert(header::DATE, date);
        }
        Some(response)
    }

    /// What the server publishes of its sign-in.
    pub(super) fn configuration(&self) -> Option<Value> {
        if !matches!(self.method, Method::Oauth2 | Method::SmartBackend) {
            return None;
        }
        let token_url = match self.defect {
            Some(Defect::Moved) => "http://127.0.0.1:9/oauth2/token".to_owned(),
            _ => self.token_url(),
        };
        let mut document = json!({
            "token_endpoint": token_url,
            "jwks_uri": self.jwks_url(),
            "scopes_supported": [SCOPE, "system/*.read", "openid", "fhirUser", "offline_access"],
            "code_challenge_methods_supported": ["S256"],
        });
        let more = match self.method {
            Method::SmartBackend => json!({
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
                "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
            }),
            _ => json!({
                "authorization_endpoint": format!("{}/oauth2/authorize", self.origin),
                "grant_types_supported": ["client_credentials", "authorization_code", "refresh_token"],
                "response_types_supported": ["code"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "capabilities": ["launch-standalone", "client-confidential-symmetric", "permission-offline", "permission-v2"],
            }),
        };
        if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
            document.extend(more);
        }
        Some(document)
    }

    /// Whether a request brought a token that lives, and what it permits.
    pub(super) fn judge(&self, headers: &HeaderMap, now: Timestamp) -> (Credential, Vec<String>) {
        let Some(brought) = text(headers, header::AUTHORIZATION.as_str()) else {
            return (Credential::Missing, Vec::new());
        };
        let given = locked(&self.given);
        match scheme(&brought, "bearer").and_then(|token| given.tokens.get(token)) {
            Some(grant) if now < grant.until => (Credential::Right, grant.scopes.clone()),
            _ => (Credential::Wrong, Vec::new()),
        }
    }

    /// Whether scopes let a resource type be read and searched. Those of other providers say
    /// nothing of types.
    pub(super) fn permits(&self, scopes: &[String], kind: &str) -> bool {
        if matches!(self.method, Method::Azure | Method::Google) {
            return true;
        }
        scopes.iter().any(|scope| {
            let rest = scope.split_once('/').map(|(_, rest)| rest);
            let (of, access) = rest.and_then(|rest| rest.split_once('.')).unwrap_or(("", ""));
            let access = access.split('?').next().unwrap_or_default();
            (of == "*" || of == kind)
                && (matches!(access, "read" | "*") || access.contains('r') || access.contains('s'))
        })
    }

    fn clock(&self, now: Timestamp) -> Timestamp {
        match self.defect {
            Some(Defect::Clock(ahead)) => now.saturating_add(ahead).unwrap_or(now),
            _ => now,
        }
    }

    fn published(&self) -> Response<Body> {
        if self.defect == Some(Defect::HugeKeys) {
            let mut body = b"{\"keys\":[".to_vec();
            body.resize(HUGE, b' ');
            return answered(StatusCode::OK, "application/json", body);
        }
        let keys: Vec<&Value> = match self.defect {
            Some(Defect::KeyUnknown) => Vec::new(),
            _ => self.keys.iter().map(Pair::jwk).collect(),
        };
        told(StatusCode::OK, &json!({"keys": keys}))
    }

    fn token(&self, request: &Request, now: Timestamp) -> Response<Body> {
        match self.defect {
            Some(Defect::Html) => {
                let page = b"<!doctype html><title>Sign in</title><p>Please sign in.</p>".to_vec();
                return answered(StatusCode::OK, "text/html; charset=utf-8", page);
            }
            Some(Defect::NoToken) => return told(StatusCode::OK, &json!({"token_type": "Bearer"})),
            Some(Defect::Redirect) => {
                let mut response =
                    answered(StatusCode::TEMPORARY_REDIRECT, "text/plain", Vec::new());
                response
                    .headers_mut()
                    .insert(header::LOCATION, HeaderValue::from_static("http://127.0.0.1:9/token"));
                return response;
            }
            _ => {}
        }
        let Received::Whole(body) = &request.body else {
            return told(StatusCode::PAYLOAD_TOO_LARGE, &json!({"error": "invalid_request"}));
        };
        let form = pairs(body);
        let asked = Asked { form: &form, headers: &request.headers };
        let result = match self.method {
            Method::Google => self.google(&asked, now),
            Method::Azure => self.azure(&asked, now),
            _ => self.oauth(&asked, now),
        };
        match result {
            Ok(answer) => told(StatusCode::OK, &answer),
            Err(refused) => told(
                refused.status,
                &json!({"error": refused.error, "error_description": refused.description}),
            ),
        }
    }

    fn oauth(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Value, Refused> {
        if self.method == Method::SmartBackend {
            self.assertion(asked, now, &["RS384", "ES384"])?;
        } else {
            self.secret(asked)?;
        }
        match asked.field("grant_type") {
            "client_credentials" => {
                let scopes = self.scopes(asked.field("scope"))?;
                Ok(self.grant(scopes, false, now))
            }
            "authorization_code" if self.method == Method::Oauth2 => self.code(asked, now),
            "refresh_token" if self.method == Method::Oauth2 => {
                let known = locked(&self.given).refresh.remove(asked.field("refresh_token"));
                match known {
                    Some(scopes) => Ok(self.grant(scopes, true, now)),
                    None => refuse("invalid_grant", "the refresh token is unknown or used"),
                }
            }
            other => {
                refuse("unsupported_grant_type", format!("{other:?} is no grant of this client"))
            }
        }
    }

    fn azure(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Value, Refused> {
        match self.defect {
            Some(Defect::ClientUnknown) => {
                return refuse(
                    "unauthorized_client",
                    "AADSTS700016: Application with identifier was not found in the directory",
                );
            }
            Some(Defect::SecretExpired) => {
                return refuse(
                    "invalid_client",
                    "AADSTS7000222: The provided client secret keys are expired",
                );
            }
            _ => {}
        }
        if asked.field("grant_type") != "client_credentials" {
            return refuse(
                "unsupported_grant_type",
                "AADSTS70003: The grant type is not supported",
            );
        }
        if asked.field("client_id") != CLIENT_ID {
            return refuse(
                "unauthorized_client",
                "AADSTS700016: Application with identifier was not found in the directory",
            );
        }
        if !asked.field("scope").ends_with("/.default") {
            return refuse(
                "invalid_scope",
                "AADSTS1002012: The provided value for scope is not valid; it must end in /.default",
            );
        }
        if !same(asked.field("client_secret").as_bytes(), self.secret.expose().as_bytes()) {
            return refuse("invalid_client", "AADSTS7000215: Invalid client secret provided");
        }
        Ok(self.grant(vec![asked.field("scope").to_owned()], false, now))
    }

    fn google(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Value, Refused> {
        if asked.field("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
            return refuse("unsupported_grant_type", "Invalid grant_type");
        }
        let claims = self.claims(asked.field("assertion"), now, ACCOUNT, &["RS256"], 3600)?;
        let scope = claims["scope"].as_str().unwrap_or_default();
        if scope.is_empty() {
            return refuse("invalid_scope", "Empty or missing scope not allowed");
        }
        Ok(self.grant(scope.split(' ').map(str::to_owned).collect(), false, now))
    }

    /// Where a virtual machine asks for its own identity.
    fn machine(&self, request: &Request, now: Timestamp) -> Response<Body> {
        let query = pairs(request.query.as_deref().unwrap_or_default().as_bytes());
        let has = |name: &str| query.iter().any(|(key, value)| key == name && !value.is_empty());
        if text(&request.headers, "metadata").as_deref() != Some("true") {
            return told(
                StatusCode::BAD_REQUEST,
                &json!({"error": "invalid_request", "error_description": "Required metadata header not specified"}),
            );
        }
        if !has("api-version") || !has("resource") {
            return told(
                StatusCode::BAD_REQUEST,
                &json!({"error": "invalid_request", "error_description": "api-version and resource are required"}),
            );
        }
        let mut answer = self.grant(Vec::new(), false, now);
        // This service writes its numbers as texts.
        answer["expires_in"] = self.life.to_string().into();
        told(StatusCode::OK, &answer)
    }

    fn secret(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        match self.defect {
            Some(Defect::ClientUnknown) => return refuse("invalid_client", "unknown client"),
            Some(Defect::SecretExpired) => {
                return refuse("invalid_client", "the client secret has expired");
            }
            _ => {}
        }
        let brought = text(asked.headers, header::AUTHORIZATION.as_str());
        let (id, secret) = match brought.as_deref().and_then(|value| scheme(value, "basic")) {
            Some(encoded) => {
                let pair = STANDARD.decode(encoded).ok().and_then(|it| String::from_utf8(it).ok());
                let Some((id, secret)) =
                    pair.as_deref().and_then(|pair| pair.split_once(':')).map(decoded)
                else {
                    return refuse("invalid_client", "the Authorization header cannot be read");
                };
                (id, secret)
            }
            None => (asked.field("client_id").to_owned(), asked.field("client_secret").to_owned()),
        };
        if id != CLIENT_ID {
            return refuse("invalid_client", format!("unknown client {id:?}"));
        }
        if !same(secret.as_bytes(), self.secret.expose().as_bytes()) {
            return refuse("invalid_client", "the client's secret is not the right one");
        }
        Ok(())
    }

    fn assertion(
        &self,
        asked: &Asked<'_>,
        now: Timestamp,
        algorithms: &[&str],
    ) -> Result<(), Refused> {
        if asked.field("client_assertion_type")
            != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        {
            return refuse("invalid_client", "client_assertion_type is missing or unknown");
        }
        self.claims(asked.field("client_assertion"), now, CLIENT_ID, algorithms, 300).map(drop)
    }

    /// The claims of a right assertion of this issuer.
    fn claims(
        &self,
        assertion: &str,
        now: Timestamp,
        issuer: &str,
        algorithms: &[&str],
        longest: i64,
    ) -> Result<Value, Refused> {
        let allowed: &[&str] = match self.defect {
            Some(Defect::Algorithm) => &["PS384"],
            Some(Defect::ClientUnknown) => return refuse("invalid_client", "unknown client"),
            _ => algorithms,
        };
        let registered: &[Pair] = match self.defect {
            Some(Defect::KeyUnknown) => &[],
            _ => &self.keys,
        };
        let read = keys::read(assertion, registered, allowed)
            .or_else(|reason| refuse("invalid_client", reason))?;
        let claim = |name: &str| read.claims[name].as_str().unwrap_or_default();
        if read.header["typ"].as_str().is_some_and(|kind| kind != "JWT") {
            return refuse("invalid_client", "the assertion's typ is not JWT");
        }
        if claim("iss") != issuer {
            return refuse("invalid_client", format!("unknown client {:?}", claim("iss")));
        }
        if self.method == Method::SmartBackend && claim("sub") != issuer {
            return refuse("invalid_client", "iss and sub differ");
        }
        let expected = match self.defect {
            Some(Defect::Audience) => format!("{}/other", self.token_url()),
            _ => self.token_url(),
        };
        if claim("aud") != expected {
            return refuse(
                "invalid_client",
                format!("audience is {}, expected {expected}", claim("aud")),
            );
        }
        let second = |name: &str| read.claims[name].as_i64();
        let now = now.as_second();
        match second("exp") {
            None => return refuse("invalid_client", "the assertion has no exp"),
            Some(exp) if exp <= now => {
                return refuse("invalid_client", "the assertion has expired");
            }
            Some(exp) if exp > now + longest + 5 => {
                return refuse("invalid_client", format!("exp is more than {longest} s ahead"));
            }
            Some(_) => {}
        }
        if second("iat").is_some_and(|iat| iat > now + 5) {
            return refuse("invalid_client", "iat is in the future");
        }
        if self.method == Method::SmartBackend {
            let id = claim("jti");
            if id.is_empty() {
                return refuse("invalid_client", "the assertion has no jti");
            }
            if !locked(&self.given).used.insert(id.to_owned()) {
                return refuse("invalid_client", "this jti was used before");
            }
        }
        Ok(read.claims.clone())
    }

    fn scopes(&self, asked: &str) -> Result<Vec<String>, Refused> {
        if self.defect == Some(Defect::ScopeReduced) {
            return Ok(vec![REDUCED.to_owned()]);
        }
        let scopes: Vec<String> = asked.split_ascii_whitespace().map(str::to_owned).collect();
        if scopes.is_empty() && self.method == Method::SmartBackend {
            return refuse("invalid_scope", "a scope is required");
        }
        let unknown = scopes.iter().find(|scope| {
            let access = scope.rsplit_once('.').map(|(_, access)| access).unwrap_or_default();
            !scope.starts_with("system/")
                || !matches!(access.split('?').next(), Some("read" | "rs" | "r" | "s"))
        });
        match unknown {
            Some(scope) => {
                refuse("invalid_scope", format!("{scope} is not granted to this client"))
            }
            None if scopes.is_empty() => Ok(vec![SCOPE.to_owned()]),
            None => Ok(scopes),
        }
    }

    fn grant(&self, scopes: Vec<String>, renews: bool, now: Timestamp) -> Value {
        let token = random();
        let mut answer = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.life,
        });
        if self.method != Method::Azure {
            answer["scope"] = scopes.join(" ").into();
        }
        match self.defect {
            Some(Defect::ExpiresText) => answer["expires_in"] = self.life.to_string().into(),
            Some(Defect::ExpiresZero) => answer["expires_in"] = 0.into(),
            Some(Defect::ExpiresAbsent) => answer["expires_in"] = Value::Null,
            _ => {}
        }
        if answer["expires_in"].is_null()
            && let Some(answer) = answer.as_object_mut()
        {
            answer.remove("expires_in");
        }
        let mut given = locked(&self.given);
        given.tokens.retain(|_, grant| now < grant.until);
        if renews {
            let refresh = random();
            answer["refresh_token"] = refresh.as_str().into();
            given.refresh.insert(refresh, scopes.clone());
        }
        given.tokens.insert(token, Grant { scopes, until: after(now, i64::from(self.life)) });
        answer
    }
}

/// A token request's form and headers.
struct Asked<'a> {
    form: &'a [(String, String)],
    headers: &'a HeaderMap,
}

impl Asked<'_> {
    fn field(&self, name: &str) -> &str {
        self.form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }
}

/// Both halves of a Basic pair are form-encoded (RFC 6749 §2.3.1).
fn decoded((id, secret): (&str, &str)) -> (String, String) {
    let one = |text: &str| {
        let whole = format!("x={text}");
        pairs(whole.as_bytes()).into_iter().next().map(|(_, value)| value).unwrap_or_default()
    };
    (one(id), one(secret))
}

fn random() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.saturating_add(Duration::from_secs(seconds.unsigned_abs())).unwrap_or(Timestamp::MAX)
}

fn told(status: StatusCode, json: &Value) -> Response<Body> {
    answered(status, "application/json", json.to_string().into_bytes())
}

fn answered(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// RFC 9110 §5.6.7.
fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
