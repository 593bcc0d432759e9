//! How connections are held to what the inventory says: pins, client certificates, addresses,
//! proxies and versions, against a TLS server of the test's own.

mod peers;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use self::peers::{Authority, ForwardProxy, Origin};
use crate::support::{Desk, check, server};

struct Bench {
    desk: Desk,
    authority: Authority,
    origin: Origin,
}

impl Bench {
    /// A TLS server with its authority, and an inventory that trusts it.
    fn new() -> Bench {
        let authority = Authority::new("test CA");
        let origin = Origin::start();
        origin.show(authority.server(&authority.leaf("server", 300)));
        let bench = Bench { desk: Desk::new("version: 1\n"), authority, origin };
        bench.file("ca.pem", bench.authority.pem());
        bench
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.desk.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn inventory(&self, entry: &str) {
        let text = format!(
            "version: 1\nservers:\n  - name: ehr\n    url: {}\n    checks: {{health: {{enabled: false}}}}\n{entry}",
            self.origin.url()
        );
        std::fs::write(self.desk.inventory(), text).unwrap();
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.desk.inventory()).unwrap()
    }

    fn test(&self) -> Value {
        self.desk.json(&["test", "ehr"]).0["server"].take()
    }

    /// Code and message of the server in `check`.
    #[track_caller]
    fn check(&self, entry: &str, code: Option<&str>, words: &str) -> Value {
        self.inventory(entry);
        let (all, _) = self.desk.json(&["check", "ehr"]);
        let found = server(&all, "ehr");
        assert_eq!(found["code"].as_str(), code, "{entry}\n{found:#}");
        let message = found["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{entry}\n{message}");
        found.clone()
    }
}

fn fits(output: &Value) {
    let name = output["schema"].as_str().unwrap().split('/').nth(1).unwrap();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("data/schema/{name}.json"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let errors: Vec<_> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(output)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}\n{output:#}");
}

#[test]
fn a_pinned_server_refuses_a_swapped_certificate_and_nothing_is_sent() {
    let bench = Bench::new();
    let (first, second) =
        (bench.authority.leaf("server", 300), bench.authority.leaf("server", 300));
    let pins = |pins: &[&str]| format!("    tls: {{ca: ca.pem, pins: [{}]}}\n", pins.join(", "));
    bench.origin.show(bench.authority.server(&first));
    bench.check(&pins(&[&first.pin()]), None, "");
    let asked = bench.origin.requests().len();
    assert!(asked > 0);

    // The same name, the same authority, another key.
    bench.origin.show(bench.authority.server(&second));
    let found = bench.check(&pins(&[&first.pin()]), Some("tls.pin_mismatch"), &second.pin());
    assert_eq!(found["status"], "critical");
    assert_eq!(bench.origin.requests().len(), asked, "nothing was sent to the other key");

    // A chain may hold the pinned certificate without having anything to do with it.
    bench.origin.show(bench.authority.server_with(&second, &[&first]));
    bench.check(&pins(&[&first.pin()]), Some("tls.pin_mismatch"), &second.pin());
    assert_eq!(bench.origin.requests().len(), asked);

    // Overlap: either key will do, and so will that of an authority above it.
    bench.check(&pins(&[&first.pin(), &second.pin()]), None, "");
    bench.check(&pins(&[&bench.authority.pin()]), None, "");
}

#[test]
fn pins_are_shown_and_accepted_with_the_old_ones_beside_them() {
    let bench = Bench::new();
    let (first, second) =
        (bench.authority.leaf("server", 300), bench.authority.leaf("server", 300));
    bench.origin.show(bench.authority.server(&first));
    bench.inventory("    tls:\n      ca: ca.pem   # ours\n");

    let (shown, code) = bench.desk.json(&["show", "ehr", "--pins"]);
    fits(&shown);
    assert_eq!(code, 0);
    assert_eq!(shown["verified"], true);
    assert_eq!(shown["matches"], Value::Null);
    assert_eq!(shown["certificates"][0]["pin"], first.pin());
    assert_eq!(shown["certificates"][1]["pin"], bench.authority.pin());

    // Nobody is there to say yes.
    let before = bench.text();
    let refused = bench.desk.run(&["auth", "pins", "accept", "ehr"]);
    assert_eq!(refused.status.code(), Some(64));
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains(&first.pin()) && words.contains("--yes"), "{words}");
    assert_eq!(bench.text(), before);

    let (accepted, code) = bench.desk.json(&["--yes", "auth", "pins", "accept", "ehr"]);
    fits(&accepted);
    assert_eq!((code, &accepted["changed"]), (0, &Value::Bool(true)));
    assert!(bench.text().contains("ca: ca.pem   # ours"), "{}", bench.text());
    let (again, _) = bench.desk.json(&["--yes", "auth", "pins", "accept", "ehr"]);
    assert_eq!(again["changed"], false);

    bench.origin.show(bench.authority.server(&second));
    let (shown, code) = bench.desk.json(&["show", "ehr", "--pins"]);
    assert_eq!((code, &shown["matches"]), (0, &Value::Bool(false)));
    assert_eq!(shown["pins"][0]["presented"], false);
    let (accepted, _) = bench.desk.json(&["--yes", "auth", "pins", "accept", "ehr"]);
    assert_eq!(accepted["new"], serde_json::json!([first.pin(), second.pin()]));
    let (accepted, _) = bench.desk.json(&["--yes", "auth", "pins", "accept", "ehr", "--retire"]);
    assert_eq!(accepted["retired"], serde_json::json!([first.pin()]));
    assert_eq!(accepted["new"], serde_json::json!([second.pin()]));
    assert!(bench.origin.requests().is_empty(), "looking sends nothing");
    assert_eq!(bench.test()["status"], "healthy");
}

