//! Databases that cannot be used, and what is said of them.

use std::path::Path;
use std::sync::Arc;

use fhirctl::history::{Host, Place, Settings, Store};
use fhirctl::model::{ErrorKind, Secret};
use rustls::pki_types::pem::PemObject as _;

use super::engines::{Engine, on_postgres, sqlite};
use super::write_hours;
use crate::postgres::{PASSWORD, Postgres, shared};

async fn refused(settings: &Settings, kind: ErrorKind, says: &str) {
    let error = match Store::open(settings).await {
        Ok(_) => panic!("opened: {says}"),
        Err(error) => error,
    };
    assert!(error.message.contains(says), "{says}: {error:?}");
    assert_eq!(error.kind, kind, "{error:?}");
    assert!(!error.hints.is_empty(), "{error:?}");
    assert!(!format!("{error:?}").contains(PASSWORD));
}

fn file(path: &Path) -> Settings {
    Settings { place: Place::Sqlite(path.to_owned()), tls: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_history_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    std::fs::write(&path, "hello, this is a letter and not a database at all").unwrap();
    refused(&file(&path), ErrorKind::Data, "no SQLite database").await;
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("hello"));

    let path = folder.path().join("other.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let before = std::fs::read(&path).unwrap();
    refused(&file(&path), ErrorKind::Data, "another program").await;
    assert_eq!(std::fs::read(&path).unwrap(), before);

    refused(&file(&folder.path().join("no/such/h.db")), ErrorKind::CannotCreate, "cannot write")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_is_told_from_a_whole_one() {
    let engine = sqlite();
    write_hours(&engine.open().await, &["a"], super::MONDAY, 1).await;
    let Place::Sqlite(path) = engine.settings().place else { return };
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 8192, "the log was brought in when the last connection closed");
    for length in [50, 5000, bytes.len() - 4096] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        refused(&engine.settings(), ErrorKind::Data, "is damaged").await;
    }
    // Whole in length, broken inside.
    let mut broken = bytes.clone();
    broken[4096..8192].fill(0xff);
    std::fs::write(&path, &broken).unwrap();
    let found = match Store::open(&engine.settings()).await {
        Ok(store) => store.verify().await.map(|seen| seen.problem.is_some()),
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => assert!(found),
        Err(error) => assert_eq!(error.kind, ErrorKind::Data, "{error:?}"),
    }
    std::fs::write(&path, &bytes).unwrap();
    super::assert_whole(&engine.open().await, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_layout_is_refused() {
    for engine in super::engines() {
        engine.open().await;
        engine.sql(match engine {
            Engine::Sqlite(_) => "PRAGMA user_version = 20991231",
            Engine::Postgres(..) => "UPDATE meta SET value = 20991231 WHERE key = 'schema'",
        });
        refused(&engine.settings(), ErrorKind::Config, "newer fhirctl").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_says_why() {
    let Some(Engine::Postgres(server, database)) = on_postgres() else { return };
    let settings = |database| Settings { place: Place::Postgres(database), tls: None };
    let tcp = server.over_tcp(&database);
    Store::open(&settings(tcp.clone())).await.unwrap();

    let mut wrong = tcp.clone();
    wrong.password = Some(Secret::new("not-it".into()));
    refused(&settings(wrong.clone()), ErrorKind::Credential, "password authentication failed")
        .await;
    wrong.password = None;
    refused(&settings(wrong), ErrorKind::Credential, "wants a password").await;
    let mut wrong = tcp.clone();
    wrong.database = "nowhere".into();
    refused(&settings(wrong), ErrorKind::Config, "does not exist").await;
    let mut wrong = tcp.clone();
    wrong.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    refused(&settings(wrong), ErrorKind::Unavailable, "cannot be reached").await;
    let mut wrong = tcp;
    wrong.tls = true;
    let plain = Settings { tls: Some(trusting(&[])), ..settings(wrong) };
    refused(&plain, ErrorKind::Unavailable, "does not offer it").await;

    let Some(other) = on_postgres() else { return };
    other.sql("CREATE SCHEMA fhirctl; CREATE TABLE fhirctl.meta (a int)");
    refused(&other.settings(), ErrorKind::Data, "was not made by fhirctl").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_over_tls_when_its_certificate_is_trusted() {
    if shared().is_none() {
        return;
    }
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let settings = ["ssl_cert_file=server.crt", "ssl_key_file=server.key"];
    let server = Postgres::start(&settings).unwrap();
    server.give("server.crt", &made.cert.pem());
    server.give("server.key", &made.signing_key.serialize_pem());
    let database = server.database();
    server.sql(&database.database, "ALTER SYSTEM SET ssl = on");
    server.sql(&database.database, "SELECT pg_reload_conf()");
    let mut tcp = server.over_tcp(&database);
    tcp.host = Host::Name("localhost".into());
    tcp.tls = true;
    let settings = |tls| Settings { place: Place::Postgres(tcp.clone()), tls: Some(tls) };
    let trusted = settings(trusting(&[&made.cert.pem()]));
    // The configuration is read when the server comes to it.
    let began = std::time::Instant::now();
    let store = loop {
        match Store::open(&trusted).await {
            Ok(store) => break store,
            Err(error) if began.elapsed().as_secs() > 20 => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    write_hours(&store, &["a"], super::MONDAY, 1).await;
    let ssl = server.sql(
        &database.database,
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'fhirctl'",
    );
    assert_eq!(ssl, "t");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    refused(&settings(trusting(&[&other.cert.pem()])), ErrorKind::Unavailable, "certificate").await;
}

fn trusting(pems: &[&str]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for pem in pems {
        roots
            .add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
