//! A directory that is kept current: changes, deletions, interruptions, and readers meanwhile.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Desk, Sandbox};

struct Scene {
    _sandbox: Sandbox,
    desk: Desk,
    url: String,
}

impl Scene {
    fn new(bulk: &[&str]) -> Scene {
        let mut args = vec!["--patients", "5", "--bulk", "wait=20ms", "--bulk", "retry_after=0"];
        for key in bulk {
            args.extend(["--bulk", key]);
        }
        let sandbox = Sandbox::with(&args);
        let url = sandbox.line["url"].as_str().unwrap().to_owned();
        let desk = Desk::new(&format!("version: 1\nservers:\n  - {{name: a, url: \"{url}\"}}\n"));
        Scene { _sandbox: sandbox, desk, url }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = self.desk.fhirctl();
        command
            .args(["-o", "json", "sync", "a", "--level", "system", "--output-dir", "kept"])
            .args(["--poll-floor", "10ms", "--poll-ceiling", "100ms"])
            .args(more);
        command
    }

    fn sync(&self, more: &[&str]) -> (Value, i32) {
        let output = self.command(more).output().unwrap();
        let code = output.status.code().unwrap();
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&output.stderr)));
        (value, code)
    }

    fn current(&self) -> PathBuf {
        self.desk.dir.path().join("kept/current")
    }

    fn patients(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.current().join("Patient.ndjson")).unwrap();
        text.lines()
            .map(|line| {
                let patient: Value = serde_json::from_str(line).unwrap();
                format!("{} {}", patient["id"].as_str().unwrap(), patient["active"])
            })
            .collect()
    }

    /// Talks to the server as somebody else does.
    fn write(&self, method: &str, path: &str, body: &str) {
        let address = self.url.trim_start_matches("http://").split('/').next().unwrap();
        let base = &self.url[self.url.find(address).unwrap() + address.len()..];
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "{method} {base}/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
    }
}

#[test]
fn changes_and_deletions_arrive_and_the_rest_stays() {
    let scene = Scene::new(&[]);
    let (first, code) = scene.sync(&[]);
    assert_eq!((code, &first["kind"]), (0, &json!("full")), "{first:#}");
    let schema: Value =
        serde_json::from_slice(&scene.desk.run(&["schema", "sync"]).stdout).unwrap();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&first), "{first:#}");
    let before = scene.patients();
    assert_eq!(before.len(), 5);
    let ids: Vec<String> =
        before.iter().map(|it| it.split(' ').next().unwrap().to_owned()).collect();
    // The server's times have seconds only here and there: a change is a second later for sure.
    std::thread::sleep(Duration::from_millis(1100));
    scene.write(
        "PUT",
        "Patient/new-1",
        r#"{"resourceType":"Patient","id":"new-1","active":false}"#,
    );
    scene.write(
        "PUT",
        &format!("Patient/{}", ids[0]),
        &format!(r#"{{"resourceType":"Patient","id":"{}","active":false}}"#, ids[0]),
    );
    scene.write("DELETE", &format!("Patient/{}", ids[1]), "");
    let (second, code) = scene.sync(&[]);
    assert_eq!((code, &second["kind"]), (0, &json!("incremental")), "{second:#}");
    assert_eq!(second["since"], first["transaction_time"]);
    let after = scene.patients();
    assert!(after.contains("new-1 false") && after.contains(&format!("{} false", ids[0])));
    assert!(!after.iter().any(|it| it.starts_with(&format!("{} ", ids[1]))), "{after:?}");
    assert_eq!(after.len(), 5);
    assert_eq!(second["deleted"], 1);
    // Every second run is a full one.
    assert_eq!(scene.sync(&["--full-every", "2"]).0["kind"], "full");
    assert_eq!(scene.patients(), after);
    // Another scope is another directory.
    assert_eq!(scene.sync(&["--type", "Patient"]).1, 73);
    let kept = std::fs::read_dir(scene.desk.dir.path().join("kept/states")).unwrap().count();
    assert_eq!(kept, 2, "the state and the one before");
}

#[test]
fn what_is_wrong_is_not_applied_and_the_watermark_stays() {
    let scene = Scene::new(&["traps=line-half"]);
    let (result, code) = scene.sync(&[]);
    assert_eq!((code, &result["applied"]), (65, &json!(false)), "{result:#}");
    assert!(!scene.current().exists());
    let (again, _) = scene.sync(&[]);
    assert_eq!((&again["kind"], &again["run"]), (&json!("full"), &json!(2)));
}

#[test]
fn killed_at_any_instant_a_reader_sees_the_old_state_or_the_new_one() {
    let scene = Scene::new(&[]);
    assert_eq!(scene.sync(&[]).1, 0);
    let old = scene.patients();
    std::thread::sleep(Duration::from_millis(1100));
    scene.write("PUT", "Patient/new-1", r#"{"resourceType":"Patient","id":"new-1","active":true}"#);
    let mut new = old.clone();
    new.insert("new-1 true".to_owned());
    let mut done = false;
    for attempt in 0..80_u64 {
        let mut child =
            scene.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 + attempt * 8));
        let ended = child.try_wait().unwrap();
        if ended.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let seen = scene.patients();
        assert!(seen == old || seen == new, "attempt {attempt}: {seen:?}");
        if let Some(status) = ended {
            assert_eq!(status.code(), Some(0));
            done = true;
            break;
        }
    }
    assert!(done);
    assert_eq!(scene.patients(), new);
}
