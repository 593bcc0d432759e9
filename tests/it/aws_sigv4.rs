//! Signing in with AWS Signature Version 4: where keys are found, what is sent, what a refusal says.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{Desk, check, server};

/// In no output, whatever happens.
const SECRET: &str = "hunter2/PLANTED";

/// A request as the stand-in saw it; header names in lower case.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Plays the metadata services, the token service and a FHIR server on one port of loopback.
struct Cloud {
    address: SocketAddr,
    /// The same again at another address, for the machine's own services.
    machine: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Cloud {
    fn start() -> Cloud {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listen = |host: &str| {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let kept = Arc::clone(&seen);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let kept = Arc::clone(&kept);
                    std::thread::spawn(move || serve(&stream.unwrap(), &kept));
                }
            });
            address
        };
        let (address, machine) = (listen("127.0.0.1"), listen("127.0.0.2"));
        Cloud { address, machine, seen }
    }

    fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.target.contains(path)).cloned().collect()
    }

    fn inventory(&self, path: &str, auth: &str) -> String {
        format!(
            "version: 1\nservers:\n  - name: lake\n    url: http://{}/{path}\n    checks: {{metadata: {{open: false}}}}\n    auth: {{method: aws-sigv4, region: us-east-1{auth}}}\n",
            self.address
        )
    }
}

fn serve(stream: &TcpStream, kept: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let seen = Seen { method, target, headers, body: String::from_utf8(body).unwrap() };
        let (status, answer) = answer(&seen);
        kept.lock().unwrap().push(seen);
        let _ = (&mut &*stream).write_all(
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
                .as_bytes(),
        );
    }
}

fn answer(seen: &Seen) -> (u16, String) {
    let header = |name: &str| seen.headers.get(name).map_or("", String::as_str);
    let keys = |access: &str| {
        format!(
            r#"{{"Code":"Success","AccessKeyId":"{access}","SecretAccessKey":"{SECRET}","Token":"token-of-{access}","Expiration":"2099-01-01T00:00:00Z"}}"#
        )
    };
    let roles = "/latest/meta-data/iam/security-credentials/";
    let (method, target) = (seen.method.as_str(), seen.target.as_str());
    let has_token = header("x-aws-ec2-metadata-token") == "metadata-token";
    match (method, target) {
        ("PUT", "/latest/api/token")
            if !header("x-aws-ec2-metadata-token-ttl-seconds").is_empty() =>
        {
            (200, "metadata-token".into())
        }
        ("GET", target) if target == roles && has_token => (200, "ops-role\n".into()),
        ("GET", target) if target == format!("{roles}ops-role") && has_token => {
            (200, keys("ASIAINSTANCE"))
        }
        ("GET", "/container") if header("authorization") == "container-token" => {
            (200, keys("ASIACONTAINER"))
        }
        ("POST", "/sts") => (
            200,
            format!(
                "<AssumeRoleResponse><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>token-of-ASIAROLE</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResponse>"
            ),
        ),
        ("POST", "/denied") => (
            403,
            "<Error><Code>AccessDenied</Code><Message>not authorized to assume</Message></Error>".into(),
        ),
        _ if target.starts_with("/expired") => (
            403,
            r#"{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}"#.into(),
        ),
        _ if target.starts_with("/wrong") => (
            403,
            r#"{"message":"The request signature we calculated does not match the signature you provided."}"#.into(),
        ),
        _ if target.starts_with("/skewed") => (
            403,
            r#"{"__type":"InvalidSignatureException","message":"Signature expired: 20260301T120000Z is now earlier than 20260301T120500Z (20260301T121000Z - 5 min.)"}"#.into(),
        ),
        _ if target.starts_with("/denying") => {
            (403, r#"{"__type":"AccessDeniedException","message":"not authorized"}"#.into())
        }
        (_, target) if target.ends_with("/metadata") => (
            200,
            r#"{"resourceType":"CapabilityStatement","status":"active","date":"2026-01-01","kind":"instance","fhirVersion":"4.0.1","format":["json"],"rest":[{"mode":"server","resource":[{"type":"Patient","interaction":[{"code":"search-type"}]}]}]}"#.into(),
        ),
        _ => (200, r#"{"resourceType":"Bundle","type":"searchset","total":0}"#.into()),
    }
}

/// The desk with the two files of the AWS command line; nothing of the machine's own.
fn run(desk: &Desk, environment: &[(&str, String)]) -> (Value, String) {
    let mut command = desk.fhirctl();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let output = command.args(["-o", "json", "check", "lake"]).output().unwrap();
    let all = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!all.contains("hunter2"), "the secret key is shown: {all}");
    let value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {all}"));
    (value, all)
}

fn home(desk: &Desk, credentials: &str, config: &str) {
    let folder = desk.dir.path().join(".aws");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("credentials"), credentials).unwrap();
    std::fs::write(folder.join("config"), config).unwrap();
}

