//! A record as an `AuditEvent` of FHIR R4, for the audit repositories that take nothing else.

use serde_json::{Map, Value, json};

use super::record::{Action, Kind, Outcome, Record};

/// The vocabulary of DICOM, from which FHIR takes its event types.
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";

/// An `AuditEvent` (<https://hl7.org/fhir/R4/auditevent.html>).
#[must_use]
pub fn audit_event(record: &Record) -> Value {
    let mut event = Map::new();
    event.insert("resourceType".to_owned(), "AuditEvent".into());
    event.insert("id".to_owned(), id(record).into());
    event.insert(
        "type".to_owned(),
        json!({"system": DICOM, "code": "110100", "display": "Application Activity"}),
    );
    event.insert("subtype".to_owned(), json!([subtype(record)]));
    event.insert("action".to_owned(), action(record).into());
    event.insert("recorded".to_owned(), record.time.to_string().into());
    event.insert("outcome".to_owned(), outcome(record).into());
    if let Some(words) = outcome_words(record) {
        event.insert("outcomeDesc".to_owned(), words.into());
    }
    event.insert("agent".to_owned(), json!([agent(record)]));
    event.insert(
        "source".to_owned(),
        json!({
            "site": record.host,
            "observer": {"display": "fhirctl"},
            "type": [{
                "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
                "code": "9",
                "display": "Other",
            }],
        }),
    );
    event.insert("entity".to_owned(), entities(record).into());
    Value::Object(event)
}

/// Of letters that an id may have, and no other for the same record.
fn id(record: &Record) -> String {
    let hash: String = record.hash.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    format!("{}-{hash}", record.sequence)
}

fn subtype(record: &Record) -> Value {
    match record.kind {
        Kind::Command => {
            json!({"system": DICOM, "code": "110129", "display": "Security Configuration"})
        }
        Kind::Credential if record.action == Action::Resolved => {
            json!({"system": DICOM, "code": "110132", "display": "Use of Restricted Function"})
        }
        Kind::Credential => {
            json!({"system": DICOM, "code": "110135", "display": "Object Security Attributes Changed"})
        }
        Kind::Recovery => {
            json!({"system": DICOM, "code": "110101", "display": "Audit Log Used"})
        }
    }
}

fn action(record: &Record) -> &'static str {
    let creates = matches!(record.command.as_str(), "add" | "init");
    match record.action {
        Action::Changed if creates => "C",
        Action::Changed if record.command == "remove" => "D",
        Action::Changed | Action::Cut => "U",
        Action::Resolved | Action::Read => "R",
        Action::Stored => "C",
        Action::Deleted => "D",
    }
}

fn outcome(record: &Record) -> &'static str {
    match record.outcome {
        Outcome::Done => "0",
        Outcome::Refused => "4",
        Outcome::Failed => "8",
    }
}

fn outcome_words(record: &Record) -> Option<String> {
    match (record.outcome, &record.code, record.exit_code) {
        (Outcome::Done, ..) => None,
        (_, Some(code), _) => Some(code.clone()),
        (_, None, Some(exit)) => Some(format!("exit code {exit}")),
        (_, None, None) => None,
    }
}

fn agent(record: &Record) -> Value {
    json!({
        "type": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/extra-security-role-type",
            "code": "humanuser",
            "display": "human user",
        }]},
        "who": {"display": record.user},
        "altId": record.user,
        "name": record.user,
        "requestor": true,
        // Of type 1: the name of a machine.
        "network": {"address": record.host, "type": "1"},
    })
}

fn entities(record: &Record) -> Vec<Value> {
    let role = |code: &str, display: &str| {
        json!({
            "system": "http://terminology.hl7.org/CodeSystem/object-role",
            "code": code,
            "display": display,
        })
    };
    let system_object = json!({
        "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type",
        "code": "2",
        "display": "System Object",
    });
    let mut entities = Vec::new();
    if let Some(server) = &record.server {
        entities.push(json!({
            "what": {"display": server},
            "type": system_object,
            "role": role("17", "Data Repository"),
            "name": server,
        }));
    }
    if let Some(target) = record.target.as_deref().filter(|target| !target.is_empty()) {
        entities.push(json!({
            "what": {"display": target},
            "type": system_object,
            "role": match record.kind {
                Kind::Credential => role("13", "Security Resource"),
                Kind::Command | Kind::Recovery => role("5", "Master file"),
            },
            "name": target,
        }));
    }
    let detail = |name: &str, value: String| json!({"type": name, "valueString": value});
    entities.push(json!({
        "what": {"display": "audit log of fhirctl"},
        "type": system_object,
        "role": role("13", "Security Resource"),
        "name": "chain",
        "detail": [
            detail("command", record.command.clone()),
            detail("sequence", record.sequence.to_string()),
            detail("hash", record.hash.clone()),
            detail("previous", record.previous.clone()),
        ],
    }));
    entities
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::chain;
    use super::*;

    fn record() -> Record {
        serde_json::from_str(&chain(1)[0]).unwrap()
    }

    #[test]
    fn what_fhir_demands_is_there() {
        let event = audit_event(&record());
        for must in ["/type/code", "/recorded", "/agent/0/requestor", "/source/observer"] {
            assert!(event.pointer(must).is_some(), "{must}: {event}");
        }
        assert_eq!(event["recorded"], "2026-11-01T10:00:00.123Z");
        assert_eq!(event.pointer("/agent/0/name").unwrap(), "ada");
        assert_eq!(event.pointer("/agent/0/network/address").unwrap(), "desk");
        assert_eq!(event.pointer("/entity/0/name").unwrap(), "ehr");
        assert_eq!(event.pointer("/entity/1/name").unwrap(), "key1");
    }

    #[test]
    fn outcome_and_action_have_their_codes() {
        let cases = [
            (Kind::Command, Action::Changed, "set", Outcome::Done, "U", "0"),
            (Kind::Command, Action::Changed, "add", Outcome::Refused, "C", "4"),
            (Kind::Command, Action::Changed, "remove", Outcome::Failed, "D", "8"),
            (Kind::Credential, Action::Resolved, "check", Outcome::Done, "R", "0"),
            (Kind::Credential, Action::Deleted, "remove", Outcome::Done, "D", "0"),
        ];
        for (kind, action, command, outcome, expected, code) in cases {
            let command = command.to_owned();
            let event = audit_event(&Record { kind, action, command, outcome, ..record() });
            assert_eq!((&event["action"], &event["outcome"]), (&expected.into(), &code.into()));
        }
    }

    #[test]
    fn nothing_is_empty_for_a_record_without_server_and_target() {
        let event = audit_event(&Record { server: None, target: None, ..record() });
        assert_eq!(event["entity"].as_array().unwrap().len(), 1);
        assert!(!event.to_string().contains("null"), "{event}");
    }
}
