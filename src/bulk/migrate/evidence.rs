//! What a proof found, and what that means.

use std::collections::BTreeMap;

use serde::Serialize;

use super::content::{Compared, Difference, Kind};
use crate::bulk::import::report::Note;

/// Resources that are told one by one.
const TOLD: usize = 10_000;

/// Types that a server may have of its own and change by itself: that it has more of them than it
/// exported is worth telling, and no loss.
const OF_SERVERS: [&str; 15] = [
    "AuditEvent",
    "CapabilityStatement",
    "CodeSystem",
    "CompartmentDefinition",
    "ConceptMap",
    "GraphDefinition",
    "ImplementationGuide",
    "MessageDefinition",
    "NamingSystem",
    "OperationDefinition",
    "SearchParameter",
    "StructureDefinition",
    "StructureMap",
    "TerminologyCapabilities",
    "ValueSet",
];

/// Everything that a proof found.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub types: Vec<OfType>,
    pub sample: Sample,
    pub references: References,
    /// Differences by place and kind.
    pub paths: BTreeMap<(String, Kind), u64>,
    /// What servers add to `meta`, in the same way.
    pub noted: BTreeMap<(String, Kind), u64>,
    /// Those that are not on the target as they were exported, one by one.
    pub resources: Vec<OfResource>,
    /// References that lead nowhere on the target, one by one.
    pub unresolved: Vec<Unresolved>,
    pub findings: Vec<Note>,
    /// Whether the source says which types it has.
    pub is_declaring: bool,
}

/// The resources of one type on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfType {
    pub r#type: String,
    /// On the source now; `None`: it cannot be told.
    pub source: Option<u64>,
    pub exported: u64,
    pub accepted: u64,
    pub created: u64,
    pub rejected: u64,
    /// On the target, before and now.
    pub target_before: Option<u64>,
    pub target: Option<u64>,
    pub compared: u64,
    pub equal: u64,
    pub differing: u64,
    pub missing: u64,
    /// They could not be read.
    pub unreadable: u64,
}

/// The sample as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    pub seed: u64,
    /// Most of each type; `None`: all.
    pub per_type: Option<u64>,
    pub compared: u64,
    pub equal: u64,
    pub differing: u64,
    pub missing: u64,
    pub unreadable: u64,
}

/// The references of the sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct References {
    /// All that are literal.
    pub found: u64,
    /// `#id`: within the resource.
    pub contained: u64,
    /// `Type/id`, each as often as it stands there.
    pub relative: u64,
    /// By the address of the source.
    pub to_source: u64,
    /// By other addresses.
    pub elsewhere: u64,
    /// URNs, searches and what is none of all these.
    pub other: u64,
    /// Different resources that the relative ones name, and what became of these.
    pub distinct: u64,
    pub resolved: u64,
    pub unresolved: u64,
    /// Neither on the target nor on the source.
    pub nowhere: u64,
}

/// A resource that is not on the target as it was exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfResource {
    pub r#type: String,
    pub id: String,
    /// `differs`, `missing` or `unreadable`.
    pub verdict: &'static str,
    /// Of a refused read.
    pub http_status: Option<u16>,
    pub differences: Vec<Difference>,
    pub more: u64,
    /// SHA-256 of the content, here and there.
    pub exported_sha256: Option<String>,
    pub target_sha256: Option<String>,
}

/// A reference that leads nowhere on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unresolved {
    pub reference: String,
    pub from: String,
    pub path: String,
    /// Whether it is on the source; `None`: it cannot be told.
    pub is_on_source: Option<bool>,
}

/// What the counts are held against.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    pub source: &'a str,
    pub target: &'a str,
    /// Everything that the source has of the types was asked for.
    pub is_whole: bool,
    /// A search that is walked may meet a resource twice.
    pub is_crawl: bool,
}

impl Evidence {
    /// Takes in a resource that is not as it was exported.
    pub fn tell(&mut self, resource: OfResource, compared: &Compared) {
        self.count(compared);
        if self.resources.len() < TOLD {
            self.resources.push(resource);
        }
    }

    /// Takes in the places where two resources differ, each once a resource.
    pub fn count(&mut self, compared: &Compared) {
        let places = |all: &[Difference]| -> Vec<(String, Kind)> {
            let mut all: Vec<_> = all.iter().map(|it| (place(&it.path), it.kind)).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        for place in places(&compared.differences) {
            *self.paths.entry(place).or_default() += 1;
        }
        for place in places(&compared.noted) {
            *self.noted.entry(place).or_default() += 1;
        }
    }

    pub fn unresolved(&mut self, reference: Unresolved) {
        match reference.is_on_source {
            Some(false) => self.references.nowhere += 1,
            _ => self.references.unresolved += 1,
        }
        if self.unresolved.len() < TOLD {
            self.unresolved.push(reference);
        }
    }

    /// Whether everything that was looked at is on the target as it was exported.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != "error")
    }

