//! Whether `Prefer` reaches the server (FHIR, section 3.1.1.1.1: `handling=strict`).
//!
//! One search with a parameter that nobody knows, asked strictly: whoever honours the preference
//! refuses it. Two topics want to know, so the desk keeps what was seen.

use http::header::{HeaderName, HeaderValue};

use super::sample::{self, Came, Sample};
use super::{Desk, Problem};
use crate::model::Code;

/// A parameter that no server knows.
pub(super) const UNKNOWN: &str = "x-fhirctl-unknown";

/// Servers that refuse an unknown parameter when they are asked strictly, by how the software names
/// itself, in lower case, or by preset.
const HONOURS: [&str; 6] =
    ["hapi", "helios", "smile", "firely server", "fhirctl sandbox", "microsoft fhir server"];

/// Headers that a server itself does not write: something stands in between.
const BETWEEN: [&str; 9] = [
    "via",
    "x-cache",
    "x-served-by",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-kong-proxy-latency",
    "x-envoy-upstream-service-time",
    "cf-ray",
];

/// What was seen of a preference.
#[derive(Debug)]
pub struct PreferSeen {
    /// The type that was searched.
    pub kind: String,
    pub handling: Handling,
    /// The preferences that the server says it applied (RFC 7240, section 3).
    pub applied: Option<String>,
    /// Why the server is known to honour it, where it is.
    pub known: Option<String>,
    /// Whether a parameter that every server knows takes part in a search; `None`: that was not to be
    /// seen.
    pub keeps_known: Option<bool>,
    /// Names of headers that tell of something in between, and our own proxy.
    pub between: Vec<String>,
    pub(super) sample: Sample,
}

/// What the server did with `handling=strict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// The unknown parameter was refused.
    Honoured,
    /// It was left out, and the `self` link says so.
    LeftOut,
    /// The search was answered as if it had been understood.
    Unnoticed,
    /// There was no answer that tells.
    Unknown,
}

impl Handling {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Handling::Honoured => "refused, as asked for",
            Handling::LeftOut => "left out, and the self link shows it",
            Handling::Unnoticed => "answered as if it were known",
            Handling::Unknown => "no answer that tells",
        }
    }
}

/// Asks strictly for something unknown, counting only. One request.
pub(super) async fn ask(desk: &Desk, kind: &str) -> PreferSeen {
    let path = format!("{kind}?{UNKNOWN}=1&_summary=count");
    let strict = [(HeaderName::from_static("prefer"), HeaderValue::from_static("handling=strict"))];
    let sample = sample::search(desk, &path, &strict).await;
    let handling = match &sample.came {
        Came::Otherwise => Handling::Honoured,
        Came::Bundle(facts) if facts.has_error() => Handling::Honoured,
        Came::Bundle(facts) => match facts.self_link.as_deref() {
            Some(link) if !link.contains(UNKNOWN) => Handling::LeftOut,
            _ => Handling::Unnoticed,
        },
        _ => Handling::Unknown,
    };
    let mut between: Vec<String> = BETWEEN
        .iter()
        .filter(|name| sample.headers.contains_key(**name))
        .map(|name| (*name).to_owned())
        .collect();
    if desk.client().await.is_ok_and(|client| client.is_proxied()) {
        between.push("our own proxy".to_owned());
    }
    let went_through = matches!(handling, Handling::LeftOut | Handling::Unnoticed);
    let keeps_known = if went_through { keeps_known(desk, kind, &sample).await } else { None };
    PreferSeen {
        kind: kind.to_owned(),
        handling,
        keeps_known,
        applied: sample.header("preference-applied").map(str::to_owned),
        known: honours(desk).await,
        between,
        sample,
    }
}

/// Whether a search for a record that there is not finds none: a server that leaves out what it knows,
/// too, says nothing of the way to it.
async fn keeps_known(desk: &Desk, kind: &str, all: &Sample) -> Option<bool> {
    let path = format!("{kind}?_id={UNKNOWN}&_summary=count");
    let none = sample::search(desk, &path, &[]).await;
    let (none, all) = (none.bundle()?, all.bundle()?);
    if none.self_link.as_deref().is_some_and(|link| !link.contains("_id")) {
        return Some(false);
    }
    match (none.total, all.total) {
        (Some(0), _) => Some(true),
        (Some(none), Some(all)) if none == all => Some(false),
        _ => None,
    }
}

/// Why this server is known to honour the preference.
async fn honours(desk: &Desk) -> Option<String> {
    let software = desk.report().await.software.clone().unwrap_or_default();
    known(&software, desk.server.vendor.as_deref())
}

fn known(software: &str, vendor: Option<&str>) -> Option<String> {
    let name = software.to_ascii_lowercase();
    if HONOURS.iter().any(|known| name.contains(known)) {
        return Some(software.to_owned());
    }
    vendor
        .filter(|vendor| {
            matches!(*vendor, "hapi" | "helios" | "smilecdr" | "firely" | "ms-fhir-server")
        })
        .map(|vendor| format!("a server of the kind {vendor}"))
}

impl PreferSeen {
    /// What is wrong: a server that is known to honour the preference did not. Many servers ignore it
    /// of their own, so nothing is said of others; and where nothing shows that somebody on the way
    /// took it, the server left the parameter out.
    pub(super) fn problem(&self) -> Option<Problem> {
        if !matches!(self.handling, Handling::LeftOut | Handling::Unnoticed) {
            return None;
        }
        let known = self.known.as_ref()?;
        if self.keeps_known != Some(true) && (self.between.is_empty() || self.keeps_known.is_some())
        {
            let also = match self.keeps_known {
                Some(_) => ", and so are parameters that every server knows",
                None => "",
            };
            return Some(Problem::new(
                Code::new("fhir.parameter_ignored"),
                format!(
                    "an unknown parameter is {}, though handling=strict was asked for{also}",
                    self.handling.as_str()
                ),
            ));
        }
        let traces = if self.between.is_empty() {
            String::new()
        } else {
            format!("; something stands in between ({})", self.between.join(", "))
        };
        Some(Problem::new(
            Code::new("network.prefer_stripped"),
            format!(
                "{known} honours Prefer: handling=strict, but an unknown parameter went through, and \
                 parameters that it knows are heeded: the header does not reach it{traces}"
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::known;

    #[test]
    fn only_servers_that_are_known_to_honour_it_are_held_to_it() {
        assert!(known("HAPI FHIR Server 7.2.0", None).is_some());
        assert!(known("fhirctl sandbox 0.1.0", None).is_some());
        assert!(known("Something Else", None).is_none());
        assert!(known("", Some("helios")).is_some());
        assert!(known("", Some("epic")).is_none());
    }
}
