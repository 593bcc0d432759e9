//! `search`: a declared search, and whether the server did what it was asked.

use crate::fhir::ParseError;
use crate::fhir::bundle::{BundleFacts, ignored_parameters};
use crate::http::Exchange;
use crate::model::server::ReadTarget;
use crate::model::{Code, limits};
use crate::probe::session::{Session, answered};
use crate::probe::verdict::{Draft, Problem};

/// Parameters that shape an answer and filter nothing out of it.
const SHAPING: [&str; 10] = [
    "_summary",
    "_count",
    "_format",
    "_pretty",
    "_elements",
    "_total",
    "_sort",
    "_include",
    "_revinclude",
    "_contained",
];

pub(in crate::probe) async fn run(session: &mut Session<'_>, query: &str) -> Draft {
    let exchange = match answer(session, query).await {
        Ok(exchange) => exchange,
        Err(draft) => return draft,
    };
    let draft = Draft::of(&exchange);
    let draft = match bundle(&exchange, session.has_proof()) {
        Ok(facts) => judge(session, query, &facts, draft),
        Err(problem) => draft.with(problem),
    };
    draft.judge_speed("the search", session.server.thresholds.search)
}

/// Sends a query of the inventory; what went wrong comes as a draft.
pub(in crate::probe) async fn answer(
    session: &mut Session<'_>,
    query: &str,
) -> Result<Exchange, Draft> {
    let url = session.url(query).map_err(|problem| Draft::default().with(problem))?;
    session
        .get_signed(url, limits::SMALL_BODY_BYTES)
        .await
        .map_err(|failure| Draft::broken(&failure))
}

/// The Bundle that a search has to answer with.
fn bundle(exchange: &Exchange, signed: bool) -> Result<BundleFacts, Problem> {
    let kind = answered(exchange, signed, Code::new("fhir.search_failed"), "a Bundle")?;
    BundleFacts::parse(kind, &exchange.body).map_err(|error| match error {
        ParseError::NotFhir(why) => Problem::new(
            Code::new("fhir.not_fhir"),
            format!("the answer is no FHIR document: {why}"),
        ),
        ParseError::Malformed { line, column } => Problem::new(
            Code::new("fhir.malformed"),
            format!("the answer breaks off or is not well-formed at line {line}, column {column}"),
        ),
        ParseError::WrongResource(found) => Problem::new(
            Code::new("fhir.invalid_resource"),
            format!("the answer is a resource of type {found}, not a Bundle"),
        ),
    })
}

fn judge(session: &Session<'_>, query: &str, facts: &BundleFacts, mut draft: Draft) -> Draft {
    if facts.has_error() {
        draft.problems.push(Problem::new(
            Code::new("fhir.operation_outcome"),
            "the Bundle holds an OperationOutcome that tells of an error",
        ));
    }
    if facts.is_empty() && expects_canary(session, query) {
        draft.problems.push(Problem::new(
            Code::new("fhir.record_missing"),
            "the search finds nothing, though a record of this type is declared to be there",
        ));
    }
    let ignored = ignored_parameters(query, facts.self_link.as_deref());
    if !ignored.is_empty() {
        draft.problems.push(Problem::new(
            Code::new("fhir.parameter_ignored"),
            format!(
                "the server ignored {}: its self link does not name {}",
                ignored.join(", "),
                if ignored.len() == 1 { "it" } else { "them" }
            ),
        ));
    }
    let good = match facts.total {
        Some(total) => format!("{total} found"),
        None if facts.entry_count > 0 => format!("{} on the first page", facts.entry_count),
        None => "answered, without a total".to_owned(),
    };
    draft.good(good)
}

/// Whether a declared canary has to be among what this search finds: it is searched by its id, or
/// nothing is filtered.
fn expects_canary(session: &Session<'_>, query: &str) -> bool {
    let (kind, parameters) = query.split_once('?').unwrap_or((query, ""));
    let mut filters = url::form_urlencoded::parse(parameters.as_bytes())
        .filter(|(name, _)| !SHAPING.contains(&name.split(':').next().unwrap_or(name)));
    let by_id = filters.next();
    if filters.next().is_some() {
        return false;
    }
    session.server.checks.read.iter().filter(|read| read.synthetic).any(|read| {
        let ReadTarget::Reference(reference) = &read.target else { return false };
        let Some((canary_kind, id)) = reference.split_once('/') else { return false };
        canary_kind == kind
            && match &by_id {
                None => true,
                Some((name, value)) => name == "_id" && value.split(',').any(|one| one == id),
            }
    })
}
