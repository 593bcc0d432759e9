//! The HTTP client against the sandbox, in one process: what is asked again, and what never is.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fhirctl::http::{Client, Exchange, Failure, Identity, Request, Transport};
use fhirctl::inventory::{self, Overrides};
use fhirctl::model::{Clock, Server};
use fhirctl::sandbox::{Options, Running, Scenario};

fn sandbox(folder: &Path, servers: &str) -> Running {
    let scenario =
        Scenario::parse(Path::new("test.yaml"), &format!("servers:\n{servers}")).unwrap();
    fhirctl::sandbox::start(&scenario, &Options::loopback(folder.to_owned())).unwrap()
}

fn server(running: &Running, name: &str) -> Server {
    let url = &running.server(name).unwrap().url;
    let text = format!(
        "version: 1\nservers:\n  - {{name: {name}, url: \"{url}\", rate_limit: {{requests_per_second: 100, burst: 100}}, retry: {{attempts: 3, backoff: 10ms, max_backoff: 50ms}}}}\n"
    );
    let inventory =
        inventory::parse(&text, Path::new("servers.yaml"), &Overrides::default()).unwrap();
    inventory.servers[0].clone()
}

fn client(server: &Server) -> Client {
    Client::new(server, &Identity::default(), Arc::new(Transport::new(Clock::system()))).unwrap()
}

async fn metadata(server: &Server, tag: Option<&str>) -> Result<Exchange, Failure> {
    let request = Request {
        url: server.url.join("metadata").unwrap(),
        accept: "application/fhir+json",
        credential: None,
        max_body: 1 << 20,
        deadline: Instant::now() + Duration::from_secs(20),
        if_none_match: tag,
        body: None,
    };
    client(server).fetch(&request, server.retry).await
}

#[tokio::test]
async fn a_data_request_is_sent_again_after_a_transient_failure() {
    let folder = tempfile::tempdir().unwrap();
    let running = sandbox(folder.path(), "  - {name: flaky, faults: [status=503@0.5]}\n");
    let server = server(&running, "flaky");
    for _ in 0..2 {
        assert_eq!(metadata(&server, None).await.unwrap().status(), 200);
    }
    assert_eq!(running.requests("flaky").len(), 3, "one of the two needed a second attempt");
}

#[tokio::test]
async fn attempts_end_and_the_last_answer_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let running = sandbox(folder.path(), "  - {name: down, faults: [status=503]}\n");
    let server = server(&running, "down");
    assert_eq!(metadata(&server, None).await.unwrap().status(), 503);
    assert_eq!(running.requests("down").len(), 3);
}

#[tokio::test]
async fn a_refusal_is_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let running =
        sandbox(folder.path(), "  - {name: closed, auth: bearer, protect_metadata: true}\n");
    let server = server(&running, "closed");
    assert_eq!(metadata(&server, None).await.unwrap().status(), 401);
    assert_eq!(running.requests("closed").len(), 1);
}

#[tokio::test]
async fn a_wait_longer_than_allowed_is_left_to_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let running = sandbox(folder.path(), "  - {name: busy, faults: [rate-limited=date]}\n");
    let server = server(&running, "busy");
    let answer = metadata(&server, None).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.retry_after().unwrap() > server.retry.max_backoff);
    assert_eq!(running.requests("busy").len(), 1);
}

#[tokio::test]
async fn a_statement_is_revalidated_by_its_tag() {
    let folder = tempfile::tempdir().unwrap();
    let running = sandbox(folder.path(), "  - {name: tagged}\n");
    let server = server(&running, "tagged");
    let first = metadata(&server, None).await.unwrap();
    let tag = first.header("etag").unwrap().to_owned();
    let again = metadata(&server, Some(&tag)).await.unwrap();
    assert_eq!((again.status(), again.body.len()), (304, 0));
}
