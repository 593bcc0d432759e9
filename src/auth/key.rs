//! Private keys that sign assertions: PEM or JWK in, signatures and public JWKs out.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::model::Secret;
use crate::model::server::Algorithm;

/// Least bits of an RSA key (RFC 7518 §3.3).
const RSA_BITS: usize = 2048;

/// A private key that can sign.
pub struct SigningKey {
    pair: Pair,
    /// As its JWK says.
    key_id: Option<String>,
    is_jwk: bool,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
}

/// How an assertion is signed (RFC 7518 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    Ps256,
    Rs256,
    Rs384,
    Es384,
}

impl Signature {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Signature::Ps256 => "PS256",
            Signature::Rs256 => "RS256",
            Signature::Rs384 => "RS384",
            Signature::Es384 => "ES384",
        }
    }
}

/// Why a text is no key that can sign. Never repeats any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the key is neither PEM nor a JWK")]
    Unknown,
    #[error("the PEM holds a certificate and no private key")]
    Certificate,
    #[error("the PEM holds a public key; the private one is needed to sign")]
    PublicPem,
    #[error(
        "the PEM's private key is encrypted; store it without a passphrase in a keyring or an age file"
    )]
    Encrypted,
    #[error("the PEM is damaged: {0}")]
    DamagedPem(&'static str),
    #[error(
        "the key is of a kind that cannot sign here: {0}; an RSA key of 2048 bits or more, or an EC key on P-384, is needed"
    )]
    WrongKind(String),
    #[error("the RSA key has {0} bits; 2048 is the least")]
    Short(usize),
    #[error("the JWK is not what it says: {0}")]
    BadJwk(&'static str),
    #[error("the JWK holds a public key; the private one (with member d) is needed to sign")]
    PublicJwk,
    #[error("the key set holds {0} keys; keep one, or name it with auth.key_id")]
    Several(usize),
    #[error("a {has} key cannot sign with {wanted}")]
    WrongAlgorithm { has: &'static str, wanted: &'static str },
    #[error("the signature could not be made")]
    Failed,
}

impl SigningKey {
    /// Reads PEM (PKCS#8, PKCS#1, SEC 1) or a JWK or a set of one (RFC 7517). With a key id, that
    /// one of a set.
    ///
    /// # Errors
    /// What is wrong with the text, without repeating it.
    pub fn parse(text: &Secret, key_id: Option<&str>) -> Result<SigningKey, KeyError> {
        let text = text.expose().trim();
        if text.starts_with('{') {
            return jwk(text, key_id);
        }
        if text.contains("-----BEGIN ") { pem(text) } else { Err(KeyError::Unknown) }
    }

