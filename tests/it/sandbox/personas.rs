//! Personas on the wire: what a client can notice of the vendor that is played.

use super::*;

const ANY: &[(&str, &str)] = &[];
const BOTH: &[(&str, &str)] = &[("Accept", "application/fhir+xml, application/fhir+json;q=0.5")];
const XML: &[(&str, &str)] = &[("Accept", "application/fhir+xml")];

/// Servers named as their personas, each with what `more` says.
fn personas(names: &[&str], more: &str) -> Sandbox {
    let servers: String =
        names.iter().map(|name| format!("  - {{name: {name}, as: {name}{more}}}\n")).collect();
    Sandbox::scenario(&format!("servers:\n{servers}"))
}

fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    format!("{scheme}://{}", rest.split('/').next().unwrap())
}

#[test]
fn a_persona_is_announced_with_its_base_and_its_sign_in() {
    let sandbox = Sandbox::start(&["--as", "ibm-fhir"]);
    let server = sandbox.server("local");
    assert_eq!(
        (&server["persona"], &server["auth"]["method"]),
        (&json!("ibm-fhir"), &json!("basic"))
    );
    assert!(sandbox.url().ends_with("/fhir-server/api/v4"), "{}", sandbox.url());
    // What is said beside it wins.
    let sandbox = Sandbox::start(&["--as", "ibm-fhir", "--auth", "none", "--fhir-version", "R4B"]);
    let server = sandbox.server("local");
    assert_eq!(
        (&server["auth"]["method"], &server["fhir_version"]),
        (&json!("none"), &json!("R4B"))
    );
    assert_eq!(get(&format!("{}/Patient", sandbox.url()), ANY).status, 200);
    assert_eq!(Sandbox::start(&[]).server("local")["persona"], Value::Null);
}

