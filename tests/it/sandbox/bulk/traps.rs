//! Every trap does what its name says, at the place that it names and nowhere else.

use super::*;

/// A server with traps, over at once unless `more` says otherwise.
fn trapped(traps: &str, more: &str) -> Sandbox {
    server(&format!(", traps: [{traps}]{more}"))
}

fn first(sandbox: &Sandbox) -> Wire {
    get(&kick_off(&format!("{}/$export", sandbox.url())), ANY)
}

/// The files of a job that is over at once.
fn files(sandbox: &Sandbox) -> Vec<String> {
    urls(&manifest(sandbox))
}

fn bytes(header: &str) -> Vec<u8> {
    header.as_bytes().to_vec()
}

#[test]
fn retry_after_takes_every_form() {
    let header = |trap: &str| first(&trapped(trap, "")).header("retry-after").to_owned();
    assert!(header("retry-after-date").ends_with(" GMT"));
    assert_eq!(header("retry-after-negative"), "-5");
    assert_eq!(header("retry-after-absurd"), "86400");
    assert_eq!(header("retry-after-garbage"), "soon");
    let epoch: u64 = header("retry-after-epoch").parse().unwrap();
    assert!((1_000_000_000..10_000_000_000).contains(&epoch));
    let epoch: u64 = header("retry-after-epoch-ms").parse().unwrap();
    assert!(epoch > 1_000_000_000_000);
    assert_eq!(header("retry-after-absent"), "");
    let sandbox = Sandbox::start(&["--bulk", "retry_after=http-date"]);
    assert!(first(&sandbox).header("retry-after").ends_with(" GMT"));
}

#[test]
fn content_location_is_relative_or_missing() {
    let location = |trap: &str| {
        let sandbox = trapped(trap, "");
        get(&format!("{}/$export", sandbox.url()), ASYNC).header("content-location").to_owned()
    };
    assert!(location("location-relative").starts_with("/fhir/bulk-status/"));
    assert_eq!(location("location-missing"), "");
}

#[test]
fn polls_are_disturbed_once_each_and_the_job_goes_on() {
    let sandbox = trapped("poll-429, poll-503-html, poll-500-transient, poll-401", "");
    let status = kick_off(&format!("{}/$export", sandbox.url()));
    let answers: Vec<Wire> = (0..6).map(|_| get(&status, ANY)).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [202, 429, 503, 500, 401, 200]);
    assert_eq!(answers[2].header("content-type"), "text/html");
    assert_eq!(answers[3].json()["issue"][0]["code"], "transient");
    assert!(answers[4].header("www-authenticate").contains("invalid_token"));
}

#[test]
fn a_job_fails_for_good_or_never_ends() {
    let sandbox = trapped("job-failed", ", polls: 0");
    let status = kick_off(&format!("{}/$export", sandbox.url()));
    for _ in 0..2 {
        let answer = get(&status, ANY);
        assert_eq!(
            (answer.status, &answer.json()["issue"][0]["code"]),
            (500, &json!("processing"))
        );
    }
    let sandbox = trapped("job-forever", "");
    let status = kick_off(&format!("{}/$export", sandbox.url()));
    assert!((0..30).all(|_| get(&status, ANY).status == 202));
}

#[test]
fn progress_is_any_bytes() {
    let raw = |trap: &str| {
        let sandbox = trapped(trap, "");
        let (mut stream, host, path) = connect(&kick_off(&format!("{}/$export", sandbox.url())));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let name = b"x-progress: ";
        let at = answer.windows(name.len()).position(|part| part == name).unwrap() + name.len();
        let end = answer[at..].iter().position(|byte| *byte == b'\r').unwrap();
        answer[at..at + end].to_vec()
    };
    assert!(raw("progress-curly").starts_with(&bytes("\u{201c}in progress\u{201d}")));
    assert!(String::from_utf8(raw("progress-bytes")).is_err());
    assert!(raw("progress-long").len() > 100);
    let sandbox = server(", polls: 3, progress: [queued, 'half, or so']");
    let status = kick_off(&format!("{}/$export", sandbox.url()));
    let told: Vec<_> = (0..3).map(|_| get(&status, ANY).header("x-progress").to_owned()).collect();
    assert_eq!(told, ["queued", "half, or so", "half, or so"]);
}