    /// Makes a new key; gives it with its PKCS#8 PEM.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<(SigningKey, Secret), KeyError> {
        let (pair, der) = match algorithm {
            Algorithm::RS384 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(|_| KeyError::Failed)?;
                let der = pair.as_der().map_err(|_| KeyError::Failed)?.as_ref().to_vec();
                (Pair::Rsa(Box::new(pair)), Zeroizing::new(der))
            }
            Algorithm::ES384 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)
                    .map_err(|_| KeyError::Failed)?;
                let der = pair.to_pkcs8v1().map_err(|_| KeyError::Failed)?.as_ref().to_vec();
                (Pair::Ec(pair), Zeroizing::new(der))
            }
        };
        let body = Zeroizing::new(STANDARD.encode(der.as_slice()));
        let mut text = String::with_capacity(body.len() + body.len() / 64 + 64);
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        for line in body.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END PRIVATE KEY-----");
        Ok((SigningKey { pair, key_id: None, is_jwk: false }, Secret::new(text)))
    }

    /// What it signs with, for SMART (RS384 or ES384).
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::RS384,
            Pair::Ec(_) => Algorithm::ES384,
        }
    }

    /// The JWK's own id, when there is one.
    #[must_use]
    pub fn own_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    #[must_use]
    pub fn is_jwk(&self) -> bool {
        self.is_jwk
    }

    /// The JWK's own id, else the key's thumbprint.
    #[must_use]
    pub fn id(&self) -> String {
        self.key_id.clone().unwrap_or_else(|| self.thumbprint())
    }

    /// SHA-256 over the public members (RFC 7638).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        // Members in the order of the alphabet, without spaces.
        let canonical = match self.public_members() {
            Public::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
            Public::Ec { x, y } => {
                format!(r#"{{"crv":"P-384","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
        };
        URL_SAFE_NO_PAD.encode(Sha256::digest(canonical.as_bytes()))
    }

    /// The public half as a JWK for a published set.
    #[must_use]
    pub fn public_jwk(&self, key_id: &str) -> Value {
        let alg = self.algorithm().as_str();
        match self.public_members() {
            Public::Rsa { n, e } => json!({
                "kty": "RSA", "kid": key_id, "use": "sig", "key_ops": ["verify"], "alg": alg,
                "n": n, "e": e,
            }),
            Public::Ec { x, y } => json!({
                "kty": "EC", "kid": key_id, "use": "sig", "key_ops": ["verify"], "alg": alg,
                "crv": "P-384", "x": x, "y": y,
            }),
        }
    }

    /// A signed token in the compact form (RFC 7515 §3.1); `alg` and `typ` are added to the header.
    ///
    /// # Errors
    /// When the key is not of the algorithm's kind.
    pub fn sign(
        &self,
        signature: Signature,
        header: Map<String, Value>,
        claims: &Value,
    ) -> Result<Secret, KeyError> {
        let mut whole = Map::new();
        whole.insert("alg".into(), signature.as_str().into());
        whole.insert("typ".into(), "JWT".into());
        whole.extend(header);
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(Value::Object(whole).to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let random = SystemRandom::new();
        let bytes = match (&self.pair, signature) {
            (Pair::Rsa(pair), Signature::Ps256 | Signature::Rs256 | Signature::Rs384) => {
                let padding: &'static dyn RsaEncoding = match signature {
                    Signature::Ps256 => &RSA_PSS_SHA256,
                    Signature::Rs256 => &RSA_PKCS1_SHA256,
                    _ => &RSA_PKCS1_SHA384,
                };
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, signed.as_bytes(), &mut bytes)
                    .map_err(|_| KeyError::Failed)?;
                bytes
            }
            (Pair::Ec(pair), Signature::Es384) => {
                let made = pair.sign(&random, signed.as_bytes()).map_err(|_| KeyError::Failed)?;
                made.as_ref().to_vec()
            }
            (pair, wanted) => {
                let has = match pair {
                    Pair::Rsa(_) => "RSA",
                    Pair::Ec(_) => "P-384",
                };
                return Err(KeyError::WrongAlgorithm { has, wanted: wanted.as_str() });
            }
        };
        Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    fn public_members(&self) -> Public {
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let text = |number: aws_lc_rs::io::Positive<'_>| {
                    URL_SAFE_NO_PAD.encode(number.big_endian_without_leading_zero())
                };
                Public::Rsa { n: text(public.modulus()), e: text(public.exponent()) }
            }
            Pair::Ec(pair) => {
                // 0x04, then two coordinates of 48 bytes each.
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at(48.min(point.len()));
                Public::Ec { x: URL_SAFE_NO_PAD.encode(x), y: URL_SAFE_NO_PAD.encode(y) }
            }
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({}, (redacted))", self.algorithm().as_str())
    }
}

enum Public {
    Rsa { n: String, e: String },
    Ec { x: String, y: String },
}

