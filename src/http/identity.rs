//! Our own certificate: read from PEM or PKCS#12, and every way in which that goes wrong.

use std::path::Path;

use jiff::Timestamp;
use p12_keystore::Pkcs12Archive;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::tls::spki_pin;
use super::{Failure, Stage};
use crate::model::server::ClientCertificate;
use crate::model::{Code, Secret, error::io_reason, text};

/// A larger file is refused: a chain with its key has a few kilobytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What there is to know of a certificate without using it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    pub subject: String,
    pub not_after: Timestamp,
    /// `sha256/…`, as in `tls.pins`.
    pub spki_pin: String,
}

/// A chain, our own certificate first, with its key.
#[derive(Debug)]
pub struct Keys {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// The facts of a client certificate. The secret is the PKCS#12 file's password; a PEM file needs
/// none.
///
/// # Errors
/// `tls.client_certificate_rejected` when the file cannot be read or unlocked; it names the file.
pub fn certificate_facts(
    client: &ClientCertificate,
    secret: Option<&Secret>,
) -> Result<CertificateFacts, Failure> {
    let file = client.file();
    let bytes = read(file)?;
    let chain = match client {
        ClientCertificate::Pem { .. } => pem_chain(&bytes, file)?,
        ClientCertificate::Pkcs12 { .. } => pkcs12(&bytes, password(secret), file)?.chain,
    };
    facts(&chain, file)
}

/// The facts of every certificate in a PEM file, in its order.
///
/// # Errors
/// A [`Failure`] of stage `Setup` when it cannot be read or holds none.
pub fn certificates_in(file: &Path) -> Result<Vec<CertificateFacts>, Failure> {
    let chain = super::tls::read_certificates(file)?;
    Ok(chain.iter().filter_map(|der| facts_of(der)).collect())
}

/// Reads the chain and the key; the secret is the PEM key or the PKCS#12 file's password.
///
/// # Errors
/// As [`certificate_facts`]; also when there is no key, or one that cannot be used.
pub fn keys(client: &ClientCertificate, secret: Option<&Secret>) -> Result<Keys, Failure> {
    let file = client.file();
    let bytes = read(file)?;
    match client {
        ClientCertificate::Pem { .. } => {
            Ok(Keys { chain: pem_chain(&bytes, file)?, key: pem_key(password(secret))? })
        }
        ClientCertificate::Pkcs12 { .. } => pkcs12(&bytes, password(secret), file),
    }
}

/// The facts of the first certificate of a chain that was read from a file.
///
/// # Errors
/// When it is no X.509 certificate.
pub fn facts(chain: &[CertificateDer<'_>], file: &Path) -> Result<CertificateFacts, Failure> {
    chain.first().and_then(|der| facts_of(der)).ok_or_else(|| {
        unusable(format!("the client certificate {} is no X.509 certificate", file.display()))
    })
}

/// The facts of a certificate, DER.
#[must_use]
pub fn facts_of(der: &[u8]) -> Option<CertificateFacts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(CertificateFacts {
        subject: text::one_line(&certificate.subject().to_string()),
        not_after: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?,
        spki_pin: format!("sha256/{}", spki_pin(der)?),
    })
}

fn password(secret: Option<&Secret>) -> &str {
    secret.map_or("", |secret| secret.expose())
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |reason: String| {
        unusable(format!("the client certificate {} cannot be read: {reason}", file.display()))
            .hint("Check the path; a relative one is relative to the inventory.")
    };
    let metadata = std::fs::metadata(file).map_err(|error| cannot(io_reason(&error)))?;
    if metadata.len() > MAX_BYTES {
        return Err(cannot("it is larger than 1 MiB".to_owned()));
    }
    std::fs::read(file).map_err(|error| cannot(io_reason(&error)))
}

fn pem_chain(bytes: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let shown = file.display();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        // An ASN.1 sequence: what PKCS#12 and DER files begin with.
        _ if bytes.first() == Some(&0x30) => {
            Err(unusable(format!("the client certificate {shown} is not PEM")).hint(
                "For a .p12 or .pfx file write tls.client_certificate: {pkcs12: FILE, password: REFERENCE}.",
            ))
        }
        _ => Err(unusable(format!("there is no PEM certificate in {shown}"))),
    }
}

