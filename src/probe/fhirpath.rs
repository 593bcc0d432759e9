//! FHIRPath over an answer, bounded in time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use octofhir_fhirpath::core::value::utils::json_to_fhirpath_value;
use octofhir_fhirpath::evaluator::EvaluationContext;
use octofhir_fhirpath::{
    Collection, EmptyModelProvider, FhirPathEngine, FhirPathValue, create_function_registry,
};

/// How an assertion came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    True,
    /// What came out instead, in our words.
    No(String),
    /// The expression cannot be evaluated.
    Invalid(String),
    TimedOut,
}

/// Evaluates an expression. It holds when it yields exactly `true`.
pub(super) async fn holds(expression: &str, document: serde_json::Value, limit: Duration) -> Held {
    match evaluate(expression, document, limit).await {
        Ok(result) => judge(&result),
        Err(Unevaluated::Invalid(reason)) => Held::Invalid(reason),
        Err(Unevaluated::TimedOut) => Held::TimedOut,
    }
}

/// What an expression yields, as JSON, one value each.
///
/// # Errors
/// In our words, when it cannot be evaluated or takes longer than `limit`.
pub async fn values(
    expression: &str,
    document: serde_json::Value,
    limit: Duration,
) -> Result<Vec<serde_json::Value>, String> {
    match evaluate(expression, document, limit).await {
        Ok(result) => Ok(result.iter().map(FhirPathValue::to_json_value).collect()),
        Err(Unevaluated::Invalid(reason)) => Err(reason),
        Err(Unevaluated::TimedOut) => Err(format!("not done after {limit:?}")),
    }
}

/// Why there is no result.
enum Unevaluated {
    Invalid(String),
    TimedOut,
}

/// It runs on a thread of its own, which is left behind when the time is over.
async fn evaluate(
    expression: &str,
    document: serde_json::Value,
    limit: Duration,
) -> Result<Collection, Unevaluated> {
    let expression = expression.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(run(&expression, document))
    });
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(result)) => result.map_err(Unevaluated::Invalid),
        Ok(Err(_)) => Err(Unevaluated::Invalid("the evaluation broke off".into())),
        Err(_) => Err(Unevaluated::TimedOut),
    }
}

async fn run(expression: &str, document: serde_json::Value) -> Result<Collection, String> {
    let engine = engine().await?;
    let input = Collection::single(json_to_fhirpath_value(document));
    let context = EvaluationContext::new(input, Arc::new(EmptyModelProvider), None, None, None);
    match engine.evaluate(expression, &context).await {
        Ok(result) => Ok(result.value),
        Err(error) => {
            let reason = crate::model::text::one_line(&error.to_string());
            Err(crate::model::text::bounded(&reason, 200))
        }
    }
}

/// The value itself may be a patient's: only its shape is told.
fn judge(value: &Collection) -> Held {
    match (value.len(), value.first().and_then(FhirPathValue::as_boolean)) {
        (1, Some(true)) => Held::True,
        (1, Some(false)) => Held::No("it is false".into()),
        (0, _) => Held::No("it yields nothing".into()),
        (1, None) => Held::No("it yields a value that is neither true nor false".into()),
        (count, _) => Held::No(format!("it yields {count} values")),
    }
}

async fn engine() -> Result<&'static FhirPathEngine, String> {
    static ENGINE: OnceLock<FhirPathEngine> = OnceLock::new();
    if let Some(engine) = ENGINE.get() {
        return Ok(engine);
    }
    let registry = Arc::new(create_function_registry());
    let made = FhirPathEngine::new(registry, Arc::new(EmptyModelProvider)).await;
    let made = made.map_err(|error| format!("FHIRPath cannot be started: {error}"))?;
    Ok(ENGINE.get_or_init(|| made))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn an_assertion_holds_only_when_it_yields_true() {
        let bundle = json!({"resourceType": "Bundle", "total": 3, "entry": [{"resource": {"resourceType": "Patient", "id": "a"}}]});
        let cases = [
            ("total > 0", Held::True),
            ("entry.resource.ofType(Patient).exists()", Held::True),
            ("total = 0", Held::No("it is false".into())),
            ("link.relation", Held::No("it yields nothing".into())),
            ("total", Held::No("it yields a value that is neither true nor false".into())),
        ];
        for (expression, expected) in cases {
            let held = holds(expression, bundle.clone(), Duration::from_secs(20)).await;
            assert_eq!(held, expected, "{expression}");
        }
        assert!(matches!(
            holds("total >", bundle, Duration::from_secs(20)).await,
            Held::Invalid(_)
        ));
    }
}
