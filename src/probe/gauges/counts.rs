//! How many resources of a type a server holds: the number alone, never a resource.

use crate::fhir::bundle::BundleFacts;
use crate::model::{Code, limits};
use crate::probe::session::{Session, answered};

/// Asks for `TYPE?_summary=count`.
///
/// # Errors
/// Why there is no number, in our own words.
pub(super) async fn count(session: &mut Session<'_>, kind: &str) -> Result<f64, String> {
    let url = session.url(&format!("{kind}?_summary=count")).map_err(|problem| problem.message)?;
    let exchange = session
        .get_signed(url, limits::SMALL_BODY_BYTES)
        .await
        .map_err(|failure| failure.message)?;
    let document =
        answered(&exchange, session.has_proof(), Code::new("fhir.search_failed"), "a Bundle");
    let document = document.map_err(|problem| problem.message)?;
    let facts = BundleFacts::parse(document, &exchange.body)
        .map_err(|_| "the answer is no Bundle that could be read".to_owned())?;
    match facts.total {
        Some(total) if !facts.has_error() => Ok(total as f64),
        _ => Err("the answer holds no total".to_owned()),
    }
}
