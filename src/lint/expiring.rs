//! What ends within a time: certificates, secrets, keys, pins, approvals.
//!
//! The arithmetic is here; the command brings the certificates that it saw and read.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{after, days_left, end_of};
use crate::model::server::{Auth, AzureProof, Server};

/// A kind of thing that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    ServerCertificate,
    ClientCertificate,
    CaCertificate,
    Secret,
    Key,
    Pin,
    Approval,
}

impl Kind {
    /// As it stands in the output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ServerCertificate => "server-certificate",
            Kind::ClientCertificate => "client-certificate",
            Kind::CaCertificate => "ca-certificate",
            Kind::Secret => "secret",
            Kind::Key => "key",
            Kind::Pin => "pin",
            Kind::Approval => "approval",
        }
    }
}

/// How near an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// It has ended.
    Ended,
    /// Within `tls.expiry.critical` of the server.
    Critical,
    /// Within the time that was asked for.
    Ending,
}

impl Urgency {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Urgency::Ended => "ended",
            Urgency::Critical => "critical",
            Urgency::Ending => "ending",
        }
    }
}

/// One thing that ends within the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ending {
    pub server: String,
    pub kind: Kind,
    /// What it is, without a secret.
    pub what: String,
    /// `None` for a pin that matches nothing any more.
    pub ends: Option<Timestamp>,
    /// Whole days; negative once it has ended.
    pub days_left: Option<i64>,
    pub status: Urgency,
    /// What to do, a command where there is one.
    pub action: String,
}

/// A certificate as far as its end is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is for, in a few words: its subject or its file.
    pub name: String,
    pub not_after: Timestamp,
    /// Base64 of the SHA-256 of its public key, as pins have it.
    pub pin: Option<String>,
}

/// What is known of one server beside its entry.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The chain that the server presented, its own certificate first; `None`: nobody looked.
    pub presented: Option<Vec<Seen>>,
    /// Of `tls.client_certificate`.
    pub client: Vec<Seen>,
    /// Of `tls.ca`.
    pub authorities: Vec<Seen>,
    /// Since when the present secret or key is in place.
    pub credential_since: Option<Timestamp>,
}

/// What of a server ends within a time, the soonest first.
#[must_use]
pub fn endings(
    server: &Server,
    evidence: &Evidence,
    now: Timestamp,
    within: Duration,
) -> Vec<Ending> {
    let mut list = List { server, now, within, endings: Vec::new() };
    list.certificates(evidence);
    list.pins(evidence);
    list.credential(evidence);
    list.approvals();
    list.endings.sort_by_key(|ending| ending.ends);
    list.endings
}

struct List<'a> {
    server: &'a Server,
    now: Timestamp,
    within: Duration,
    endings: Vec<Ending>,
}

