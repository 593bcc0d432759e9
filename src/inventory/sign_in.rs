//! `auth` once its layers are merged: what each method needs, and what it does not know.

use std::path::Path;

use super::raw_auth::{Algorithm, Flow, Method, RawAuth, TokenAuth, TokenCache};
use super::reference::RawSecret;
use super::resolve::Build;
use crate::model::SecretRef;
use crate::model::server::{
    self, ApiKeyPlace, Auth, AwsKeys, AwsSigv4, Azure, AzureProof, Google, HeaderValue, OAuth2,
    ReadTarget, SignInPolicy, SmartBackend,
};

/// How long a twice refused credential is held back where nothing is said.
const BREAKER: std::time::Duration = std::time::Duration::from_secs(30 * 60);

/// The sign-in of one server; `Auth::None` with an issue told when it is not complete.
pub(super) fn auth(build: &mut Build<'_>, raw: RawAuth, has_certificate: bool) -> Auth {
    let method = raw.method.unwrap_or(Method::None);
    strangers(build, method, &raw);
    let complete = missing(build, method, &raw, has_certificate);
    if !complete {
        return Auth::None;
    }
    let secret = |secret: RawSecret| absolute(build.folder, secret.0);
    let made = match method {
        Method::None => Some(Auth::None),
        Method::ApiKey => {
            let place =
                raw.header.map(ApiKeyPlace::Header).or_else(|| raw.query.map(ApiKeyPlace::Query));
            place.zip(raw.value).map(|(place, value)| Auth::ApiKey { place, value: secret(value) })
        }
        Method::Basic => raw
            .username
            .zip(raw.password)
            .map(|(username, password)| Auth::Basic { username, password: secret(password) }),
        Method::Bearer => raw.token.map(|token| Auth::Bearer { token: secret(token) }),
        Method::Headers => {
            let named = raw.named.into_iter().chain(raw.headers).flatten();
            Some(Auth::Headers(named.map(|(name, value)| (name, secret(value))).collect()))
        }
        Method::Oauth2 => raw.client_id.map(|client_id| {
            Auth::OAuth2(Box::new(OAuth2 {
                flow: flow(raw.flow),
                client_id,
                client_secret: raw.client_secret.map(secret),
                token_url: url(raw.token_url),
                authorize_url: url(raw.authorize_url),
                redirect_url: url(raw.redirect_url),
                scopes: raw.scopes,
                token_auth: match raw.token_auth {
                    Some(TokenAuth::Post) => server::TokenAuth::Post,
                    _ => server::TokenAuth::Basic,
                },
                audience: raw.audience,
            }))
        }),
        Method::SmartBackend => raw.client_id.zip(raw.key).map(|(client_id, key)| {
            Auth::SmartBackend(Box::new(SmartBackend {
                client_id,
                key: secret(key),
                key_id: raw.key_id,
                algorithm: raw.algorithm.map(|algorithm| match algorithm {
                    Algorithm::RS384 => server::Algorithm::RS384,
                    Algorithm::ES384 => server::Algorithm::ES384,
                }),
                jku: url(raw.jku),
                jwks_url: url(raw.jwks_url),
                token_url: url(raw.token_url),
                scopes: raw.scopes,
                audience: raw.audience,
            }))
        }),
        Method::Mtls => Some(Auth::Mtls),
        Method::Azure => {
            let proof = if raw.managed_identity == Some(true) {
                Some(AzureProof::ManagedIdentity)
            } else {
                let of_certificate = raw.certificate.map(secret).map(AzureProof::Certificate);
                raw.client_secret.map(secret).map(AzureProof::Secret).or(of_certificate)
            };
            proof.map(|proof| {
                Auth::Azure(Box::new(Azure {
                    tenant: raw.tenant,
                    client_id: raw.client_id,
                    proof,
                    authority: url(raw.authority),
                    scopes: raw.scopes,
                }))
            })
        }
        Method::Google => Some(Auth::Google(Box::new(Google {
            credentials: raw.credentials.map(secret),
            token_url: url(raw.token_url),
            scopes: raw.scopes,
        }))),
        Method::AwsSigv4 => raw.region.map(|region| {
            let keys = match (raw.access_key, raw.secret_key) {
                (Some(access_key), Some(secret_key)) => AwsKeys::Static {
                    access_key: header_value(build.folder, access_key.0),
                    secret_key: secret(secret_key),
                    session_token: raw.session_token.map(secret),
                },
                _ => raw.profile.map_or(AwsKeys::Chain, AwsKeys::Profile),
            };
            let service = raw.service.unwrap_or_else(|| "healthlake".to_owned());
            Auth::AwsSigv4(Box::new(AwsSigv4 { region, service, keys }))
        }),
    };
    made.unwrap_or_default()
}

