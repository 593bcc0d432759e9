//! Faults as rows: a name, how its value is written, and what it does.

use std::time::Duration;

use super::strike::{Share, Window};
use crate::model::text::nearest;
use crate::serve::HeaderValue;

/// What a fault does to a request that it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The answer is held back.
    Latency(Duration),
    /// The answer is this status with an OperationOutcome.
    Status(u16),
    Drop,
    Reset,
    Truncate,
    Garbage,
    /// One byte of the answer per interval.
    SlowDrip(Duration),
    Endless,
    Bomb,
    ContentType(String),
    Redirect(String),
    CertificateExpired,
    CertificateWrongHost,
    CertificateSelfSigned,
    RateLimited(RetryAfter),
    HealthDown,
    OutcomeError,
    LoginPage,
    IgnoreParameters,
    EmptySearch,
    PagingLoop,
    PlainLinks,
    PreferLost,
}

/// The two forms of `Retry-After` (RFC 9110, section 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    Seconds(u32),
    /// As an HTTP date, half a minute from the request on.
    Date,
}

/// One kind of fault.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// How it is written after the name; empty: it takes no value.
    pub value: &'static str,
    pub about: &'static str,
    make: fn(Option<&str>) -> Result<Effect, String>,
}

/// Every kind, in the order in which they are listed to people.
pub static KINDS: &[Kind] = &[
    Kind {
        name: "latency",
        value: "=DURATION",
        about: "holds every answer back",
        make: |value| Ok(Effect::Latency(duration(needed(value)?)?)),
    },
    Kind {
        name: "status",
        value: "=CODE",
        about: "answers this HTTP status with an OperationOutcome",
        make: |value| match needed(value)?.parse() {
            Ok(code @ 200..=599) => Ok(Effect::Status(code)),
            _ => Err("its value is an HTTP status from 200 to 599".into()),
        },
    },
    Kind {
        name: "drop",
        value: "",
        about: "closes the connection without an answer",
        make: |value| none(value, Effect::Drop),
    },
    Kind {
        name: "reset",
        value: "",
        about: "resets the connection (TCP RST) without an answer",
        make: |value| none(value, Effect::Reset),
    },
    Kind {
        name: "truncate",
        value: "",
        about: "promises the whole body, sends half of it and closes",
        make: |value| none(value, Effect::Truncate),
    },
    Kind {
        name: "garbage",
        value: "",
        about: "answers 200 as FHIR JSON with bytes that are none",
        make: |value| none(value, Effect::Garbage),
    },
    Kind {
        name: "slow-drip",
        value: "[=DURATION]",
        about: "sends one byte of the body per interval, 200ms unless said",
        make: |value| match value {
            Some(value) => Ok(Effect::SlowDrip(duration(value)?)),
            None => Ok(Effect::SlowDrip(Duration::from_millis(200))),
        },
    },
    Kind {
        name: "endless",
        value: "",
        about: "sends a body that never ends",
        make: |value| none(value, Effect::Endless),
    },
    Kind {
        name: "bomb",
        value: "",
        about: "sends a few MB of gzip that expand to 4 GiB, asked for or not",
        make: |value| none(value, Effect::Bomb),
    },
    Kind {
        name: "content-type",
        value: "=TYPE",
        about: "labels the true answer with another Content-Type",
        make: |value| {
            let value = needed(value)?;
            match HeaderValue::from_str(value) {
                Ok(_) => Ok(Effect::ContentType(value.to_owned())),
                Err(_) => Err("its value is a media type such as text/plain".into()),
            }
        },
    },
    Kind {
        name: "redirect",
        value: "=URL",
        about: "answers 302 to another place",
        make: |value| {
            let value = needed(value)?;
            let fits = value.starts_with('/') || url::Url::parse(value).is_ok();
            match HeaderValue::from_str(value) {
                Ok(_) if fits => Ok(Effect::Redirect(value.to_owned())),
                _ => Err("its value is a URL, or a path with a leading slash".into()),
            }
        },
    },
    Kind {
        name: "certificate-expired",
        value: "",
        about: "shows a certificate that ended yesterday (implies TLS)",
        make: |value| none(value, Effect::CertificateExpired),
    },
    Kind {
        name: "certificate-wrong-host",
        value: "",
        about: "shows a certificate of another host (implies TLS)",
        make: |value| none(value, Effect::CertificateWrongHost),
    },
    Kind {
        name: "certificate-self-signed",
        value: "",
        about: "shows a certificate that nobody else signed (implies TLS)",
        make: |value| none(value, Effect::CertificateSelfSigned),
    },
    Kind {
        name: "rate-limited",
        value: "=SECONDS|date",
        about: "answers 429 with Retry-After in seconds or as a date",
        make: |value| match needed(value)? {
            "date" => Ok(Effect::RateLimited(RetryAfter::Date)),
            seconds => match seconds.parse() {
                Ok(seconds) => Ok(Effect::RateLimited(RetryAfter::Seconds(seconds))),
                Err(_) => Err("its value is a number of seconds, or the word date".into()),
            },
        },
    },
    Kind {
        name: "health-down",
        value: "",
        about: "the health endpoint says DOWN, with status 200",
        make: |value| none(value, Effect::HealthDown),
    },
    Kind {
        name: "outcome-error",
        value: "",
        about: "answers 200 with an OperationOutcome that tells of an error",
        make: |value| none(value, Effect::OutcomeError),
    },
    Kind {
        name: "login-page",
        value: "",
        about: "answers 200 with an HTML page that asks for a password",
        make: |value| none(value, Effect::LoginPage),
    },
    Kind {
        name: "ignore-parameters",
        value: "",
        about: "searches ignore what they are asked for, and their self link shows it",
        make: |value| none(value, Effect::IgnoreParameters),
    },
    Kind {
        name: "empty-search",
        value: "",
        about: "searches find nothing",
        make: |value| none(value, Effect::EmptySearch),
    },
    Kind {
        name: "paging-loop",
        value: "",
        about: "every page of a search names itself as the next one",
        make: |value| none(value, Effect::PagingLoop),
    },
    Kind {
        name: "plain-links",
        value: "",
        about: "links in answers to searches lead to plain HTTP, as behind a proxy that ends TLS",
        make: |value| none(value, Effect::PlainLinks),
    },
    Kind {
        name: "prefer-lost",
        value: "",
        about: "the header Prefer does not arrive, as behind a proxy that strips it",
        make: |value| none(value, Effect::PreferLost),
    },
];

