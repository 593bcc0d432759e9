//! User name and password (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::{header_value, unusable};
use crate::http::{Credential, Failure};
use crate::model::Secret;

pub(super) fn add(
    proof: &mut Credential,
    username: &str,
    password: &Secret,
) -> Result<(), Failure> {
    if username.contains(':') {
        return Err(unusable("a user name for Basic sign-in cannot hold a colon"));
    }
    let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    proof.headers.push((AUTHORIZATION, header_value("Authorization", &value, true)?));
    Ok(())
}
