//! Names that lead elsewhere from one request to the next: against listeners of the test's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use url::Url;

use crate::http::{Client, Failure, Identity, Request, Transport};
use crate::inventory::{Overrides, parse};
use crate::model::Clock;
use crate::model::server::Server;

fn server(url: &str, more: &str) -> Server {
    let text = format!("version: 1\nservers:\n  - {{name: a, url: \"{url}\"{more}}}\n");
    let path = std::path::Path::new("servers.yaml");
    parse(&text, path, &Overrides::default()).unwrap().servers.remove(0)
}

/// Answers every connection once; a redirect where one is given. Counts them.
async fn listen(address: SocketAddr, redirect: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 2048];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let again = head[..read].starts_with(b"GET /first");
            let answer = match redirect {
                "" => "HTTP/1.1 200 OK\r\n".to_owned(),
                _ if again => format!("HTTP/1.1 307 Elsewhere\r\nLocation: {redirect}\r\n"),
                _ => "HTTP/1.1 200 OK\r\n".to_owned(),
            };
            let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(format!("{answer}{rest}").as_bytes()).await;
        }
    });
    (address, count)
}

fn client(server: &Server, tell: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> Client {
    let transport = Transport::new(Clock::system()).bent(tell);
    Client::new(server, &Identity::default(), Arc::new(transport)).unwrap()
}

async fn get(client: &Client, url: &str) -> Result<u16, Failure> {
    let request = Request {
        url: url.parse().unwrap(),
        accept: "*/*",
        credential: None,
        max_body: 1024,
        deadline: Instant::now() + Duration::from_secs(10),
        if_none_match: None,
        body: None,
    };
    client.send(&request).await.map(|exchange| exchange.status())
}

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[tokio::test]
async fn a_name_that_is_bent_after_the_first_answer_is_not_followed() {
    let (home, at_home) = listen(SocketAddr::new(HOME, 0), "").await;
    let (_, away) = listen(SocketAddr::new(AWAY, home.port()), "").await;
    let url = format!("http://ehr.test:{}/fhir", home.port());
    let bound = server(&url, ", network: {allowed_addresses: [127.0.0.1]}");
    let answers = Mutex::new(vec![vec![AWAY, HOME], vec![AWAY], vec![HOME]]);
    let client = client(&bound, move |_| answers.lock().unwrap().pop().unwrap_or_default());

    assert_eq!(get(&client, &url).await.unwrap(), 200);
    let failure = get(&client, &url).await.unwrap_err();
    assert_eq!(failure.code.as_str(), "network.address_not_allowed");
    assert!(failure.message.contains("127.0.0.2"), "{}", failure.message);
    // An answer with both leads to the allowed one alone.
    assert_eq!(get(&client, &url).await.unwrap(), 200);
    assert_eq!((at_home.load(Ordering::SeqCst), away.load(Ordering::SeqCst)), (2, 0));
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_looked_up_and_checked_again() {
    let (home, at_home) = listen(SocketAddr::new(HOME, 0), "/second").await;
    let (_, away) = listen(SocketAddr::new(AWAY, home.port()), "").await;
    let url = format!("http://ehr.test:{}/first", home.port());
    let bound = server(&url, ", network: {allowed_addresses: [127.0.0.1]}");
    let answers = Mutex::new(vec![vec![AWAY], vec![HOME]]);
    let client = client(&bound, move |_| answers.lock().unwrap().pop().unwrap_or_default());
    let failure = get(&client, &url).await.unwrap_err();
    assert_eq!(failure.code.as_str(), "network.address_not_allowed");
    assert_eq!((at_home.load(Ordering::SeqCst), away.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn an_address_in_a_redirect_is_another_origin() {
    let (home, at_home) = listen(SocketAddr::new(HOME, 0), "http://169.254.169.254/latest").await;
    let url = format!("http://ehr.test:{}/first", home.port());
    let client = client(&server(&url, ""), |_| vec![HOME]);
    let failure = get(&client, &url).await.unwrap_err();
    assert_eq!(failure.code.as_str(), "http.redirect_refused");
    assert_eq!(at_home.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_name_leads_to_a_metadata_service_and_no_token_endpoint_is_one() {
    let metadata: IpAddr = [169, 254, 169, 254].into();
    let url = "http://ehr.test/fhir";
    let named = client(&server(url, ""), move |_| vec![metadata]);
    let failure = get(&named, url).await.unwrap_err();
    assert_eq!(failure.code.as_str(), "network.address_not_allowed");
    assert!(failure.message.contains("metadata service"), "{}", failure.message);

    let own = server("https://ehr.test/fhir", "");
    for address in ["http://169.254.169.254/token", "http://[fd00:ec2::254]/token"] {
        let transport = Arc::new(Transport::new(Clock::system()).bent(|_| Vec::new()));
        let address: Url = address.parse().unwrap();
        let beside = Client::beside(&own, &address, &Identity::default(), transport).unwrap();
        let failure = get(&beside, address.as_str()).await.unwrap_err();
        assert_eq!(failure.code.as_str(), "network.address_not_allowed", "{address}");
    }
}
