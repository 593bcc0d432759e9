//! The receiving side: Bundles at the base, `$import`, and the habits of vendors.

use super::*;

const JSON: &[(&str, &str)] =
    &[("Content-Type", "application/fhir+json"), ("Prefer", "respond-async")];

fn patient(id: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "active": true})
}

fn put(id: &str) -> Value {
    let url = format!("Patient/{id}");
    json!({"resource": patient(id), "request": {"method": "PUT", "url": url}})
}

fn post(sandbox: &Sandbox, kind: &str, entries: &[Value]) -> Wire {
    let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": entries}).to_string();
    send("POST", sandbox.url(), JSON, &bundle)
}

fn statuses(answer: &Wire) -> Vec<String> {
    let bundle = answer.json();
    let entries = bundle["entry"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["response"]["status"].as_str().unwrap()[..3].to_owned())
        .collect()
}

#[test]
fn a_batch_is_answered_entry_by_entry_in_order() {
    let sandbox = server(", refuse_ids: [bad], conflict_ids: [late]");
    let request = |method: &str, url: &str| json!({"request": {"method": method, "url": url}});
    let mut stale = put("canary-1");
    stale["request"]["ifMatch"] = json!("W/\"9\"");
    let made = json!({"resource": patient("x"), "request": {"method": "POST", "url": "Patient"}});
    let answer = post(
        &sandbox,
        "batch",
        &[
            put("new"),
            put("canary-1"),
            put("bad"),
            put("late"),
            stale,
            made,
            request("DELETE", "Patient/patient-2"),
            request("GET", "Patient/new"),
            request("GET", "Patient/nobody"),
            request("PUT", "Basic/a"),
        ],
    );
    assert_eq!((answer.status, &answer.json()["type"]), (200, &json!("batch-response")));
    let expected = ["201", "200", "422", "412", "412", "201", "204", "200", "404", "404"];
    assert_eq!(statuses(&answer), expected);
    let bundle = answer.json();
    assert_eq!(bundle["entry"][0]["response"]["etag"], "W/\"1\"");
    assert_eq!(bundle["entry"][2]["response"]["outcome"]["resourceType"], "OperationOutcome");
    assert_eq!(bundle["entry"][7]["resource"]["id"], "new");
}

#[test]
fn a_transaction_is_carried_out_whole_or_not_at_all() {
    let sandbox = server(", refuse_ids: bad");
    let refused = post(&sandbox, "transaction", &[put("one"), put("bad")]);
    assert_eq!(
        (refused.status, &refused.json()["resourceType"]),
        (422, &json!("OperationOutcome"))
    );
    assert!(refused.text().contains("Bundle.entry[1]"));
    assert_eq!(get(&format!("{}/Patient/one", sandbox.url()), ANY).status, 404);
    let twice = post(&sandbox, "transaction", &[put("one"), put("one")]);
    assert_eq!(twice.status, 400);
    let linked = [
        json!({
            "resource": {
                "resourceType": "Condition", "subject": {"reference": "urn:uuid:a"},
            },
            "request": {"method": "POST", "url": "Condition"},
        }),
        json!({
            "fullUrl": "urn:uuid:a", "resource": {"resourceType": "Patient"},
            "request": {"method": "POST", "url": "Patient"},
        }),
    ];
    let answer = post(&sandbox, "transaction", &linked);
    assert_eq!((answer.status, statuses(&answer)), (200, vec!["201".to_owned(); 2]));
    let bundle = answer.json();
    let place = |n: usize| {
        let place = bundle["entry"][n]["response"]["location"].as_str().unwrap();
        place.split("/_history").next().unwrap().to_owned()
    };
    let condition = get(&place(0), ANY).json();
    let reference = condition["subject"]["reference"].as_str().unwrap();
    assert!(place(1).ends_with(reference), "{reference}");
}

