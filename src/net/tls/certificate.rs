//! What stands in a certificate, and whether a chain of them holds together.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use crate::model::text;

/// Most names of a certificate that are kept.
const NAMES: usize = 200;

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// The DNS names and addresses that it is for.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Such as `RSA` or `EC`.
    pub key: String,
    /// The length of the key.
    pub bits: u32,
    /// How it is signed, such as `sha256WithRSAEncryption`.
    pub signature: String,
    /// Where the issuer's own certificate can be had. RFC 5280 §4.2.2.1.
    pub issuer_at: Option<String>,
    /// Where its state is asked for.
    pub ocsp: Option<String>,
    /// It may issue others.
    pub authority: bool,
    /// It names itself as its issuer.
    pub self_issued: bool,
    /// SHA-256 of the DER, hexadecimal.
    pub sha256: String,
}

impl Certificate {
    /// Reads one, DER; `None` when it is no X.509 certificate.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let (key, bits) = key(&parsed);
        let (issuer_at, ocsp) = access(&parsed);
        let instant = |seconds: i64| Timestamp::from_second(seconds).ok();
        Some(Certificate {
            subject: shown(parsed.subject()),
            issuer: shown(parsed.issuer()),
            names: names(&parsed),
            not_before: instant(parsed.validity().not_before.timestamp())?,
            not_after: instant(parsed.validity().not_after.timestamp())?,
            key,
            bits,
            signature: signature(&parsed.signature_algorithm.algorithm.to_id_string()),
            issuer_at,
            ocsp,
            authority: parsed.is_ca(),
            self_issued: parsed.subject() == parsed.issuer(),
            sha256: Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Whether the way it is signed can be forged.
    #[must_use]
    pub fn weak_signature(&self) -> Option<&'static str> {
        let signature = self.signature.to_ascii_lowercase();
        ["md2", "md5", "sha1"].into_iter().find(|weak| signature.contains(weak))
    }

    /// How long an RSA key would have to be to be as strong, in bits.
    #[must_use]
    pub fn strength(&self) -> u32 {
        match (self.key.as_str(), self.bits) {
            ("RSA" | "DSA", bits) => bits,
            (_, 512..) => 15360,
            (_, 384..) => 7680,
            (_, 255..) => 3072,
            (_, 224..) => 2048,
            (_, 160..) => 1024,
            _ => 512,
        }
    }
}

/// A name of an authority, DER, as people read it.
#[must_use]
pub fn authority_name(der: &[u8]) -> Option<String> {
    X509Name::from_der(der).ok().map(|(_, name)| shown(&name))
}

/// Whether each certificate of a chain issued the one before it.
#[must_use]
pub fn in_order(chain: &[Certificate]) -> bool {
    chain.iter().zip(chain.iter().skip(1)).all(|(one, next)| one.issuer == next.subject)
}

/// The last certificate that the own one leads to within the chain, in whatever order.
#[must_use]
pub fn end_of(chain: &[Certificate]) -> Option<&Certificate> {
    let mut end = chain.first()?;
    for _ in chain {
        let issuer = |other: &&Certificate| other.subject == end.issuer;
        match chain.iter().find(issuer).filter(|_| !end.self_issued) {
            Some(next) => end = next,
            None => break,
        }
    }
    Some(end)
}

fn shown(name: &X509Name<'_>) -> String {
    text::bounded(&text::one_line(&name.to_string()), 300)
}

fn key(parsed: &X509Certificate<'_>) -> (String, u32) {
    let info = parsed.public_key();
    let size = |bits: usize| u32::try_from(bits).unwrap_or(u32::MAX);
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => ("RSA".to_owned(), size(key.key_size())),
        Ok(PublicKey::EC(point)) => ("EC".to_owned(), size(point.key_size())),
        Ok(PublicKey::DSA(key)) => {
            let zeros = key.iter().position(|&byte| byte != 0).unwrap_or(key.len());
            ("DSA".to_owned(), size((key.len() - zeros) * 8))
        }
        _ => match info.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" => ("Ed25519".to_owned(), 256),
            "1.3.101.113" => ("Ed448".to_owned(), 456),
            other => (other.to_owned(), size(info.subject_public_key.data.len() * 8)),
        },
    }
}

fn names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(text::bounded(&text::one_line(name), 255)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).take(NAMES).collect()
}

/// Where the issuer's certificate and the state can be had.
fn access(parsed: &X509Certificate<'_>) -> (Option<String>, Option<String>) {
    let (mut issuer, mut ocsp) = (None, None);
    for extension in parsed.extensions() {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else {
            continue;
        };
        for description in &access.accessdescs {
            let GeneralName::URI(url) = &description.access_location else { continue };
            let url = text::bounded(&text::one_line(url), 300);
            match description.access_method.to_id_string().as_str() {
                "1.3.6.1.5.5.7.48.2" => drop(issuer.get_or_insert(url)),
                "1.3.6.1.5.5.7.48.1" => drop(ocsp.get_or_insert(url)),
                _ => {}
            }
        }
    }
    (issuer, ocsp)
}

fn signature(oid: &str) -> String {
    let name = match oid {
        "1.2.840.113549.1.1.2" => "md2WithRSAEncryption",
        "1.2.840.113549.1.1.4" => "md5WithRSAEncryption",
        "1.2.840.113549.1.1.5" => "sha1WithRSAEncryption",
        "1.2.840.113549.1.1.10" => "rsassaPss",
        "1.2.840.113549.1.1.11" => "sha256WithRSAEncryption",
        "1.2.840.113549.1.1.12" => "sha384WithRSAEncryption",
        "1.2.840.113549.1.1.13" => "sha512WithRSAEncryption",
        "1.2.840.113549.1.1.14" => "sha224WithRSAEncryption",
        "1.2.840.10040.4.3" => "dsa-with-sha1",
        "2.16.840.1.101.3.4.3.2" => "dsa-with-sha256",
        "1.2.840.10045.4.1" => "ecdsa-with-SHA1",
        "1.2.840.10045.4.3.1" => "ecdsa-with-SHA224",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.3.101.112" => "ed25519",
        "1.3.101.113" => "ed448",
        other => other,
    };
    name.to_owned()
}
