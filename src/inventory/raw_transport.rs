//! How a server is reached: trust, pins, the client's own certificate, addresses and proxies.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use super::layer::Layer;
use super::raw::{RawThreshold, record};
use super::reference::RawSecret;

record! {
    /// Trust, pins and the client's own certificate. Validation cannot be switched off.
    RawTls {
        /// PEM file that replaces the system's trust store for this server.
        ca: String,
        /// The public keys of which one has to be in the chain: sha256/ and base64.
        #[schemars(extend("x-items" = "pin"))]
        pins: Vec<String>,
        /// The oldest TLS that is spoken.
        min_version: RawTlsVersion,
        /// The certificate that the client shows.
        client_certificate: RawClientCertificate,
        /// How long before its end a certificate is a warning, and critical.
        expiry: RawThreshold,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum RawTlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

record! {
    /// The certificate that the client shows: certificate and key, or pkcs12 and password.
    RawCertificateFiles {
        /// PEM file with the certificate, and with those between it and its authority.
        certificate: String,
        /// Its private key, PEM; file: and the same path where one file holds both.
        key: RawSecret,
        /// PKCS#12 file (.p12, .pfx) with certificate and key.
        pkcs12: String,
        /// The password of the PKCS#12 file; none where it is empty.
        password: RawSecret,
    }
}

/// `client_certificate` as a layer: a PKCS#12 file leaves out the PEM files of a lower layer, and
/// the other way round.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct RawClientCertificate(pub(super) RawCertificateFiles);

impl Layer for RawClientCertificate {
    fn fill(&mut self, lower: &Self) {
        let mut lower = lower.0.clone();
        if self.0.pkcs12.is_some() {
            (lower.certificate, lower.key) = (None, None);
        }
        if self.0.certificate.is_some() {
            (lower.pkcs12, lower.password) = (None, None);
        }
        self.0.fill(&lower);
    }
}

record! {
    /// Which way requests go.
    RawNetwork {
        /// Networks that the server's name may resolve to; none: any. A proxy resolves names by
        /// itself: behind one only an address in the URL is held against these.
        #[schemars(extend("x-items" = "network"))]
        allowed_addresses: Vec<String>,
        /// The address that connections leave from.
        #[schemars(extend("x-kind" = "address"))]
        source_address: String,
        /// Networks of ours that the vendor has on its allow list: what diag holds the address
        /// against that we leave by.
        #[schemars(extend("x-items" = "network"))]
        egress: Vec<String>,
        /// A page of our own that answers with the caller's address; diag asks it, unsigned.
        #[schemars(extend("x-kind" = "url"))]
        egress_echo: String,
        /// Used instead of HTTPS_PROXY and HTTP_PROXY.
        proxy: RawProxy,
    }
}

/// A proxy's URL, or the URL with what signs in to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawProxy {
    Url(String),
    Login(RawProxyLogin),
}

record! {
    /// A proxy that wants a sign-in.
    #[schemars(extend("required" = ["url"]))]
    RawProxyLogin {
        /// Such as http://proxy.example.org:3128, without user and password.
        #[schemars(extend("x-kind" = "proxy-url"))]
        url: String,
        username: String,
        password: RawSecret,
    }
}

impl Layer for RawProxy {
    fn fill(&mut self, lower: &Self) {
        if let (RawProxy::Login(own), RawProxy::Login(lower)) = (self, lower) {
            own.fill(lower);
        }
    }
}

impl JsonSchema for RawProxy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawProxy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let login = generator.subschema_for::<RawProxyLogin>();
        schemars::json_schema!({
            "x-kind": "proxy",
            "anyOf": [{"type": "string", "x-kind": "proxy-url"}, login],
        })
    }
}
