//! Signing in, through the program, to a sandbox that asks for it and gets it wrong on purpose.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use fhirctl::sandbox::{self, Options, Running, RunningServer, Scenario};
use serde_json::Value;

use crate::support::{Desk, assert_schema, check, server};

/// A fleet in this process, so that its requests can be counted, and a desk that knows it.
struct Fleet {
    running: Running,
    desk: Desk,
    runtime: tokio::runtime::Runtime,
}

impl Fleet {
    fn new(servers: &str) -> Fleet {
        Fleet::with(servers, |_| String::new())
    }

    /// `more`: further keys of `auth` in the inventory, by server.
    fn with(servers: &str, more: impl Fn(&RunningServer) -> String) -> Fleet {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let desk = Desk::new("version: 1\n");
        let yaml = format!("servers:\n{servers}");
        let scenario = Scenario::parse(Path::new("scenario.yaml"), &yaml).unwrap();
        let options = Options::loopback(desk.dir.path().to_owned());
        let running = runtime.block_on(async { sandbox::start(&scenario, &options) }).unwrap();
        let mut inventory = "version: 1\nservers:\n".to_owned();
        for server in &running.servers {
            inventory.push_str(&entry(server, running.ca.as_deref(), &more(server)));
        }
        std::fs::write(desk.inventory(), inventory).unwrap();
        Fleet { running, desk, runtime }
    }

    /// How many requests a server got at a path.
    fn requests(&self, name: &str, path: &str) -> usize {
        let seen = self.running.requests(name);
        seen.iter().filter(|request| request.path.split('?').next() == Some(path)).count()
    }