/// The first private key of a PEM text; certificates beside it are skipped.
fn pem_key(pem: &str) -> Result<PrivateKeyDer<'static>, Failure> {
    let error = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    let has = |label: &str| pem.contains(&format!("-----BEGIN {label}-----"));
    let encrypted = has("ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED");
    Err(if encrypted {
        unusable("the client certificate's key is encrypted with a passphrase").hint(
            "Keep it in a PKCS#12 file (openssl pkcs12 -export), or decrypt it into the keyring.",
        )
    } else if has("PUBLIC KEY") {
        unusable("the client certificate's key is a public key; the private one is needed")
    } else if has("OPENSSH PRIVATE KEY") {
        unusable("the client certificate's key is in the form of OpenSSH")
            .hint("Turn it into PEM: ssh-keygen -p -m PKCS8 -f FILE")
    } else if matches!(error, pem::Error::NoItemsFound) && has("CERTIFICATE") {
        unusable("there is a certificate and no private key where the client certificate's key should be")
            .hint("Point tls.client_certificate.key at the file that holds the private key.")
    } else {
        unusable("the client certificate's key is not a PEM private key")
            .hint("It begins with -----BEGIN PRIVATE KEY-----, or names RSA or EC before PRIVATE.")
    })
}

fn pkcs12(bytes: &[u8], password: &str, file: &Path) -> Result<Keys, Failure> {
    use p12_keystore::error::Error as P12Error;
    let shown = file.display();
    if bytes.starts_with(b"-----BEGIN") {
        return Err(unusable(format!("{shown} is PEM and not PKCS#12"))
            .hint("Write it as tls.client_certificate: {certificate: FILE, key: REFERENCE}."));
    }
    let archive = Pkcs12Archive::from_pkcs12(bytes, password).map_err(|error| match error {
        P12Error::MacError(_) if password.is_empty() => {
            unusable(format!("the PKCS#12 file {shown} wants a password"))
                .hint("Name it as tls.client_certificate.password, as a reference.")
        }
        P12Error::MacError(_) | P12Error::UnpadError | P12Error::Pkcs5Error(_) => {
            unusable(format!("the password of the PKCS#12 file {shown} is wrong"))
                .hint("Correct the secret that tls.client_certificate.password refers to.")
        }
        P12Error::UnsupportedEncryptionScheme | P12Error::UnsupportedMacAlgorithm => unusable(
            format!("the PKCS#12 file {shown} is encrypted in a way that is not known"),
        )
        .hint("Write it anew: openssl pkcs12 -in OLD -nodes | openssl pkcs12 -export -out NEW"),
        _ => unusable(format!("{shown} is not a PKCS#12 file, or is damaged")),
    })?;
    let Some(key) = archive.keys.first() else {
        return Err(unusable(format!("there is no private key in the PKCS#12 file {shown}"))
            .hint("It was exported with its certificates only; export it with its key."));
    };
    let id = key.local_key_id.as_ref().map(|id| id.0.as_slice());
    // Without ids the one that issued none of the others is the end of the chain.
    let of_key =
        archive.certs.iter().find(|bag| id.is_some() && bag.local_key_id.as_deref() == id).or_else(
            || {
                archive.certs.iter().find(|bag| {
                    let issued = |other: &p12_keystore::CertificateBag| {
                        other.cert.as_der() != bag.cert.as_der()
                            && other.cert.issuer() == bag.cert.subject()
                    };
                    !archive.certs.iter().any(issued)
                })
            },
        );
    let Some(own) = of_key else {
        return Err(unusable(format!("there is no certificate in the PKCS#12 file {shown}")));
    };
    let mut chain = vec![&own.cert];
    while let Some(issuer) = chain.last().and_then(|last| {
        archive.certs.iter().map(|bag| &bag.cert).find(|cert| cert.subject() == last.issuer())
    }) {
        // A root is known to whoever trusts it; a ring would never end.
        if issuer.subject() == issuer.issuer() || chain.contains(&issuer) {
            break;
        }
        chain.push(issuer);
    }
    Ok(Keys {
        chain: chain.into_iter().map(|cert| CertificateDer::from(cert.as_der().to_vec())).collect(),
        key: PrivatePkcs8KeyDer::from(key.key.as_der().to_vec()).into(),
    })
}

/// Names what TLS has against a chain and its key.
pub fn refused(error: &rustls::Error, file: &Path) -> Failure {
    let shown = file.display();
    match error {
        rustls::Error::InconsistentKeys(_) => {
            unusable(format!("the client certificate {shown} and its key do not belong together"))
                .hint(
                    "Compare their public keys: openssl x509 -pubkey -noout, openssl pkey -pubout",
                )
        }
        rustls::Error::InvalidCertificate(_) => {
            unusable(format!("the client certificate {shown} is damaged"))
        }
        // The library speaks of the key alone here, in its own words.
        _ => unusable(format!(
            "the key of the client certificate {shown} is of no kind that TLS knows"
        ))
        .hint("RSA, ECDSA (P-256, P-384, P-521) and Ed25519 keys can be used."),
    }
}

fn unusable(message: impl Into<String>) -> Failure {
    Failure::new(Stage::Setup, Code::new("tls.client_certificate_rejected"), message)
}

#[cfg(test)]
mod tests;
