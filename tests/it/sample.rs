//! A run with one server of every kind, and with hostile texts where a server can place them.

use fhirctl::model::observation::{Accepted, Certificate, Finding, HttpFacts, Timing};
use fhirctl::model::{Code, Observation, Party, ServerReport, Severity, State, Status};
use fhirctl::render::CheckRun;
use fhirctl::view::check::Meta;
use jiff::Timestamp;

/// Breaks out of whatever does not escape it.
pub(crate) const HOSTILE: &str =
    "=1+1|<b a=\"x\">&'\\ \u{1b}[31m\u{9b}2J\u{202e}\u{0}\r\n`*_é\u{ffff}";

pub(crate) fn now() -> Timestamp {
    "2026-11-23T06:22:21.123456789Z".parse().unwrap()
}

pub(crate) fn meta() -> Meta {
    Meta {
        inventory: "servers.yaml".into(),
        run_id: "0198c0de".into(),
        recorded: false,
        notes: Vec::new(),
    }
}

/// A check that passed.
pub(crate) fn passed(name: &str) -> Observation {
    Observation {
        name: name.into(),
        status: Status::Healthy,
        code: None,
        message: format!("{name} is well"),
        party: None,
        attempts: 1,
        duration_ms: 41.25,
        timing: None,
        http: None,
        findings: Vec::new(),
        server_text: None,
        issue: None,
        hint: None,
        accepted: None,
        observed_at: now(),
        threshold_ms: None,
    }
}

/// A check that did not pass.
pub(crate) fn failed(name: &str, status: Status, code: &'static str, message: &str) -> Observation {
    Observation {
        status,
        code: Some(Code::new(code)),
        message: message.into(),
        party: Some(Party::Vendor),
        hint: Some("Ask the server's operator, with the request id at hand.".into()),
        ..passed(name)
    }
}

/// A server with its checks; its status is the worst of those that count.
pub(crate) fn report(name: &str, checks: Vec<Observation>) -> ServerReport {
    let status = Status::worst(checks.iter().filter(|c| c.counts()).map(|c| c.status));
    let decisive = checks.iter().find(|c| c.counts() && c.status == status && c.code.is_some());
    ServerReport {
        name: name.into(),
        url: format!("https://{name}.example.org/fhir"),
        vendor: Some("hapi".into()),
        state: State::Active,
        status,
        code: decisive.and_then(|c| c.code),
        message: decisive.map_or("all checks passed".into(), |c| c.message.clone()),
        party: decisive.and_then(|c| c.party),
        duration_ms: 6290.4,
        fhir_version: Some("4.0.1".into()),
        software: Some("HAPI FHIR Server 8.0.0".into()),
        certificate: Some(Certificate {
            not_after: "2027-01-23T00:00:00Z".parse().unwrap(),
            days_left: 61,
            subject: "CN=fhir.example.org".into(),
            issuer: "CN=Example Issuing CA".into(),
            sha256: "00".repeat(32),
        }),
        certificate_threshold_days: Some((21.0, 3.0)),
        checks,
    }
}

fn slow_metadata() -> Observation {
    Observation {
        duration_ms: 6204.1,
        threshold_ms: Some((5000.0, 15000.0)),
        timing: Some(Timing {
            dns_ms: Some(1.1),
            connect_ms: Some(9.7),
            tls_ms: Some(31.0),
            first_byte_ms: Some(6150.2),
            transfer_ms: Some(12.1),
            total_ms: 6204.1,
        }),
        http: Some(HttpFacts {
            status: Some(200),
            version: Some("h2".into()),
            wire_bytes: 9211,
            body_bytes: 92971,
            content_type: Some("application/fhir+json".into()),
            request_id: Some("fhirctl-1".into()),
            remote_address: Some("198.51.100.7:443".into()),
            server_date: Some("2026-11-23T06:22:26Z".parse().unwrap()),
            clock_skew_ms: Some(-5000),
            ..HttpFacts::default()
        }),
        findings: vec![Finding {
            id: "CS-13".into(),
            severity: Severity::Warning,
            message: "The statement declares no security service, although sign-in is needed."
                .into(),
        }],
        ..failed("metadata", Status::Warning, "perf.slow", "metadata took 6.2 s, warning above 5 s")
    }
}

/// Servers: healthy, slow, refused, without a credential, accepted, hostile, in maintenance.
pub(crate) fn reports() -> Vec<ServerReport> {
    let retried =
        Observation { attempts: 3, message: "the third attempt passed".into(), ..passed("health") };
    let accepted = Observation {
        accepted: Some(Accepted {
            reason: "vendor case 88".into(),
            until: Some("2027-03-31".parse().unwrap()),
        }),
        ..failed(
            "search",
            Status::Warning,
            "fhir.parameter_ignored",
            "the server left out a parameter that was sent",
        )
    };
    let skipped = |name| failed(name, Status::Unknown, "check.skipped", "tcp broke before");
    let hostile = Observation {
        message: HOSTILE.into(),
        hint: Some(HOSTILE.into()),
        server_text: Some(HOSTILE.into()),
        ..failed("search[1]", Status::Critical, "fhir.search_failed", "")
    };
    let mut resting = report(
        "lab-old",
        vec![failed("tcp", Status::Critical, "tcp.refused", "connection refused")],
    );
    resting.state = State::Maintenance;
    vec![
        report("hapi", vec![passed("dns"), retried, passed("metadata")]),
        report("epic-prod", vec![passed("health"), slow_metadata()]),
        ServerReport {
            certificate: None,
            fhir_version: None,
            software: None,
            vendor: None,
            ..report(
                "imaging",
                vec![
                    passed("dns"),
                    failed(
                        "tcp",
                        Status::Critical,
                        "tcp.refused",
                        "203.0.113.9:443 refused the connection",
                    ),
                    skipped("tls"),
                    skipped("metadata"),
                ],
            )
        },
        report(
            "cerner",
            vec![
                failed(
                    "auth",
                    Status::Unknown,
                    "auth.credential_missing",
                    "keyring:cerner/password is not in the keyring",
                ),
                passed("metadata"),
            ],
        ),
        report("helios", vec![passed("metadata"), accepted]),
        report("hostile", vec![hostile]),
        resting,
    ]
}

/// A run over servers, with the exit code of its status.
pub(crate) fn run(reports: Vec<ServerReport>) -> CheckRun {
    let counted = reports.iter().filter(|report| report.state != State::Maintenance);
    let status = Status::worst(counted.map(|report| report.status));
    CheckRun {
        command: "check",
        status,
        exit_code: status.exit_code(),
        warning_fails: true,
        include_maintenance: false,
        generated_at: now(),
        duration_ms: 6301.0,
        reports,
    }
}
