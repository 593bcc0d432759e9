//! `read`: a canary, a synthetic record that has to be there.

use crate::fhir::body::BodyKind;
use crate::fhir::bundle::BundleFacts;
use crate::fhir::resource;
use crate::http::Exchange;
use crate::model::server::{ReadCheck, ReadTarget};
use crate::model::{Code, limits};
use crate::probe::session::{Session, answered};
use crate::probe::verdict::{Draft, Problem};

/// Reads the canary. The reference itself is never told: it may come from a secret store.
pub(in crate::probe) async fn run(session: &mut Session<'_>, check: &ReadCheck) -> Draft {
    let reference = match &check.target {
        ReadTarget::Reference(reference) => reference.clone(),
        ReadTarget::Secret(secret) => {
            let credentials = session.surroundings.credentials.serving(&session.server.name);
            match credentials.resolve(secret).await {
                Ok(value) => value.expose().trim().to_owned(),
                Err(error) => {
                    let missing = Problem::new(Code::new("auth.credential_missing"), error.message)
                        .hint(error.hint);
                    return Draft::default().with(missing);
                }
            }
        }
    };
    let url = match session.url(&reference) {
        Ok(url) => url,
        Err(problem) => return Draft::default().with(problem),
    };
    let exchange = match session.get_signed(url, limits::SMALL_BODY_BYTES).await {
        Ok(exchange) => exchange,
        Err(failure) => return Draft::broken(&failure),
    };
    let signed = session.has_proof();
    let problem = judge(&exchange, &reference, signed).err();
    Draft::of(&exchange)
        .with(problem)
        .good("the canary is there")
        .judge_speed("the read", session.server.thresholds.search)
}

fn judge(exchange: &Exchange, reference: &str, signed: bool) -> Result<(), Problem> {
    let missing = |how: &str| {
        Problem::new(Code::new("fhir.record_missing"), format!("the canary is not there: {how}"))
    };
    match exchange.status() {
        404 => {
            return Err(missing(
                "HTTP 404; it was deleted, moved, or is hidden from this credential",
            ));
        }
        410 => return Err(missing("HTTP 410; it was deleted")),
        _ => {}
    }
    let kind = answered(exchange, signed, Code::new("fhir.read_failed"), "the record")?;
    if let Ok(bundle) = BundleFacts::parse(kind, &exchange.body) {
        return match (bundle.is_empty(), reference.contains('?')) {
            (true, _) => Err(missing("HTTP 200 with an empty Bundle")),
            (false, true) => Ok(()),
            (false, false) => Err(Problem::new(
                Code::new("fhir.invalid_resource"),
                "a read is answered with a Bundle",
            )),
        };
    }
    same_record(kind, exchange, reference)
}

fn same_record(kind: BodyKind, exchange: &Exchange, reference: &str) -> Result<(), Problem> {
    let Some(found) = resource::facts(kind, &exchange.body) else {
        return Err(Problem::new(
            Code::new("fhir.malformed"),
            "the answer is no complete FHIR resource",
        ));
    };
    let mut parts = reference.split(['/', '?']);
    let (kind, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if found.resource_type != kind || (!id.is_empty() && found.id.as_deref() != Some(id)) {
        return Err(Problem::new(
            Code::new("fhir.invalid_resource"),
            "the server answers with another record than the one asked for",
        ));
    }
    Ok(())
}
