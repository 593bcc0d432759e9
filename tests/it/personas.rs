//! Every preset against the sandbox that behaves as its vendor does: added, checked, and ill.

use std::path::Path;

use serde_json::Value;

use crate::support::{Desk, Sandbox, check, server};

fn presets() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/vendors");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn fleet(more: &str) -> (Sandbox, Vec<String>) {
    let names = presets();
    let servers: String =
        names.iter().map(|name| format!("  - {{name: s-{name}, as: {name}{more}}}\n")).collect();
    (Sandbox::scenario(&format!("servers:\n{servers}")), names)
}

/// The arguments of `add` for what the sandbox announced of a server.
fn arguments(line: &Value, name: &str) -> Vec<String> {
    let server = server(line, &format!("s-{name}"));
    let auth = &server["auth"];
    let text = |key: &str| auth[key].as_str().unwrap_or_default().to_owned();
    let mut args = vec![
        "add".to_owned(),
        format!("s-{name}"),
        server["url"].as_str().unwrap().to_owned(),
        "--vendor".into(),
        name.to_owned(),
        "--set".into(),
        "checks.search=[\"Patient?_summary=count\"]".into(),
        "--set".into(),
        "rate_limit={requests_per_second: 1000, burst: 1000}".into(),
        "--set".into(),
        // How fast a busy machine answers is not what is looked at.
        "thresholds={health: {warning: 40s, critical: 50s}, metadata: {warning: 40s, critical: 50s}, search: {warning: 40s, critical: 50s}}".into(),
        "--set".into(),
        // Altera's terms want an approval before its servers are checked with the fleet.
        "terms={approved_by: desk, reference: T-1}".into(),
    ];
    let method = text("method");
    if method == "none" {
        return args;
    }
    args.extend(["--auth".into(), method.clone(), "--secret".into()]);
    args.push(format!("file:{}", text("secret_file")));
    let mut set = |key: &str, value: String| {
        args.extend(["--set".into(), format!("auth.{key}={value}")]);
    };
    match method.as_str() {
        "api-key" => set("header", text("header")),
        "basic" => set("username", text("username")),
        "oauth2" => {
            set("client_id", text("client_id"));
            set("token_url", text("token_url"));
        }
        "smart-backend" => {
            set("client_id", text("client_id"));
            set("key_id", text("key_id"));
            set("token_url", text("token_url"));
            set("scopes", "[\"system/*.rs\"]".into());
        }
        "azure" => {
            set("client_id", text("client_id"));
            set("tenant", text("tenant"));
            set("authority", text("authority"));
        }
        "aws-sigv4" => {
            set("region", text("region"));
            set("access_key", text("access_key"));
        }
        "google" => {}
        other => panic!("{other}"),
    }
    if method == "oauth2" {
        args.extend(["--set".into(), "auth.scopes=[\"system/*.rs\"]".into()]);
    }
    args
}

#[test]
fn every_preset_is_added_and_checked_against_its_persona() {
    let (sandbox, names) = fleet("");
    let desk = Desk::new("version: 1\nservers: []\n");
    for name in &names {
        let args = arguments(&sandbox.line, name);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (added, exit) = desk.json(&args);
        assert!(exit <= 1, "{name}: {added}");
        assert_eq!(added["server"]["state"], "active", "{name}: {added}");
    }
    let (checked, exit) = desk.json(&["check"]);
    for name in &names {
        let server = server(&checked, &format!("s-{name}"));
        assert_eq!(server["status"], "healthy", "{name}: {server}");
    }
    assert_eq!(exit, 0);
}

#[test]
fn a_server_that_says_it_is_down_is_not_healthy_whatever_its_words() {
    let (sandbox, names) = fleet(", auth: none, faults: [health-down]");
    let mut inventory = "version: 1\nservers:\n".to_owned();
    for name in &names {
        inventory.push_str(&format!(
            "  - {{name: s-{name}, url: \"{}\", vendor: {name}, terms: {{approved_by: desk, reference: T-1}}}}\n",
            sandbox.url(&format!("s-{name}"))
        ));
    }
    let desk = Desk::new(&inventory);
    let (checked, _) = desk.json(&["check"]);
    let mut with_endpoint = 0;
    for name in &names {
        let server = server(&checked, &format!("s-{name}"));
        let has_health =
            server["checks"].as_array().unwrap().iter().any(|check| check["name"] == "health");
        if has_health {
            with_endpoint += 1;
            let health = check(server, "health");
            assert_eq!(health["status"], "critical", "{name}: {health}");
            // Some say it by their status, some by their body alone.
            let code = health["code"].as_str().unwrap();
            assert!(matches!(code, "health.down" | "http.status"), "{name}: {health}");
        } else {
            assert_eq!(server["status"], "healthy", "{name}: {server}");
        }
    }
    assert!(with_endpoint >= 10, "{with_endpoint}");
}

#[test]
fn a_vendor_is_told_by_what_its_server_shows() {
    let (sandbox, _) = fleet(", auth: none");
    let desk = Desk::new("version: 1\nservers: []\n");
    for name in [
        "epic",
        "cerner",
        "veradigm",
        "altera",
        "athenahealth",
        "azure-fhir",
        "ms-fhir-server",
        "hapi",
        "ibm-fhir",
        "firely",
        "smilecdr",
        "aidbox",
        "medplum",
        "blaze",
        "helios",
        "proxy-kong",
    ] {
        let server = format!("s-{name}");
        let (added, exit) = desk.json(&["add", &server, &sandbox.url(&server)]);
        assert!(exit <= 1, "{name}: {added}");
        assert_eq!(added["server"]["vendor"], name, "{added}");
    }
}