/// How the credential is kept, shared and held back.
pub(super) fn policy(raw: &RawAuth) -> SignInPolicy {
    SignInPolicy {
        breaker: raw.breaker.as_ref().map_or(BREAKER, |length| length.0),
        shares_tokens: raw.token_cache != Some(TokenCache::Process),
        discovers: raw.discover.unwrap_or(true),
        expires: raw.expires.as_deref().and_then(|day| super::leaf::day(day).ok()),
        max_age: raw.max_age.as_ref().map(|length| length.0),
        token_lifetime: raw.token_lifetime.as_ref().map(|length| length.0),
    }
}

fn flow(raw: Option<Flow>) -> server::Flow {
    match raw {
        Some(Flow::AuthorizationCode) => server::Flow::AuthorizationCode,
        _ => server::Flow::ClientCredentials,
    }
}

/// Checked while the file was read.
fn url(text: Option<String>) -> Option<url::Url> {
    text.and_then(|text| url::Url::parse(&text).ok())
}

/// A reference whose relative path is one below the inventory's folder.
pub(super) fn absolute(folder: &Path, reference: SecretRef) -> SecretRef {
    match reference {
        SecretRef::File { path } => SecretRef::File { path: folder.join(path) },
        SecretRef::Age { path, field } => SecretRef::Age { path: folder.join(path), field },
        // A bare word is looked up in PATH; a path is the inventory's.
        SecretRef::Exec { mut argv } => {
            if let Some(program) = argv.first_mut().filter(|program| program.contains('/')) {
                *program = folder.join(&*program).to_string_lossy().into_owned();
            }
            SecretRef::Exec { argv }
        }
        other => other,
    }
}

pub(super) fn header_value(folder: &Path, value: HeaderValue) -> HeaderValue {
    match value {
        HeaderValue::Secret(reference) => HeaderValue::Secret(absolute(folder, reference)),
        plain @ HeaderValue::Plain(_) => plain,
    }
}

pub(super) fn read_target(folder: &Path, target: ReadTarget) -> ReadTarget {
    match target {
        ReadTarget::Secret(reference) => ReadTarget::Secret(absolute(folder, reference)),
        plain @ ReadTarget::Reference(_) => plain,
    }
}

pub(super) fn name(method: Method) -> &'static str {
    match method {
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

/// The keys that belong to a method.
fn own_keys(method: Method) -> &'static [&'static str] {
    match method {
        Method::None | Method::Mtls => &[],
        Method::ApiKey => &["header", "query", "value"],
        Method::Basic => &["username", "password"],
        Method::Bearer => &["token"],
        Method::Headers => &["headers"],
        Method::Oauth2 => &[
            "flow",
            "client_id",
            "client_secret",
            "token_url",
            "authorize_url",
            "redirect_url",
            "scopes",
            "token_auth",
            "audience",
        ],
        Method::SmartBackend => &[
            "client_id",
            "key",
            "key_id",
            "algorithm",
            "jku",
            "jwks_url",
            "token_url",
            "scopes",
            "audience",
        ],
        Method::Azure => &[
            "tenant",
            "client_id",
            "client_secret",
            "certificate",
            "managed_identity",
            "authority",
            "scopes",
        ],
        Method::Google => &["credentials", "token_url", "scopes"],
        Method::AwsSigv4 => {
            &["region", "profile", "access_key", "secret_key", "session_token", "service"]
        }
    }
}

