//! Headers of the server's own making, with secret values.

use super::{header_name, header_value};
use crate::http::{Credential, Failure};
use crate::model::Secret;

pub(super) fn add(proof: &mut Credential, name: &str, value: &Secret) -> Result<(), Failure> {
    proof.headers.push((header_name(name)?, header_value(name, value.expose(), true)?));
    Ok(())
}
