//! The key pairs of one sandbox's client, and the checking of what they signed.

use anyhow::Context as _;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::model::{Result, Secret};

/// A pair whose private half goes to the client.
pub(super) struct Pair {
    pub(super) id: &'static str,
    /// PKCS#8 PEM.
    pub(super) private: Secret,
    public: Vec<u8>,
    jwk: Value,
    rsa: bool,
}

impl Pair {
    pub(super) fn rsa(id: &'static str) -> Result<Pair> {
        let made = RsaKeyPair::generate(KeySize::Rsa2048).context("cannot make a key")?;
        let public = made.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({
            "kty": "RSA", "kid": id, "use": "sig", "alg": "RS384",
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        });
        let der = made.as_der().context("cannot make a key")?;
        Ok(Pair {
            id,
            private: pem(der.as_ref()),
            public: public.as_ref().to_vec(),
            jwk,
            rsa: true,
        })
    }

    pub(super) fn ec(id: &'static str) -> Result<Pair> {
        let made = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)
            .context("cannot make a key")?;
        let point = made.public_key().as_ref().to_vec();
        let half =
            |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 48).unwrap_or_default());
        let jwk = json!({
            "kty": "EC", "kid": id, "use": "sig", "alg": "ES384", "crv": "P-384",
            "x": half(1), "y": half(49),
        });
        let der = made.to_pkcs8v1().context("cannot make a key")?;
        Ok(Pair { id, private: pem(der.as_ref()), public: point, jwk, rsa: false })
    }

    pub(super) fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// Whether the key may sign with this algorithm, and did.
    fn verifies(&self, algorithm: &str, signed: &str, signature: &[u8]) -> bool {
        let how: &'static dyn VerificationAlgorithm = match (self.rsa, algorithm) {
            (true, "RS384") => &RSA_PKCS1_2048_8192_SHA384,
            (true, "RS256") => &RSA_PKCS1_2048_8192_SHA256,
            (false, "ES384") => &ECDSA_P384_SHA384_FIXED,
            _ => return false,
        };
        UnparsedPublicKey::new(how, &self.public).verify(signed.as_bytes(), signature).is_ok()
    }
}

fn pem(der: &[u8]) -> Secret {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = (0..body.len())
        .step_by(64)
        .filter_map(|start| body.get(start..body.len().min(start + 64)))
        .collect();
    Secret::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    ))
}

/// What an assertion says, once its signature is right.
pub(super) struct Claims {
    pub(super) header: Value,
    pub(super) claims: Value,
}

/// Reads a signed token.
///
/// # Errors
/// In words, for the client.
pub(super) fn read(token: &str, keys: &[Pair], allowed: &[&str]) -> Result<Claims, String> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("the assertion is no JWT".into());
    };
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (Some(head), Some(body)) = (json(header), json(claims)) else {
        return Err("the assertion is no JWT".into());
    };
    let algorithm = head["alg"].as_str().unwrap_or("none").to_owned();
    if !allowed.contains(&algorithm.as_str()) {
        return Err(format!("algorithm {algorithm} is not allowed; use {}", allowed.join(" or ")));
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| "the assertion's signature is not base64url".to_owned())?;
    let signed = format!("{header}.{claims}");
    let named = head["kid"].as_str();
    let key = match named {
        Some(id) => keys
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(|| format!("kid {id} is not registered"))?,
        // Microsoft names the certificate instead.
        None if head.get("x5t#S256").is_some() => {
            keys.first().ok_or_else(|| "no key is registered".to_owned())?
        }
        None => return Err("the assertion's header has no kid".into()),
    };
    if !key.verifies(&algorithm, &signed, &bytes) {
        return Err("the assertion's signature does not fit the registered key".into());
    }
    Ok(Claims { header: head, claims: body })
}