/// Tells keys that stand beside a method they do not belong to.
fn strangers(build: &mut Build<'_>, method: Method, raw: &RawAuth) {
    let present = [
        ("header", raw.header.is_some()),
        ("query", raw.query.is_some()),
        ("value", raw.value.is_some()),
        ("username", raw.username.is_some()),
        ("password", raw.password.is_some()),
        ("token", raw.token.is_some()),
        ("headers", raw.headers.is_some()),
        ("flow", raw.flow.is_some()),
        ("client_id", raw.client_id.is_some()),
        ("client_secret", raw.client_secret.is_some()),
        ("token_url", raw.token_url.is_some()),
        ("scopes", raw.scopes.is_some()),
        ("token_auth", raw.token_auth.is_some()),
        ("key", raw.key.is_some()),
        ("key_id", raw.key_id.is_some()),
        ("algorithm", raw.algorithm.is_some()),
        ("tenant", raw.tenant.is_some()),
        ("certificate", raw.certificate.is_some()),
        ("managed_identity", raw.managed_identity.is_some()),
        ("credentials", raw.credentials.is_some()),
        ("region", raw.region.is_some()),
        ("profile", raw.profile.is_some()),
        ("access_key", raw.access_key.is_some()),
        ("secret_key", raw.secret_key.is_some()),
        ("session_token", raw.session_token.is_some()),
        ("service", raw.service.is_some()),
        ("authorize_url", raw.authorize_url.is_some()),
        ("redirect_url", raw.redirect_url.is_some()),
        ("jku", raw.jku.is_some()),
        ("jwks_url", raw.jwks_url.is_some()),
        ("audience", raw.audience.is_some()),
        ("authority", raw.authority.is_some()),
    ];
    for (key, _) in present.into_iter().filter(|(_, there)| *there) {
        if own_keys(method).contains(&key) {
            continue;
        }
        let auth = build.key("auth");
        let message = match (method, owner(key)) {
            (Method::None, Some(owner)) => {
                format!("{auth} has no method; {key} belongs to method {}", name(owner))
            }
            _ => format!("{auth}: {key} does not belong to method {}", name(method)),
        };
        let mut path = super::path::steps(build.base, "auth");
        path.push(super::path::Step::known(key));
        build.issues.push(super::meaning::Issue::new(path, message));
    }
}

fn owner(key: &str) -> Option<Method> {
    [
        Method::ApiKey,
        Method::Basic,
        Method::Bearer,
        Method::Headers,
        Method::SmartBackend,
        Method::Oauth2,
        Method::Azure,
        Method::Google,
        Method::AwsSigv4,
    ]
    .into_iter()
    .find(|method| own_keys(*method).contains(&key))
}

/// Tells what a method needs and does not have; whether it has all.
fn missing(build: &mut Build<'_>, method: Method, raw: &RawAuth, has_certificate: bool) -> bool {
    let lacks: Option<&str> = match method {
        Method::None => None,
        Method::ApiKey if raw.header.is_some() == raw.query.is_some() => {
            Some("one of header and query")
        }
        Method::ApiKey if raw.value.is_none() => Some("value"),
        Method::Basic if raw.username.is_none() => Some("username"),
        Method::Basic if raw.username.as_deref().is_some_and(|name| name.contains(':')) => {
            Some("a username without a colon")
        }
        Method::Basic if raw.password.is_none() => Some("password"),
        Method::Bearer if raw.token.is_none() => Some("token"),
        Method::Headers
            if raw.headers.as_ref().is_none_or(|all| all.is_empty())
                && raw.named.as_ref().is_none_or(|all| all.is_empty()) =>
        {
            Some("a header's name with a secret reference")
        }
        Method::Oauth2 | Method::SmartBackend if raw.client_id.is_none() => Some("client_id"),
        Method::Oauth2
            if raw.flow != Some(Flow::AuthorizationCode) && raw.client_secret.is_none() =>
        {
            Some("client_secret")
        }
        Method::SmartBackend if raw.key.is_none() => Some("key"),
        Method::Mtls if !has_certificate => Some("tls.client_certificate"),
        Method::Azure if raw.client_id.is_none() && raw.managed_identity != Some(true) => {
            Some("client_id")
        }
        Method::Azure if raw.tenant.is_none() && raw.managed_identity != Some(true) => {
            Some("tenant")
        }
        Method::Azure
            if raw.client_secret.is_none()
                && raw.certificate.is_none()
                && raw.managed_identity != Some(true) =>
        {
            Some("one of client_secret, certificate and managed_identity")
        }
        Method::AwsSigv4 if raw.region.is_none() => Some("region"),
        Method::AwsSigv4 if raw.access_key.is_some() != raw.secret_key.is_some() => {
            Some("access_key and secret_key together")
        }
        Method::AwsSigv4 if raw.access_key.is_some() && raw.profile.is_some() => {
            Some("either a profile or access_key and secret_key")
        }
        Method::AwsSigv4 if raw.session_token.is_some() && raw.access_key.is_none() => {
            Some("access_key and secret_key beside session_token")
        }
        _ => None,
    };
    let Some(lacks) = lacks else { return true };
    let auth = build.key("auth");
    build.wrong("auth", format!("{auth}: method {} needs {lacks}", name(method)));
    false
}

