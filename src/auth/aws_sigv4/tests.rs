//! Signatures held against those of AWS's own library, and keys from places on loopback.

use std::path::Path;

use http::header::{HeaderMap, HeaderName, HeaderValue as Value};
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::keys::Keys;
use super::signature::{self, Scope};
use crate::http::Unsigned;
use crate::model::Secret;

/// One request that botocore signed.
#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    url: String,
    headers: std::collections::BTreeMap<String, String>,
    body: Option<String>,
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
    region: String,
    service: String,
    amz_date: String,
    authorization: String,
}

/// What botocore never signs.
const NOT_SIGNED: [&str; 14] = [
    "baggage",
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
];

impl Case {
    fn unsigned(&self) -> Unsigned {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, Value::from_str(value).unwrap());
        }
        Unsigned {
            method: self.method.parse().unwrap(),
            url: Url::parse(&self.url).unwrap(),
            headers,
            body: self.body.clone().unwrap_or_default().into_bytes(),
        }
    }

    fn keys(&self) -> Keys {
        let secret = |text: &str| Secret::new(text.to_owned());
        let token = self.session_token.as_deref().map(secret);
        Keys::new("test", secret(&self.access_key), secret(&self.secret_key), token, None).unwrap()
    }

    fn at(&self) -> Timestamp {
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &self.amz_date).unwrap();
        at.in_tz("UTC").unwrap().timestamp()
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/sigv4");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path).unwrap();
            let read: Vec<Case> = serde_json::from_str(&text).unwrap();
            cases.extend(read);
        }
    }
    assert!(cases.len() >= 20, "the matrix is found");
    cases
}

#[test]
fn every_signature_equals_botocores() {
    let mut differ = Vec::new();
    for case in cases() {
        let scope = Scope { region: &case.region, service: &case.service };
        let covers = |name: &str| !NOT_SIGNED.contains(&name);
        let added =
            signature::headers(&case.unsigned(), &case.keys(), scope, case.at(), covers).unwrap();
        let header = |name: &str| {
            added.iter().find(|(added, _)| added == name).map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(header("x-amz-date"), Some(case.amz_date.as_str()), "{}", case.name);
        assert_eq!(header("x-amz-security-token"), case.session_token.as_deref(), "{}", case.name);
        if header("authorization") != Some(case.authorization.as_str()) {
            differ.push(format!(
                "{}\n  {}\n  {}",
                case.name,
                case.authorization,
                header("authorization").unwrap_or("none")
            ));
        }
    }
    assert!(differ.is_empty(), "\n{}", differ.join("\n"));
}

#[test]
fn what_proves_is_marked_sensitive_and_holds_no_secret_key() {
    for case in cases() {
        let scope = Scope { region: &case.region, service: &case.service };
        let added = signature::headers(&case.unsigned(), &case.keys(), scope, case.at(), |_| false)
            .unwrap();
        for (name, value) in added {
            assert!(name == "x-amz-date" || value.is_sensitive(), "{name}");
            assert!(!value.to_str().unwrap().contains(&case.secret_key), "{name}");
        }
    }
}