impl List<'_> {
    fn certificates(&mut self, evidence: &Evidence) {
        let name = self.server.name.clone();
        for seen in evidence.presented.iter().flatten().take(1) {
            let action =
                format!("have its operator renew it, then fhirctl check {name} --only tls");
            self.add(Kind::ServerCertificate, &seen.name, seen.not_after, action);
        }
        for seen in &evidence.client {
            let action = format!("fhirctl auth rotate {name} --certificate");
            self.add(Kind::ClientCertificate, &seen.name, seen.not_after, action);
        }
        for seen in &evidence.authorities {
            let action = "put the authority's new certificate into the file of tls.ca".to_owned();
            self.add(Kind::CaCertificate, &seen.name, seen.not_after, action);
        }
    }

    /// A last pin lives as long as the certificate whose key it is: the next one may bring another
    /// key.
    fn pins(&mut self, evidence: &Evidence) {
        let pins = &self.server.tls.pins;
        let Some(chain) = evidence.presented.as_ref().filter(|_| !pins.is_empty()) else { return };
        let action = format!("fhirctl auth pins accept {}", self.server.name);
        let matching = chain.iter().find(|seen| {
            let pinned =
                |pin: &str| pins.iter().any(|known| known.trim_start_matches("sha256/") == pin);
            seen.pin.as_deref().is_some_and(pinned)
        });
        match matching {
            None => self.endings.push(Ending {
                server: self.server.name.clone(),
                kind: Kind::Pin,
                what: "no pin is of a key that the server presents".to_owned(),
                ends: None,
                days_left: None,
                status: Urgency::Ended,
                action,
            }),
            Some(seen) if pins.len() == 1 => {
                self.add(Kind::Pin, "the only pin, none in reserve", seen.not_after, action);
            }
            Some(_) => {}
        }
    }

    fn credential(&mut self, evidence: &Evidence) {
        let (kind, what) = credential(&self.server.auth);
        let action = format!("fhirctl auth rotate {}", self.server.name);
        if let Some((day, end)) =
            self.server.sign_in.expires.and_then(|day| Some((day, end_of(day)?)))
        {
            self.add(kind, &format!("{what}, last day {day}"), end, action.clone());
        }
        // Without a policy of its own nothing ends; lint holds it against the usual one.
        if let (Some(since), Some(max_age)) =
            (evidence.credential_since, self.server.sign_in.max_age)
        {
            let days = max_age.as_secs() / 86_400;
            let what = format!("{what}, {days} days old (auth.max_age)");
            self.add(kind, &what, after(since, max_age), action);
        }
    }

    fn approvals(&mut self) {
        let name = self.server.name.clone();
        let terms = self.server.terms.as_ref();
        if let Some(end) = terms.and_then(|terms| terms.until).and_then(end_of) {
            let action =
                format!("renew the approval, then fhirctl set {name} terms.until=YYYY-MM-DD");
            self.add(Kind::Approval, "terms", end, action);
        }
        for entry in &self.server.accept {
            if let Some(end) = entry.until.and_then(end_of) {
                let action = if end <= self.now {
                    format!("fhirctl lint {name} --fix")
                } else {
                    "look whether the trouble is still there, then change accept".to_owned()
                };
                self.add(Kind::Approval, &format!("accept {}", entry.code), end, action);
            }
        }
    }

    /// Takes it up when it ends within the time.
    fn add(&mut self, kind: Kind, what: &str, end: Timestamp, action: String) {
        let critical = after(self.now, self.server.tls.expiry_critical);
        let status = if end <= self.now {
            Urgency::Ended
        } else if end > after(self.now, self.within) {
            return;
        } else if end <= critical {
            Urgency::Critical
        } else {
            Urgency::Ending
        };
        self.endings.push(Ending {
            server: self.server.name.clone(),
            kind,
            what: crate::model::text::one_line(what),
            ends: Some(end),
            days_left: Some(days_left(self.now, end)),
            status,
            action,
        });
    }
}

