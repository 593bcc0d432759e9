//! Reason codes: the stable, dotted names of what can go wrong.
//!
//! A code is one row of `data/codes.yaml`: its status, whose fault it usually is, what it means,
//! its causes and what to try. Code in other rooms names it by `Code::new("tcp.refused")`; a test
//! holds every such name against the table.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use super::Status;

/// Who has to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    Ours,
    Network,
    IdentityProvider,
    Vendor,
    Undetermined,
}

impl Party {
    pub const ALL: [Party; 5] =
        [Party::Ours, Party::Network, Party::IdentityProvider, Party::Vendor, Party::Undetermined];

    #[must_use]
    pub fn find(text: &str) -> Option<Party> {
        Party::ALL.into_iter().find(|party| party.as_str() == text)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Party::Ours => "ours",
            Party::Network => "network",
            Party::IdentityProvider => "identity_provider",
            Party::Vendor => "vendor",
            Party::Undetermined => "undetermined",
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of one row of the table, such as `tls.expired`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(&'static str);

/// One row of `data/codes.yaml`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeInfo {
    pub code: String,
    /// A few words, for headings.
    pub title: String,
    pub status: Status,
    pub party: Party,
    /// Whether it can mean that somebody stands between us and the server, or speaks in its name.
    #[serde(default)]
    pub security: bool,
    /// One or two sentences for a tired person.
    pub meaning: String,
    /// The usual causes, most likely first.
    pub causes: Vec<String>,
    /// What to try, first things first. The first one is shown beside a failed check.
    pub remedies: Vec<String>,
}

/// One row of `data/findings.yaml`: what a finding such as `CS-05` looks at.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingInfo {
    pub id: String,
    /// What is in order when there is no finding, in a few words.
    pub title: String,
    pub meaning: String,
    pub remedy: String,
}

impl FindingInfo {
    /// The row with this id, in any case of letters.
    #[must_use]
    pub fn find(id: &str) -> Option<&'static FindingInfo> {
        finding_rows().iter().find(|row| row.id.eq_ignore_ascii_case(id))
    }

    /// Every finding, in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static FindingInfo> {
        finding_rows().iter()
    }
}

impl Code {
    /// Names a row of the table. The name has to be in `data/codes.yaml`; a test sees to it.
    #[must_use]
    pub const fn new(name: &'static str) -> Code {
        Code(name)
    }

    /// The row with this name, if there is one.
    #[must_use]
    pub fn find(name: &str) -> Option<Code> {
        table().by_name.get_key_value(name).map(|(key, _)| Code(key))
    }

    /// Every code, in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static CodeInfo> {
        table().rows.iter().filter_map(Row::info)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The row itself; `None` only for a name that is not in the table.
    #[must_use]
    pub fn info(self) -> Option<&'static CodeInfo> {
        table().row(self.0)?.info()
    }

    #[must_use]
    pub fn status(self) -> Status {
        self.info().map_or(Status::Critical, |info| info.status)
    }

    #[must_use]
    pub fn party(self) -> Party {
        self.info().map_or(Party::Undetermined, |info| info.party)
    }

    /// Whether it can mean that somebody stands between us and the server, or speaks in its name.
    #[must_use]
    pub fn is_security(self) -> bool {
        self.info().is_some_and(|info| info.security)
    }

    /// The first thing to try.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        self.info().and_then(|info| info.remedies.first()).map(String::as_str)
    }

    /// Whether a check with this code is left out of a verdict: it never ran or has nothing to say.
    #[must_use]
    pub fn is_left_out(self) -> bool {
        matches!(self.0, "check.not_applicable" | "check.skipped")
    }
}

/// One row, read only when it is asked for: a run needs a few of them, and the whole table costs
/// more than the rest of a start.
struct Row {
    text: &'static str,
    info: OnceLock<Option<CodeInfo>>,
}

impl Row {
    fn info(&self) -> Option<&CodeInfo> {
        let read = || serde_yaml::from_str::<Vec<CodeInfo>>(self.text).ok()?.pop();
        self.info.get_or_init(read).as_ref()
    }
}

/// How a row starts; the table is compiled in, and a test holds it to this form.
const ROW_START: &str = "- code: ";

struct Table {
    rows: Vec<Row>,
    by_name: HashMap<&'static str, usize>,
}

impl Table {
    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.get(*self.by_name.get(name)?)
    }
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let text = include_str!("../../data/codes.yaml");
        let starts: Vec<usize> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .filter(|at| text[*at..].starts_with(ROW_START))
            .collect();
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let mut table = Table { rows: Vec::new(), by_name: HashMap::new() };
        for (start, end) in starts.iter().zip(ends) {
            let text = &text[*start..end];
            let name = text[ROW_START.len()..].lines().next().unwrap_or_default().trim();
            table.by_name.insert(name, table.rows.len());
            table.rows.push(Row { text, info: OnceLock::new() });
        }
        table
    })
}

