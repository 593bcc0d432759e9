//! Tokens on disk, readable only by who has the secret that they were sealed with.
//!
//! HKDF-SHA-256 (RFC 5869) makes the key, AES-256-GCM seals.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::model::Secret;

/// What stands before the sealed bytes; another form later gets another number.
const FORM: &[u8] = b"fhirctl sealed 1\n";

/// Seals and opens with a key made of a secret.
pub(super) struct Seal(LessSafeKey);

impl Seal {
    /// `salt` is the state folder's own; `None` when the key cannot be made.
    pub(super) fn new(secret: &Secret, salt: &[u8]) -> Option<Seal> {
        let root = Salt::new(HKDF_SHA256, salt).extract(secret.expose().as_bytes());
        let made = root.expand(&[b"fhirctl token cache"], &AES_256_GCM).ok()?;
        Some(Seal(LessSafeKey::new(UnboundKey::from(made))))
    }

    /// `name` is bound to the bytes: they open under no other.
    pub(super) fn close(&self, name: &str, open: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = Zeroizing::new(open.to_vec());
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut sealed,
            )
            .ok()?;
        Some([FORM, nonce.as_slice(), sealed.as_slice(), tag.as_ref()].concat())
    }

    /// `None` when the bytes were sealed with another secret, under another name, or changed.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let rest = sealed.strip_prefix(FORM)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let length =
            self.0.open_in_place(nonce, Aad::from(name.as_bytes()), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

/// A name for something secret that tells nothing of it: 128 bits of HMAC-SHA-256 under the state
/// folder's salt, hexadecimal.
pub(super) fn fingerprint(salt: &[u8], parts: &[&str]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.sign().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fresh random bytes; `None` when the machine gives none.
pub(super) fn random() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secret: &str) -> Seal {
        Seal::new(&Secret::new(secret.into()), b"salt").unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_secret_and_name_only() {
        let sealed = seal("hunter2").close("a", b"token").unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"token"));
        assert_eq!(seal("hunter2").open("a", &sealed).unwrap().as_slice(), b"token");
        assert!(seal("hunter3").open("a", &sealed).is_none());
        assert!(seal("hunter2").open("b", &sealed).is_none());
        for cut in [0, 10, FORM.len() + 4, sealed.len() - 1] {
            assert!(seal("hunter2").open("a", &sealed[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(fingerprint(b"s", &["ab", "c"]), fingerprint(b"s", &["a", "bc"]));
        assert_ne!(fingerprint(b"s", &["a"]), fingerprint(b"t", &["a"]));
        assert_eq!(fingerprint(b"s", &["a"]).len(), 32);
    }
}
