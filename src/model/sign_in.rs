//! How a server wants to be signed in to, with references where secrets belong.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;
use serde::Serialize;
use url::Url;

use super::SecretRef;
use super::server::HeaderValue;

/// The method and what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    None,
    ApiKey {
        place: ApiKeyPlace,
        value: SecretRef,
    },
    Basic {
        username: String,
        password: SecretRef,
    },
    Bearer {
        token: SecretRef,
    },
    /// Header name to its secret value.
    Headers(BTreeMap<String, SecretRef>),
    OAuth2(Box<OAuth2>),
    SmartBackend(Box<SmartBackend>),
    /// By the client certificate of `tls.client_certificate` alone.
    Mtls,
    Azure(Box<Azure>),
    Google(Box<Google>),
    AwsSigv4(Box<AwsSigv4>),
}

impl Auth {
    /// As it stands in the inventory, such as `smart-backend`.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Auth::None => "none",
            Auth::ApiKey { .. } => "api-key",
            Auth::Basic { .. } => "basic",
            Auth::Bearer { .. } => "bearer",
            Auth::Headers(_) => "headers",
            Auth::OAuth2(_) => "oauth2",
            Auth::SmartBackend(_) => "smart-backend",
            Auth::Mtls => "mtls",
            Auth::Azure(_) => "azure",
            Auth::Google(_) => "google",
            Auth::AwsSigv4(_) => "aws-sigv4",
        }
    }

    /// Every reference it holds.
    #[must_use]
    pub fn references(&self) -> Vec<&SecretRef> {
        match self {
            Auth::None | Auth::Mtls => Vec::new(),
            Auth::ApiKey { value, .. } => vec![value],
            Auth::Basic { password, .. } => vec![password],
            Auth::Bearer { token } => vec![token],
            Auth::Headers(headers) => headers.values().collect(),
            Auth::OAuth2(oauth2) => oauth2.client_secret.iter().collect(),
            Auth::SmartBackend(smart) => vec![&smart.key],
            Auth::Azure(azure) => match &azure.proof {
                AzureProof::Secret(secret) | AzureProof::Certificate(secret) => vec![secret],
                AzureProof::ManagedIdentity => Vec::new(),
            },
            Auth::Google(google) => google.credentials.iter().collect(),
            Auth::AwsSigv4(aws) => match &aws.keys {
                AwsKeys::Static { access_key, secret_key, session_token } => {
                    let access_key = match access_key {
                        HeaderValue::Secret(reference) => Some(reference),
                        HeaderValue::Plain(_) => None,
                    };
                    access_key.into_iter().chain([secret_key]).chain(session_token).collect()
                }
                AwsKeys::Profile(_) | AwsKeys::Chain => Vec::new(),
            },
        }
    }

    /// Whether a token is got from somewhere before the server is asked.
    #[must_use]
    pub fn uses_tokens(&self) -> bool {
        matches!(self, Auth::OAuth2(_) | Auth::SmartBackend(_) | Auth::Azure(_) | Auth::Google(_))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiKeyPlace {
    Header(String),
    Query(String),
}

/// OAuth 2.0 (RFC 6749).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    pub flow: Flow,
    pub client_id: String,
    /// `None` for a public client, which only the authorization code flow knows.
    pub client_secret: Option<SecretRef>,
    /// `None`: the one that the server itself publishes, as long as it is of the server's origin.
    pub token_url: Option<Url>,
    /// `None`: as discovered.
    pub authorize_url: Option<Url>,
    /// The registered loopback redirect; `None`: any free port.
    pub redirect_url: Option<Url>,
    pub scopes: Option<Vec<String>>,
    pub token_auth: TokenAuth,
    /// The `aud` or `audience` parameter, where one is wanted.
    pub audience: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    ClientCredentials,
    AuthorizationCode,
}

/// How a client's secret is sent (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenAuth {
    Basic,
    Post,
}

/// SMART Backend Services: a signed assertion instead of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmartBackend {
    pub client_id: String,
    /// PEM or JWK.
    pub key: SecretRef,
    /// `None`: the JWK's own, or the key's thumbprint (RFC 7638).
    pub key_id: Option<String>,
    /// `None`: as the key's kind demands.
    pub algorithm: Option<Algorithm>,
    /// The registered URL of the key set; it goes into the assertion's header.
    pub jku: Option<Url>,
    /// Where the public key set is published, when it does not go into the header.
    pub jwks_url: Option<Url>,
    pub token_url: Option<Url>,
    pub scopes: Option<Vec<String>>,
    /// What `aud` says, where it is not the token endpoint's URL.
    pub audience: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Algorithm {
    RS384,
    ES384,
}

impl Algorithm {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::RS384 => "RS384",
            Algorithm::ES384 => "ES384",
        }
    }
}

/// Microsoft Entra ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// `None` with a managed identity.
    pub tenant: Option<String>,
    /// `None`: the machine's system-assigned identity.
    pub client_id: Option<String>,
    pub proof: AzureProof,
    /// The login host; `None`: the public cloud's.
    pub authority: Option<Url>,
    /// `None`: the server's own URL with `/.default`.
    pub scopes: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureProof {
    Secret(SecretRef),
    /// PEM: the certificate and its private key.
    Certificate(SecretRef),
    ManagedIdentity,
}

/// A Google service account, or the machine's default credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Google {
    /// The JSON that the console gives; `None`: application default credentials.
    pub credentials: Option<SecretRef>,
    /// Where the token comes from, when it is neither Google's own host nor on loopback.
    pub token_url: Option<Url>,
    pub scopes: Option<Vec<String>>,
}

/// AWS Signature Version 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSigv4 {
    pub region: String,
    /// The name in the credential scope; `healthlake` unless told.
    pub service: String,
    pub keys: AwsKeys,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsKeys {
    Static {
        access_key: HeaderValue,
        secret_key: SecretRef,
        session_token: Option<SecretRef>,
    },
    Profile(String),
    /// Environment, profile, container, instance: the first that has some.
    Chain,
}

/// How a credential is kept, shared and held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInPolicy {
    /// How long a credential is held back after its second refusal; it doubles with each more.
    pub breaker: Duration,
    /// Whether processes share tokens.
    pub shares_tokens: bool,
    /// Whether the server's own discovery document is held against `token_url`.
    pub discovers: bool,
    /// The last day of the secret, as its issuer said.
    pub expires: Option<Date>,
    /// How long a token lives where the provider does not say it as it should.
    pub token_lifetime: Option<Duration>,
    /// How old the secret may grow.
    pub max_age: Option<Duration>,
}