fn finding_rows() -> &'static [FindingInfo] {
    static ROWS: OnceLock<Vec<FindingInfo>> = OnceLock::new();
    ROWS.get_or_init(|| {
        // Compiled in and read by a test, like the codes.
        serde_yaml::from_str(include_str!("../../data/findings.yaml")).unwrap_or_default()
    })
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl JsonSchema for Code {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Code".into()
    }

    /// Any dotted name: a newer program may know more codes than this one.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A reason code; `fhirctl explain` documents it.",
            "pattern": "^[a-z]+\\.[a-z0-9_]+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::path::Path;

    /// The codes that the contract calls a warning or unknown; all others are critical.
    const WARNINGS: [&str; 18] = [
        "dns.disagreement",
        "network.egress_unexpected",
        "tls.expiring",
        "perf.slow",
        "perf.errors",
        "server.memory",
        "server.disk",
        "server.threads",
        "server.files",
        "server.metrics",
        "health.degraded",
        "fhir.parameter_ignored",
        "fhir.operation_failed",
        "fhir.format_failed",
        "network.prefer_stripped",
        "smart.invalid_configuration",
        "http.rate_limited",
        "capability.changed",
    ];
    const UNKNOWNS: [&str; 6] = [
        "auth.credential_missing",
        "auth.insecure_transport",
        "auth.held_back",
        "check.skipped",
        "check.not_applicable",
        "check.deadline",
    ];
    const FAMILIES: &str = "dns: not_found timeout servfail
        tcp: refused timeout unreachable reset
        tls: expired not_yet_valid expiring hostname_mismatch untrusted self_signed pin_mismatch protocol client_certificate_required client_certificate_rejected
        network: address_not_allowed proxy
        auth: credential_missing unauthorized forbidden token_endpoint invalid_client invalid_scope scope_reduced audience clock_skew key_unknown algorithm token_expired secret_expired insecure_transport held_back
        http: status timeout redirect_refused rate_limited too_large decompression_limit bad_encoding closed
        fhir: not_fhir malformed not_a_capability_statement version_mismatch resource_missing interaction_missing operation_missing profile_missing format_missing operation_outcome invalid_resource search_failed read_failed record_missing parameter_ignored
        health: down degraded
        perf: slow errors expectation
        server: memory disk pool threads files metrics
        assert: failed
        capability: breaking changed
        check: skipped not_applicable deadline
        rate: errors_high";

    #[test]
    fn the_tables_parse_and_hold_no_row_twice() {
        let rows: Vec<CodeInfo> =
            serde_yaml::from_str(include_str!("../../data/codes.yaml")).unwrap();
        let names: HashSet<&str> = rows.iter().map(|row| row.code.as_str()).collect();
        assert_eq!(names.len(), rows.len());
        // Row by row it reads as it does as a whole.
        let one_by_one: Vec<&str> = Code::all().map(|row| row.code.as_str()).collect();
        let whole: Vec<&str> = rows.iter().map(|row| row.code.as_str()).collect();
        assert_eq!(one_by_one, whole);
        assert!(whole.iter().all(|name| Code::find(name).is_some()));
        let findings: Vec<FindingInfo> =
            serde_yaml::from_str(include_str!("../../data/findings.yaml")).unwrap();
        let ids: HashSet<&str> = findings.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids.len(), findings.len());
        assert!(FindingInfo::find("cs-05").is_some());
    }

    #[test]
    fn every_code_of_the_contract_is_there() {
        for line in FAMILIES.lines() {
            let (family, names) = line.trim().split_once(": ").unwrap();
            for name in names.split_whitespace() {
                assert!(Code::find(&format!("{family}.{name}")).is_some(), "{family}.{name}");
            }
        }
    }

    #[test]
    fn statuses_are_those_of_the_contract() {
        for row in Code::all() {
            let expected = if WARNINGS.contains(&row.code.as_str()) {
                Status::Warning
            } else if UNKNOWNS.contains(&row.code.as_str()) {
                Status::Unknown
            } else {
                Status::Critical
            };
            assert_eq!(row.status, expected, "{}", row.code);
        }
    }

    #[test]
    fn a_key_or_an_address_that_changed_is_a_matter_of_security() {
        for (code, security) in [
            ("tls.pin_mismatch", true),
            ("network.address_not_allowed", true),
            ("tls.expired", false),
            ("tcp.refused", false),
        ] {
            assert_eq!(Code::new(code).is_security(), security, "{code}");
        }
    }

    #[test]
    fn every_row_says_what_it_means_and_what_to_try() {
        for row in Code::all() {
            assert!(!row.title.is_empty() && row.meaning.ends_with('.'), "{}", row.code);
            assert!((1..=4).contains(&row.causes.len()), "{}: causes", row.code);
            assert!((1..=4).contains(&row.remedies.len()), "{}: remedies", row.code);
            let hint = row.remedies[0].chars().count();
            assert!(hint <= 110, "{}: the hint has {hint} characters", row.code);
        }
    }

    #[test]
    fn every_code_that_the_program_names_is_in_the_table() {
        fn walk(folder: &Path, missing: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, missing);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for part in text.split("Code::new(\"").skip(1) {
                        let name = part.split('"').next().unwrap();
                        if name.contains('.') && Code::find(name).is_none() {
                            missing.push(format!("{}: {name}", path.display()));
                        }
                    }
                }
            }
        }
        let mut missing = Vec::new();
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut missing);
        assert!(missing.is_empty(), "{missing:#?}");
    }
}
