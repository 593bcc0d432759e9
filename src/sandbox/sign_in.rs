//! Sign-in: what a server asks for, and whether a request brought it.

mod defect;
mod issuer;
mod keys;
mod sigv4;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::scenario::ServerPlan;
use crate::model::{Result, Secret};
use crate::serve::{Body, HeaderMap, Request, Response, header};

pub use defect::{DEFECTS, Defect};
pub use issuer::TOKEN_LIFE;

use issuer::Issuer;

/// The header of `api-key` and of `headers`.
pub(super) const API_KEY_HEADER: &str = "X-API-Key";
/// The query parameter that `api-key` takes as well.
pub(super) const API_KEY_PARAMETER: &str = "api_key";
/// The header of the method `headers`.
pub(super) const CUSTOM_HEADER: &str = "X-Sandbox-Token";
/// The user of `basic`.
pub(super) const USERNAME: &str = "probe";

/// How a server wants to be signed in to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    #[default]
    None,
    ApiKey,
    Basic,
    Bearer,
    Headers,
    Oauth2,
    SmartBackend,
    Mtls,
    Azure,
    Google,
    AwsSigv4,
}

impl Method {
    pub const ALL: [Method; 11] = [
        Method::None,
        Method::ApiKey,
        Method::Basic,
        Method::Bearer,
        Method::Headers,
        Method::Oauth2,
        Method::SmartBackend,
        Method::Mtls,
        Method::Azure,
        Method::Google,
        Method::AwsSigv4,
    ];

    /// By its name in an inventory.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Method, String> {
        Method::ALL
            .into_iter()
            .find(|method| method.as_str() == text)
            .ok_or_else(|| format!("choose {}", Method::ALL.map(Method::as_str).join(", ")))
    }

    /// As it stands in an inventory.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::None => "none",
            Method::ApiKey => "api-key",
            Method::Basic => "basic",
            Method::Bearer => "bearer",
            Method::Headers => "headers",
            Method::Oauth2 => "oauth2",
            Method::SmartBackend => "smart-backend",
            Method::Mtls => "mtls",
            Method::Azure => "azure",
            Method::Google => "google",
            Method::AwsSigv4 => "aws-sigv4",
        }
    }

    /// Whether a provider beside the server gives out tokens.
    #[must_use]
    pub fn gives_tokens(self) -> bool {
        matches!(self, Method::Oauth2 | Method::SmartBackend | Method::Azure | Method::Google)
    }

    /// The header that carries the secret alone, where there is one.
    #[must_use]
    pub fn header(self) -> Option<&'static str> {
        match self {
            Method::ApiKey => Some(API_KEY_HEADER),
            Method::Headers => Some(CUSTOM_HEADER),
            _ => None,
        }
    }

    #[must_use]
    pub fn username(self) -> Option<&'static str> {
        (self == Method::Basic).then_some(USERNAME)
    }

    /// The challenge of a 401 (RFC 9110, section 11.6.1); `refused`: a credential came and was
    /// wrong.
    pub(super) fn challenge(self, refused: bool) -> String {
        let realm = "realm=\"fhirctl sandbox\"";
        match self {
            Method::Basic => format!("Basic {realm}, charset=\"UTF-8\""),
            Method::ApiKey => format!("ApiKey {realm}, header=\"{API_KEY_HEADER}\""),
            Method::Headers => format!("Header {realm}, header=\"{CUSTOM_HEADER}\""),
            Method::AwsSigv4 => format!("AWS4-HMAC-SHA256 {realm}"),
            // RFC 6750, section 3: no error code when no credential came.
            _ if refused => format!("Bearer {realm}, error=\"invalid_token\""),
            _ => format!("Bearer {realm}"),
        }
    }
}

/// A method with the secret of this start.
pub(super) struct SignIn {
    pub(super) method: Method,
    pub(super) secret: Secret,
    /// The header that carries it alone.
    header: Option<&'static str>,
    /// Who gives out tokens, where the method uses them.
    issuer: Option<Issuer>,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").field("method", &self.method).finish_non_exhaustive()
    }
}

/// What a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None of the kind that this server takes.
    Missing,
    Wrong,
    Right,
}

