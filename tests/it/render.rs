//! Every format of a run, each held against what its consumer takes.

use assert_cmd::Command;
use fhirctl::model::Status;
use fhirctl::render::{Format, Output, Style, render};
use fhirctl::view;
use serde_json::Value;

use crate::sample;

fn drawn(output: &Output, format: Format) -> String {
    render(output, format, Style { color: false, width: None }).unwrap()
}

fn checked(format: Format) -> String {
    drawn(&view::check::output(sample::run(sample::reports()), sample::meta()), format)
}

fn tested(server: &str, format: Format) -> String {
    let report = sample::reports().into_iter().find(|report| report.name == server).unwrap();
    drawn(&view::test::output(report, 2, sample::now(), &sample::meta()).unwrap(), format)
}

#[track_caller]
fn fits(name: &str, document: &Value) {
    let (_, schema) =
        view::schemas().into_iter().find(|(known, _)| *known == name).expect("a schema");
    let schema = schema();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn fhirctl() -> Command {
    let mut command = Command::cargo_bin("fhirctl").unwrap();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FHIRCTL_") {
            command.env_remove(name);
        }
    }
    command.env_remove("COMPLETE").env_remove("NO_COLOR");
    command
}

#[test]
fn json_holds_what_is_promised_in_the_promised_order() {
    let json: Value = serde_json::from_str(&checked(Format::Json)).unwrap();
    fits("check", &json);
    assert_eq!(
        keys(&json),
        [
            "schema",
            "fhirctl_version",
            "run_id",
            "generated_at",
            "inventory",
            "status",
            "exit_code",
            "recorded",
            "notes",
            "summary",
            "servers"
        ]
    );
    assert_eq!(json["schema"], "fhirctl/check/v1");
    assert_eq!(json["generated_at"], "2026-11-23T06:22:21.123Z");
    assert_eq!(json["status"], "critical");
    assert_eq!(
        json["summary"],
        serde_json::json!({"total": 7, "healthy": 2, "warning": 1, "critical": 2, "unknown": 1, "maintenance": 1, "skipped": 0})
    );
    let slow = &json["servers"][1];
    for key in [
        "name",
        "url",
        "vendor",
        "state",
        "status",
        "code",
        "message",
        "party",
        "duration_ms",
        "fhir_version",
        "software",
        "certificate",
        "checks",
    ] {
        assert!(slow.get(key).is_some(), "{key}");
    }
    assert_eq!(slow["certificate"]["days_left"], 61);
    assert_eq!(slow["checks"][1]["timing"]["first_byte_ms"], 6150.2);
    assert_eq!(slow["checks"][0]["code"], Value::Null, "a healthy check has no code");
    let refused = &json["servers"][2];
    assert_eq!(keys(slow), keys(refused), "keys are there even when they have no value");
    assert_eq!(refused["certificate"], Value::Null);
}

#[test]
fn ndjson_is_one_server_a_line() {
    let text = checked(Format::Ndjson);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    for line in &lines {
        assert_eq!(line["schema"], "fhirctl/check-server/v1");
        fits("check-server", line);
    }
    assert_eq!(lines[0]["name"], "hapi");
}

#[test]
fn yaml_is_the_same_as_json() {
    let json: Value = serde_json::from_str(&checked(Format::Json)).unwrap();
    let yaml: Value = serde_yaml_value(&checked(Format::Yaml));
    assert_eq!(yaml, json);
}

fn serde_yaml_value(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn csv_is_one_check_a_row() {
    let text = checked(Format::Csv);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(
        reader.headers().unwrap(),
        vec!["server", "check", "status", "code", "duration_ms", "message"]
    );
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(
        rows.len(),
        sample::reports().iter().map(|report| report.checks.len()).sum::<usize>()
    );
    for row in &rows {
        for cell in row {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?}");
        }
    }
}

#[test]
fn markdown_rows_have_as_many_cells_as_the_head() {
    for line in checked(Format::Markdown).lines() {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 7, "{line}");
        assert!(!line.contains("<b"), "{line}");
    }
}

