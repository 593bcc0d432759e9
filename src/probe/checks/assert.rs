//! `assert`: the user's own statement about a query's answer, in FHIRPath.

use std::time::Duration;

use crate::fhir::body::BodyKind;
use crate::model::server::AssertCheck;
use crate::model::{Code, Status};
use crate::probe::checks::search::answer;
use crate::probe::fhirpath::{Held, holds};
use crate::probe::session::{Session, document, judge_status};
use crate::probe::verdict::{Draft, Problem};

/// No expression over one page of results needs longer.
const LONGEST: Duration = Duration::from_secs(5);

pub(in crate::probe) async fn run(session: &mut Session<'_>, check: &AssertCheck) -> Draft {
    let exchange = match answer(session, &check.query).await {
        Ok(exchange) => exchange,
        Err(draft) => return draft,
    };
    let draft = Draft::of(&exchange);
    let failed = |message: String| Problem::new(Code::new("assert.failed"), message);
    if let Some(problem) = judge_status(&exchange, session.has_proof()) {
        return draft.with(problem);
    }
    let kind = match document(&exchange) {
        Ok(kind) => kind,
        Err(problem) => return draft.with(problem),
    };
    if kind == BodyKind::Xml {
        return draft.with(
            failed("assertions are evaluated over JSON, and this server answers in XML".into())
                .at(Status::Unknown),
        );
    }
    let Ok(document) = serde_json::from_slice(&exchange.body) else {
        return draft.with(Problem::new(
            Code::new("fhir.malformed"),
            "the answer breaks off or is not well-formed",
        ));
    };
    let limit = LONGEST.min(session.remaining());
    match holds(&check.expression, document, limit).await {
        Held::True => draft.good("it holds"),
        Held::No(what) => draft.with(failed(format!("{} does not hold: {what}", check.expression))),
        Held::Invalid(why) => {
            draft.with(failed(format!("{} cannot be evaluated: {why}", check.expression)).hint(
                "Mend the expression in the inventory; it is FHIRPath over the query's answer.",
            ))
        }
        Held::TimedOut => draft.with(failed(format!(
            "{} took longer than {:.1} s to evaluate",
            check.expression,
            limit.as_secs_f64()
        ))),
    }
}
