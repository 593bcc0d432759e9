//! Which preset a server looks like, by rules that stand in the presets themselves.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Preset, presets};

/// What a server shows of itself: members of its CapabilityStatement and headers of that answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detectable<'a> {
    pub base_url: Option<&'a str>,
    pub software_name: Option<&'a str>,
    pub software_version: Option<&'a str>,
    pub publisher: Option<&'a str>,
    pub copyright: Option<&'a str>,
    pub implementation_description: Option<&'a str>,
    /// Names in any case, with their values; [`headers`] says which are worth keeping.
    pub headers: &'a [(&'a str, &'a str)],
}

/// How a server of a vendor is told from others.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detection {
    /// Of several presets that match, the highest wins: a gateway is 10, what others build upon
    /// 20, a product 30, one known address 40.
    pub rank: u8,
    /// Any of these will do.
    pub any: Vec<Rule>,
    pub source: String,
    pub date: Option<Date>,
    #[serde(default)]
    pub unconfirmed: bool,
}

/// Every pattern of a rule has to match: without regard to case, `*` for any text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copyright: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implementation_description: Option<String>,
    /// Header name to its pattern.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// The preset that a server looks like; `None` when it looks like none.
#[must_use]
pub fn detect(shown: &Detectable<'_>) -> Option<&'static Preset> {
    presets()
        .filter_map(|preset| Some((preset.detect.as_ref()?, preset)))
        .filter(|(detection, _)| detection.any.iter().any(|rule| rule.holds(shown)))
        // Of equals the first.
        .rev()
        .max_by_key(|(detection, _)| detection.rank)
        .map(|(_, preset)| preset)
}

/// The headers that any rule looks at, in lower case.
pub fn headers() -> impl Iterator<Item = &'static str> {
    let rules = presets().filter_map(|preset| preset.detect.as_ref()).flat_map(|d| &d.any);
    rules.flat_map(|rule| rule.headers.keys().map(String::as_str))
}

impl Rule {
    fn holds(&self, shown: &Detectable<'_>) -> bool {
        let members = [
            (&self.base_url, shown.base_url),
            (&self.software_name, shown.software_name),
            (&self.software_version, shown.software_version),
            (&self.publisher, shown.publisher),
            (&self.copyright, shown.copyright),
            (&self.implementation_description, shown.implementation_description),
        ];
        let header = |name: &str, pattern: &str| {
            let mut of_name =
                shown.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            of_name.any(|(_, value)| matches(pattern, value))
        };
        members.iter().all(|(pattern, text)| match pattern {
            Some(pattern) => text.is_some_and(|text| matches(pattern, text)),
            None => true,
        }) && self.headers.iter().all(|(name, pattern)| header(name, pattern))
            && (!self.headers.is_empty() || members.iter().any(|(pattern, _)| pattern.is_some()))
    }

    /// For people: `software.name is "Epic"`.
    #[must_use]
    pub fn words(&self) -> String {
        let members = [
            ("base URL", &self.base_url),
            ("software.name", &self.software_name),
            ("software.version", &self.software_version),
            ("publisher", &self.publisher),
            ("copyright", &self.copyright),
            ("implementation.description", &self.implementation_description),
        ];
        let members = members
            .iter()
            .filter_map(|(name, pattern)| Some(format!("{name} {}", pattern.as_ref()?)));
        let headers = self.headers.iter().map(|(name, pattern)| format!("header {name} {pattern}"));
        members.chain(headers).collect::<Vec<_>>().join(" and ")
    }
}