#[test]
fn the_status_of_an_export_stands_in_its_own_header() {
    let separate = [("Prefer", "respond-async, separate-export-status")];
    let sandbox = server("");
    let kicked = get(&format!("{}/$export", sandbox.url()), &separate);
    assert!(kicked.header("preference-applied").contains("separate-export-status"));
    let status = kicked.header("content-location");
    for expected in ["202 Accepted", "200 OK"] {
        let answer = get(status, ANY);
        assert_eq!((answer.status, answer.header("x-export-status")), (200, expected));
        assert!(answer.header("preference-applied").contains("respond-async"));
    }
    let bare = first(&trapped("export-status-bare", ""));
    assert_eq!((bare.status, bare.header("x-export-status")), (202, "202 Accepted"));
    assert_eq!(bare.header("preference-applied"), "");
    let failed = first(&trapped("export-status-failed", ", polls: 0"));
    assert!(failed.status == 200 && failed.header("x-export-status").starts_with("500"));
    let refused = server(", separate_status: false");
    let kicked = get(&format!("{}/$export", refused.url()), &separate);
    assert_eq!(kicked.header("preference-applied"), "");
}

#[test]
fn a_manifest_takes_every_shape() {
    let of = |trap: &str| manifest(&trapped(trap, ", polls: 0"));
    let stu4 = of("manifest-stu4, error-information");
    assert!(stu4.get("request").is_none() && stu4.get("error").is_none());
    assert!(stu4["outcome"][0]["url"].is_string());
    assert_eq!(of("manifest-no-error").get("error"), None);
    assert!(of("manifest-time")["transactionTime"].as_str().unwrap().contains('/'));
    assert!(of("extension-object")["extension"].is_object());
    assert!(of("extension-array")["extension"].is_array());
    for (trap, severity) in [
        ("error-information", "information"),
        ("error-warning", "warning"),
        ("error-error", "error"),
        ("error-fatal", "fatal"),
    ] {
        let sandbox = trapped(trap, ", polls: 0");
        let found = manifest(&sandbox);
        let outcome = &lines(found["error"][0]["url"].as_str().unwrap())[0];
        assert_eq!(outcome["issue"][0]["severity"], severity);
    }
    let html = first(&trapped("manifest-html", ", polls: 0"));
    assert_eq!((html.status, html.header("content-type")), (200, "text/html"));
    let wrong = of("count-wrong");
    assert_eq!(wrong["output"][0]["count"], 2);
    let absent = manifest(&server(", polls: 0, count: absent"));
    assert_eq!(absent["output"][0].get("count"), None);
}

#[test]
fn a_manifest_grows_while_the_job_runs() {
    let sandbox = trapped("manifest-grows", ", polls: 3");
    let status = kick_off(&format!("{}/$export", sandbox.url()));
    let counts: Vec<_> = (0..4)
        .map(|_| {
            let answer = get(&status, ANY);
            (answer.status, urls(&answer.json()).len())
        })
        .collect();
    assert_eq!(counts, [(202, 1), (202, 2), (202, 3), (200, 7)]);
    // As the standard has it: what was told stays, and a link leads to the rest.
    let sandbox = server(", polls: 1");
    let status = kick_off(&format!("{}/$export?allowPartialManifests=true", sandbox.url()));
    let (part, whole) = (get(&status, ANY), get(&status, ANY).json());
    assert_eq!((part.status, urls(&part.json())), (202, urls(&whole)));
    let next = get(whole["link"][0]["url"].as_str().unwrap(), ANY).json();
    assert_eq!(urls(&whole).len() + urls(&next).len(), 7);
}

#[test]
fn links_between_manifests_loop_break_and_lead_nowhere() {
    let next = |page: &Value| page["link"][0]["url"].as_str().unwrap().to_owned();
    let sandbox = trapped("link-loop", ", polls: 0");
    let second = get(&next(&manifest(&sandbox)), ANY).json();
    let third = next(&second);
    assert_eq!(next(&get(&third, ANY).json()), third);
    let sandbox = trapped("link-500-once", ", polls: 0");
    let link = next(&manifest(&sandbox));
    let refused = get(&link, ANY);
    assert_eq!((refused.status, &refused.json()["issue"][0]["code"]), (500, &json!("transient")));
    assert_eq!(get(&link, ANY).status, 200);
    let sandbox = trapped("link-404", ", polls: 0");
    let link = next(&manifest(&sandbox));
    assert!((0..2).all(|_| get(&link, ANY).status == 404));
}

#[test]
fn urls_are_relative_or_try_to_leave() {
    let sandbox = trapped("url-relative", ", polls: 0");
    let file = &files(&sandbox)[0];
    assert!(file.starts_with("/fhir/bulk-files/"), "{file}");
    let root = sandbox.url().trim_end_matches("/fhir");
    assert_eq!(get(&format!("{root}{file}"), ANY).status, 200);
    let sandbox = trapped("url-escapes", ", polls: 0");
    let found = manifest(&sandbox);
    assert!(types(&found).contains(&"../../escaped"));
    let odd: Vec<_> = urls(&found).into_iter().filter(|url| url.contains("..")).collect();
    assert_eq!(odd.len(), 4);
    assert!(odd.iter().all(|url| get(url, ANY).status == 200));
}