fn pem(text: &str) -> Result<SigningKey, KeyError> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    if !text.contains("PRIVATE KEY-----") {
        return Err(if text.contains("PUBLIC KEY-----") {
            KeyError::PublicPem
        } else if text.contains("BEGIN CERTIFICATE") {
            KeyError::Certificate
        } else if text.contains("OPENSSH") {
            KeyError::WrongKind("an OpenSSH key".into())
        } else {
            KeyError::DamagedPem("it has no private key")
        });
    }
    if text.contains("BEGIN OPENSSH PRIVATE KEY") {
        return Err(KeyError::WrongKind("an OpenSSH key".into()));
    }
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| KeyError::DamagedPem("its lines are cut or changed"))?;
    let pair = match &der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der())
            .map(|pair| Pair::Rsa(Box::new(pair)))
            .map_err(|_| KeyError::DamagedPem("no RSA key that can be used"))?,
        PrivateKeyDer::Sec1(der) => ec(der.secret_sec1_der())?,
        PrivateKeyDer::Pkcs8(der) => match RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()) {
            Ok(pair) => Pair::Rsa(Box::new(pair)),
            Err(_) => ec(der.secret_pkcs8_der())?,
        },
        _ => return Err(KeyError::WrongKind("an unknown form".into())),
    };
    checked(pair, None, false)
}

/// An EC key; names the curve of one that is of no use here.
fn ec(der: &[u8]) -> Result<Pair, KeyError> {
    if let Ok(pair) = EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der) {
        return Ok(Pair::Ec(pair));
    }
    for (curve, algorithm) in [
        ("an EC key on P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        ("an EC key on P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
    ] {
        if EcdsaKeyPair::from_private_key_der(algorithm, der).is_ok() {
            return Err(KeyError::WrongKind(curve.into()));
        }
    }
    Err(KeyError::WrongKind("neither RSA nor EC, or damaged".into()))
}

fn checked(pair: Pair, key_id: Option<String>, is_jwk: bool) -> Result<SigningKey, KeyError> {
    if let Pair::Rsa(pair) = &pair {
        let bits = pair.public_modulus_len() * 8;
        if bits < RSA_BITS {
            return Err(KeyError::Short(bits));
        }
    }
    Ok(SigningKey { pair, key_id, is_jwk })
}

fn jwk(text: &str, key_id: Option<&str>) -> Result<SigningKey, KeyError> {
    let document: Value =
        serde_json::from_str(text).map_err(|_| KeyError::BadJwk("it is not JSON"))?;
    if let Some(keys) = document.get("keys").and_then(Value::as_array) {
        let wanted: Vec<&Value> = keys
            .iter()
            .filter(|key| key_id.is_none() || key.get("kid").and_then(Value::as_str) == key_id)
            .collect();
        return match wanted.as_slice() {
            [one] => private(one),
            [] => Err(KeyError::BadJwk("the key set does not hold the key of auth.key_id")),
            several => Err(KeyError::Several(several.len())),
        };
    }
    private(&document)
}

