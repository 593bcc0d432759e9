//! A bearer token that somebody else obtained (RFC 6750 §2.1).

use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::header_value;
use crate::http::{Credential, Failure};
use crate::model::Secret;

pub(super) fn add(proof: &mut Credential, token: &Secret) -> Result<(), Failure> {
    let value = Zeroizing::new(format!("Bearer {}", token.expose()));
    proof.headers.push((AUTHORIZATION, header_value("Authorization", &value, true)?));
    Ok(())
}