#[test]
fn organised_files_have_headers_and_go_on() {
    let sandbox = trapped("organised-split", ", polls: 0");
    let url = format!("{}/Patient/$export?organizeOutputBy=Patient", sandbox.url());
    let found = get(&kick_off(&url), ANY).json();
    assert_eq!(found["outputOrganizedBy"], "Patient");
    let rows = found["output"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.get("type").is_none()));
    assert_eq!(rows[0]["continuesInFile"], rows[1]["url"]);
    let mut data = 0;
    for row in rows {
        let lines = lines(row["url"].as_str().unwrap());
        assert_eq!(lines[0]["parameter"][0]["name"], "header");
        let headers = lines.iter().filter(|line| line["resourceType"] == "Parameters").count();
        assert_eq!(row["count"], lines.len() - headers);
        data += lines.len() - headers;
    }
    assert_eq!(data, 15);
    let last_of_first = lines(rows[0]["url"].as_str().unwrap());
    let header = last_of_first.iter().rfind(|line| line["resourceType"] == "Parameters").unwrap();
    assert_eq!(&lines(rows[1]["url"].as_str().unwrap())[0], header);
}

#[test]
fn lines_are_wrong_in_one_file() {
    let of = |trap: &str| {
        let sandbox = trapped(trap, ", polls: 0");
        get(&of_type(&manifest(&sandbox), "Patient"), ANY).body
    };
    let plain = {
        let sandbox = server(", polls: 0");
        get(&of_type(&manifest(&sandbox), "Patient"), ANY).body
    };
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    let line = |body: &[u8], n: usize| -> Value {
        serde_json::from_str(text(body).lines().nth(n).unwrap()).unwrap()
    };
    assert!(text(&of("line-blank")).contains("\n\n"));
    assert_eq!(text(&of("line-crlf")).matches("\r\n").count(), 3);
    assert!(of("line-bom").starts_with(&[0xef, 0xbb, 0xbf]));
    assert!(!of("line-open").ends_with(b"\n"));
    let half = text(&of("line-half"));
    assert!(serde_json::from_str::<Value>(half.lines().last().unwrap()).is_err());
    let twice = of("line-twice");
    assert_eq!(line(&twice, 0)["id"], line(&twice, 2)["id"]);
    assert_eq!(line(&of("line-type"), 2)["resourceType"], "Basic");
    assert_eq!(line(&of("line-no-id"), 2).get("id"), None);
    assert!(String::from_utf8(of("line-utf8")).is_err());
    let deep = of("line-deep");
    assert!(deep.iter().filter(|byte| **byte == b'[').count() >= 100_000);
    // Only one file has them.
    let sandbox = trapped("line-bom", ", polls: 0");
    assert!(get(&of_type(&manifest(&sandbox), "Condition"), ANY).body.starts_with(b"{"));
    assert!(plain.starts_with(b"{") && plain.ends_with(b"}\n"));
}

#[test]
fn a_line_a_manifest_and_its_entries_are_longer_than_memory_should_hold() {
    let begin = |url: &str| {
        let (mut stream, host, path) = connect(url);
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        exchange(&mut stream, &head, &[], "", 4_000_000)
    };
    let sandbox = trapped("line-long", ", polls: 0");
    let long = begin(&of_type(&manifest(&sandbox), "Patient"));
    assert!(long.header("content-length").parse::<u64>().unwrap() > 200_000_000);
    assert!(long.body.ends_with(&[b'x'; 1_000_000]));
    for trap in ["manifest-long", "manifest-many"] {
        let sandbox = trapped(trap, ", polls: 0");
        let answer = begin(&kick_off(&format!("{}/$export", sandbox.url())));
        assert_eq!((answer.status, answer.header("transfer-encoding")), (200, "chunked"), "{trap}");
        assert!(answer.body.len() > 3_000_000, "{trap}");
    }
}

