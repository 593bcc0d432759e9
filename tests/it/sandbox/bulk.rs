//! Bulk data as a client meets it: kick-off, polls, manifest, files, and every trap.

mod import;
mod traps;

use std::collections::BTreeSet;

use super::*;

const ASYNC: &[(&str, &str)] = &[("Accept", "application/fhir+json"), ("Prefer", "respond-async")];
const ANY: &[(&str, &str)] = &[];

/// A server with these keys, among them `retry_after: 0`.
fn server(keys: &str) -> Sandbox {
    Sandbox::scenario(&format!(
        "servers:\n  - name: a\n    patients: 3\n    bulk: {{retry_after: 0{keys}}}\n"
    ))
}

fn kick_off(url: &str) -> String {
    let answer = get(url, ASYNC);
    assert_eq!(answer.status, 202, "{url}: {}", answer.text());
    answer.header("content-location").to_owned()
}

/// Polls until the answer is another than 202.
fn over(status: &str) -> Wire {
    for _ in 0..20 {
        let answer = get(status, ANY);
        if answer.status != 202 {
            return answer;
        }
    }
    panic!("{status} does not end");
}

/// Kicks off at the system and waits for the manifest.
fn manifest(sandbox: &Sandbox) -> Value {
    over(&kick_off(&format!("{}/$export", sandbox.url()))).json()
}

fn urls(manifest: &Value) -> Vec<String> {
    let rows = manifest["output"].as_array().unwrap();
    rows.iter().map(|row| row["url"].as_str().unwrap().to_owned()).collect()
}

fn of_type(manifest: &Value, kind: &str) -> String {
    let rows = manifest["output"].as_array().unwrap();
    let row = rows.iter().find(|row| row["type"] == kind).unwrap();
    row["url"].as_str().unwrap().to_owned()
}