/// A fault with its share of the requests, its place and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub effect: Effect,
    pub share: Share,
    /// Paths that it strikes, from the FHIR base or from the root; `*` stands for anything, and
    /// without one the path is a beginning. `None`: all.
    pub path: Option<String>,
    pub window: Window,
}

impl Fault {
    /// A fault for all requests, all the time.
    #[must_use]
    pub fn always(effect: Effect) -> Fault {
        Fault { effect, share: Share::ALL, path: None, window: Window::default() }
    }

    /// Reads `KIND[=VALUE][@SHARE]`.
    ///
    /// # Errors
    /// What is wrong and what would be right, in one sentence.
    pub fn parse(text: &str) -> Result<Fault, String> {
        let (name, value, share) = match text.split_once('=') {
            // A value may hold an @ of its own: only a number behind the last one is a share.
            Some((name, rest)) => match rest.rsplit_once('@') {
                Some((value, share)) if share.parse::<f64>().is_ok() => {
                    (name, Some(value), Some(share))
                }
                _ => (name, Some(rest), None),
            },
            None => match text.split_once('@') {
                Some((name, share)) => (name, None, Some(share)),
                None => (text, None, None),
            },
        };
        let effect = Effect::make(name.trim(), value.map(str::trim))?;
        let share = match share {
            Some(share) => Share::new(share.trim().parse().unwrap_or(f64::NAN))?,
            None => Share::ALL,
        };
        Ok(Fault { share, ..Fault::always(effect) })
    }
}

impl Effect {
    /// From a kind's name and its value.
    ///
    /// # Errors
    /// What is wrong and what would be right, in one sentence.
    pub fn make(name: &str, value: Option<&str>) -> Result<Effect, String> {
        let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
            return Err(match nearest(name, KINDS.iter().map(|kind| kind.name)) {
                Some(near) => format!("no such fault: {name}; did you mean {near}?"),
                None => {
                    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
                    format!("no such fault: {name}; there are {}", names.join(", "))
                }
            });
        };
        (kind.make)(value)
            .map_err(|reason| format!("{}: {reason}; write {}{}", kind.name, kind.name, kind.value))
    }

    /// Whether it is about the handshake and not about a request.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        matches!(
            self,
            Effect::CertificateExpired
                | Effect::CertificateWrongHost
                | Effect::CertificateSelfSigned
        )
    }
}