#[test]
fn the_inventory_to_paste_leaves_the_health_check_to_the_preset() {
    let mut child =
        command(&["--as", "medplum", "--auth", "none"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut inventory = String::new();
    for line in lines.skip_while(|line| !line.contains("As a servers.yaml")).skip(1) {
        inventory.push_str(&format!("{line}\n"));
        if line.contains("canary-1") {
            break;
        }
    }
    assert!(inventory.contains("vendor: medplum"), "{inventory}");
    assert!(!inventory.contains("health"), "{inventory}");
    // As it stands, with the indentation of the screen.
    let desk = crate::support::Desk::new(&inventory);
    let (checked, exit) = desk.json(&["check"]);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(exit, 0, "{inventory}\n{checked}");
    let server = crate::support::server(&checked, "local");
    assert_eq!(crate::support::check(server, "health")["status"], "healthy");
}

#[test]
fn headers_media_types_and_formats_are_those_of_the_vendor() {
    let names = ["hapi", "veradigm", "altera", "cerner", "epic", "azure-fhir", "proxy-kong"];
    let sandbox = personas(&names, ", auth: none");
    let metadata = |name: &str, accept| get(&format!("{}/metadata", sandbox.url_of(name)), accept);
    for (name, content_type) in [
        ("hapi", "application/fhir+json;charset=UTF-8"),
        ("veradigm", "application/json+fhir; charset=utf-8"),
        ("altera", "application/json+fhir; charset=utf-8"),
        ("epic", "application/fhir+json; charset=utf-8"),
    ] {
        assert_eq!(metadata(name, ANY).header("content-type"), content_type, "{name}");
    }
    for name in ["cerner", "azure-fhir"] {
        let xml = metadata(name, XML);
        assert_eq!((xml.status, xml.body.len()), (406, 0), "{name}");
        assert_eq!(metadata(name, ANY).json()["format"], json!(["application/fhir+json", "json"]));
        // A client that takes both gets the one that there is.
        assert_eq!(metadata(name, BOTH).status, 200, "{name}");
    }
    assert_eq!(metadata("epic", XML).header("content-type"), "application/fhir+xml; charset=utf-8");
    let powered = metadata("hapi", ANY).header("x-powered-by").to_owned();
    assert!(powered.starts_with("HAPI FHIR ") && powered.ends_with("FHIR 4.0.1/R4)"), "{powered}");
    assert_eq!(metadata("proxy-kong", ANY).header("via"), "1.1 kong/3.9.0");
    assert_eq!(metadata("epic", ANY).header("x-powered-by"), "");
    let epic = metadata("epic", ANY).json();
    assert_eq!((&epic["software"]["name"], &epic["publisher"]), (&json!("Epic"), &Value::Null));
    let cerner = metadata("cerner", ANY).json();
    assert_eq!(
        (&cerner["publisher"], &cerner["software"]),
        (&json!("Oracle Health"), &Value::Null)
    );
}

#[test]
fn health_lies_where_the_vendor_has_it_and_nowhere_else() {
    let names = ["blaze", "medplum", "hapi", "epic"];
    let well = personas(&names, ", auth: none");
    let ill = personas(&names, ", auth: none, faults: [health-down]");
    for (name, path, up, down) in [
        ("blaze", "/health", (200, "OK"), (503, "")),
        ("hapi", "/actuator/health", (200, "{\"status\":\"UP\"}"), (503, "DOWN")),
        ("medplum", "/healthcheck", (200, "\"postgres\": true"), (200, "\"postgres\": false")),
        ("medplum", "/health", (404, ""), (404, "")),
        ("epic", "/health", (404, ""), (404, "")),
        ("epic", "/actuator/health", (404, ""), (404, "")),
    ] {
        for (sandbox, (status, words)) in [(&well, up), (&ill, down)] {
            let answer = get(&format!("{}{path}", origin(sandbox.url_of(name))), ANY);
            assert_eq!(answer.status, status, "{name} {path}");
            assert!(answer.text().contains(words), "{name} {path}: {}", answer.text());
        }
    }
}

#[test]
fn who_asks_too_often_is_told_in_the_vendors_own_form() {
    let names = ["azure-fhir", "medplum", "bulk-smart", "proxy-kong", "proxy-apim", "hapi"];
    let sandbox = personas(&names, ", auth: none, faults: [rate-limited=7]");
    let asked = |name: &str| {
        let answer = get(&format!("{}/metadata", sandbox.url_of(name)), ANY);
        assert_eq!(answer.status, 429, "{name}");
        answer
    };
    let hapi = asked("hapi");
    assert_eq!(hapi.header("retry-after"), "7");
    assert_eq!(hapi.json()["resourceType"], "OperationOutcome");
    let azure = asked("azure-fhir");
    assert_eq!((azure.header("retry-after"), azure.header("x-ms-retry-after-ms")), ("7", "7000"));
    let medplum = asked("medplum");
    assert_eq!(
        (medplum.header("retry-after"), medplum.header("ratelimit")),
        ("", "\"requests\";r=0;t=7")
    );
    // Milliseconds since 1970: read as seconds to wait, tens of thousands of years.
    let since: u64 = asked("bulk-smart").header("retry-after").parse().unwrap();
    assert!(since > 1_700_000_000_000, "{since}");
    let kong = asked("proxy-kong");
    assert_eq!((kong.header("ratelimit-reset"), kong.header("content-type")), ("7", "text/html"));
    assert_eq!(asked("proxy-apim").json()["statusCode"], 429);
    let dated = personas(&["medplum"], ", auth: none, faults: [rate-limited=date]");
    let answer = get(&format!("{}/metadata", dated.url_of("medplum")), ANY);
    assert!(answer.header("retry-after").ends_with(" GMT"), "{}", answer.header("retry-after"));
}

#[test]
fn what_is_open_and_what_is_published_is_as_at_the_vendor() {
    let names = ["epic", "google", "healthlake", "helios", "hapi", "veradigm", "proxy-apim"];
    let sandbox = personas(&names, "");
    let status =
        |name: &str, path: &str| get(&format!("{}/{path}", sandbox.url_of(name)), ANY).status;
    for (name, metadata, patient, smart) in [
        ("epic", 200, 401, 200),
        ("google", 401, 401, 404),
        ("healthlake", 401, 401, 404),
        ("helios", 200, 200, 200),
        ("hapi", 200, 200, 404),
    ] {
        assert_eq!(status(name, "metadata"), metadata, "{name}");
        assert_eq!(status(name, "Patient"), patient, "{name}");
        assert_eq!(status(name, ".well-known/smart-configuration"), smart, "{name}");
    }
    let smart = |name: &str| {
        get(&format!("{}/.well-known/smart-configuration", sandbox.url_of(name)), ANY).json()
    };
    assert!(smart("epic")["token_endpoint"].is_string());
    assert_eq!(smart("helios")["token_endpoint"], Value::Null);
    let challenge = get(&format!("{}/Patient", sandbox.url_of("proxy-apim")), ANY);
    assert!(challenge.header("www-authenticate").starts_with("AzureApiManagementKey"));
    let page = get(&format!("{}/anything", origin(sandbox.url_of("veradigm"))), ANY);
    assert_eq!((page.status, page.header("content-type")), (200, "text/html"));
    assert_eq!(get(&format!("{}/anything", origin(sandbox.url_of("hapi"))), ANY).status, 404);
}

#[test]
fn a_preset_that_there_is_not_is_refused_with_those_that_there_are() {
    for (arguments, parts) in [
        (&["--as", "hapy"][..], &["'hapi'"][..]),
        (&["--as"], &["epic", "proxy-google-fhir-gateway"]),
    ] {
        let (code, text) = fails(arguments);
        assert_eq!(code, Some(64), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    let file = scenario_file("servers:\n  - name: a\n    as: hapy\n");
    let (code, text) = fails(&["--scenario", file.path().to_str().unwrap()]);
    assert_eq!(code, Some(78));
    assert!(text.contains(":3:") && text.contains("did you mean hapi?"), "{text}");
}