const PROFILES: &str = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = hunter2/PLANTED\n[ops]\naws_access_key_id = ASIAOPS\naws_secret_access_key = hunter2/PLANTED\naws_session_token = token-of-ASIAOPS\n[half]\naws_access_key_id = AKIAHALF\n";
const CONFIG: &str = "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/fhir\nsource_profile = ops\nexternal_id = x/y\n[profile sso]\nsso_session = corp\n[profile process]\ncredential_process = /bin/false\n[profile loop]\nrole_arn = arn:aws:iam::1:role/a\nsource_profile = loop2\n[profile loop2]\nrole_arn = arn:aws:iam::1:role/b\nsource_profile = loop\n";

#[test]
fn keys_are_found_wherever_the_aws_tools_find_them() {
    let pair = |name: &'static str, value: &str| (name, value.to_owned());
    let disabled = || pair("AWS_EC2_METADATA_DISABLED", "true");
    for (auth, with_files, environment, access, token) in [
        (", access_key: AKIASTATIC, secret_key: env:K", false, vec![], "AKIASTATIC", None),
        (
            ", access_key: env:A, secret_key: env:K, session_token: env:T",
            false,
            vec![pair("A", "ASIAOWN"), pair("T", "token-of-ASIAOWN")],
            "ASIAOWN",
            Some("token-of-ASIAOWN"),
        ),
        (
            "",
            true,
            vec![pair("AWS_ACCESS_KEY_ID", "AKIAENV"), pair("AWS_SECRET_ACCESS_KEY", SECRET)],
            "AKIAENV",
            None,
        ),
        ("", true, vec![], "AKIADEFAULT", None),
        ("", true, vec![pair("AWS_PROFILE", "ops")], "ASIAOPS", Some("token-of-ASIAOPS")),
        (
            ", profile: ops",
            true,
            vec![pair("AWS_ACCESS_KEY_ID", "AKIAENV"), pair("AWS_SECRET_ACCESS_KEY", SECRET)],
            "ASIAOPS",
            Some("token-of-ASIAOPS"),
        ),
        (
            ", profile: role",
            true,
            vec![pair("AWS_ENDPOINT_URL_STS", "http://CLOUD/sts")],
            "ASIAROLE",
            Some("token-of-ASIAROLE"),
        ),
        (
            "",
            false,
            vec![
                pair("AWS_ENDPOINT_URL_STS", "http://CLOUD/sts"),
                pair("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web"),
                pair("AWS_WEB_IDENTITY_TOKEN_FILE", "HOME/identity"),
            ],
            "ASIAROLE",
            Some("token-of-ASIAROLE"),
        ),
        (
            "",
            false,
            vec![
                pair("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://CLOUD/container"),
                pair("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token"),
                disabled(),
            ],
            "ASIACONTAINER",
            Some("token-of-ASIACONTAINER"),
        ),
        (
            "",
            false,
            vec![
                pair("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://MACHINE"),
                // A proxy is not for the machine's own services.
                pair("HTTP_PROXY", "http://127.0.0.1:9"),
                pair("NO_PROXY", "127.0.0.1"),
            ],
            "ASIAINSTANCE",
            Some("token-of-ASIAINSTANCE"),
        ),
    ] {
        let cloud = Cloud::start();
        let desk = Desk::new(&cloud.inventory("fhir", auth));
        if with_files {
            home(&desk, PROFILES, CONFIG);
        }
        std::fs::write(desk.dir.path().join("identity"), "identity-token\n").unwrap();
        let folder = desk.dir.path().to_str().unwrap();
        let mut environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| {
                let value = value.replace("CLOUD", &cloud.address.to_string());
                let value = value.replace("MACHINE", &cloud.machine.to_string());
                (*name, value.replace("HOME", folder))
            })
            .collect();
        environment.push(pair("K", SECRET));
        let (result, all) = run(&desk, &environment);
        let lake = server(&result, "lake");
        assert_eq!(check(lake, "auth")["status"], "healthy", "{auth} {environment:?}: {all}");
        let signed = cloud.seen("/fhir/Patient");
        assert!(!signed.is_empty(), "{all}");
        for seen in signed {
            let proof = &seen.headers["authorization"];
            assert!(
                proof.starts_with(&format!("AWS4-HMAC-SHA256 Credential={access}/")),
                "{proof}"
            );
            assert!(proof.contains("/us-east-1/healthlake/aws4_request"), "{proof}");
            assert!(
                proof.contains(if token.is_some() {
                    "SignedHeaders=host;x-amz-date;x-amz-security-token,"
                } else {
                    "SignedHeaders=host;x-amz-date,"
                }),
                "{proof}"
            );
            assert_eq!(seen.headers.get("x-amz-security-token").map(String::as_str), token);
        }
        // Where no reference names them, the log still says where they came from.
        let place = match auth {
            "" => Some("aws:default"),
            _ if auth.starts_with(", profile: ") => Some("aws:profile/"),
            _ => None,
        };
        let log = desk.fhirctl().args(["audit", "log", "-o", "json"]).output().unwrap();
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        assert_eq!(log.matches(place.unwrap_or("env:K")).count(), 1, "{log}");
    }
}