#[test]
fn a_certificate_that_fails_is_shown_and_never_accepted() {
    let bench = Bench::new();
    let leaf = bench.authority.leaf("server", 300);
    let other = Authority::new("someone else's CA");
    let expired = bench.authority.leaf("server", -1);
    for (shown, code) in [
        (other.server(&other.leaf("server", 300)), "tls.untrusted"),
        (bench.authority.server(&expired), "tls.expired"),
        (
            bench.authority.server(&bench.authority.leaf_for(&["elsewhere.example.org"], 300)),
            "tls.hostname_mismatch",
        ),
    ] {
        bench.origin.show(shown);
        bench.inventory(&format!("    tls: {{ca: ca.pem, pins: [\"{}\"]}}\n", leaf.pin()));
        let before = bench.text();
        let (shown, exit) = bench.desk.json(&["show", "ehr", "--pins"]);
        fits(&shown);
        assert_eq!((exit, &shown["verified"]), (0, &Value::Bool(false)), "{code}");
        assert_eq!(shown["trouble"]["code"], code);
        let refused = bench.desk.run(&["--yes", "auth", "pins", "accept", "ehr"]);
        assert_eq!(refused.status.code(), Some(65), "{code}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(code));
        assert_eq!(bench.text(), before);
    }
    // Nothing is there to be looked at.
    bench.inventory("");
    let text = bench.text().replace(&bench.origin.url(), "http://127.0.0.1:9/fhir");
    std::fs::write(bench.desk.inventory(), text).unwrap();
    assert_eq!(bench.desk.run(&["show", "ehr", "--pins"]).status.code(), Some(69));
}

#[test]
fn a_client_certificate_comes_from_pem_or_pkcs12_and_every_trouble_has_its_words() {
    let bench = Bench::new();
    let own = bench.authority.client("probe", 300);
    let other = bench.authority.client("other", 300);
    bench.origin.show(bench.authority.demanding_server());
    bench.file("own.pem", own.certificate_pem());
    bench.file("own.key", own.key_pem());
    bench.file("both.pem", format!("{}{}", own.certificate_pem(), own.key_pem()));
    bench.file("other.key", other.key_pem());
    bench.file("public.key", own.key_pem().replace("PRIVATE", "PUBLIC"));
    bench.file("encrypted.key", own.key_pem().replace("PRIVATE", "ENCRYPTED PRIVATE"));
    bench.file("modern.p12", peers::pkcs12(Some(&own), &bench.authority, "hunter2", false));
    bench.file("legacy.p12", peers::pkcs12(Some(&own), &bench.authority, "hunter2", true));
    bench.file("keyless.p12", peers::pkcs12(None, &bench.authority, "hunter2", false));
    bench.file("broken.p12", &peers::pkcs12(Some(&own), &bench.authority, "hunter2", false)[..200]);
    bench.file("good.pass", "hunter2");
    bench.file("bad.pass", "hunter3");
    let pem = |certificate: &str, key: &str| {
        format!("{{certificate: {certificate}, key: \"file:{key}\"}}")
    };
    let p12 = |file: &str, pass: &str| format!("{{pkcs12: {file}, password: \"file:{pass}\"}}");
    let refused = Some("tls.client_certificate_rejected");
    let secret = own.key_pem().lines().nth(1).unwrap().to_owned();
    for (client, code, words) in [
        (pem("own.pem", "own.key"), None, ""),
        (pem("both.pem", "both.pem"), None, ""),
        (p12("modern.p12", "good.pass"), None, ""),
        (p12("legacy.p12", "good.pass"), None, ""),
        (p12("modern.p12", "bad.pass"), refused, "modern.p12 is wrong"),
        (p12("legacy.p12", "bad.pass"), refused, "legacy.p12 is wrong"),
        ("{pkcs12: modern.p12}".to_owned(), refused, "modern.p12 wants a password"),
        (p12("keyless.p12", "good.pass"), refused, "no private key in the PKCS#12 file"),
        (
            p12("broken.p12", "good.pass"),
            refused,
            "broken.p12 is not a PKCS#12 file, or is damaged",
        ),
        (p12("own.pem", "good.pass"), refused, "own.pem is PEM and not PKCS#12"),
        (p12("none.p12", "good.pass"), refused, "none.p12 cannot be read"),
        (pem("modern.p12", "own.key"), refused, "modern.p12 is not PEM"),
        (pem("own.key", "own.key"), refused, "no PEM certificate in"),
        (pem("own.pem", "own.pem"), refused, "a certificate and no private key"),
        (pem("own.pem", "public.key"), refused, "is a public key"),
        (pem("own.pem", "encrypted.key"), refused, "encrypted with a passphrase"),
        (pem("own.pem", "good.pass"), refused, "not a PEM private key"),
        (pem("own.pem", "other.key"), refused, "do not belong together"),
    ] {
        let entry = format!("    tls: {{ca: ca.pem, client_certificate: {client}}}\n");
        let found = bench.check(&entry, code, words);
        let text = found.to_string();
        assert!(!text.contains("hunter2") && !text.contains(&secret), "{text}");
    }
    // Without one the server says so itself.
    bench.check("    tls: {ca: ca.pem}\n", Some("tls.client_certificate_required"), "");
}

#[test]
fn a_refusal_whose_words_get_lost_behind_the_handshake_is_named_all_the_same() {
    let bench = Bench::new();
    let (lost, demands) =
        (bench.authority.asking_server(false), bench.authority.demanding_server());
    bench.origin.show_by_turns(lost, demands);
    bench.check("    tls: {ca: ca.pem}\n", Some("tls.client_certificate_required"), "");

    let bench = Bench::new();
    let foreign = Authority::new("another authority").client("probe", 300);
    bench.file("own.pem", foreign.certificate_pem());
    bench.file("own.key", foreign.key_pem());
    let entry = "    tls: {ca: ca.pem, client_certificate: {certificate: own.pem, key: \"file:own.key\"}}\n";
    let (lost, demands) = (bench.authority.asking_server(true), bench.authority.demanding_server());
    bench.origin.show_by_turns(lost, demands);
    bench.check(entry, Some("tls.client_certificate_rejected"), "");

    // One that ends the connection for another reason has refused nothing.
    let bench = Bench::new();
    let (lost, takes) =
        (bench.authority.asking_server(false), bench.authority.asking_server(false));
    bench.origin.show_by_turns(lost, takes);
    bench.inventory("    tls: {ca: ca.pem}\n");
    let found = bench.desk.json(&["check", "ehr"]).0;
    let code = server(&found, "ehr")["code"].clone();
    // Which of the two depends on whether the request was there already.
    assert!(code == "http.closed" || code == "tcp.reset", "{code}");
}

#[test]
fn the_end_of_our_own_certificate_is_watched_and_is_ours() {
    let bench = Bench::new();
    for (days, demanding, status, code, words) in [
        (300, true, "healthy", Value::Null, ""),
        (10, true, "warning", "tls.expiring".into(), "our client certificate"),
        (2, true, "critical", "tls.expiring".into(), "our client certificate"),
        (-2, true, "critical", "tls.expired".into(), "our client certificate"),
        (-2, false, "critical", "tls.expired".into(), "our client certificate"),
    ] {
        bench.origin.show(match demanding {
            true => bench.authority.demanding_server(),
            false => bench.authority.server(&bench.authority.leaf("server", 300)),
        });
        let own = bench.authority.client("probe", days);
        bench.file("own.pem", format!("{}{}", own.certificate_pem(), own.key_pem()));
        bench.inventory(
            "    tls: {ca: ca.pem, client_certificate: {certificate: own.pem, key: \"file:own.pem\"}}\n",
        );
        let test = bench.test();
        let tls = check(&test, "tls");
        assert_eq!((&tls["status"], &tls["code"]), (&status.into(), &code), "{days}\n{tls:#}");
        if !code.is_null() {
            assert_eq!(tls["party"], "ours");
            assert!(tls["message"].as_str().unwrap().starts_with(words), "{tls:#}");
            assert!(tls["hint"].as_str().unwrap().contains("auth rotate"), "{tls:#}");
        }
    }
}

#[test]
fn diag_names_whose_certificate_it_is_that_breaks_a_connection() {
    // The server does not send what leads from its own certificate to the authority: the vendor's.
    let bench = Bench::new();
    let middle = bench.authority.intermediate("middle");
    bench.origin.show(middle.server_alone(&middle.leaf("server", 300)));
    let named = |bench: &Bench, entry: &str| {
        bench.inventory(entry);
        let (found, code) = bench.desk.json(&["diag", "ehr"]);
        let verdict = ["layer", "party", "code"].map(|name| found["verdict"][name].clone());
        (serde_json::to_value(verdict).unwrap(), code, found)
    };
    let (verdict, code, found) = named(&bench, "    tls: {ca: ca.pem}\n");
    assert_eq!(verdict, json!(["tls", "vendor", "tls.untrusted"]), "{found:#}");
    assert_eq!(code, 2);
    let message = found["verdict"]["message"].as_str().unwrap();
    assert!(message.contains("does not send the certificate of CN=middle"), "{message}");

    // Our own has ended, and the server says no more than that it does not take it: ours.
    let bench = Bench::new();
    let ended = bench.authority.client("probe", -5);
    bench.file("own.pem", ended.certificate_pem());
    bench.file("own.key", ended.key_pem());
    bench.origin.show(bench.authority.demanding_server());
    let entry = "    tls: {ca: ca.pem, client_certificate: {certificate: own.pem, key: \"file:own.key\"}}\n";
    let (verdict, code, found) = named(&bench, entry);
    assert_eq!(verdict, json!(["tls", "ours", "tls.expired"]), "{found:#}");
    assert_eq!(code, 2);
}

#[test]
fn the_oldest_version_that_is_spoken_is_held() {
    let bench = Bench::new();
    bench.origin.show(bench.authority.old_server());
    bench.check("    tls: {ca: ca.pem, min_version: \"1.2\"}\n", None, "");
    bench.check("    tls: {ca: ca.pem, min_version: \"1.3\"}\n", Some("tls.protocol"), "");
}

#[test]
fn connections_leave_from_the_source_address_or_not_at_all() {
    let bench = Bench::new();
    let from = |address: &str| {
        format!("    tls: {{ca: ca.pem}}\n    network: {{source_address: \"{address}\"}}\n")
    };
    bench.check(&from("127.0.0.7"), None, "");
    assert!(bench.origin.peers().iter().all(|peer| peer.to_string() == "127.0.0.7"));
    let asked = bench.origin.peers().len();
    let found = bench.check(&from("192.0.2.77"), Some("network.source_address"), "192.0.2.77");
    assert_eq!(found["party"], "ours");
    bench.check(&from("::1"), Some("network.source_address"), "IPv6 address ::1");
    assert_eq!(bench.origin.peers().len(), asked);
}

#[test]
fn only_allowed_addresses_are_connected_to() {
    let bench = Bench::new();
    let allowed = |nets: &str| {
        format!("    tls: {{ca: ca.pem}}\n    network: {{allowed_addresses: [{nets}]}}\n")
    };
    let refused = Some("network.address_not_allowed");
    bench.check(&allowed("127.0.0.0/8"), None, "");
    let asked = bench.origin.peers().len();
    bench.check(&allowed("198.51.100.0/24"), refused, "127.0.0.1");
    for (host, nets) in [
        ("localhost", "198.51.100.0/24"),
        ("[::ffff:127.0.0.1]", "198.51.100.0/24"),
        ("[::ffff:7f00:1]", "\"::1/128\""),
        ("2130706433", "198.51.100.0/24"),
    ] {
        bench.inventory(&allowed(nets));
        let text = bench.text().replace("127.0.0.1:", &format!("{host}:"));
        std::fs::write(
            bench.desk.inventory(),
            text.replace(&format!("url: https://{host}"), &format!("url: \"https://{host}"))
                .replace("/fhir\n", "/fhir\"\n"),
        )
        .unwrap();
        let (all, _) = bench.desk.json(&["check", "ehr"]);
        assert_eq!(server(&all, "ehr")["code"], "network.address_not_allowed", "{host}");
    }
    assert_eq!(bench.origin.peers().len(), asked, "nothing was connected to");
}

#[test]
fn a_proxy_gets_its_login_and_the_server_never_does() {
    let bench = Bench::new();
    let proxy = ForwardProxy::start("gate", "s3cret pass");
    bench.file("proxy.pass", "s3cret pass");
    bench.file("wrong.pass", "nope");
    let by = |proxy: &str| format!("    tls: {{ca: ca.pem}}\n    network: {{proxy: {proxy}}}\n");
    let with = |user: &str, pass: &str| {
        by(&format!("{{url: \"{}\", username: {user}, password: \"file:{pass}\"}}", proxy.url()))
    };
    bench.check(&with("gate", "proxy.pass"), None, "");
    assert!(proxy.heads().iter().all(|head| head.starts_with("CONNECT ")), "TLS goes through");
    let heads = bench.origin.requests().join("\n").to_lowercase();
    assert!(!heads.is_empty() && !heads.contains("proxy-authorization"), "{heads}");

    let found = bench.check(
        &with("gate", "wrong.pass"),
        Some("network.proxy"),
        "refuses the user and password",
    );
    assert!(!found.to_string().contains("nope"));
    bench.check(&by(&format!("\"{}\"", proxy.url())), Some("network.proxy"), "demands a sign-in");
    bench.check(&with("gate", "missing.pass"), Some("auth.credential_missing"), "missing.pass");
    bench.check(&by("\"http://127.0.0.1:9\""), Some("network.proxy"), "");

    let from = with("gate", "proxy.pass").replace("}}\n", "}, source_address: 192.0.2.77}\n");
    bench.check(&from, Some("network.source_address"), "192.0.2.77");

    // Looking at certificates goes the same way.
    bench.inventory(&with("gate", "proxy.pass"));
    let (shown, code) = bench.desk.json(&["show", "ehr", "--pins"]);
    assert_eq!((code, &shown["verified"]), (0, &Value::Bool(true)));
}

#[test]
fn a_password_in_the_proxys_url_is_told_how_to_move() {
    let desk = Desk::new(
        "version: 1\nservers:\n  - name: a\n    url: https://a.example.org\n    network: {proxy: \"http://u:hunter2@proxy:3128\"}\n",
    );
    let output = desk.run(&["list"]);
    assert_eq!(output.status.code(), Some(78));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("username: USER, password:"), "{words}");
    assert!(!words.contains("hunter2"));
    for (proxy, lacks) in [
        ("{url: \"http://proxy:3128\", username: u}", "a password beside the username"),
        ("{url: \"http://proxy:3128\", password: env:P}", "a username beside the password"),
        ("{username: u, password: env:P}", "has no url"),
        ("{url: \"http://proxy:3128\", username: u, password: hunter2}", "in the clear"),
        ("{url: \"http://u:hunter2@proxy:3128\"}", "a password stands in the URL"),
        ("[x]", "a text or a map"),
    ] {
        let desk = Desk::new(&format!(
            "version: 1\nservers:\n  - name: a\n    url: https://a.example.org\n    network: {{proxy: {proxy}}}\n"
        ));
        let output = desk.run(&["list"]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains(lacks) && !words.contains("hunter2"), "{proxy}\n{words}");
    }
}