    /// Runs several at once and waits for all.
    fn at_once(&self, count: usize, args: &[&str], env: &[(&str, &str)]) -> Vec<Value> {
        let children: Vec<_> = (0..count)
            .map(|_| {
                let mut command = self.desk.fhirctl();
                command.args(["-o", "json", "--timeout", "60s"]).args(args);
                command.envs(env.iter().copied());
                command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        children
            .into_iter()
            .map(|child| serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap())
            .collect()
    }
}

fn entry(server: &RunningServer, ca: Option<&Path>, more: &str) -> String {
    let auth = &server.auth;
    let file = |path: &Option<std::path::PathBuf>| {
        format!("\"file:{}\"", path.as_ref().unwrap().display())
    };
    let text = |value: Option<&str>| value.unwrap().to_owned();
    let keys = match auth.method {
        "none" | "mtls" => String::new(),
        "basic" => format!(", username: probe, password: {}", file(&auth.secret_file)),
        "bearer" => format!(", token: {}", file(&auth.secret_file)),
        "api-key" => format!(", header: X-API-Key, value: {}", file(&auth.secret_file)),
        "headers" => format!(", X-Sandbox-Token: {}", file(&auth.secret_file)),
        "oauth2" => format!(
            ", client_id: {}, client_secret: {}, token_url: \"{}\"",
            text(auth.client_id),
            file(&auth.secret_file),
            text(auth.token_url.as_deref())
        ),
        "smart-backend" => format!(
            ", client_id: {}, key: {}, key_id: {}, token_url: \"{}\", jwks_url: \"{}\"",
            text(auth.client_id),
            file(&auth.secret_file),
            text(auth.key_id),
            text(auth.token_url.as_deref()),
            text(auth.jwks_url.as_deref())
        ),
        "azure" => format!(
            ", tenant: {}, client_id: {}, client_secret: {}, authority: \"{}\"",
            text(auth.tenant),
            text(auth.client_id),
            file(&auth.secret_file),
            text(auth.authority.as_deref())
        ),
        "google" => format!(", credentials: {}", file(&auth.secret_file)),
        "aws-sigv4" => format!(
            ", region: {}, access_key: {}, secret_key: {}",
            text(auth.region),
            text(auth.access_key),
            file(&auth.secret_file)
        ),
        other => panic!("{other}"),
    };
    let mut yaml = format!(
        "  - name: {}\n    url: {}\n    auth: {{method: {}{keys}{more}}}\n",
        server.name, server.url, auth.method
    );
    if let (true, Some(ca)) = (server.url.starts_with("https"), ca) {
        let own = match (&auth.certificate, &auth.certificate_key) {
            (Some(certificate), Some(key)) => format!(
                ", client_certificate: {{certificate: {}, key: \"file:{}\"}}",
                certificate.display(),
                key.display()
            ),
            _ => String::new(),
        };
        yaml.push_str(&format!("    tls: {{ca: {}{own}}}\n", ca.display()));
    }
    yaml
}

#[test]
fn every_method_signs_in_and_status_shows_it() {
    let methods = [
        "api-key",
        "basic",
        "bearer",
        "headers",
        "oauth2",
        "smart-backend",
        "mtls",
        "azure",
        "google",
        "aws-sigv4",
    ];
    let servers: String = methods
        .iter()
        .map(|method| format!("  - {{name: by-{method}, auth: {method}}}\n"))
        .collect();
    let fleet = Fleet::new(&servers);
    for method in methods {
        let (test, exit) = fleet.desk.json(&["auth", "test", &format!("by-{method}")]);
        assert_eq!(exit, 0, "{method}: {test}");
        assert_schema("auth-test", &test);
    }
    let (status, exit) = fleet.desk.json(&["auth", "status"]);
    assert_schema("auth-status", &status);
    assert_eq!(exit, 0, "{status}");
    for method in methods {
        let line = server(&status, &format!("by-{method}"));
        // A client certificate is proven in each handshake; nothing of it is kept.
        let expected = if method == "mtls" { "not_tried" } else { "accepted" };
        assert_eq!(line["state"], expected, "{line}");
        let has_token = matches!(method, "oauth2" | "smart-backend" | "azure" | "google");
        assert_eq!(line["token"].is_object(), has_token, "{line}");
    }
    let (checked, exit) = fleet.desk.json(&["check"]);
    assert_eq!(exit, 0, "{checked}");
}

#[test]
fn what_is_wrong_with_a_sign_in_has_a_code_of_its_own() {
    let cases = [
        ("smart-backend", "audience", "auth.audience", "expected"),
        ("smart-backend", "clock=10m", "auth.clock_skew", "behind"),
        ("smart-backend", "key-unknown", "auth.key_unknown", "sandbox-es384"),
        ("smart-backend", "algorithm", "auth.algorithm", "ES384"),
        ("smart-backend", "scope-reduced", "auth.scope_reduced", "missing: system/*.rs"),
        ("smart-backend", "client-unknown", "auth.invalid_client", "does not know the client"),
        ("smart-backend", "moved", "auth.token_endpoint", "nothing was sent"),
        ("oauth2", "secret-expired", "auth.secret_expired", "has ended"),
        ("oauth2", "client-unknown", "auth.invalid_client", "does not know the client"),
        ("oauth2", "html", "auth.token_endpoint", "HTML"),
        ("oauth2", "no-token", "auth.token_endpoint", "without an access_token"),
        ("oauth2", "expires-text", "auth.token_endpoint", "a text where a number"),
        ("oauth2", "expires-zero", "auth.token_endpoint", "is 0"),
        ("oauth2", "expires-absent", "auth.token_endpoint", "does not say how long"),
        ("oauth2", "redirect", "auth.token_endpoint", "redirects"),
        ("azure", "secret-expired", "auth.secret_expired", "has ended"),
        ("azure", "client-unknown", "auth.invalid_client", "does not know the client"),
        ("google", "clock=2h", "auth.clock_skew", "behind"),
        ("google", "key-unknown", "auth.key_unknown", "sandbox-google"),
    ];
    let name = |index: usize| format!("case-{index}");
    let servers: String = cases
        .iter()
        .enumerate()
        .map(|(index, (method, fault, ..))| {
            format!("  - {{name: {}, auth: {method}, sign_in_fault: {fault}}}\n", name(index))
        })
        .collect();
    let fleet = Fleet::new(&servers);
    for (index, (method, fault, code, words)) in cases.iter().enumerate() {
        let (test, exit) = fleet.desk.json(&["auth", "test", &name(index)]);
        assert_eq!(exit, 77, "{method} {fault}: {test}");
        assert_eq!(test["server"]["code"], *code, "{method} {fault}: {test}");
        let message = test["server"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{method} {fault}: {message}");
        // The provider's own words are shown, apart from ours.
        let words = &check(&test["server"], "auth")["server_text"];
        let refused = !matches!(*fault, "scope-reduced" | "moved" | "no-token" | "redirect")
            && !fault.starts_with("expires");
        assert_eq!(words.is_string(), refused, "{method} {fault}: {words}");
    }
    // What moved got nothing, neither where it was nor where it is said to be.
    let moved = cases.iter().position(|case| case.1 == "moved").unwrap();
    assert_eq!(fleet.requests(&name(moved), "/oauth2/token"), 0);
}

#[test]
fn diag_names_the_layer_and_the_party_of_a_broken_sign_in() {
    let cases = [
        ("audience", "auth.audience", "auth", "ours"),
        // The server's own clock agrees with ours: it is the provider's that is wrong.
        ("clock=10m", "auth.clock_skew", "clock", "identity_provider"),
        ("html", "auth.token_endpoint", "auth", "identity_provider"),
    ];
    let servers: String = cases
        .iter()
        .enumerate()
        .map(|(index, case)| {
            format!("  - {{name: case-{index}, auth: smart-backend, sign_in_fault: {}}}\n", case.0)
        })
        .collect();
    let fleet = Fleet::new(&servers);
    for (index, (fault, code, layer, party)) in cases.iter().enumerate() {
        let (found, exit) = fleet.desk.json(&["diag", &format!("case-{index}")]);
        assert_schema("diag", &found);
        let verdict = &found["verdict"];
        assert_eq!(exit, 2, "{fault}: {verdict:#}");
        assert_eq!(
            (&verdict["code"], &verdict["layer"], &verdict["party"]),
            (&Value::from(*code), &Value::from(*layer), &Value::from(*party)),
            "{fault}: {verdict:#}"
        );
    }
}

#[test]
fn diag_shows_a_sign_in_without_what_proves_it() {
    let fleet = Fleet::new("  - {name: a, auth: smart-backend}\n");
    let (found, exit) = fleet.desk.json(&["diag", "a", "auth", "--negative"]);
    assert_eq!(exit, 0, "{found:#}");
    let topics = found["topics"].as_array().unwrap();
    let details = &topics.iter().find(|topic| topic["name"] == "auth").unwrap()["details"];
    assert_eq!(details["assertion"]["claims"]["aud"], details["token_endpoint"]);
    assert_eq!(details["missing_scopes"], serde_json::json!([]));
    let refused = details["negative"].as_array().unwrap();
    assert!(refused.iter().all(|test| test["is_refused"] == true), "{refused:#?}");
    assert!(!refused.is_empty());
    // Three parts with dots between them would be a whole assertion or token.
    let text = found.to_string();
    assert!(!text.contains("eyJ"), "something signed is shown: {text}");
}

#[test]
fn a_key_set_of_fifty_megabytes_is_not_read_to_its_end() {
    let fleet =
        Fleet::with("  - {name: a, auth: smart-backend, sign_in_fault: huge-keys}\n", |_| {
            ", audience: \"http://127.0.0.1/else\"".to_owned()
        });
    let (test, exit) = fleet.desk.json(&["auth", "test", "a"]);
    assert_eq!((exit, &test["server"]["code"]), (77, &"auth.audience".into()), "{test}");
}

#[test]
fn a_wrong_password_reaches_the_server_twice_however_many_ask() {
    let fleet = Fleet::new("  - {name: a, auth: basic}\n");
    let text = std::fs::read_to_string(fleet.desk.inventory()).unwrap();
    let secret = fleet.running.servers[0].auth.secret_file.clone().unwrap();
    let wrong = text.replace(&format!("file:{}", secret.display()), "env:PW");
    std::fs::write(fleet.desk.inventory(), &wrong).unwrap();
    let results = fleet.at_once(50, &["check", "a"], &[("PW", "not-the-right-one")]);
    let codes: Vec<_> = results.iter().map(|run| run["servers"][0]["code"].clone()).collect();
    let with = |code: &str| codes.iter().filter(|found| **found == code).count();
    assert_eq!((with("auth.unauthorized"), with("auth.held_back")), (2, 48), "{codes:?}");
    assert_eq!(fleet.requests("a", "/fhir/Patient"), 2);

    // By hand it is offered once more; the right one is offered at once, by everybody.
    let run = |args: &[&str], password: &str| {
        let output = fleet.desk.fhirctl().args(args).env("PW", password).output().unwrap();
        output.status.code().unwrap()
    };
    assert_eq!(run(&["auth", "test", "a"], "not-the-right-one"), 77);
    assert_eq!(fleet.requests("a", "/fhir/Patient"), 3);
    assert_eq!(run(&["check", "a"], "not-the-right-one"), 3);
    assert_eq!(fleet.requests("a", "/fhir/Patient"), 3);
    assert_eq!(run(&["auth", "status", "a"], "not-the-right-one"), 77);
    let right = std::fs::read_to_string(secret).unwrap();
    assert_eq!(run(&["check", "a"], right.trim()), 0);
    assert_eq!(run(&["auth", "status", "a"], right.trim()), 0);
}

#[test]
fn twenty_runs_at_once_ask_for_one_token() {
    let fleet = Fleet::new("  - {name: a, auth: smart-backend}\n  - {name: b, auth: oauth2}\n");
    let results = fleet.at_once(20, &["check"], &[]);
    assert!(results.iter().all(|run| run["status"] == "healthy"), "{results:?}");
    assert_eq!(fleet.requests("a", "/oauth2/token"), 1);
    assert_eq!(fleet.requests("b", "/oauth2/token"), 1);
    // It lies sealed: whoever reads the folder does not read the token.
    let (token, _) = fleet.desk.json(&["auth", "token", "a"]);
    assert_schema("auth-token", &token);
    let token = token["access_token"].as_str().unwrap().to_owned();
    assert!(!holds(fleet.desk.dir.path(), &token));
    assert_eq!(fleet.requests("a", "/oauth2/token"), 1);
}

#[test]
fn a_process_cache_shares_nothing() {
    let fleet = Fleet::with("  - {name: a, auth: oauth2}\n", |_| ", token_cache: process".into());
    for count in 1..=2 {
        assert_eq!(fleet.desk.json(&["check"]).1, 0);
        assert_eq!(fleet.requests("a", "/oauth2/token"), count);
    }
}

#[test]
fn a_token_that_the_server_refuses_is_renewed_once() {
    // The provider does not say how long its tokens live, and they end before we were told.
    let fleet = Fleet::with(
        "  - {name: a, auth: oauth2, sign_in_fault: expires-absent, token_lifetime: 4}\n",
        |_| ", token_lifetime: 1h".to_owned(),
    );
    let text = std::fs::read_to_string(fleet.desk.inventory()).unwrap();
    let text = format!("{text}    checks: {{search: [\"Patient?_summary=count\"]}}\n");
    std::fs::write(fleet.desk.inventory(), text).unwrap();
    assert_eq!(fleet.desk.json(&["check"]).1, 0);
    assert_eq!(fleet.requests("a", "/oauth2/token"), 1);
    std::thread::sleep(std::time::Duration::from_millis(4_200));
    let (checked, exit) = fleet.desk.json(&["check"]);
    assert_eq!(exit, 0, "{checked}");
    assert_eq!(fleet.requests("a", "/oauth2/token"), 2);
}

#[test]
fn a_user_signs_in_by_the_browser_and_stays_signed_in() {
    let fleet = Fleet::with("  - {name: a, auth: oauth2, token_lifetime: 3}\n", |_| {
        ", flow: authorization-code, scopes: [openid, offline_access]".to_owned()
    });
    let (before, exit) = fleet.desk.json(&["check", "a"]);
    assert_eq!((exit, &before["servers"][0]["code"]), (3, &"auth.credential_missing".into()));

    let mut login = fleet
        .desk
        .fhirctl()
        .args(["-o", "json", "auth", "login", "a", "--no-browser", "--wait", "30s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = BufReader::new(login.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with("http"))
        .unwrap();
    for wanted in ["code_challenge_method=S256", "response_type=code", "aud="] {
        assert!(address.contains(wanted), "{address}");
    }
    let page = fleet.runtime.block_on(browse(&address));
    assert!(page.contains("You are signed in"), "{page}");
    let output = login.wait_with_output().unwrap();
    assert!(output.status.success());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_schema("auth-login", &told);
    assert_eq!(told["renewable"], true, "{told}");

    // Each token lives for three seconds, and each renewal brings another refresh token.
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(3_100));
        let (checked, exit) = fleet.desk.json(&["check", "a"]);
        assert_eq!(exit, 0, "{checked}");
    }
    assert_eq!(fleet.requests("a", "/oauth2/token"), 4);
    let (forgotten, exit) = fleet.desk.json(&["auth", "forget", "a"]);
    assert_eq!(exit, 0);
    assert_schema("auth-forget", &forgotten);
    assert_eq!(fleet.desk.json(&["check", "a"]).1, 3);
}

/// Follows redirects as a browser would; gives the last page.
async fn browse(address: &str) -> String {
    use fhirctl::http::{Client, Identity, Request, Transport};
    use fhirctl::model::Clock;
    let transport = std::sync::Arc::new(Transport::new(Clock::system()));
    let mut url = url::Url::parse(address).unwrap();
    for _ in 0..5 {
        let text = format!(
            "version: 1\nservers: [{{name: x, url: \"{}\"}}]\n",
            url.origin().ascii_serialization()
        );
        let inventory =
            fhirctl::inventory::parse(&text, Path::new("x.yaml"), &Default::default()).unwrap();
        let client =
            Client::new(&inventory.servers[0], &Identity::default(), transport.clone()).unwrap();
        let request = Request {
            url: url.clone(),
            accept: "*/*",
            credential: None,
            max_body: 1 << 20,
            deadline: std::time::Instant::now() + std::time::Duration::from_secs(20),
            if_none_match: None,
            body: None,
        };
        let exchange = client.send_once(&request).await.unwrap();
        match exchange.header("location") {
            Some(next) => url = url.join(next).unwrap(),
            None => return String::from_utf8_lossy(&exchange.body).into_owned(),
        }
    }
    panic!("redirected in a circle")
}

#[test]
fn a_key_is_rotated_only_when_the_new_one_is_proven() {
    let fleet = Fleet::new("  - {name: a, auth: smart-backend}\n");
    let before = std::fs::read_to_string(fleet.desk.inventory()).unwrap();
    // A key that nobody registered: the old one stays, the new one waits.
    let (waits, exit) = fleet.desk.json(&["auth", "rotate", "a"]);
    assert_eq!((exit, &waits["rotated"]), (75, &false.into()), "{waits}");
    assert_eq!(waits["jwks"]["keys"].as_array().unwrap().len(), 2);
    assert_schema("auth-rotate", &waits);
    let (set, _) = fleet.desk.json(&["auth", "jwks", "a"]);
    assert_schema("auth-jwks", &set);
    assert_eq!(std::fs::read_to_string(fleet.desk.inventory()).unwrap(), before);
    assert_eq!(fleet.desk.json(&["check"]).1, 0);
    assert_eq!(fleet.desk.run(&["auth", "rotate", "a", "--abandon"]).status.code(), Some(0));

    // One that is registered takes over.
    let other = fleet.running.servers[0].auth.rsa_key_file.clone().unwrap();
    let other = format!("file:{}", other.display());
    let (done, exit) = fleet.desk.json(&[
        "auth",
        "rotate",
        "a",
        "--secret",
        &other,
        "--key-id",
        "sandbox-rs384",
        "--expires",
        "2027-03-31",
    ]);
    assert_eq!((exit, &done["rotated"]), (0, &true.into()), "{done}");
    let after = std::fs::read_to_string(fleet.desk.inventory()).unwrap();
    assert!(after.contains("sandbox-rs384") && after.contains("2027-03-31"), "{after}");
    assert_eq!(fleet.desk.json(&["check"]).1, 0);
}

#[test]
fn a_secret_that_is_refused_is_not_put_in_use() {
    let fleet = Fleet::new("  - {name: a, auth: basic}\n");
    let before = std::fs::read_to_string(fleet.desk.inventory()).unwrap();
    let wrong = fleet.desk.dir.path().join("wrong");
    std::fs::write(&wrong, "nope\n").unwrap();
    std::os::unix::fs::PermissionsExt::set_mode(
        &mut std::fs::metadata(&wrong).unwrap().permissions(),
        0o600,
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&wrong, mode).unwrap();
    let (told, exit) = fleet.desk.json(&["auth", "rotate", "a", "--secret", "file:wrong"]);
    assert_eq!((exit, &told["rotated"]), (77, &false.into()), "{told}");
    assert_eq!(std::fs::read_to_string(fleet.desk.inventory()).unwrap(), before);
    assert_eq!(fleet.desk.json(&["check"]).1, 0);
}

#[test]
fn nothing_secret_is_shown_logged_or_left_lying() {
    let fleet = Fleet::new(
        "  - {name: a, auth: basic}\n  - {name: b, auth: oauth2}\n  - {name: c, auth: smart-backend}\n\
         \x20 - {name: d, auth: google}\n  - {name: e, auth: aws-sigv4}\n  - {name: f, auth: azure, sign_in_fault: secret-expired}\n",
    );
    let mut secrets: Vec<String> = Vec::new();
    for server in &fleet.running.servers {
        let file = server.auth.secret_file.as_ref().unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        // A line of a key is as telling as all of it.
        secrets.push(
            text.lines()
                .find(|line| line.len() > 30 && !line.starts_with("-----"))
                .unwrap()
                .to_owned(),
        );
    }
    let mut shown = String::new();
    for args in [
        &["-vv", "check"][..],
        &["-vv", "-o", "json", "check"],
        &["-vv", "auth", "test", "a"],
        &["-vv", "auth", "test", "c"],
        &["-vv", "auth", "test", "f"],
        &["-vv", "auth", "status"],
        &["auth", "jwks", "c"],
        &["show", "b", "--effective"],
        &["audit", "log"],
        &["-o", "json", "audit", "log"],
        &["lint"],
        &["expiring", "--offline"],
    ] {
        let output = fleet.desk.run(args);
        shown.push_str(&String::from_utf8_lossy(&output.stdout));
        shown.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    // A request is told by the method that it was sent with.
    let told = |method: &str| {
        let start = format!("{method} http");
        shown.lines().any(|line| line.contains(&start) && line.contains("/token"))
    };
    assert!(told("POST") && !told("GET"));
    let state = fleet.desk.dir.path().join("state");
    for secret in &secrets {
        assert!(!shown.contains(secret.as_str()));
        assert!(!holds(&state, secret));
    }
    for server in ["b", "c", "d"] {
        let (token, _) = fleet.desk.json(&["auth", "token", server]);
        let token = token["access_token"].as_str().unwrap();
        assert!(!shown.contains(token), "{server}");
        assert!(!holds(&state, token), "{server}");
    }
}

/// Whether a file below a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