fn lines(url: &str) -> Vec<Value> {
    let answer = get(url, ANY);
    assert_eq!(answer.status, 200, "{url}");
    assert_eq!(answer.header("content-type"), "application/fhir+ndjson");
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn types(manifest: &Value) -> Vec<&str> {
    let rows = manifest["output"].as_array().unwrap();
    rows.iter().map(|row| row["type"].as_str().unwrap()).collect()
}

#[test]
fn an_export_of_each_level_ends_in_files() {
    let sandbox = server("");
    for (path, kinds) in [
        (
            "$export",
            &[
                "Organization",
                "Practitioner",
                "Patient",
                "Group",
                "Encounter",
                "Condition",
                "Observation",
            ][..],
        ),
        ("Patient/$export", &["Patient", "Encounter", "Condition", "Observation"]),
        ("Group/all/$export", &["Patient", "Encounter", "Condition", "Observation"]),
    ] {
        let url = format!("{}/{path}", sandbox.url());
        let status = kick_off(&url);
        assert!(status.starts_with("http://"), "{status}");
        let first = get(&status, ANY);
        assert_eq!((first.status, first.header("retry-after")), (202, "0"));
        assert_eq!(first.header("x-progress"), "50% complete");
        let answer = over(&status);
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert!(answer.header("expires").ends_with("GMT"));
        let manifest = answer.json();
        assert_eq!(manifest["request"], url);
        assert_eq!(manifest["requiresAccessToken"], false);
        assert!(manifest["transactionTime"].as_str().unwrap().ends_with('Z'));
        assert_eq!(manifest["error"], json!([]));
        assert_eq!(types(&manifest), kinds);
        for row in manifest["output"].as_array().unwrap() {
            let lines = lines(row["url"].as_str().unwrap());
            assert_eq!(row["count"], lines.len());
            assert!(lines.iter().all(|line| line["resourceType"] == row["type"]));
        }
    }
    assert_eq!(get(&format!("{}/Group/nobody/$export", sandbox.url()), ASYNC).status, 404);
}

#[test]
fn a_deleted_job_is_not_found_any_more() {
    let sandbox = server("");
    let status = kick_off(&format!("{}/$export", sandbox.url()));
    assert_eq!(send("DELETE", &status, ANY, "").status, 202);
    for method in ["GET", "DELETE"] {
        let answer = send(method, &status, ANY, "");
        assert_eq!(
            (answer.status, &answer.json()["resourceType"]),
            (404, &json!("OperationOutcome"))
        );
    }
}

#[test]
fn parameters_are_honoured_or_refused() {
    let sandbox = server("");
    let base = sandbox.url();
    let export = |query: &str| over(&kick_off(&format!("{base}/$export?{query}"))).json();
    assert_eq!(types(&export("_type=Patient,Condition")), ["Patient", "Condition"]);
    assert_eq!(types(&export("_type=Patient&_type=Condition")), ["Patient", "Condition"]);
    let pulse = export("_type=Observation&_typeFilter=Observation%3Fcode%3D8867-4");
    assert_eq!(pulse["output"][0]["count"], 3);
    assert_eq!(export("_since=2999-01-01T00:00:00%2B02:00")["output"], json!([]));
    assert_eq!(export("_until=2001-01-01T00:00:00Z")["output"], json!([]));
    let short = export("_type=Patient&_elements=Patient.birthDate");
    let patient = &lines(&of_type(&short, "Patient"))[0];
    assert!(patient["birthDate"].is_string() && patient.get("name").is_none());
    assert_eq!(patient["meta"]["tag"][1]["code"], "SUBSETTED");
    for query in [
        "_type=Basic",
        "_outputFormat=parquet",
        "_since=yesterday",
        "_typeFilter=Observation%3F_include=x",
        "_typeFilter=Observation%3Fcolour=red",
        "_elements=a.b.c",
        "colour=red",
        "patient=Patient/canary-1",
    ] {
        let answer = get(&format!("{base}/$export?{query}"), ASYNC);
        assert_eq!(
            (answer.status, &answer.json()["resourceType"]),
            (400, &json!("OperationOutcome"))
        );
    }
    // With leniency it goes on and says what was left out.
    let lenient = [("Prefer", "respond-async, handling=lenient")];
    let answer = get(&format!("{base}/$export?colour=red&_type=Patient"), &lenient);
    let manifest = over(answer.header("content-location")).json();
    let outcome = &lines(manifest["error"][0]["url"].as_str().unwrap())[0];
    assert_eq!(outcome["issue"][0]["severity"], "warning");
    assert_eq!(get(&format!("{base}/Patient/$export?_type=Organization"), ASYNC).status, 400);
}

#[test]
fn a_post_takes_parameters_and_patients() {
    let sandbox = server("");
    let post = |path: &str, rows: Value| {
        let body = json!({"resourceType": "Parameters", "parameter": rows}).to_string();
        let headers = [("Prefer", "respond-async"), ("Content-Type", "application/fhir+json")];
        send("POST", &format!("{}/{path}", sandbox.url()), &headers, &body)
    };
    let asked = post(
        "Group/all/$export",
        json!([
            {"name": "_type", "valueString": "Patient"},
            {"name": "_type", "valueString": "Observation"},
            {"name": "patient", "valueReference": {"reference": "Patient/patient-2"}},
        ]),
    );
    assert_eq!(asked.status, 202);
    let manifest = over(asked.header("content-location")).json();
    assert_eq!(types(&manifest), ["Patient", "Observation"]);
    assert_eq!(lines(&of_type(&manifest, "Patient"))[0]["id"], "patient-2");
    assert_eq!(manifest["output"][1]["count"], 2);
    let stranger = json!([{"name": "patient", "valueReference": {"reference": "Patient/x"}}]);
    assert_eq!(post("Patient/$export", stranger.clone()).status, 400);
    assert_eq!(post("$export", stranger).status, 400);
}

#[test]
fn what_was_deleted_since_is_told() {
    let sandbox = server("");
    let base = sandbox.url();
    let before = "_since=2001-01-01T00:00:00Z";
    send("DELETE", &format!("{base}/Condition/condition-2"), ANY, "");
    let manifest = over(&kick_off(&format!("{base}/$export?{before}"))).json();
    assert_eq!(manifest["deleted"][0]["type"], "Bundle");
    let bundle = &lines(manifest["deleted"][0]["url"].as_str().unwrap())[0];
    assert_eq!(
        bundle["entry"][0]["request"],
        json!({"method": "DELETE", "url": "Condition/condition-2"})
    );
    let left = over(&kick_off(&format!("{base}/$export"))).json();
    assert_eq!(left.get("deleted"), None);
}

#[test]
fn the_sign_in_is_asked_for_at_every_step() {
    let sandbox =
        Sandbox::scenario("servers: [{name: a, auth: bearer, bulk: {retry_after: 0, polls: 0}}]");
    let secret = sandbox.server("a")["auth"]["secret_file"].as_str().unwrap();
    let bearer = format!("Bearer {}", std::fs::read_to_string(secret).unwrap());
    let signed = [("Authorization", bearer.as_str())];
    let url = format!("{}/$export", sandbox.url());
    assert_eq!(get(&url, ASYNC).status, 401);
    let status = get(&url, &signed).header("content-location").to_owned();
    assert_eq!(get(&status, ANY).status, 401);
    let manifest = get(&status, &signed).json();
    assert_eq!(manifest["requiresAccessToken"], true);
    let file = of_type(&manifest, "Patient");
    assert_eq!((get(&file, ANY).status, get(&file, &signed).status), (401, 200));
    assert_eq!(send("DELETE", &status, ANY, "").status, 401);
}

#[test]
fn the_capability_statement_declares_what_there_is() {
    let sandbox = Sandbox::scenario(
        "servers:\n  - {name: all, bulk: {version: 2.0.0}}\n  - {name: some, bulk: {levels: group}}\n  \
         - {name: none, bulk: {enabled: false}}\n",
    );
    let operations = |name: &str| {
        let statement = get(&format!("{}/metadata", sandbox.url_of(name)), ANY).json();
        let rest = &statement["rest"][0];
        let of = |operations: &Value| {
            let rows = operations.as_array().cloned().unwrap_or_default();
            rows.iter().any(|row| row["name"] == "export")
        };
        let row = |kind: &str| {
            let rows = rest["resource"].as_array().unwrap();
            rows.iter().find(|row| row["type"] == kind).unwrap().clone()
        };
        let found = [
            of(&rest["operation"]),
            of(&row("Patient")["operation"]),
            of(&row("Group")["operation"]),
        ];
        (found, statement.get("instantiates").is_some())
    };
    assert_eq!(operations("all"), ([true; 3], true));
    assert_eq!(operations("some"), ([false, false, true], true));
    assert_eq!(operations("none"), ([false; 3], false));
    assert_eq!(get(&format!("{}/$export", sandbox.url_of("some")), ASYNC).status, 501);
    assert_eq!(get(&format!("{}/$export", sandbox.url_of("none")), ASYNC).status, 404);
    let statement = get(&format!("{}/metadata", sandbox.url_of("all")), ANY).json();
    let url = statement["instantiates"][0].as_str().unwrap();
    assert!(url.ends_with("/CapabilityStatement/bulk-data|2.0.0"), "{url}");
}

#[test]
fn files_come_compressed_or_in_parts_to_those_who_ask() {
    let sandbox = server(", polls: 0");
    let url = of_type(&manifest(&sandbox), "Patient");
    let plain = get(&url, ANY);
    assert_eq!(plain.header("content-length"), plain.body.len().to_string());
    let packed = get(&url, &[("Accept-Encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_eq!(opened(&packed.body), plain.body);

    let sandbox = server(", polls: 0, accept_ranges: true");
    let url = of_type(&manifest(&sandbox), "Patient");
    let whole = get(&url, &[("Accept-Encoding", "gzip")]);
    assert_eq!((whole.header("accept-ranges"), whole.header("content-encoding")), ("bytes", ""));
    let etag = whole.header("etag").to_owned();
    let part = get(&url, &[("Range", "bytes=100-"), ("If-Range", &etag)]);
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[100..]));
    let range = format!("bytes 100-{}/{}", whole.body.len() - 1, whole.body.len());
    assert_eq!(part.header("content-range"), range);
    let changed = get(&url, &[("Range", "bytes=100-"), ("If-Range", "\"other\"")]);
    assert_eq!((changed.status, changed.body), (200, whole.body));
    assert_eq!(get(&url, &[("Range", "bytes=99999999-")]).status, 416);
}

fn opened(packed: &[u8]) -> Vec<u8> {
    let mut opened = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut opened).unwrap();
    opened
}

#[test]
fn generated_files_are_the_same_at_every_download() {
    let sandbox = server(", polls: 0, files: 20, lines: 5000");
    let manifest = manifest(&sandbox);
    assert_eq!(urls(&manifest).len(), 20);
    let mut ids = BTreeSet::new();
    for row in manifest["output"].as_array().unwrap() {
        let url = row["url"].as_str().unwrap();
        let read = lines(url);
        assert_eq!(row["count"], read.len());
        ids.extend(read.iter().map(|line| format!("{}/{}", line["resourceType"], line["id"])));
        assert_eq!(get(url, ANY).body, get(url, ANY).body);
    }
    assert_eq!(ids.len(), 5000);
}

#[test]
fn a_manifest_is_spread_over_pages() {
    let sandbox = server(", polls: 0, links: 3");
    let mut all = Vec::new();
    let mut page = manifest(&sandbox);
    let time = page["transactionTime"].clone();
    loop {
        assert_eq!(page["transactionTime"], time);
        all.extend(urls(&page));
        let Some(next) = page["link"][0]["url"].as_str() else { break };
        page = get(next, ANY).json();
    }
    assert_eq!(all.len(), 7);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 7);
}