    /// Sums up and judges.
    pub fn conclude(&mut self, circumstances: Circumstances<'_>) {
        let sum = |of: fn(&OfType) -> u64| self.types.iter().map(of).sum::<u64>();
        let sample = Sample {
            compared: sum(|it| it.compared),
            equal: sum(|it| it.equal),
            differing: sum(|it| it.differing),
            missing: sum(|it| it.missing),
            unreadable: sum(|it| it.unreadable),
            ..self.sample.clone()
        };
        self.sample = sample;
        let mut findings = Vec::new();
        for of_type in &self.types {
            counts(of_type, circumstances, &mut findings);
            contents(of_type, circumstances, &mut findings);
        }
        self.of_references(circumstances, &mut findings);
        if circumstances.is_whole && !self.is_declaring {
            let source = circumstances.source;
            let message = format!("which types {source} has beside those is unknown");
            findings.push(Note::new("warning", "bulk.count_unknown", message));
        }
        if !self.noted.is_empty() {
            let message = format!("{} adds to meta; that stands apart", circumstances.target);
            findings.push(Note::new("note", "bulk.content_differs", message));
        }
        findings.sort_by_key(|it| match it.severity.as_str() {
            "error" => 0,
            "warning" => 1,
            _ => 2,
        });
        self.findings = findings;
    }

    fn of_references(&self, it: Circumstances<'_>, findings: &mut Vec<Note>) {
        let Circumstances { source, target, .. } = it;
        let mut say = |severity: &str, number: u64, what: String| {
            if number > 0 {
                findings.push(Note::new(severity, "bulk.reference_unresolved", what));
            }
        };
        let References { unresolved, nowhere, to_source, .. } = self.references;
        say(
            "error",
            unresolved,
            format!("{unresolved} resources that are referred to are not on {target}"),
        );
        say(
            "warning",
            nowhere,
            format!(
                "{nowhere} resources that are referred to are neither on {target} nor on {source}"
            ),
        );
        say(
            "warning",
            to_source,
            format!("{to_source} references name the address of {source}, and lead there still"),
        );
    }
}

/// A path without the numbers of list items.
fn place(path: &str) -> String {
    let mut place = String::with_capacity(path.len());
    let mut is_inside = false;
    for c in path.chars() {
        match c {
            '[' => is_inside = true,
            ']' => is_inside = false,
            _ if is_inside => {}
            _ => place.push(c),
        }
    }
    place
}

/// Holds the counts of a type against each other.
fn counts(it: &OfType, circumstances: Circumstances<'_>, findings: &mut Vec<Note>) {
    let Circumstances { source, target, is_whole, is_crawl } = circumstances;
    let name = &it.r#type;
    let mut say = |severity: &str, code: &str, what: String| {
        findings.push(Note::new(severity, code, format!("{name}: {what}")));
    };
    if it.rejected > 0 {
        say("error", "bulk.rejected", format!("{target} refused {} resources", it.rejected));
    }
    match it.source {
        None => say("warning", "bulk.count_unknown", format!("how many {source} has is unknown")),
        Some(now) if is_whole && now != it.exported => {
            let is_own = OF_SERVERS.contains(&name.as_str());
            let severity = if is_own { "warning" } else { "error" };
            let what = match it.exported {
                0 => format!("{source} has {now}, and none of them was exported"),
                exported => format!(
                    "{source} has {now} now, {exported} were exported: it has changed since, or \
                     the export is not the whole"
                ),
            };
            say(severity, "bulk.count_differs", what);
        }
        Some(_) => {}
    }
    if it.exported == 0 {
        return;
    }
    let Some(now) = it.target else {
        say("warning", "bulk.count_unknown", format!("how many {target} has is unknown"));
        return;
    };
    let arrived = if is_crawl { 0 } else { it.exported.saturating_sub(it.rejected) };
    // A bundle that was sent twice created its resources once, and was told of that only once.
    let least = it.target_before.unwrap_or(0).saturating_add(it.created).max(arrived);
    let most = it.target_before.unwrap_or(0).saturating_add(it.exported);
    if now < least {
        let what = format!("{target} has {now}, at least {least} are wanted");
        say("error", "bulk.count_differs", what);
    } else if now > most {
        let was = it.target_before;
        let severity = if was == Some(0) { "error" } else { "warning" };
        let before = was.map_or("an unknown number".to_owned(), |was| was.to_string());
        let what = format!(
            "{target} has {now}, though it had {before} before and {} were exported",
            it.exported
        );
        say(severity, "bulk.count_differs", what);
    }
}

