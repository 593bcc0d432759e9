//! The resource types that a sandbox holds and how each is searched.

use super::search::Kind::{self, Date, Reference, String, Token};

/// A resource type.
#[derive(Debug)]
pub(in crate::sandbox) struct Type {
    pub(in crate::sandbox) name: &'static str,
    pub(in crate::sandbox) parameters: &'static [Parameter],
    /// Profiles of US Core that every synthetic resource of this type keeps to, in R4.
    pub(in crate::sandbox) us_core: &'static [&'static str],
}

/// A search parameter.
#[derive(Debug)]
pub(in crate::sandbox) struct Parameter {
    pub(in crate::sandbox) name: &'static str,
    pub(in crate::sandbox) kind: Kind,
    /// Where its values are, from the resource down; lists are walked through. Names differ between
    /// versions, so some paths lead nowhere in some of them.
    pub(in crate::sandbox) paths: &'static [&'static str],
    /// The id of its definition at hl7.org.
    pub(in crate::sandbox) definition: &'static str,
}

const fn row(
    name: &'static str,
    kind: Kind,
    paths: &'static [&'static str],
    definition: &'static str,
) -> Parameter {
    Parameter { name, kind, paths, definition }
}

/// Parameters of every type.
pub(in crate::sandbox) static COMMON: &[Parameter] = &[
    row("_id", Token, &["id"], "Resource-id"),
    row("_lastUpdated", Date, &["meta.lastUpdated"], "Resource-lastUpdated"),
    row("_tag", Token, &["meta.tag"], "Resource-tag"),
];

pub(in crate::sandbox) static TYPES: &[Type] = &[
    Type {
        name: "Organization",
        parameters: &[
            row("identifier", Token, &["identifier"], "Organization-identifier"),
            row("name", String, &["name", "alias"], "Organization-name"),
        ],
        us_core: &[],
    },
    Type {
        name: "Practitioner",
        parameters: &[
            row("identifier", Token, &["identifier"], "Practitioner-identifier"),
            row("family", String, &["name.family"], "individual-family"),
            row("given", String, &["name.given"], "individual-given"),
            row("name", String, &["name"], "Practitioner-name"),
        ],
        us_core: &[],
    },
    Type {
        name: "Patient",
        parameters: &[
            row("active", Token, &["active"], "Patient-active"),
            row("birthdate", Date, &["birthDate"], "individual-birthdate"),
            row("family", String, &["name.family"], "individual-family"),
            row("gender", Token, &["gender"], "individual-gender"),
            row("given", String, &["name.given"], "individual-given"),
            row("identifier", Token, &["identifier"], "Patient-identifier"),
            row("name", String, &["name"], "Patient-name"),
        ],
        us_core: &["us-core-patient"],
    },
    Type {
        name: "Group",
        parameters: &[
            row("identifier", Token, &["identifier"], "Group-identifier"),
            row("member", Reference, &["member.entity"], "Group-member"),
            row("type", Token, &["type"], "Group-type"),
        ],
        us_core: &[],
    },
    Type {
        name: "Encounter",
        parameters: &[
            row("class", Token, &["class"], "Encounter-class"),
            row("date", Date, &["period", "actualPeriod"], "clinical-date"),
            row("patient", Reference, &["subject"], "clinical-patient"),
            row("status", Token, &["status"], "Encounter-status"),
            row("subject", Reference, &["subject"], "Encounter-subject"),
        ],
        us_core: &["us-core-encounter"],
    },
    Type {
        name: "Condition",
        parameters: &[
            row("category", Token, &["category"], "Condition-category"),
            row("clinical-status", Token, &["clinicalStatus"], "Condition-clinical-status"),
            row("code", Token, &["code"], "clinical-code"),
            row("encounter", Reference, &["context", "encounter"], "Condition-encounter"),
            row("onset-date", Date, &["onsetDateTime"], "Condition-onset-date"),
            row("patient", Reference, &["subject"], "clinical-patient"),
            row("subject", Reference, &["subject"], "Condition-subject"),
        ],
        us_core: &["us-core-condition-problems-health-concerns"],
    },
    Type {
        name: "Observation",
        parameters: &[
            row("category", Token, &["category"], "Observation-category"),
            row("code", Token, &["code"], "clinical-code"),
            row("date", Date, &["effectiveDateTime"], "clinical-date"),
            row("encounter", Reference, &["context", "encounter"], "clinical-encounter"),
            row("patient", Reference, &["subject"], "clinical-patient"),
            row("status", Token, &["status"], "Observation-status"),
            row("subject", Reference, &["subject"], "Observation-subject"),
        ],
        us_core: &["us-core-heart-rate", "us-core-body-temperature"],
    },
];

/// The row of a type.
pub(in crate::sandbox) fn find(name: &str) -> Option<&'static Type> {
    TYPES.iter().find(|row| row.name == name)
}

impl Type {
    /// Its own parameters and those of every type.
    pub(in crate::sandbox) fn all_parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        COMMON.iter().chain(self.parameters)
    }
}