#[test]
fn a_bundle_is_too_large_or_comes_at_the_wrong_time() {
    let sandbox = server(", bundle_bytes: 1kB");
    assert_eq!(post(&sandbox, "batch", &[put("a")]).status, 200);
    let many: Vec<_> = (0..20).map(|n| put(&format!("p{n}"))).collect();
    assert_eq!(post(&sandbox, "batch", &many).status, 413);
    let sandbox = server(", bundle_entries: 2");
    assert_eq!(post(&sandbox, "batch", &many).status, 413);
    let sandbox = server(", busy: 50, unavailable: 25");
    let found: Vec<_> = (0..4).map(|_| post(&sandbox, "batch", &[put("a")]).status).collect();
    assert_eq!(found, [200, 429, 200, 429]);
    // Two megabytes in one Bundle are taken, where one resource of that size is not.
    let large: Vec<_> = (0..20_000).map(|n| put(&format!("large-{n}"))).collect();
    let answer = post(&server(""), "batch", &large);
    assert_eq!((answer.status, statuses(&answer).len()), (200, 20_000));
}

/// A sandbox whose files can be imported: one of patients, with a line that is none.
fn source() -> (Sandbox, String) {
    let sandbox = server(", polls: 0, traps: [line-half]");
    let url = of_type(&manifest(&sandbox), "Patient");
    (sandbox, url)
}