/// Says what the comparison of a type came to.
fn contents(it: &OfType, circumstances: Circumstances<'_>, findings: &mut Vec<Note>) {
    let target = circumstances.target;
    let name = &it.r#type;
    let of = it.compared;
    let mut say = |code: &str, what: String| {
        findings.push(Note::new("error", code, format!("{name}: {what}")));
    };
    if it.differing > 0 {
        let what = format!("{} of {of} compared are not what was exported", it.differing);
        say("bulk.content_differs", what);
    }
    if it.missing > 0 {
        let mut what = format!("{} of {of} looked for are not on {target}", it.missing);
        if it.missing == of && it.target.is_some_and(|now| now >= it.exported) {
            what.push_str(
                " under their ids, though their number is: it may have given them others",
            );
        }
        say("bulk.resource_missing", what);
    }
    if it.unreadable > 0 {
        say("fhir.read_failed", format!("{} of {of} could not be read", it.unreadable));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circumstances() -> Circumstances<'static> {
        Circumstances { source: "old", target: "new", is_whole: true, is_crawl: false }
    }

    fn good() -> OfType {
        OfType {
            r#type: "Patient".into(),
            source: Some(10),
            exported: 10,
            accepted: 10,
            created: 10,
            target_before: Some(0),
            target: Some(10),
            compared: 5,
            equal: 5,
            ..OfType::default()
        }
    }

    fn told(of_type: OfType, circumstances: Circumstances<'_>) -> Vec<String> {
        let mut evidence =
            Evidence { types: vec![of_type], is_declaring: true, ..Evidence::default() };
        evidence.conclude(circumstances);
        assert_eq!(evidence.is_proven(), evidence.findings.iter().all(|it| it.severity != "error"));
        evidence.findings.iter().map(|it| format!("{} {}", it.severity, it.code)).collect()
    }

    #[test]
    fn counts_are_held_against_each_other() {
        let good = good();
        let of = |source, before, created, target| OfType {
            source,
            target_before: before,
            created,
            target,
            ..good.clone()
        };
        for (of_type, expected) in [
            (good.clone(), &[][..]),
            // It was there before, in part or whole.
            (of(Some(10), Some(4), 6, Some(10)), &[]),
            (of(Some(10), Some(50), 10, Some(60)), &[]),
            // Sent twice, created once.
            (of(Some(10), Some(0), 7, Some(10)), &[]),
            (of(Some(10), Some(0), 10, Some(9)), &["error bulk.count_differs"]),
            (of(Some(10), Some(50), 10, Some(59)), &["error bulk.count_differs"]),
            (of(Some(10), Some(0), 10, Some(11)), &["error bulk.count_differs"]),
            (of(Some(10), Some(50), 10, Some(61)), &["warning bulk.count_differs"]),
            (of(Some(10), None, 10, Some(61)), &["warning bulk.count_differs"]),
            (of(Some(10), None, 10, Some(9)), &["error bulk.count_differs"]),
            (of(Some(11), Some(0), 10, Some(10)), &["error bulk.count_differs"]),
            (
                of(None, Some(0), 10, None),
                &["warning bulk.count_unknown", "warning bulk.count_unknown"],
            ),
        ] {
            assert_eq!(told(of_type.clone(), circumstances()), expected, "{of_type:?}");
        }
        let left =
            |name: &str| OfType { r#type: name.to_owned(), source: Some(3), ..OfType::default() };
        assert_eq!(told(left("Observation"), circumstances()), ["error bulk.count_differs"]);
        assert_eq!(told(left("AuditEvent"), circumstances()), ["warning bulk.count_differs"]);
        let part = Circumstances { is_whole: false, ..circumstances() };
        assert_eq!(told(of(Some(1000), Some(0), 10, Some(10)), part), [""; 0]);
        let walked = Circumstances { is_crawl: true, ..circumstances() };
        assert_eq!(told(of(Some(10), Some(0), 9, Some(9)), walked), [""; 0]);
    }

    #[test]
    fn what_was_refused_differs_or_is_missing_is_no_proof() {
        let good = good();
        let refused = OfType { rejected: 1, created: 9, target: Some(9), ..good.clone() };
        assert_eq!(told(refused, circumstances()), ["error bulk.rejected"]);
        let bad = OfType { equal: 2, differing: 1, missing: 1, unreadable: 1, ..good.clone() };
        assert_eq!(
            told(bad, circumstances()),
            ["error bulk.content_differs", "error bulk.resource_missing", "error fhir.read_failed"]
        );
        let mut renamed = Evidence {
            types: vec![OfType { equal: 0, missing: 5, ..good }],
            ..Evidence::default()
        };
        renamed.conclude(circumstances());
        assert!(renamed.findings[0].message.contains("may have given them others"));
    }

    #[test]
    fn differences_are_counted_by_place_once_a_resource() {
        let mut evidence = Evidence::default();
        let at = |path: &str| Difference { path: path.to_owned(), kind: Kind::Changed };
        let compared = Compared {
            differences: vec![at("Patient.name[0].given[1]"), at("Patient.name[2].given[0]")],
            ..Compared::default()
        };
        evidence.count(&compared);
        evidence.count(&compared);
        assert_eq!(evidence.paths, [(("Patient.name.given".to_owned(), Kind::Changed), 2)].into());
    }
}
