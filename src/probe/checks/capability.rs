//! `capability`: the CapabilityStatement against the baseline that was saved.

use crate::fhir::drift::{Snapshot, compare};
use crate::model::{Code, Finding, Severity};
use crate::probe::verdict::{Draft, Problem};

/// How many changes are told in the message; all of them are findings.
const TOLD: usize = 3;

/// Compares with the server's entry of the baseline.
pub(in crate::probe) fn judge(baseline: &Snapshot, now: &Snapshot) -> Draft {
    let changes = compare(baseline, now);
    let mut draft = Draft::default().good("as in the baseline");
    let breaking: Vec<_> = changes.iter().filter(|change| change.breaking).collect();
    let named = |changes: &[&crate::fhir::drift::Change]| {
        let mut told: Vec<_> =
            changes.iter().take(TOLD).map(|change| change.message.clone()).collect();
        if changes.len() > TOLD {
            told.push(format!("and {} more", changes.len() - TOLD));
        }
        told.join("; ")
    };
    if !breaking.is_empty() {
        draft.problems.push(Problem::new(
            Code::new("capability.breaking"),
            format!(
                "{} since the baseline: {}",
                count(breaking.len(), "breaking change"),
                named(&breaking)
            ),
        ));
    } else if !changes.is_empty() {
        let all: Vec<_> = changes.iter().collect();
        draft.problems.push(Problem::new(
            Code::new("capability.changed"),
            format!("{} since the baseline: {}", count(all.len(), "change"), named(&all)),
        ));
    }
    draft.findings = changes
        .into_iter()
        .map(|change| Finding {
            id: "CS-21".to_owned(),
            severity: if change.breaking { Severity::Error } else { Severity::Info },
            message: format!("{}: {}", change.path, change.message),
        })
        .collect();
    draft
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
