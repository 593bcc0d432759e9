//! An API key in a header or in the query.

use super::{header_name, header_value};
use crate::http::{Credential, Failure};
use crate::model::Secret;
use crate::model::server::ApiKeyPlace;

pub(super) fn add(
    proof: &mut Credential,
    place: &ApiKeyPlace,
    value: Secret,
) -> Result<(), Failure> {
    match place {
        ApiKeyPlace::Header(name) => {
            proof.headers.push((header_name(name)?, header_value(name, value.expose(), true)?));
        }
        ApiKeyPlace::Query(name) => proof.query = Some((name.clone(), value)),
    }
    Ok(())
}