/// What a client needs to know to sign in, beside its secret.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// What the secret file holds.
    pub(super) secret: Option<Secret>,
    /// A second key, of the other kind.
    pub(super) rsa_key: Option<Secret>,
    pub(super) client_id: Option<&'static str>,
    pub(super) key_id: Option<&'static str>,
    pub(super) rsa_key_id: Option<&'static str>,
    pub(super) token_url: Option<String>,
    pub(super) jwks_url: Option<String>,
    pub(super) scopes: Option<&'static str>,
    pub(super) tenant: Option<&'static str>,
    pub(super) region: Option<&'static str>,
    pub(super) access_key: Option<&'static str>,
}

impl SignIn {
    /// With a new random secret, or new keys. `origin` is where the server listens.
    pub(super) fn new(method: Method, origin: &str, plan: &ServerPlan) -> Result<SignIn> {
        let (token_lifetime, defect) = (plan.token_lifetime, plan.sign_in_fault);
        let random = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let secret = Secret::new(random);
        let issuer = match method.gives_tokens() {
            true => {
                let origin = origin.to_owned();
                Some(Issuer::new(method, origin, secret.clone(), token_lifetime, defect)?)
            }
            false => None,
        };
        Ok(SignIn { method, secret, header: plan.header(), issuer })
    }

    pub(super) fn facts(&self) -> Facts {
        let plain = Facts { secret: Some(self.secret.clone()), ..Facts::default() };
        let Some(issuer) = &self.issuer else {
            return match self.method {
                Method::Mtls => Facts::default(),
                Method::AwsSigv4 => Facts {
                    region: Some(sigv4::REGION),
                    access_key: Some(sigv4::ACCESS_KEY),
                    ..plain
                },
                _ => plain,
            };
        };
        let facts = Facts { token_url: Some(issuer.token_url()), ..plain };
        let mut keys = issuer.keys.iter();
        match (self.method, keys.next()) {
            (Method::SmartBackend, Some(key)) => {
                let rsa = keys.next();
                Facts {
                    secret: Some(key.private.clone()),
                    rsa_key: rsa.map(|rsa| rsa.private.clone()),
                    client_id: Some(issuer::CLIENT_ID),
                    key_id: Some(key.id),
                    rsa_key_id: rsa.map(|rsa| rsa.id),
                    jwks_url: Some(issuer.jwks_url()),
                    scopes: Some(issuer::SCOPE),
                    ..facts
                }
            }
            (Method::Google, Some(key)) => {
                let account = json!({
                    "type": "service_account",
                    "project_id": "sandbox",
                    "private_key_id": key.id,
                    "private_key": key.private.expose(),
                    "client_email": issuer::ACCOUNT,
                    "client_id": "1",
                    "token_uri": issuer.token_url(),
                });
                Facts { secret: Some(Secret::new(account.to_string())), ..facts }
            }
            (Method::Azure, _) => {
                Facts { client_id: Some(issuer::CLIENT_ID), tenant: Some(issuer::TENANT), ..facts }
            }
            _ => Facts { client_id: Some(issuer::CLIENT_ID), scopes: Some(issuer::SCOPE), ..facts },
        }
    }

    /// What the server publishes of its sign-in.
    pub(super) fn configuration(&self) -> Option<Value> {
        self.issuer.as_ref()?.configuration()
    }

    /// The provider's own answer, where the path is one of its.
    pub(super) fn answer(&self, request: &Request, now: Timestamp) -> Option<Response<Body>> {
        self.issuer.as_ref()?.answer(request, now)
    }

    /// Whether what a request brought permits a resource type.
    pub(super) fn permits(&self, request: &Request, kind: &str, now: Timestamp) -> bool {
        match &self.issuer {
            Some(issuer) => issuer.permits(&issuer.judge(&request.headers, now).1, kind),
            None => true,
        }
    }

    /// Why a signature was refused, in AWS's form.
    pub(super) fn signature_refused(&self, request: &Request, now: Timestamp) -> Option<Value> {
        if self.method != Method::AwsSigv4 {
            return None;
        }
        let (name, why) = sigv4::check(request, &self.secret, now).err()??;
        Some(json!({"__type": name, "message": why}))
    }

