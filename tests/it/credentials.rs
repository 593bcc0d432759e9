//! Secret references, resolved through the room's public face.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use fhirctl::credentials::{CredentialErrorKind, Credentials, Policy};
use fhirctl::model::{Error, Exit, SecretRef};
use tempfile::TempDir;

/// A folder with an inventory and a program that notes each time it is run.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new(script: &str) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        place.write("servers.yaml", "version: 1\n", 0o644);
        let noted = format!("#!/bin/sh\necho run >> {}\n{script}\n", place.path("runs").display());
        place.write("get", &noted, 0o755);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn policy(&self) -> Policy {
        Policy { inventory: Some(self.path("servers.yaml")), ..Policy::default() }
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).map_or(0, |text| text.lines().count())
    }
}

fn exec() -> SecretRef {
    SecretRef::Exec { argv: vec!["./get".into()] }
}

async fn ask_many(credentials: &Credentials) -> Vec<Result<String, CredentialErrorKind>> {
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let credentials = credentials.clone();
            tokio::spawn(async move {
                let found = credentials.resolve(&exec()).await;
                found.map(|secret| secret.expose().to_owned()).map_err(|error| error.kind)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_get_one_resolution() {
    let place = Place::new("sleep 0.1; echo hunter2");
    let answers = ask_many(&Credentials::new(place.policy())).await;
    assert!(answers.iter().all(|answer| answer.as_deref() == Ok("hunter2")), "{answers:?}");
    assert_eq!(place.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_what_fails_share_the_failure() {
    let place = Place::new("exit 1");
    let answers = ask_many(&Credentials::new(place.policy())).await;
    assert!(
        answers.iter().all(|answer| *answer == Err(CredentialErrorKind::Failed)),
        "{answers:?}"
    );
    assert_eq!(place.runs(), 1);
}

#[tokio::test]
async fn a_group_writable_inventory_runs_nothing() {
    let place = Place::new("echo hunter2");
    place.write("servers.yaml", "version: 1\n", 0o664);
    let error = Credentials::new(place.policy()).resolve(&exec()).await.unwrap_err();
    assert_eq!(error.kind, CredentialErrorKind::Refused);
    assert!(error.hint.contains("chmod"), "{}", error.hint);
    assert_eq!(Error::from(error).exit(), Exit::NO_PERMISSION);
    assert_eq!(place.runs(), 0);
}

#[tokio::test]
async fn in_ci_nothing_runs_without_permission() {
    let place = Place::new("echo hunter2");
    let ci = Policy { ci: true, ..place.policy() };
    let error = Credentials::new(ci.clone()).resolve(&exec()).await.unwrap_err();
    assert_eq!(error.kind, CredentialErrorKind::Refused);
    assert_eq!(place.runs(), 0);
    let allowed = Policy { allow_exec: true, ..ci };
    let secret = Credentials::new(allowed).resolve(&exec()).await.unwrap();
    assert_eq!(secret.expose(), "hunter2");
}

#[tokio::test]
async fn a_file_and_a_variable_are_read() {
    let place = Place::new("");
    place.write("secret", "hunter2\n", 0o600);
    let credentials = Credentials::new(place.policy());
    let file = SecretRef::File { path: place.path("secret") };
    assert_eq!(credentials.resolve(&file).await.unwrap().expose(), "hunter2");
    let variable = SecretRef::parse("env:PATH").unwrap();
    assert_eq!(
        credentials.resolve(&variable).await.unwrap().expose(),
        std::env::var("PATH").unwrap()
    );
}

#[tokio::test]
async fn an_age_reference_without_an_identity_names_the_variable() {
    let place = Place::new("");
    let reference = SecretRef::Age { path: place.path("secrets.age"), field: "epic".into() };
    let error = Credentials::new(place.policy()).resolve(&reference).await.unwrap_err();
    assert_eq!(error.kind, CredentialErrorKind::Unavailable);
    assert!(error.hint.contains("FHIRCTL_AGE_IDENTITY_FILE"), "{}", error.hint);
}