#[test]
fn a_role_is_asked_for_with_the_keys_of_its_source() {
    let cloud = Cloud::start();
    let desk = Desk::new(&cloud.inventory("fhir", ", profile: role"));
    home(&desk, PROFILES, CONFIG);
    let sts = ("AWS_ENDPOINT_URL_STS", format!("http://{}/sts", cloud.address));
    run(&desk, &[sts]);
    let asked = cloud.seen("/sts");
    assert_eq!(asked.len(), 1, "once for the whole process");
    let proof = &asked[0].headers["authorization"];
    assert!(proof.contains("Credential=ASIAOPS/") && proof.contains("/us-east-1/sts/"), "{proof}");
    assert!(proof.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token"));
    assert!(asked[0].body.contains("Action=AssumeRole&"), "{}", asked[0].body);
    assert!(asked[0].body.contains("ExternalId=x%2Fy"), "{}", asked[0].body);
}

#[test]
fn what_is_signed_is_sent_with_a_strict_query() {
    let cloud = Cloud::start();
    let mut inventory = cloud.inventory("fhir", ", access_key: AKIA, secret_key: env:K");
    inventory = inventory.replace(
        "checks: {",
        "checks: {search: [\"Observation?code=loinc|8480-6,85354-9&note=a+b&_count=1\"], ",
    );
    let desk = Desk::new(&inventory);
    run(&desk, &[("K", SECRET.to_owned())]);
    let targets: Vec<_> = cloud.seen("Observation").into_iter().map(|seen| seen.target).collect();
    assert!(!targets.is_empty());
    for target in targets {
        assert!(target.contains("code=loinc%7C8480-6%2C85354-9&note=a%20b&"), "{target}");
    }
}

#[test]
fn a_refused_signature_says_why() {
    for (path, code, part) in [
        ("expired", "auth.token_expired", "have ended"),
        ("wrong", "auth.unauthorized", "another signature"),
        ("skewed", "auth.clock_skew", "10 min behind"),
        ("denying", "auth.forbidden", "does not permit"),
    ] {
        let cloud = Cloud::start();
        let desk = Desk::new(&cloud.inventory(path, ", access_key: AKIA, secret_key: env:K"));
        let (result, all) = run(&desk, &[("K", SECRET.to_owned())]);
        let lake = server(&result, "lake");
        assert!(all.contains(code), "{path}: {all}");
        assert_eq!(lake["code"], code, "{path}: {all}");
        assert!(lake["message"].as_str().unwrap().contains(part), "{path}: {lake}");
    }
}

#[test]
fn a_refused_key_is_held_back_and_a_wrong_clock_is_not_held_against_it() {
    for (path, runs) in [("wrong", 2), ("skewed", 4)] {
        let cloud = Cloud::start();
        let desk = Desk::new(&cloud.inventory(path, ", access_key: AKIA, secret_key: env:K"));
        for run_number in 1..=4 {
            let (_, all) = run(&desk, &[("K", SECRET.to_owned())]);
            assert_eq!(all.contains("auth.held_back"), run_number > runs, "{path}: {all}");
        }
        let signed = cloud.seen(path).into_iter();
        let signed = signed.filter(|seen| seen.headers.contains_key("authorization")).count();
        assert_eq!(signed, runs, "{path}: one signed request a run");
    }
}

#[test]
fn keys_that_cannot_be_had_are_named_with_where_they_should_be() {
    let no_machine = || ("AWS_EC2_METADATA_DISABLED", "true".to_owned());
    let of = |name, value: &str| (name, value.to_owned());
    for (auth, environment, parts) in [
        (
            ", profile: opps",
            vec![],
            vec!["profile \\\"opps\\\"", ".aws/credentials", "Is ops meant?"],
        ),
        (", profile: half", vec![], vec!["has aws_access_key_id and no aws_secret_access_key"]),
        (", profile: sso", vec![], vec!["IAM Identity Center"]),
        (", profile: process", vec![], vec!["credential_process"]),
        (", profile: loop", vec![], vec!["on and on"]),
        ("", vec![of("AWS_PROFILE", "gone")], vec!["profile \\\"gone\\\""]),
        ("", vec![of("AWS_ACCESS_KEY_ID", "AKIA")], vec!["AWS_SECRET_ACCESS_KEY is not"]),
        (
            "",
            vec![of("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"), no_machine()],
            vec!["no AWS keys", "/nonexistent", "AWS_EC2_METADATA_DISABLED"],
        ),
        (
            "",
            vec![
                of("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
                of("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://203.0.113.7/keys"),
            ],
            vec!["203.0.113.7", "nothing was sent"],
        ),
        (", access_key: AKIA, secret_key: env:UNSET", vec![], vec!["env:UNSET"]),
        (
            ", access_key: AKIA, secret_key: env:BLANK",
            vec![of("BLANK", " hunter2 ")],
            vec!["secret key has white space"],
        ),
        (
            ", profile: role",
            vec![of("AWS_ENDPOINT_URL_STS", "http://CLOUD/denied")],
            vec!["does not give the role (HTTP 403)"],
        ),
    ] {
        let cloud = Cloud::start();
        let desk = Desk::new(&cloud.inventory("fhir", auth));
        home(&desk, PROFILES, CONFIG);
        let environment: Vec<_> = environment
            .into_iter()
            .map(|(name, value)| (name, value.replace("CLOUD", &cloud.address.to_string())))
            .collect();
        let (_, all) = run(&desk, &environment);
        for part in parts {
            assert!(all.contains(part), "{auth} {environment:?}: {part:?} is not in {all}");
        }
        let signed = cloud.seen("/fhir").iter().any(|seen| {
            seen.headers.contains_key("authorization") || seen.headers.contains_key("x-amz-date")
        });
        assert!(!signed, "{auth}: nothing signed is sent");
    }
}