    /// Looks at a request's headers and the decoded pairs of its query.
    pub(super) fn judge(
        &self,
        request: &Request,
        query: &[(String, String)],
        now: Timestamp,
    ) -> Credential {
        if let Some(issuer) = &self.issuer {
            return issuer.judge(&request.headers, now).0;
        }
        match self.method {
            // Who came this far showed the certificate in the handshake.
            Method::Mtls => Credential::Right,
            Method::AwsSigv4 => match sigv4::check(request, &self.secret, now) {
                Ok(()) => Credential::Right,
                Err(None) => Credential::Missing,
                Err(Some(_)) => Credential::Wrong,
            },
            _ => self.judge_fixed(&request.headers, query),
        }
    }

    fn judge_fixed(&self, headers: &HeaderMap, query: &[(String, String)]) -> Credential {
        let brought = match self.method {
            Method::Basic | Method::Bearer => text(headers, header::AUTHORIZATION.as_str()),
            Method::ApiKey => text(headers, self.header.unwrap_or(API_KEY_HEADER)).or_else(|| {
                query
                    .iter()
                    .find(|(name, _)| name == API_KEY_PARAMETER)
                    .map(|(_, value)| value.clone())
            }),
            Method::Headers => text(headers, CUSTOM_HEADER),
            _ => return Credential::Missing,
        };
        let Some(brought) = brought else { return Credential::Missing };
        let offered = match self.method {
            Method::Basic => scheme(&brought, "basic")
                .and_then(|encoded| STANDARD.decode(encoded).ok())
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|pair| {
                    pair.strip_prefix(USERNAME)
                        .and_then(|rest| rest.strip_prefix(':'))
                        .map(str::to_owned)
                }),
            Method::Bearer => scheme(&brought, "bearer").map(str::to_owned),
            _ => Some(brought),
        };
        match offered {
            Some(offered) if same(offered.as_bytes(), self.secret.expose().as_bytes()) => {
                Credential::Right
            }
            _ => Credential::Wrong,
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// What follows the name of an authentication scheme, which is not case-sensitive.
fn scheme<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(name).then(|| rest.trim())
}

/// Compares in a time that does not tell where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(method: Method) -> SignIn {
        SignIn { method, secret: Secret::new("s3cret".into()), header: None, issuer: None }
    }

    fn judge(method: Method, name: &str, value: &str) -> Credential {
        let sign_in = fixed(method);
        let mut headers = HeaderMap::new();
        if !name.is_empty() {
            let name = crate::serve::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        sign_in.judge_fixed(&headers, &[])
    }

    #[test]
    fn a_credential_is_missing_wrong_or_right() {
        use Credential::{Missing, Right, Wrong};
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (method, name, value, expected) in [
            (Method::Basic, "authorization", basic("probe:s3cret"), Right),
            (Method::Basic, "authorization", basic("probe:other"), Wrong),
            (Method::Basic, "authorization", basic("root:s3cret"), Wrong),
            (Method::Basic, "authorization", "Basic ###".into(), Wrong),
            (Method::Basic, "authorization", "Bearer s3cret".into(), Wrong),
            (Method::Basic, "", String::new(), Missing),
            (Method::Bearer, "authorization", "bearer s3cret".into(), Right),
            (Method::Bearer, "authorization", "Bearer s3cre".into(), Wrong),
            (Method::ApiKey, "x-api-key", "s3cret".into(), Right),
            (Method::ApiKey, "x-api-key", "S3cret".into(), Wrong),
            (Method::ApiKey, "authorization", "Bearer s3cret".into(), Missing),
            (Method::Headers, "x-sandbox-token", "s3cret".into(), Right),
            (Method::Headers, "x-sandbox-token", String::new(), Wrong),
        ] {
            assert_eq!(judge(method, name, &value), expected, "{method:?} {name}: {value}");
        }
    }

    #[test]
    fn an_api_key_may_come_in_the_query() {
        let sign_in = fixed(Method::ApiKey);
        let query = [(API_KEY_PARAMETER.to_owned(), "s3cret".to_owned())];
        assert_eq!(sign_in.judge_fixed(&HeaderMap::new(), &query), Credential::Right);
    }

    #[test]
    fn two_starts_have_two_secrets() {
        let one = SignIn::new(Method::Basic, "http://h", &ServerPlan::new("a")).unwrap();
        let two = SignIn::new(Method::Basic, "http://h", &ServerPlan::new("a")).unwrap();
        assert_ne!(one.secret.expose(), two.secret.expose());
        assert!(!format!("{one:?}").contains(one.secret.expose()));
    }
}