fn needed(value: Option<&str>) -> Result<&str, String> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| "it needs a value".into())
}

fn none(value: Option<&str>, effect: Effect) -> Result<Effect, String> {
    match value {
        None => Ok(effect),
        Some(_) => Err("it takes no value".into()),
    }
}

/// `250ms`, `2s`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= Duration::from_secs(86_400) => Ok(duration),
        Ok(_) => Err("at most a day".into()),
        Err(_) => Err(format!("{text:?} is no duration; write 250ms, 2s or 1m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        use Effect as E;
        let table: &[(&str, Effect)] = &[
            ("latency=2s", E::Latency(Duration::from_secs(2))),
            ("status=503", E::Status(503)),
            ("drop", E::Drop),
            ("reset", E::Reset),
            ("truncate", E::Truncate),
            ("garbage", E::Garbage),
            ("slow-drip", E::SlowDrip(Duration::from_millis(200))),
            ("slow-drip=1s", E::SlowDrip(Duration::from_secs(1))),
            ("endless", E::Endless),
            ("bomb", E::Bomb),
            (
                "content-type=text/html; charset=utf-8",
                E::ContentType("text/html; charset=utf-8".into()),
            ),
            ("redirect=http://127.0.0.2:1/x?a=b", E::Redirect("http://127.0.0.2:1/x?a=b".into())),
            ("certificate-expired", E::CertificateExpired),
            ("certificate-wrong-host", E::CertificateWrongHost),
            ("certificate-self-signed", E::CertificateSelfSigned),
            ("rate-limited=7", E::RateLimited(RetryAfter::Seconds(7))),
            ("rate-limited=date", E::RateLimited(RetryAfter::Date)),
            ("health-down", E::HealthDown),
            ("outcome-error", E::OutcomeError),
            ("login-page", E::LoginPage),
            ("ignore-parameters", E::IgnoreParameters),
            ("empty-search", E::EmptySearch),
            ("paging-loop", E::PagingLoop),
            ("plain-links", E::PlainLinks),
            ("prefer-lost", E::PreferLost),
        ];
        for (text, effect) in table {
            assert_eq!(Fault::parse(text), Ok(Fault::always(effect.clone())), "{text}");
        }
        let written: std::collections::BTreeSet<_> =
            table.iter().map(|(text, _)| text.split('=').next().unwrap()).collect();
        let known: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(written, known);
    }

    #[test]
    fn a_share_follows_the_last_at_sign() {
        let share = |text| Fault::parse(text).unwrap().share;
        assert_eq!(share("drop@0.2"), Share::new(0.2).unwrap());
        assert_eq!(share("latency=2s@0.5"), Share::new(0.5).unwrap());
        let fault = Fault::parse("redirect=https://a@h.example/x@0.25").unwrap();
        assert_eq!(fault.effect, Effect::Redirect("https://a@h.example/x".into()));
        assert_eq!(fault.share, Share::new(0.25).unwrap());
    }

    #[test]
    fn a_wrong_fault_says_what_would_be_right() {
        for (text, part) in [
            ("latencie=2s", "did you mean latency?"),
            ("nonsense", "there are latency, status"),
            ("latency", "it needs a value; write latency=DURATION"),
            ("latency=soon", "write 250ms, 2s or 1m"),
            ("status=99", "200 to 599"),
            ("status=teapot", "200 to 599"),
            ("drop=1", "it takes no value"),
            ("drop@1.5", "above 0 and not above 1"),
            ("drop@0", "above 0 and not above 1"),
            ("drop@often", "above 0 and not above 1"),
            ("rate-limited=soon", "or the word date"),
            ("redirect=nowhere", "a path with a leading slash"),
            ("", "no such fault"),
        ] {
            let reason = Fault::parse(text).unwrap_err();
            assert!(reason.contains(part), "{text}: {reason}");
        }
    }
}
