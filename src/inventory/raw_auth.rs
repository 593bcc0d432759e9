//! `auth` of a server: every key of every method in one flat record, so that layers merge by key.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::layer::Layer;
use super::leaf::Length;
use super::raw::record;
use super::reference::{RawHeaderValue, RawSecret};

record! {
    /// How to sign in. Secrets are references: keyring: env: file: age: or exec.
    RawAuth {
        /// The way of signing in; it decides which other keys belong here.
        method: Method,
        /// api-key: the header that carries the key.
        #[schemars(extend("x-kind" = "header"))]
        header: String,
        /// api-key: the query parameter that carries the key.
        query: String,
        /// api-key: the key.
        value: RawSecret,
        /// basic: the user's name.
        username: String,
        /// basic: the password.
        password: RawSecret,
        /// bearer: the token.
        token: RawSecret,
        /// headers: names and their secret values; they may also stand directly in auth.
        #[schemars(extend("x-keys" = "header"))]
        headers: BTreeMap<String, RawSecret>,
        /// oauth2: how a token is got.
        flow: Flow,
        /// oauth2, smart-backend, azure: the client's id.
        client_id: String,
        /// oauth2, azure: the client's secret.
        client_secret: RawSecret,
        /// oauth2 with authorization-code: where the user signs in; otherwise as discovered.
        #[schemars(extend("x-kind" = "url"))]
        authorize_url: String,
        /// oauth2 with authorization-code: the registered loopback redirect; otherwise any port.
        #[schemars(extend("x-kind" = "url"))]
        redirect_url: String,
        /// oauth2, smart-backend, google: the token endpoint; nothing else ever gets the credential.
        #[schemars(extend("x-kind" = "url"))]
        token_url: String,
        /// oauth2, smart-backend, azure, google: the scopes to ask for; an empty list sends none.
        scopes: Vec<String>,
        /// oauth2: how the secret is sent.
        token_auth: TokenAuth,
        /// smart-backend: the private key.
        key: RawSecret,
        /// smart-backend: the key's id in the published key set.
        key_id: String,
        /// smart-backend: the signature.
        algorithm: Algorithm,
        /// smart-backend: the registered address of the key set; it goes into the assertion.
        #[schemars(extend("x-kind" = "url"))]
        jku: String,
        /// smart-backend: where the public keys are published, to look for the key's id there.
        #[schemars(extend("x-kind" = "url"))]
        jwks_url: String,
        /// oauth2, smart-backend: the audience, where it is not the token endpoint.
        audience: String,
        /// azure: the login host, or the host of the managed identity.
        #[schemars(extend("x-kind" = "url"))]
        authority: String,
        /// azure: the tenant.
        tenant: String,
        /// azure: the certificate with its key.
        certificate: RawSecret,
        /// azure: use the machine's own identity.
        managed_identity: bool,
        /// google: the service account's credentials.
        credentials: RawSecret,
        /// aws-sigv4: the region.
        region: String,
        /// aws-sigv4: a profile of the AWS configuration.
        profile: String,
        /// aws-sigv4: the access key's id, or where it is kept.
        access_key: RawHeaderValue,
        /// aws-sigv4: the secret key.
        secret_key: RawSecret,
        /// aws-sigv4: the token of a temporary key.
        session_token: RawSecret,
        /// aws-sigv4: the service's name in the signature; healthlake unless told.
        service: String,
        /// How long a refused credential is held back after the second refusal.
        breaker: Length,
        /// The last day of the secret or key, as its issuer said.
        #[schemars(extend("x-kind" = "day"))]
        expires: String,
        /// How old the secret or key may grow before it is to be rotated.
        max_age: Length,
        /// How long a token lives where the provider does not say it as it should.
        token_lifetime: Length,
        /// Whether the server's own discovery document is held against token_url.
        discover: bool,
        /// Who shares a token: shared between processes, or kept in this process.
        token_cache: TokenCache,
        /// Lets the credential go over plain HTTP to this server.
        allow_insecure: bool,
        /// headers: names that stand directly in auth.
        #[serde(flatten)]
        #[schemars(skip)]
        named: BTreeMap<String, RawSecret>,
    }
}

/// `auth` as a layer: another method below is left out as a whole, so that a password of one way of
/// signing in never meets another.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct SignIn(pub(super) RawAuth);

impl Layer for SignIn {
    fn fill(&mut self, lower: &Self) {
        let own = self.0.method;
        if own.is_none() || lower.0.method.is_none() || own == lower.0.method {
            let mut lower = lower.0.clone();
            // The key goes into one place only.
            if self.0.header.is_some() || self.0.query.is_some() {
                (lower.header, lower.query) = (None, None);
            }
            self.0.fill(&lower);
        }
    }
}

impl JsonSchema for SignIn {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SignIn".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<RawAuth>();
        let secret = generator.subschema_for::<RawSecret>();
        // With the method headers every other key is a header's name.
        schemars::json_schema!({
            "x-kind": "auth",
            "anyOf": [
                keys,
                {
                    "type": "object",
                    "properties": {"method": {"const": "headers"}},
                    "required": ["method"],
                    "additionalProperties": secret,
                },
            ],
        })
    }
}

/// A way of signing in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Flow {
    ClientCredentials,
    AuthorizationCode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum TokenAuth {
    Basic,
    Post,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum Algorithm {
    RS384,
    ES384,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum TokenCache {
    Shared,
    Process,
}