/// What a sign-in keeps secret.
fn credential(auth: &Auth) -> (Kind, &'static str) {
    match auth {
        Auth::SmartBackend(_) => (Kind::Key, "private key"),
        Auth::Azure(azure) if matches!(azure.proof, AzureProof::Certificate(_)) => {
            (Kind::Key, "certificate with key")
        }
        Auth::Azure(_) | Auth::OAuth2(_) => (Kind::Secret, "client secret"),
        Auth::Google(_) => (Kind::Key, "service account's key"),
        Auth::AwsSigv4(_) => (Kind::Key, "access key"),
        Auth::Basic { .. } => (Kind::Secret, "password"),
        Auth::Bearer { .. } => (Kind::Secret, "token"),
        Auth::ApiKey { .. } => (Kind::Secret, "API key"),
        Auth::Headers(_) | Auth::None | Auth::Mtls => (Kind::Secret, "secret"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Overrides, parse};

    const DAY: Duration = Duration::from_secs(86_400);

    fn found(entry: &str, evidence: &Evidence) -> Vec<(Kind, Option<i64>, Urgency)> {
        let text = format!(
            "version: 1\nservers:\n  - {{name: a, url: 'https://a.example.org', {entry}}}\n"
        );
        let inventory =
            parse(&text, std::path::Path::new("servers.yaml"), &Overrides::default()).unwrap();
        let now = "2026-11-01T12:00:00Z".parse().unwrap();
        endings(&inventory.servers[0], evidence, now, 30 * DAY)
            .into_iter()
            .map(|ending| (ending.kind, ending.days_left, ending.status))
            .collect()
    }

    fn seen(not_after: &str, pin: &str) -> Seen {
        Seen {
            name: "CN=a".into(),
            not_after: not_after.parse().unwrap(),
            pin: Some(pin.to_owned()),
        }
    }

    #[test]
    fn what_ends_within_the_time_is_told_by_its_urgency() {
        use Urgency::{Critical, Ended, Ending};
        let backend = |more: &str| {
            format!("auth: {{method: smart-backend, client_id: x, key: 'keyring:a/k', {more}}}")
        };
        let since = |at: &str| Evidence {
            credential_since: Some(at.parse().unwrap()),
            ..Evidence::default()
        };
        let accept =
            |day: &str| format!("accept: [{{code: tcp.refused, reason: x, until: {day}}}]");
        let none = Evidence::default();
        for (entry, evidence, expected) in [
            (backend("expires: 2026-12-01"), &none, vec![]),
            (backend("expires: 2026-11-30"), &none, vec![(Kind::Key, Some(29), Ending)]),
            (backend("expires: 2026-11-01"), &none, vec![(Kind::Key, Some(0), Critical)]),
            (backend("expires: 2026-10-31"), &none, vec![(Kind::Key, Some(-1), Ended)]),
            (
                backend("max_age: 90d"),
                &since("2026-08-20T12:00:00Z"),
                vec![(Kind::Key, Some(17), Ending)],
            ),
            (backend("max_age: 90d"), &since("2026-10-20T12:00:00Z"), vec![]),
            (backend("key_id: k"), &since("2020-10-20T12:00:00Z"), vec![]),
            (accept("2026-11-20"), &none, vec![(Kind::Approval, Some(19), Ending)]),
            (accept("2027-11-20"), &none, vec![]),
            (
                "terms: {approved_by: Legal, reference: C-1, until: 2026-11-05}".to_owned(),
                &none,
                vec![(Kind::Approval, Some(4), Ending)],
            ),
            (
                "tls: {expiry: {warning: 30d, critical: 20d}}".to_owned(),
                &Evidence {
                    presented: Some(vec![
                        seen("2026-11-15T12:00:00Z", "x"),
                        seen("2026-11-02T12:00:00Z", "y"),
                    ]),
                    client: vec![seen("2026-11-25T12:00:00Z", "x")],
                    authorities: vec![seen("2026-10-01T12:00:00Z", "x")],
                    ..Evidence::default()
                },
                vec![
                    (Kind::CaCertificate, Some(-31), Ended),
                    (Kind::ServerCertificate, Some(14), Critical),
                    (Kind::ClientCertificate, Some(24), Ending),
                ],
            ),
        ] {
            assert_eq!(found(&entry, evidence), expected, "{entry}");
        }
    }

    #[test]
    fn the_last_pin_ends_with_its_certificate_and_a_lost_one_has_ended() {
        const ONE: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        const TWO: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        let both = format!("tls: {{pins: ['sha256/{ONE}', 'sha256/{TWO}']}}");
        let one = format!("tls: {{pins: ['sha256/{ONE}']}}");
        let far = "2028-01-01T00:00:00Z";
        let near = "2026-11-20T12:00:00Z";
        let lost = (Kind::Pin, None, Urgency::Ended);
        let certificate = (Kind::ServerCertificate, Some(19), Urgency::Ending);
        let last = (Kind::Pin, Some(19), Urgency::Ending);
        for (entry, chain, expected) in [
            (&both, Some(vec![seen(far, "other")]), vec![lost]),
            (&both, Some(vec![seen(far, "other"), seen(far, TWO)]), vec![]),
            (&one, Some(vec![seen(far, ONE)]), vec![]),
            (&one, Some(vec![seen(near, ONE)]), vec![certificate, last]),
            (&both, Some(vec![seen(near, ONE)]), vec![certificate]),
            (&one, None, vec![]),
        ] {
            let evidence = Evidence { presented: chain.clone(), ..Evidence::default() };
            assert_eq!(found(entry, &evidence), expected, "{entry} {chain:?}");
        }
    }
}
