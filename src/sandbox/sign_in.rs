//! Sign-in: what a server asks for, and whether a request brought it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::model::Secret;
use crate::serve::{HeaderMap, header};

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
}

impl Method {
    pub const ALL: [Method; 5] =
        [Method::None, Method::ApiKey, Method::Basic, Method::Bearer, Method::Headers];

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
        }
    }

    /// The header that carries the secret alone, where there is one.
    #[must_use]
    pub fn header(self) -> Option<&'static str> {
        match self {
            Method::ApiKey => Some(API_KEY_HEADER),
            Method::Headers => Some(CUSTOM_HEADER),
            Method::None | Method::Basic | Method::Bearer => None,
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
            // RFC 6750, section 3: no error code when no credential came.
            Method::Bearer if refused => format!("Bearer {realm}, error=\"invalid_token\""),
            Method::Bearer | Method::None => format!("Bearer {realm}"),
            Method::ApiKey => format!("ApiKey {realm}, header=\"{API_KEY_HEADER}\""),
            Method::Headers => format!("Header {realm}, header=\"{CUSTOM_HEADER}\""),
        }
    }
}

/// A method with the secret of this start.
#[derive(Clone, Debug)]
pub(super) struct SignIn {
    pub(super) method: Method,
    pub(super) secret: Secret,
}

/// What a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None of the kind that this server takes.
    Missing,
    Wrong,
    Right,
}

impl SignIn {
    /// With a new random secret.
    pub(super) fn new(method: Method) -> SignIn {
        let random = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        SignIn { method, secret: Secret::new(random) }
    }

    /// Looks at a request's headers and the decoded pairs of its query.
    pub(super) fn judge(&self, headers: &HeaderMap, query: &[(String, String)]) -> Credential {
        let brought = match self.method {
            Method::None => return Credential::Missing,
            Method::Basic | Method::Bearer => text(headers, header::AUTHORIZATION.as_str()),
            Method::ApiKey => text(headers, API_KEY_HEADER).or_else(|| {
                query
                    .iter()
                    .find(|(name, _)| name == API_KEY_PARAMETER)
                    .map(|(_, value)| value.clone())
            }),
            Method::Headers => text(headers, CUSTOM_HEADER),
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
            Method::None | Method::ApiKey | Method::Headers => Some(brought),
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

    fn judge(method: Method, name: &str, value: &str) -> Credential {
        let sign_in = SignIn { method, secret: Secret::new("s3cret".into()) };
        let mut headers = HeaderMap::new();
        if !name.is_empty() {
            let name = crate::serve::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        sign_in.judge(&headers, &[])
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
        let sign_in = SignIn { method: Method::ApiKey, secret: Secret::new("s3cret".into()) };
        let query = [(API_KEY_PARAMETER.to_owned(), "s3cret".to_owned())];
        assert_eq!(sign_in.judge(&HeaderMap::new(), &query), Credential::Right);
    }

    #[test]
    fn two_starts_have_two_secrets() {
        let one = SignIn::new(Method::Basic);
        let two = SignIn::new(Method::Basic);
        assert_ne!(one.secret.expose(), two.secret.expose());
        assert!(!format!("{one:?}").contains(one.secret.expose()));
    }
}