#[cfg(test)]
mod tests {
    use crate::inventory::{Inventory, Overrides, parse};
    use crate::model::server::{
        ApiKeyPlace, Auth, AwsKeys, AwsSigv4, Google, HeaderValue, SmartBackend,
    };
    use crate::model::{Result, SecretRef};

    fn with(auth: &str) -> Result<Inventory> {
        let text = format!(
            "version: 1\nservers:\n  - {{name: a, url: 'https://a.example.org', auth: {auth}}}\n"
        );
        parse(&text, std::path::Path::new("/etc/fhir/servers.yaml"), &Overrides::default())
    }

    fn env(variable: &str) -> SecretRef {
        SecretRef::Env { variable: variable.to_owned() }
    }

    #[test]
    fn every_method_is_read() {
        for (text, expected) in [
            ("{method: none}", Auth::None),
            (
                "{method: api-key, query: key, value: env:K}",
                Auth::ApiKey { place: ApiKeyPlace::Query("key".into()), value: env("K") },
            ),
            (
                "{method: basic, username: u, password: file:pw}",
                Auth::Basic {
                    username: "u".into(),
                    password: SecretRef::File { path: "/etc/fhir/pw".into() },
                },
            ),
            (
                "{method: bearer, token: {exec: [./get, x]}}",
                Auth::Bearer {
                    token: SecretRef::Exec { argv: vec!["/etc/fhir/./get".into(), "x".into()] },
                },
            ),
            (
                "{method: headers, X-A: env:A, headers: {X-B: env:B}}",
                Auth::Headers([("X-A".into(), env("A")), ("X-B".into(), env("B"))].into()),
            ),
            (
                "{method: smart-backend, client_id: c, key: env:KEY, key_id: k, algorithm: RS384}",
                Auth::SmartBackend(Box::new(SmartBackend {
                    client_id: "c".into(),
                    key: env("KEY"),
                    key_id: Some("k".into()),
                    algorithm: Some(crate::model::server::Algorithm::RS384),
                    jku: None,
                    jwks_url: None,
                    token_url: None,
                    scopes: None,
                    audience: None,
                })),
            ),
            (
                "{method: aws-sigv4, region: us-east-1, access_key: AKIDEXAMPLE, secret_key: env:S}",
                Auth::AwsSigv4(Box::new(AwsSigv4 {
                    region: "us-east-1".into(),
                    service: "healthlake".into(),
                    keys: AwsKeys::Static {
                        access_key: HeaderValue::Plain("AKIDEXAMPLE".into()),
                        secret_key: env("S"),
                        session_token: None,
                    },
                })),
            ),
            (
                "{method: google}",
                Auth::Google(Box::new(Google { credentials: None, token_url: None, scopes: None })),
            ),
        ] {
            let inventory = with(text).unwrap_or_else(|error| panic!("{}", error.message));
            assert_eq!(inventory.servers[0].auth, expected, "{text}");
        }
    }

    #[test]
    fn what_a_method_lacks_or_does_not_know_is_told() {
        for (text, expected) in [
            ("{method: api-key, value: env:K}", "method api-key needs one of header and query"),
            (
                "{method: api-key, header: A, query: b, value: env:K}",
                "needs one of header and query",
            ),
            ("{method: basic, password: env:P}", "method basic needs username"),
            ("{method: basic, username: 'a:b', password: env:P}", "a username without a colon"),
            (
                "{method: bearer, token: env:T, password: env:P}",
                "password does not belong to method bearer",
            ),
            ("{username: u, password: env:P}", "has no method; username belongs to method basic"),
            ("{method: headers}", "needs a header's name"),
            ("{method: mtls}", "needs tls.client_certificate"),
            ("{method: oauth2, client_id: c}", "needs client_secret"),
            ("{method: azure, tenant: t}", "needs client_id"),
            ("{method: azure, tenant: t, client_id: c}", "needs one of client_secret"),
            ("{method: aws-sigv4}", "needs region"),
            ("{method: oauth}", "unknown auth method \"oauth\"; did you mean \"oauth2\"?"),
            ("{method: basic, X-A: env:A}", "unknown key \"X-A\" in servers[0].auth"),
        ] {
            let error = with(text).unwrap_err();
            assert!(error.message.contains(expected), "{text}\n{}", error.message);
        }
    }
}