fn private(jwk: &Value) -> Result<SigningKey, KeyError> {
    let member = |name: &'static str| -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let text = jwk.get(name).and_then(Value::as_str).ok_or(KeyError::BadJwk(
            "a member is missing (RSA: n e d p q dp dq qi; EC: crv x y d)",
        ))?;
        URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map(Zeroizing::new)
            .map_err(|_| KeyError::BadJwk("a member is not base64url"))
    };
    let kind = jwk.get("kty").and_then(Value::as_str);
    if matches!(kind, Some("RSA" | "EC")) && jwk.get("d").is_none() {
        return Err(KeyError::PublicJwk);
    }
    let pair = match kind {
        Some("RSA") => {
            let components = KeyPairComponents {
                public_key: PublicKeyComponents { n: member("n")?, e: member("e")? },
                d: member("d")?,
                p: member("p")?,
                q: member("q")?,
                dP: member("dp")?,
                dQ: member("dq")?,
                qInv: member("qi")?,
            };
            let pair = RsaKeyPair::from_components(&components)
                .map_err(|_| KeyError::BadJwk("its numbers make no RSA key"))?;
            Pair::Rsa(Box::new(pair))
        }
        Some("EC") => {
            match jwk.get("crv").and_then(Value::as_str) {
                Some("P-384") => {}
                other => {
                    let curve = crate::model::text::bounded(other.unwrap_or("no curve"), 20);
                    return Err(KeyError::WrongKind(format!("an EC key on {curve}")));
                }
            }
            let mut point = vec![4];
            point.extend_from_slice(&member("x")?);
            point.extend_from_slice(&member("y")?);
            let pair = EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P384_SHA384_FIXED_SIGNING,
                &member("d")?,
                &point,
            )
            .map_err(|_| KeyError::BadJwk("its numbers make no EC key"))?;
            Pair::Ec(pair)
        }
        Some(other) => {
            let kind = crate::model::text::bounded(other, 20);
            return Err(KeyError::WrongKind(format!("a JWK of kind {kind}")));
        }
        None => return Err(KeyError::BadJwk("it has no kty")),
    };
    checked(pair, jwk.get("kid").and_then(Value::as_str).map(str::to_owned), true)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA384, RsaPublicKeyComponents,
        UnparsedPublicKey,
    };

    use super::*;

    fn bytes(jwk: &Value, member: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap()
    }

    /// Whether the public JWK verifies what the key signed.
    fn verifies(jwk: &Value, token: &str) -> bool {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        if jwk["kty"] == "RSA" {
            RsaPublicKeyComponents { n: bytes(jwk, "n"), e: bytes(jwk, "e") }
                .verify(&RSA_PKCS1_2048_8192_SHA384, signed.as_bytes(), &signature)
                .is_ok()
        } else {
            let point = [vec![4], bytes(jwk, "x"), bytes(jwk, "y")].concat();
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                .verify(signed.as_bytes(), &signature)
                .is_ok()
        }
    }

    #[test]
    fn a_made_key_comes_back_from_its_pem_and_its_public_half_verifies() {
        for (algorithm, signature) in
            [(Algorithm::RS384, Signature::Rs384), (Algorithm::ES384, Signature::Es384)]
        {
            let (made, pem) = SigningKey::generate(algorithm).unwrap();
            let read = SigningKey::parse(&pem, None).unwrap();
            assert_eq!(read.algorithm(), algorithm);
            assert_eq!(read.thumbprint(), made.thumbprint());
            let jwk = read.public_jwk("k1");
            assert!(jwk.get("d").is_none());
            let token = read.sign(signature, Map::new(), &json!({"iss": "c"})).unwrap();
            assert!(verifies(&jwk, token.expose()), "{algorithm:?}");
            assert!(!verifies(&jwk, &token.expose().replacen("ey", "fy", 1)));
            let other = match signature {
                Signature::Es384 => Signature::Rs384,
                _ => Signature::Es384,
            };
            assert!(matches!(
                read.sign(other, Map::new(), &json!({})),
                Err(KeyError::WrongAlgorithm { .. })
            ));
        }
    }

    /// RFC 7638 §3.1.
    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        let canonical = concat!(
            r#"{"e":"AQAB","kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbf"#,
            "AAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            r#""}"#
        );
        assert_eq!(
            URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn what_is_no_signing_key_is_told_apart_and_never_repeated() {
        let (_, pem) = SigningKey::generate(Algorithm::ES384).unwrap();
        let cut = pem.expose().replace('M', "!");
        for (text, expected) in [
            ("hunter2", KeyError::Unknown),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", KeyError::PublicPem),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", KeyError::Certificate),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
                KeyError::Encrypted,
            ),
            (&cut, KeyError::DamagedPem("its lines are cut or changed")),
            ("{", KeyError::BadJwk("it is not JSON")),
            (r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#, KeyError::PublicJwk),
            (
                r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}"#,
                KeyError::WrongKind("an EC key on P-256".into()),
            ),
            (r#"{"kty":"oct","k":"hunter2"}"#, KeyError::WrongKind("a JWK of kind oct".into())),
            (
                r#"{"keys":[]}"#,
                KeyError::BadJwk("the key set does not hold the key of auth.key_id"),
            ),
        ] {
            let error = SigningKey::parse(&Secret::new(text.into()), None).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