#[test]
fn a_file_is_refused_moved_gone_or_down() {
    let sandbox = trapped("file-401", ", polls: 0");
    let all = files(&sandbox);
    let statuses: Vec<_> = [0, 0, 1].map(|n: usize| get(&all[n], ANY).status).to_vec();
    assert_eq!(statuses, [401, 200, 200]);
    for (trap, status) in [("file-302", 302), ("file-307", 307)] {
        let sandbox = trapped(trap, ", polls: 0");
        let moved = get(&files(&sandbox)[0], ANY);
        assert_eq!(moved.status, status);
        let place = moved.header("location");
        assert_eq!(get(place, &[("Authorization", "Bearer x")]).status, 400);
        assert_eq!(lines(place).len(), 1);
    }
    let sandbox = trapped("file-503", ", polls: 0");
    let file = &files(&sandbox)[0];
    assert_eq!([get(file, ANY).status, get(file, ANY).status], [503, 200]);
    let sandbox = trapped("file-gone", ", polls: 0");
    let all = files(&sandbox);
    assert_eq!((get(&all[0], ANY).status, get(&all[6], ANY).status), (200, 404));
    let sandbox = trapped("file-html", ", polls: 0");
    assert_eq!(get(&files(&sandbox)[0], ANY).header("content-type"), "text/html");
    let sandbox = trapped("storage-down", ", polls: 0");
    let all = files(&sandbox);
    assert_eq!(get(&all[0], ANY).status, 200);
    let host = all[6].split('/').nth(2).unwrap();
    assert_eq!(TcpStream::connect(host).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_file_is_cut_stalled_or_packed_wrongly_at_the_first_attempt() {
    let whole = get(&of_type(&manifest(&server(", polls: 0")), "Patient"), ANY).body.len();
    let sandbox = trapped("file-cut", ", polls: 0, cut_at: 25");
    let url = of_type(&manifest(&sandbox), "Patient");
    let cut = get(&url, ANY);
    assert_eq!(cut.header("content-length"), whole.to_string());
    assert_eq!((cut.body.len(), get(&url, ANY).body.len()), (whole / 4, whole));

    let sandbox = trapped("file-stall", ", polls: 0");
    let url = of_type(&manifest(&sandbox), "Patient");
    let (mut stream, host, path) = connect(&url);
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    let stalled = exchange(&mut stream, &head, &[], "", 1 << 20);
    assert_eq!((stalled.broken, stalled.body.len()), (Some(ErrorKind::WouldBlock), whole / 2));
    assert_eq!(get(&url, ANY).body.len(), whole);

    let sandbox = trapped("file-gzip-truncated, file-gzip", ", polls: 0");
    let url = of_type(&manifest(&sandbox), "Patient");
    let short = get(&url, ANY);
    assert_eq!((short.broken, short.header("content-encoding")), (None, "gzip"));
    let packed = get(&url, ANY);
    assert_eq!(opened(&packed.body).len(), whole);

    let sandbox = trapped("file-gzip-members", ", polls: 0");
    let packed = get(&of_type(&manifest(&sandbox), "Patient"), ANY);
    let mut both = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(packed.body.as_slice());
    decoder.read_to_end(&mut both).unwrap();
    assert!(both.len() == whole && opened(&packed.body).len() < whole);

    let sandbox = trapped("file-gzip-unmarked", ", polls: 0");
    let bare = get(&of_type(&manifest(&sandbox), "Patient"), ANY);
    assert_eq!(bare.header("content-encoding"), "");
    assert_eq!(opened(&bare.body).len(), whole);
}

#[test]
fn links_expire_and_a_manifest_that_is_read_again_has_new_ones() {
    let sandbox = trapped("expires-past", ", polls: 0");
    let status = kick_off(&format!("{}/$export", sandbox.url()));
    let old = urls(&get(&status, ANY).json());
    let new = urls(&get(&status, ANY).json());
    assert_eq!([get(&old[0], ANY).status, get(&new[0], ANY).status], [403, 200]);
    let sandbox = server(", polls: 0, expires: 0s");
    assert_eq!(get(&files(&sandbox)[0], ANY).status, 403);
    let sandbox = server(", polls: 0, expires: 1h");
    assert_eq!(get(&files(&sandbox)[0], ANY).status, 200);
}

#[test]
fn deleted_resources_may_be_in_the_output_and_a_delete_may_answer_otherwise() {
    let sandbox = trapped("deleted-also-output", ", polls: 0, deleted: 2");
    let found = manifest(&sandbox);
    assert_eq!(found["deleted"][0]["count"], 3);
    let bundles = lines(found["deleted"][0]["url"].as_str().unwrap());
    let also = bundles[2]["entry"][0]["request"]["url"].as_str().unwrap().to_owned();
    let first = &lines(&urls(&found)[0])[0];
    assert_eq!(also, format!("Organization/{}", first["id"].as_str().unwrap()));
    for (trap, status) in [("delete-404", 404), ("delete-200", 200)] {
        let sandbox = trapped(trap, "");
        let place = kick_off(&format!("{}/$export", sandbox.url()));
        assert_eq!(send("DELETE", &place, ANY, "").status, status);
    }
}

#[test]
fn a_wrong_key_or_trap_is_refused_with_its_place() {
    let (code, text) = fails(&["--bulk", "traps=file-cutt"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("did you mean file-cut?"), "{text}");
    let (code, text) = fails(&["--bulk", "cut_at=200"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("bulk.cut_at"), "{text}");
    let file = scenario_file("servers:\n  - name: a\n    bulk: {wayt: 2s}\n");
    let (code, text) = fails(&["--scenario", file.path().to_str().unwrap()]);
    assert_eq!(code, Some(78));
    assert!(text.contains(":3:") && text.contains("wayt"), "{text}");
}
