//! The rules as data.

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Severity;

/// One row of `data/lint.yaml`: what a rule looks at, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleInfo {
    /// Stable, such as `tls.plain-http`.
    pub id: String,
    /// Where a finding starts; a rule may raise it in a case that it names.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: String,
    pub why: String,
    pub remedy: String,
    /// Whether `lint --fix` mends it.
    #[serde(default)]
    pub fixable: bool,
}

impl RuleInfo {
    /// The rule with this id.
    #[must_use]
    pub fn find(id: &str) -> Option<&'static RuleInfo> {
        rows().iter().find(|row| row.id == id)
    }

    /// Every rule, in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static RuleInfo> {
        rows().iter()
    }
}

fn rows() -> &'static [RuleInfo] {
    static ROWS: OnceLock<Vec<RuleInfo>> = OnceLock::new();
    // Compiled in and read by a test.
    ROWS.get_or_init(|| {
        serde_yaml::from_str(include_str!("../../data/lint.yaml")).unwrap_or_default()
    })
}