#[test]
fn a_server_that_has_enough_to_do_says_so() {
    let sandbox = server(", one_job_at_a_time: true, wait: 1h");
    let url = format!("{}/$export", sandbox.url());
    let status = kick_off(&url);
    let refused = get(&url, ASYNC);
    assert_eq!((refused.status, refused.header("retry-after")), (429, "0"));
    send("DELETE", &status, ANY, "");
    assert_eq!(get(&url, ASYNC).status, 202);

    let sandbox = server(", poll_no_faster_than: 1h, wait: 1h");
    let status = kick_off(&format!("{}/$export", sandbox.url()));
    assert_eq!(get(&status, ANY).status, 202);
    let refused = get(&status, ANY);
    assert_eq!((refused.status, refused.header("retry-after")), (429, "3600"));

    let sandbox = server(", min_interval: 1h, polls: 0");
    let url = format!("{}/Group/all/$export", sandbox.url());
    kick_off(&url);
    let refused = get(&url, ASYNC);
    assert_eq!(refused.status, 429);
    assert!(refused.text().contains("too recently"));
}

#[test]
fn the_storage_of_its_own_refuses_a_token() {
    let sandbox = server(", polls: 0, storage: separate");
    let manifest = manifest(&sandbox);
    assert_eq!(manifest["requiresAccessToken"], false);
    let url = of_type(&manifest, "Patient");
    let own = sandbox.url().trim_end_matches("/fhir");
    assert!(!url.starts_with(own), "{url}");
    assert_eq!(lines(&url).len(), 3);
    assert_eq!(get(&url, &[("Authorization", "Bearer x")]).status, 400);
}