fn imported(status: &str) -> Wire {
    for _ in 0..200 {
        let answer = get(status, ANY);
        if answer.status != 202 {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{status} does not end");
}

#[test]
fn each_family_of_import_stores_counts_and_tells_what_failed() {
    let (source, url) = source();
    let good = of_type(&manifest(&source), "Condition");
    let parameters = |rows: Value| json!({"resourceType": "Parameters", "parameter": rows});
    let input = |kind: &str, url: &str, name: &str| {
        json!({"name": "input", "part": [
            {"name": "type", "valueCode": kind}, {"name": "url", name: url},
        ]})
    };
    let hapi = |inputs: &[(&str, &str)]| {
        let mut rows = vec![
            json!({"name": "inputFormat", "valueCode": "application/fhir+ndjson"}),
            json!({"name": "inputSource", "valueUri": "https://example.org"}),
            json!({"name": "storageDetail", "part": [{"name": "type", "valueCode": "https"}]}),
        ];
        rows.extend(inputs.iter().map(|(kind, url)| input(kind, url, "valueUri")));
        parameters(json!(rows))
    };
    let microsoft = parameters(json!([
        {"name": "inputFormat", "valueString": "application/fhir+ndjson"},
        {"name": "mode", "valueString": "IncrementalLoad"},
        input("Patient", &url, "valueUri"),
        input("Condition", &good, "valueUri"),
    ]));
    let plain = json!({
        "inputFormat": "application/fhir+ndjson", "inputSource": "https://example.org",
        "storageDetail": {"type": "https"},
        "input": [{"type": "Patient", "url": url}, {"type": "Condition", "url": good}],
    });
    let target = Sandbox::scenario("servers: [{name: a, patients: 1, bulk: {retry_after: 0}}]");
    let start = |body: &Value| {
        let asked = send("POST", &format!("{}/$import", target.url()), JSON, &body.to_string());
        assert_eq!(asked.status, 202, "{}", asked.text());
        imported(asked.header("content-location"))
    };
    for body in [&microsoft, &plain] {
        let told = start(body).json();
        let row = |name: &str, n: usize| told[name][n].clone();
        assert_eq!(row("output", 0), json!({"type": "Patient", "count": 2, "inputUrl": url}));
        assert_eq!(row("output", 1), json!({"type": "Condition", "count": 3, "inputUrl": good}));
        assert_eq!(
            (row("error", 0)["inputUrl"].clone(), &row("error", 0)["count"]),
            (json!(url), &json!(1))
        );
        let errors = lines(row("error", 0)["url"].as_str().unwrap());
        assert_eq!(errors[0]["resourceType"], "OperationOutcome");
    }
    let well = start(&hapi(&[("Condition", &good)]));
    assert_eq!(
        (well.status, &well.json()["issue"][0]["diagnostics"]),
        (200, &json!("Job is complete."))
    );
    assert_eq!(start(&hapi(&[("Patient", &url)])).status, 500);
    assert_eq!(start(&hapi(&[("Patient", "http://192.0.2.1/x")])).status, 500);
    let read = get(&format!("{}/Patient/patient-2", target.url()), ANY);
    assert_eq!((read.status, &read.json()["id"]), (200, &json!("patient-2")));
}

#[test]
fn an_import_is_asked_for_in_the_form_of_the_vendor() {
    let sandbox = Sandbox::scenario(
        "servers: [{name: hapi, as: hapi}, {name: ms, as: ms-fhir-server, auth: none}, \
         {name: epic, as: epic, auth: none}]",
    );
    let plain = json!({
        "inputFormat": "application/fhir+ndjson", "inputSource": "https://example.org",
        "input": [{"type": "Patient", "url": "http://127.0.0.1:9/x"}],
    });
    for (name, status) in [("hapi", 400), ("ms", 400), ("epic", 501)] {
        let url = format!("{}/$import", sandbox.url_of(name));
        let answer = send("POST", &url, JSON, &plain.to_string());
        assert_eq!(answer.status, status, "{name}");
    }
}

#[test]
fn an_export_has_the_habits_of_the_vendor() {
    let names = ["hapi", "epic", "cerner", "ms-fhir-server", "firely", "bulk-smart", "blaze"];
    let servers: String = names
        .iter()
        .map(|name| {
            format!("  - {{name: {name}, as: {name}, auth: none, bulk: {{polls: 0, wait: 0s}}}}\n")
        })
        .collect();
    let sandbox = Sandbox::scenario(&format!("servers:\n{servers}"));
    let ask = |name: &str, path: &str| get(&format!("{}/{path}", sandbox.url_of(name)), ASYNC);
    for (name, system, patient, shape) in [
        ("hapi", 202, 202, "/$export-poll-status?_jobId="),
        ("epic", 404, 404, "/BulkRequest/"),
        ("cerner", 404, 405, "/bulk-export/jobs/"),
        ("ms-fhir-server", 202, 202, "/_operations/export/"),
        ("firely", 202, 202, "/$exportstatus?_id="),
        ("bulk-smart", 202, 202, "/bulkstatus/"),
    ] {
        assert_eq!(ask(name, "$export").status, system, "{name}");
        assert_eq!(ask(name, "Patient/$export").status, patient, "{name}");
        let answer = ask(name, "Group/all/$export");
        assert_eq!(answer.status, 202, "{name}: {}", answer.text());
        let status = answer.header("content-location").to_owned();
        assert!(status.contains(shape), "{name}: {status}");
        let told = get(&status, ANY);
        assert_eq!(told.status, 200, "{name}");
        let file = &urls(&told.json())[0];
        let read = get(file, ANY);
        assert_eq!(read.status, if name == "cerner" { 307 } else { 200 }, "{name}: {file}");
        assert_eq!(
            told.json()["requiresAccessToken"],
            !matches!(name, "ms-fhir-server" | "bulk-smart"),
            "{name}"
        );
    }
    assert_eq!(ask("blaze", "$export").status, 404);
    // Epic: not twice a day; no _since. Cerner: one _type, with commas.
    assert_eq!(ask("epic", "Group/all/$export").status, 429);
    assert_eq!(ask("epic", "Group/all/$export?_since=2024-01-01T00:00:00Z").status, 400);
    assert_eq!(ask("cerner", "Group/all/$export?_type=Patient&_type=Condition").status, 400);
    assert_eq!(ask("cerner", "Group/all/$export?_type=Patient,Condition").status, 202);
    let bare = get(&format!("{}/$export", sandbox.url_of("ms-fhir-server")), ANY);
    assert_eq!(bare.status, 400);
    assert_eq!(ask("ms-fhir-server", "$export?_till=2024-01-01T00:00:00Z").status, 202);
}
