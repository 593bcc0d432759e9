//! Certificates themselves: those that a server presents, and those in a file.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::classify::{self, Circumstances};
use super::resolve::{SystemResolver, address_not_allowed, is_allowed};
use super::timing::{ConnectMarks, HandshakeMark, Marks};
use super::tls::{self, Seen};
use super::{Failure, Stage, Transport, client};
use crate::model::Code;
use crate::model::server::Server;
use crate::model::text::one_line;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    pub subject: String,
    pub issuer: String,
    pub not_after: Timestamp,
    /// SHA-256 of its DER, hexadecimal.
    pub sha256: String,
    /// Base64 of the SHA-256 of its SubjectPublicKeyInfo (RFC 7469 §2.4).
    pub pin: Option<String>,
}

/// The certificates that a server presents, its own first, whether they are trusted or not.
///
/// The handshake is broken off as soon as they are known, so that no request can follow it and no
/// credential and no client certificate is shown. Goes the way that requests go: through the
/// proxy, from the source address, to allowed addresses only.
///
/// # Errors
/// A [`Failure`] when no certificate was presented within the connect timeout.
pub async fn presented(
    server: &Server,
    transport: &Transport,
) -> Result<Vec<CertificateFacts>, Failure> {
    let url = server.url.url();
    let target = client::target_of(url);
    check_address(server, &target)?;
    let proxy = client::proxy(server, transport)?;
    let proxied = proxy.is_some();
    let (marks, chain) = (Marks::default(), Arc::new(Mutex::new(Vec::new())));
    let resolver = SystemResolver {
        allowed: server.network.allowed_addresses.clone(),
        marks: marks.clone(),
        behind_proxy: proxied,
    };
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(server.timeouts.connect)
        .timeout(server.timeouts.connect)
        .local_address(server.network.source_address)
        .dns_resolver(Arc::new(resolver))
        .connector_layer(ConnectMarks(marks.clone()))
        .tls_backend_preconfigured(looking(&chain, &marks)?)
        .https_only(true);
    if let Some(proxy) = proxy {
        builder = builder.proxy(proxy);
    }
    let inner = builder.build().map_err(|_| unfit())?;
    let start = Instant::now();
    let sent = inner.head(url.clone()).send().await;
    let found = std::mem::take(&mut *chain.lock().unwrap_or_else(PoisonError::into_inner));
    if !found.is_empty() {
        return Ok(found);
    }
    let known = Circumstances {
        target: &target,
        instants: marks.snapshot(),
        seen: &Seen::default(),
        proxied,
        has_client_certificate: false,
        waited: start.elapsed().as_secs_f64(),
    };
    Err(match sent {
        Err(error) => classify::request(&error, &known),
        Ok(_) => unfit(),
    })
}

/// The certificates in a PEM file, in its order.
///
/// # Errors
/// A [`Failure`] of stage `Setup` when it cannot be read or holds none.
pub fn certificates_in(path: &Path) -> Result<Vec<CertificateFacts>, Failure> {
    let found = tls::read_certificates(path)?;
    Ok(found.iter().filter_map(|der| facts(der)).collect())
}

fn facts(der: &[u8]) -> Option<CertificateFacts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let digest = Sha256::digest(der);
    Some(CertificateFacts {
        subject: one_line(&certificate.subject().to_string()),
        issuer: one_line(&certificate.issuer().to_string()),
        not_after: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        pin: tls::spki_pin(der),
    })
}

/// A name is checked where it is resolved.
fn check_address(server: &Server, target: &str) -> Result<(), Failure> {
    let literal = match server.url.url().host() {
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
        _ => return Ok(()),
    };
    if is_allowed(&server.network.allowed_addresses, literal) {
        return Ok(());
    }
    let refused = address_not_allowed(target, literal);
    Err(Failure::new(Stage::Tcp, refused.code, refused.message))
}

fn unfit() -> Failure {
    Failure::new(Stage::Setup, Code::new("tls.protocol"), "TLS cannot be set up for looking")
}

/// Settings of a client that looks and goes.
fn looking(
    chain: &Arc<Mutex<Vec<CertificateFacts>>>,
    marks: &Marks,
) -> Result<ClientConfig, Failure> {
    let provider = tls::provider();
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| unfit())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looking { chain: chain.clone(), schemes }))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::store(Arc::new(HandshakeMark(marks.clone())));
    Ok(config)
}

/// Keeps what is presented and accepts none of it.
#[derive(Debug)]
struct Looking {
    chain: Arc<Mutex<Vec<CertificateFacts>>>,
    schemes: Vec<SignatureScheme>,
}

/// Why the handshake ends.
#[derive(Debug)]
struct SeenEnough;

impl std::fmt::Display for SeenEnough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the certificate was looked at, and nothing was to be sent")
    }
}

impl std::error::Error for SeenEnough {}

fn seen_enough() -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(SeenEnough))))
}

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) =
            all.filter_map(|der| facts(der)).collect();
        Err(seen_enough())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(seen_enough())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(seen_enough())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