/// Whether the whole text is as the pattern says; `*` stands for any text. Time grows with the
/// product of both lengths at worst, and a text is cut before.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    // Whoever answers decides on this text: no vendor's mark stands behind so much of it.
    let text: Vec<char> = text.trim().chars().take(2000).flat_map(char::to_lowercase).collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            (p, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts_without_regard_to_case() {
        for (pattern, text, expected) in [
            ("Epic", " epic", true),
            ("Epic", "Epic May 2026", false),
            ("*HAPI FHIR*", "My HAPI FHIR Server", true),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "aXbbY", false),
            ("*", "", true),
            ("", "x", false),
            ("Copyright Epic*", "Copyright Epic 1979-2026", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&format!("{}c", "a*".repeat(20)), &"ab".repeat(100_000)));
    }

    fn name(shown: &Detectable<'_>) -> Option<&'static str> {
        detect(shown).map(|preset| preset.name.as_str())
    }

    #[test]
    fn every_vendor_is_known_by_what_it_shows() {
        let software =
            |name: &'static str| Detectable { software_name: Some(name), ..Detectable::default() };
        let publisher =
            |name: &'static str| Detectable { publisher: Some(name), ..Detectable::default() };
        let at = |url: &'static str| Detectable { base_url: Some(url), ..Detectable::default() };
        let header = |header: &'static [(&'static str, &'static str)]| Detectable {
            headers: header,
            ..Detectable::default()
        };
        let cases = [
            (software("Epic"), "epic"),
            (
                Detectable {
                    software_name: Some("February 2019"),
                    software_version: Some("8.7.0.1"),
                    copyright: Some("Copyright Epic 1979-2019"),
                    ..Detectable::default()
                },
                "epic",
            ),
            (
                Detectable {
                    base_url: Some("https://fhir.epic.com/interconnect-fhir-oauth/api/FHIR/R4"),
                    software_name: Some("Epic"),
                    ..Detectable::default()
                },
                "epic-sandbox",
            ),
            (publisher("Cerner"), "cerner"),
            (publisher("Oracle Health"), "cerner"),
            (
                Detectable {
                    base_url: Some("https://fhir-open.cerner.com/r4/ec2458f2"),
                    publisher: Some("Cerner"),
                    ..Detectable::default()
                },
                "cerner-open",
            ),
            (
                Detectable {
                    base_url: Some("https://fhir-ehr-sc.cerner.com/r4/x"),
                    publisher: Some("Cerner"),
                    ..Detectable::default()
                },
                "soarian",
            ),
            (publisher("Veradigm"), "veradigm"),
            (software("Veradigm FHIR"), "veradigm"),
            (
                Detectable {
                    base_url: Some("https://fhir.fhirpoint.open.allscripts.com/fhirroute/fhir/1"),
                    publisher: Some("Allscripts"),
                    ..Detectable::default()
                },
                "veradigm",
            ),
            (software("Altera FHIR"), "altera"),
            (software("Allscripts FHIR"), "altera"),
            (software("athenahealth FHIR Server"), "athenahealth"),
            (publisher("athenahealth"), "athenahealth"),
            (
                Detectable {
                    publisher: Some("Microsoft"),
                    software_name: Some("Azure API for FHIR"),
                    ..Detectable::default()
                },
                "azure-fhir",
            ),
            (
                Detectable {
                    base_url: Some("https://ws-store.fhir.azurehealthcareapis.com"),
                    publisher: Some("Microsoft"),
                    ..Detectable::default()
                },
                "azure-fhir",
            ),
            (software("Microsoft FHIR Server"), "ms-fhir-server"),
            (
                at(
                    "https://healthcare.googleapis.com/v1/projects/p/locations/l/datasets/d/fhirStores/s/fhir",
                ),
                "google",
            ),
            (at("https://healthlake.us-east-1.amazonaws.com/datastore/0/r4"), "healthlake"),
            (at("https://healthlake-fips.us-west-2.amazonaws.com/datastore/0/r4"), "healthlake"),
            (software("HAPI FHIR Server"), "hapi"),
            (
                header(&[(
                    "X-Powered-By",
                    "HAPI FHIR 8.10.0 REST Server (FHIR Server; FHIR 4.0.1/R4)",
                )]),
                "hapi",
            ),
            (
                Detectable {
                    software_name: Some("Smile CDR"),
                    headers: &[("x-powered-by", "Smile CDR 2026.05 REST Server (FHIR 4.0.1/R4)")],
                    ..Detectable::default()
                },
                "smilecdr",
            ),
            (
                Detectable {
                    software_name: Some("Smile CDR"),
                    headers: &[("x-powered-by", "HAPI FHIR 8.10.0 REST Server")],
                    ..Detectable::default()
                },
                "smilecdr",
            ),
            (software("IBM FHIR Server"), "ibm-fhir"),
            (software("LinuxForHealth FHIR Server"), "ibm-fhir"),
            (software("Firely Server"), "firely"),
            (software("Vonk"), "firely"),
            (software("Aidbox"), "aidbox"),
            (software("medplum"), "medplum"),
            (software("Blaze"), "blaze"),
            (software("Helios FHIR Server"), "helios"),
            (
                Detectable {
                    base_url: Some("https://hapi.fhir.org/baseR5"),
                    software_name: Some("HAPI FHIR Server"),
                    ..Detectable::default()
                },
                "hapi-public",
            ),
            (at("https://r4.smarthealthit.org"), "smart-r4"),
            (at("https://launch.smarthealthit.org/v/r4/fhir"), "smart-launcher"),
            (at("https://bulk-data.smarthealthit.org/eyJ9/fhir"), "bulk-smart"),
            (at("https://inferno.healthit.gov/reference-server/r4"), "inferno-ref"),
            (at("https://server.fire.ly/r4"), "firely-public"),
            (header(&[("Via", "1.1 kong/3.9.0")]), "proxy-kong"),
            (
                Detectable {
                    software_name: Some("HAPI FHIR Server"),
                    headers: &[("via", "1.1 kong/3.9.0")],
                    ..Detectable::default()
                },
                "hapi",
            ),
        ];
        for (shown, expected) in &cases {
            assert_eq!(name(shown), Some(*expected), "{shown:?}");
        }
        // Nothing tells it from what stands behind it.
        let untold = ["proxy-google-fhir-gateway"];
        for preset in presets() {
            let told = cases.iter().any(|(_, name)| *name == preset.name);
            let expected = !untold.contains(&preset.name.as_str()) && preset.name != "proxy-apim";
            assert_eq!(told, expected, "{}", preset.name);
        }
        assert_eq!(
            name(&header(&[("WWW-Authenticate", "AzureApiManagementKey realm=\"x\"")])),
            Some("proxy-apim")
        );
    }

    #[test]
    fn what_looks_like_no_vendor_is_none() {
        for shown in [
            Detectable::default(),
            Detectable { software_name: Some(""), publisher: Some(" "), ..Detectable::default() },
            Detectable {
                software_name: Some("Epicurus"),
                publisher: Some("Example Clinic"),
                copyright: Some("Copyright Epicurus"),
                base_url: Some("https://fhir.epic.com.example.org/api/FHIR/R4"),
                headers: &[("Server", "nginx"), ("X-Powered-By", "PHP")],
                ..Detectable::default()
            },
        ] {
            assert_eq!(name(&shown), None, "{shown:?}");
        }
    }
}
