//! `diag NAME perf`: where the time goes.

use serde_json::Value;

use crate::support::{Desk, Sandbox, assert_schema};

fn run(sandbox: &Sandbox) -> (Value, i32) {
    let url = sandbox.url("local");
    let desk = Desk::new(&format!(
        "version: 1\nservers:\n  - {{name: s, url: \"{url}\", thresholds: {{metadata: {{warning: 250ms, critical: 20s}}}}}}\n"
    ));
    let (found, code) = desk.json(&["diag", "s", "perf"]);
    assert_schema("diag", &found);
    (found, code)
}

#[test]
fn a_slow_first_byte_is_the_servers_and_the_vendors() {
    let (found, code) = run(&Sandbox::with(&["--fault", "latency=400ms"]));
    assert_eq!(code, 1, "{found:#}");
    let verdict = &found["verdict"];
    assert_eq!(verdict["code"], "perf.slow");
    assert_eq!((&verdict["layer"], &verdict["party"]), (&"server".into(), &"vendor".into()));
    assert!(verdict["message"].as_str().unwrap().contains("first byte"), "{verdict}");
}

#[test]
fn a_quick_server_shows_its_phases_and_what_reuse_and_compression_save() {
    let (found, code) = run(&Sandbox::with(&[]));
    assert_eq!(code, 0, "{found:#}");
    let details = &found["topics"][0]["details"];
    let requests = details["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 3);
    assert_eq!(
        (&requests[0]["connection"], &requests[1]["connection"]),
        (&"new".into(), &"reused".into())
    );
    assert!(details["reuse_gain_ms"].is_number(), "{details:#}");
    for request in requests {
        assert!(request["timing"]["first_byte_ms"].is_number(), "{request}");
        assert!(request["wire_bytes"].as_u64().unwrap() > 0);
    }
}
