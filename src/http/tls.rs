//! TLS settings, the check of the server's certificate, and what is kept of it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::identity::{self, CertificateFacts};
use super::timing::{HandshakeMark, Marks};
use super::{Failure, Identity, Stage};
use crate::model::server::{Tls, TlsVersion};
use crate::model::{Certificate, Code};

/// What checks a chain, or why there is none.
type Verifier = Result<Arc<WebPkiServerVerifier>, Failure>;

/// The trust anchors of a process, read once and shared.
#[derive(Debug, Default)]
pub struct Trust {
    system: OnceLock<Verifier>,
    /// By file, and by whether the system's anchors stand beside those of the file.
    own: Mutex<HashMap<(PathBuf, bool), Verifier>>,
}

impl Trust {
    fn system(&self) -> Verifier {
        self.system.get_or_init(system_roots).clone()
    }

    pub(super) fn verifier(&self, tls: &Tls) -> Verifier {
        let Some(path) = &tls.ca else { return self.system() };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.entry((path.clone(), tls.ca_adds))
            .or_insert_with(|| own_roots(path, tls.ca_adds))
            .clone()
    }
}

/// What the handshake showed; kept when it fails, too.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    /// The chain as it was sent, the server's own certificate first, DER.
    chain: Vec<Vec<u8>>,
    version: Option<&'static str>,
    /// The server asked for a client certificate.
    demanded: bool,
    /// What the ordinary verification said, where the chain is only looked at.
    verdict: Option<Result<(), rustls::Error>>,
}

impl Seen {
    /// The server's own certificate, once a handshake came so far.
    #[must_use]
    pub fn certificate(&self, now: Timestamp) -> Option<Certificate> {
        describe(self.shown().chain.first()?, now)
    }

    /// The chain as it was sent, the server's own certificate first, DER.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.shown().chain.clone()
    }

    /// What the verification said of a chain that was only looked at; `None` when none came.
    #[must_use]
    pub fn verdict(&self) -> Option<Result<(), rustls::Error>> {
        self.shown().verdict.clone()
    }

    /// The version that was agreed on, such as `TLSv1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        self.shown().version
    }

    /// Whether the server asked for a client certificate, in any handshake so far.
    #[must_use]
    pub fn has_demanded(&self) -> bool {
        self.shown().demanded
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server's certificate names itself as its issuer.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.shown()
            .chain
            .first()
            .and_then(|der| X509Certificate::from_der(der).ok())
            .is_some_and(|(_, certificate)| certificate.subject() == certificate.issuer())
    }
}

/// Whom a client talks to, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// The name or address in the server's URL.
    pub host: &'a str,
    /// The way to the proxy is TLS too; its certificate is held against the system's trust store.
    pub tls_proxy: bool,
    /// Every handshake is broken off once the chain was seen: nothing is sent.
    pub look_only: bool,
}

/// Builds the settings of one client, with the facts of our own certificate.
///
/// # Errors
/// A [`Failure`] of stage `Setup` when a CA, certificate or key file cannot be used.
pub fn config(
    tls: &Tls,
    peer: Peer<'_>,
    identity: &Identity,
    trust: &Trust,
    marks: &Marks,
    seen: &Seen,
) -> Result<(ClientConfig, Option<CertificateFacts>), Failure> {
    let verifier = Watched {
        inner: trust.verifier(tls)?,
        proxy: peer.tls_proxy.then(|| trust.system()).transpose()?,
        host: peer.host.to_owned(),
        look_only: peer.look_only,
        pins: tls.pins.clone(),
        seen: seen.clone(),
    };
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| setup("tls.protocol", format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let (mut config, own) = match &tls.client_certificate {
        Some(client) if !peer.look_only => {
            let keys = identity::keys(client, identity.certificate_secret.as_ref())?;
            let facts = identity::facts(&keys.chain, client.file())?;
            let config = builder
                .with_client_auth_cert(keys.chain, keys.key)
                .map_err(|error| identity::refused(&error, client.file()))?;
            (config, Some(facts))
        }
        _ => (builder.with_no_client_auth(), None),
    };
    config.client_auth_cert_resolver = Arc::new(Demanded {
        inner: Arc::clone(&config.client_auth_cert_resolver),
        seen: seen.clone(),
    });
    config.resumption = rustls::client::Resumption::store(Arc::new(HandshakeMark(marks.clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, own))
}

/// Settings of a TLS client that speaks something else than HTTP: a file's certificates, else the
/// system's, say whom it trusts.
///
/// # Errors
/// A [`Failure`] of stage `Setup` when the file or the trust store cannot be used.
pub fn client_config(ca: Option<&Path>) -> Result<ClientConfig, Failure> {
    let verifier = match ca {
        Some(path) => own_roots(path, false)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| setup("tls.protocol", format!("TLS cannot be set up: {error}")))?;
    Ok(builder.with_webpki_verifier(verifier).with_no_client_auth())
}

/// Settings of a client for plain HTTP only: no certificate would be accepted.
#[must_use]
pub fn nothing_trusted() -> ClientConfig {
    let versions =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    match versions {
        Ok(builder) => builder,
        // The provider is compiled in and knows both versions.
        Err(_) => ClientConfig::builder(),
    }
    .with_root_certificates(RootCertStore::empty())
    .with_no_client_auth()
}

/// The base64 of the SHA-256 of a certificate's SubjectPublicKeyInfo, after RFC 7469 §2.4.
#[must_use]
pub fn spki_pin(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let digest = Sha256::digest(certificate.public_key().raw);
    Some(base64::engine::general_purpose::STANDARD.encode(digest))
}

fn setup(code: &'static str, message: impl Into<String>) -> Failure {
    Failure::new(Stage::Setup, Code::new(code), message)
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

/// The system's trust store; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace it.
fn system_roots() -> Result<Arc<WebPkiServerVerifier>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(setup("tls.untrusted", "the system's trust store holds no certificate")
            .hint("Install ca-certificates, set SSL_CERT_FILE, or name the CA with tls.ca."));
    }
    build(roots)
}

fn own_roots(path: &Path, with_system: bool) -> Result<Arc<WebPkiServerVerifier>, Failure> {
    let mut roots = RootCertStore::empty();
    if with_system {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let (usable, _) = roots.add_parsable_certificates(read_certificates(path)?);
    if usable == 0 {
        return Err(setup(
            "tls.untrusted",
            format!("the CA file {} holds no usable certificate", path.display()),
        ));
    }
    build(roots)
}

fn build(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, Failure> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| setup("tls.untrusted", format!("the trust store cannot be used: {error}")))
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unusable = |reason: String| {
        setup(
            "tls.untrusted",
            format!("the certificate file {} cannot be read: {reason}", path.display()),
        )
        .hint("Check the path (it is relative to the inventory) and that the file is PEM.")
    };
    let pem =
        std::fs::read(path).map_err(|error| unusable(crate::model::error::io_reason(&error)))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable("no PEM certificate in it".into())),
        Ok(found) => Ok(found),
        Err(_) => Err(unusable("it is not PEM".into())),
    }
}