#[test]
fn the_request_log_says_what_was_asked_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("requests.ndjson");
    let sandbox = Sandbox::start(&[
        "--log",
        log.to_str().unwrap(),
        "--bulk",
        "polls=0",
        "--bulk",
        "traps=file-307",
        "--bulk",
        "retry_after=0",
    ]);
    let manifest = manifest(&sandbox);
    let url = of_type(&manifest, "Patient");
    let moved = get(&url, &[("Authorization", "Bearer s3cret")]);
    assert_eq!(moved.status, 307);
    let body = get(moved.header("location"), &[("Range", "bytes=0-")]).body;
    sandbox.stop(Signal::SIGTERM);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = |n: usize, name: &str| rows[n][name].clone();
    assert_eq!(
        (row(0, "method"), row(0, "path"), row(0, "status")),
        (json!("GET"), json!("/fhir/$export"), json!(202))
    );
    assert_eq!(row(0, "headers")["prefer"], "respond-async");
    assert_eq!((row(2, "status"), row(2, "authorization")), (json!(307), json!(true)));
    assert_eq!((row(3, "server"), row(3, "authorization")), (json!("local.storage"), json!(false)));
    assert_eq!(
        (row(3, "bytes"), &row(3, "headers")["range"]),
        (json!(body.len()), &json!("bytes=0-"))
    );
}