/// The cases of a JUnit file: suite, case, and what stands in it.
pub fn cases(xml: &str) -> Vec<(String, String, String)> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    let attribute = |element: &quick_xml::events::BytesStart<'_>, name: &str| {
        let value = element.try_get_attribute(name).unwrap().unwrap();
        String::from_utf8(value.value.to_vec()).unwrap()
    };
    let (mut cases, mut suite) = (Vec::new(), String::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => return cases,
            Event::Start(element) | Event::Empty(element) => {
                match String::from_utf8(element.name().as_ref().to_vec()).unwrap().as_str() {
                    "testsuite" => suite = attribute(&element, "name"),
                    "testcase" => {
                        let name = attribute(&element, "name");
                        cases.push((suite.clone(), name, "passed".to_owned()));
                    }
                    outcome @ ("failure" | "error" | "skipped") => {
                        cases.last_mut().unwrap().2 = outcome.to_owned();
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn outcome(xml: &str, server: &str, check: &str) -> String {
    let found = cases(xml).into_iter().find(|(suite, case, _)| suite == server && case == check);
    found.expect("a case").2
}

#[test]
fn junit_tells_failures_errors_and_skipped_apart() {
    let xml = checked(Format::Junit);
    for (server, check, expected) in [
        ("hapi", "metadata", "passed"),
        ("epic-prod", "metadata", "failure"),
        ("imaging", "tcp", "failure"),
        ("imaging", "tls", "skipped"),
        ("cerner", "auth", "error"),
        ("helios", "search", "skipped"),
        ("lab-old", "tcp", "skipped"),
    ] {
        assert_eq!(outcome(&xml, server, check), expected, "{server} {check}");
    }
    assert!(
        xml.contains("<testsuites name=\"fhirctl check\" tests=\"15\" failures=\"3\" errors=\"1\"")
    );
    assert!(xml.contains("next: Ask the server&apos;s operator"), "the hint stands in the text");
    assert!(xml.chars().all(|c| c == '\n' || !c.is_control()), "{xml:?}");
}

#[test]
fn a_warning_fails_a_junit_case_only_when_it_fails_the_gate() {
    let mut run = sample::run(sample::reports());
    run.warning_fails = false;
    let xml = drawn(&view::check::output(run, sample::meta()), Format::Junit);
    assert_eq!(outcome(&xml, "epic-prod", "metadata"), "passed");
    assert_eq!(outcome(&xml, "imaging", "tcp"), "failure");
}

#[test]
fn nagios_gets_one_line_for_one_server() {
    let report = sample::reports().swap_remove(1);
    let text =
        drawn(&view::check::output(sample::run(vec![report]), sample::meta()), Format::Nagios);
    assert_eq!(
        text,
        "WARNING - epic-prod: perf.slow: metadata took 6.2 s, warning above 5 s | \
         time=6.2904s;;;0; health=0.04125s;;;0; metadata=6.2041s;5;15;0; \
         certificate_days=61;21:;3:;;\n"
    );
}

#[test]
fn nagios_gets_one_line_for_many_servers() {
    let text = checked(Format::Nagios);
    assert_eq!(text.matches('\n').count(), 1);
    assert_eq!(text.matches('|').count(), 1, "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(
        text.starts_with(
            "CRITICAL - 2 critical: imaging (tcp.refused), hostile (fhir.search_failed); \
             1 unknown: cerner (auth.credential_missing); 1 warning: epic-prod (perf.slow); \
             2 of 6 healthy; 1 in maintenance | total=7;;;0; healthy=2;;;0;7"
        ),
        "{text}"
    );
    assert!(text.contains(" 'epic-prod:metadata'=6.2041s;5;15;0; "), "{text}");
}

#[test]
fn a_nagios_line_stays_below_what_nagios_reads() {
    let reports = (0..500)
        .map(|n| sample::report(&format!("server-{n}"), vec![sample::passed("metadata")]))
        .collect();
    let text = drawn(&view::check::output(sample::run(reports), sample::meta()), Format::Nagios);
    assert!(text.len() <= 8192, "{}", text.len());
    assert!(text.starts_with("OK - 500 servers healthy | total=500;;;0; healthy=500;;;0;500"));
}

#[test]
fn openmetrics_families_are_whole_and_named_once() {
    let text = checked(Format::Openmetrics);
    assert!(text.ends_with("\n# EOF\n"));
    let mut seen: Vec<&str> = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap();
            assert!(!seen.contains(&name), "{name} twice");
            seen.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest, format!("{} gauge", seen.last().unwrap()));
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(Some(&name), seen.last(), "{line}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
    for sample in [
        "probe_success{server=\"hapi\"} 1",
        "probe_success{server=\"imaging\"} 0",
        "probe_duration_seconds{server=\"epic-prod\"} 6.2904",
        "probe_ssl_earliest_cert_expiry{server=\"epic-prod\"} 1800662400",
        "probe_http_status_code{server=\"epic-prod\",check=\"metadata\"} 200",
        "fhirctl_check_status{server=\"imaging\",check=\"tcp\",code=\"tcp.refused\",accepted=\"false\"} 2",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample}\n{text}");
    }
    assert!(text.contains(
        "probe_http_duration_seconds{server=\"epic-prod\",check=\"metadata\",phase=\"processing\"} 6.1502"
    ));
}

#[test]
fn the_document_names_each_failure_its_hint_and_what_was_accepted() {
    let text = checked(Format::Table);
    assert!(text.contains("tcp.refused"), "{text}");
    assert!(text.contains("next   "), "{text}");
    assert!(text.contains("does not count until 2027-03-31: vendor case 88"), "{text}");
    assert!(text.contains("after 3 attempts"), "{text}");
    assert!(
        text.contains(
            "7 servers in 6.3 s: 2 healthy, 1 warning, 2 critical, 1 unknown, 1 in maintenance. \
             Verdict: critical, exit code 2."
        ),
        "{text}"
    );
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let output = view::check::output(sample::run(sample::reports()), sample::meta());
    for width in [60, 80, 140] {
        let text =
            render(&output, Format::Table, Style { color: false, width: Some(width) }).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
        }
    }
}

#[test]
fn a_test_shows_every_stage_and_where_it_broke() {
    let json: Value = serde_json::from_str(&tested("imaging", Format::Json)).unwrap();
    fits("test", &json);
    assert_eq!(json["schema"], "fhirctl/test/v1");
    assert_eq!(json["exit_code"], 2);
    assert_eq!(json["server"]["checks"][1]["code"], "tcp.refused");
    let text = tested("imaging", Format::Table);
    for words in
        ["dns", "skipped", "tcp.refused", "What else to try", "imaging is critical: tcp.refused"]
    {
        assert!(text.contains(words), "{words} in {text}");
    }
    let text = tested("epic-prod", Format::Table);
    for words in ["first byte 6.2 s", "CS-13", "our clock is 5.0 s behind it", "198.51.100.7:443"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(tested("hostile", Format::Table).contains("server says"));
    assert_eq!(outcome(&tested("imaging", Format::Junit), "imaging", "tcp"), "failure");
}

#[test]
fn a_test_in_maintenance_is_still_judged() {
    let mut report = sample::reports().pop().unwrap();
    assert_eq!(report.status, Status::Critical);
    report.checks.truncate(1);
    let output = view::test::output(report, 2, sample::now(), &sample::meta()).unwrap();
    assert_eq!(output.checks.unwrap().exit_code, 2);
}

#[test]
fn explain_says_what_a_code_means() {
    let output = fhirctl().args(["explain", "TCP.refused", "-o", "json"]).output().unwrap();
    assert!(output.status.success());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    fits("explain", &json);
    assert_eq!(json["codes"][0]["code"], "tcp.refused");
    let text = fhirctl().args(["explain", "tcp.refused"]).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    for words in ["tcp.refused: ", "Usual causes", "What to try", "1. "] {
        assert!(text.contains(words), "{words} in {text}");
    }
    fhirctl().args(["explain"]).assert().success().stdout(predicates::str::contains("tcp.refused"));
}

#[test]
fn explain_knows_findings_and_families() {
    let explained = |name: &str| -> Value {
        let output = fhirctl().args(["explain", name, "-o", "json"]).output().unwrap();
        assert!(output.status.success(), "{name}");
        let json = serde_json::from_slice(&output.stdout).unwrap();
        fits("explain", &json);
        json
    };
    assert_eq!(explained("cs-05")["findings"][0]["id"], "CS-05");
    let family = explained("dns");
    let codes = family["codes"].as_array().unwrap();
    assert!(codes.len() > 1);
    assert!(codes.iter().all(|info| info["code"].as_str().unwrap().starts_with("dns.")));
}

#[test]
fn an_unknown_code_is_66_with_the_nearest_one() {
    fhirctl()
        .args(["explain", "tcp.refsued"])
        .assert()
        .code(66)
        .stdout("")
        .stderr("error: no such code: tcp.refsued\n  hint: did you mean tcp.refused?\n");
}

#[test]
fn an_error_beside_json_is_one_json_line_on_standard_error() {
    for format in ["json", "ndjson", "yaml"] {
        for arguments in [["explain", "no.such"], ["explain", "--nope"]] {
            let output = fhirctl().args(arguments).args(["-o", format]).output().unwrap();
            assert!(output.stdout.is_empty());
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            let json: Value = serde_json::from_str(&text).unwrap();
            fits("error", &json);
            assert_eq!(
                keys(&json),
                ["schema", "kind", "exit_code", "message", "location", "hints"]
            );
            assert_eq!(json["exit_code"], output.status.code().unwrap());
        }
    }
}

#[test]
fn a_usage_error_is_64_with_the_parsers_help() {
    fhirctl()
        .args(["explain", "--nope"])
        .assert()
        .code(64)
        .stdout("")
        .stderr(predicates::str::contains("Usage: fhirctl explain"));
    fhirctl().assert().code(64);
    fhirctl()
        .args(["explain", "-o", "junit"])
        .assert()
        .code(64)
        .stderr(predicates::str::contains("formats that fit: table, json"));
}

#[test]
fn an_error_beside_nagios_is_one_unknown_line_on_standard_output() {
    for arguments in [&["explain", "no.such"][..], &["explain", "--nope"], &[]] {
        fhirctl()
            .args(arguments)
            .args(["-o", "nagios"])
            .assert()
            .code(3)
            .stdout(predicates::str::is_match("^UNKNOWN - [^|\n]+\n$").unwrap())
            .stderr("");
    }
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    for arguments in [&["--help"][..], &["--version"], &["explain"], &["man"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fhirctl"));
        let output = command
            .args(arguments)
            .env_remove("FHIRCTL_OUTPUT")
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn colour_comes_only_when_it_is_wanted() {
    let escape = predicates::str::contains("\u{1b}[");
    let none = || predicates::prelude::PredicateBooleanExt::not(escape.clone());
    for arguments in [&["explain", "tcp.refused"][..], &["--help"]] {
        fhirctl().args(arguments).assert().success().stdout(none());
        fhirctl().args(arguments).arg("--color=always").assert().success().stdout(escape.clone());
        fhirctl()
            .args(arguments)
            .env("NO_COLOR", "1")
            .arg("--color=always")
            .assert()
            .success()
            .stdout(escape.clone());
    }
    fhirctl().args(["explain", "x.y", "--color=always"]).assert().code(66).stderr(escape);
}

#[test]
fn version_says_what_this_is() {
    let output = fhirctl().args(["version", "-o", "json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    fits("version", &json);
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    fhirctl().arg("--help").assert().success().stdout(predicates::str::ends_with("\n"));
    fhirctl().arg("--version").assert().success().stdout(concat!(
        "fhirctl ",
        env!("CARGO_PKG_VERSION"),
        "\n"
    ));
}

#[test]
fn a_variable_stands_for_its_option() {
    let said = |name: &str, value: &str| {
        fhirctl().arg("version").env(name, value).assert().success().get_output().stdout.clone()
    };
    assert!(said("FHIRCTL_OUTPUT", "json").starts_with(b"{"));
    assert!(said("FHIRCTL_OUTPUT", "").starts_with(b"fhirctl"), "nothing is not set");
    for name in ["FHIRCTL_QUIET", "FHIRCTL_NO_PROGRESS", "FHIRCTL_NO_INPUT", "FHIRCTL_ALLOW_EXEC"] {
        for value in ["1", "true", "0", "false", ""] {
            assert!(said(name, value).starts_with(b"fhirctl"), "{name}={value}");
        }
    }
}

#[test]
fn help_shows_no_value_of_the_environment() {
    fhirctl()
        .arg("--help")
        .env("FHIRCTL_HISTORY", "postgres://fhir:planted-secret@db/fhir")
        .assert()
        .success()
        .stdout(predicates::prelude::PredicateBooleanExt::not(predicates::str::contains(
            "planted-secret",
        )));
}