fn describe(der: &[u8], now: Timestamp) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
    let digest = Sha256::digest(der);
    Some(Certificate {
        not_after,
        days_left: (not_after.as_second() - now.as_second()).div_euclid(86_400),
        subject: crate::model::text::one_line(&certificate.subject().to_string()),
        issuer: crate::model::text::one_line(&certificate.issuer().to_string()),
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// What we have to show, and that it was asked for.
#[derive(Debug)]
struct Demanded {
    inner: Arc<dyn ResolvesClientCert>,
    seen: Seen,
}

impl ResolvesClientCert for Demanded {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        signature_schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.seen.shown().demanded = true;
        self.inner.resolve(root_hint_subjects, signature_schemes)
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}

/// The error of a certificate chain that holds none of the pinned keys.
#[derive(Debug)]
pub struct PinMismatch {
    /// The pin of the server's own certificate, `sha256/…`.
    pub seen: String,
}

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("none of the pinned keys is in the chain")
    }
}

impl std::error::Error for PinMismatch {}

/// The ordinary verification, with the chain kept and the pins held against it.
#[derive(Debug)]
struct Watched {
    inner: Arc<WebPkiServerVerifier>,
    /// For a proxy that is spoken to in TLS: pins and `tls.ca` are the server's alone.
    proxy: Option<Arc<WebPkiServerVerifier>>,
    host: String,
    look_only: bool,
    pins: Vec<String>,
    seen: Seen,
}

impl Watched {
    /// Whether one of the pinned keys is the server's own or vouches for it.
    ///
    /// A server may send any certificate, also one that has nothing to do with its own. Therefore
    /// one of an authority counts only when the server's own leads to it.
    fn is_pinned(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let pinned = |der: &CertificateDer<'_>| {
            spki_pin(der).is_some_and(|pin| {
                self.pins.iter().any(|known| known.strip_prefix("sha256/") == Some(&pin))
            })
        };
        let leads_to = |anchor: &CertificateDer<'_>| {
            let mut roots = RootCertStore::empty();
            roots.add(anchor.clone().into_owned()).is_ok()
                && build(roots).is_ok_and(|verifier| {
                    verifier.verify_server_cert(own, others, name, &[], now).is_ok()
                })
        };
        pinned(own) || others.iter().any(|other| pinned(other) && leads_to(other))
    }
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(proxy) = &self.proxy
            && !server_name.to_str().eq_ignore_ascii_case(&self.host)
        {
            return proxy.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        let chain = std::iter::once(end_entity).chain(intermediates);
        self.seen.shown().chain = chain.map(|der| der.to_vec()).collect();
        let verdict = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        if self.look_only {
            self.seen.shown().verdict = Some(verdict.map(drop));
            return Err(rustls::Error::General("only looked at".to_owned()));
        }
        let verified = verdict?;
        if self.pins.is_empty() || self.is_pinned(end_entity, intermediates, server_name, now) {
            return Ok(verified);
        }
        let seen = format!("sha256/{}", spki_pin(end_entity).unwrap_or_default());
        let mismatch = OtherError(Arc::new(PinMismatch { seen }));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(mismatch)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.seen.shown().version = Some("TLSv1.2");
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.seen.shown().version = Some("TLSv1.3");
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
