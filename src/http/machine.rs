//! What the machine that this runs on says about itself: the metadata services of clouds and
//! containers.
//!
//! They stand on plain HTTP at addresses that only the machine itself can reach, hand out
//! credentials, and are asked without a proxy, without redirects and without much patience.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::{body, tls};

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Most bytes of an answer.
const ANSWER_BYTES: u64 = 64 * 1024;

/// What the service answered.
pub struct Answer {
    pub status: u16,
    /// It may hold a credential.
    pub body: Zeroizing<Vec<u8>>,
}

/// Asks a metadata service, once.
///
/// # Errors
/// In words, without the address, when no answer came within two seconds or the address is not the
/// machine's own ([`is_own`]).
pub async fn ask(
    method: http::Method,
    url: &Url,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Answer, String> {
    if !is_own(url) {
        return Err("it is not an address of the machine itself, so nothing was sent".to_owned());
    }
    let client = reqwest::Client::builder()
        .no_proxy()
        .no_gzip()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(LIMIT / 2)
        .tls_backend_preconfigured(tls::nothing_trusted())
        .build()
        .map_err(|_| "the client cannot be set up".to_owned())?;
    let headers: HeaderMap = headers.iter().cloned().collect();
    let exchange = async {
        let sent = client.request(method, url.clone()).headers(headers).send().await;
        let mut response = sent.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let slots = Semaphore::new(1);
        let (read, _) = body::read(&mut response, ANSWER_BYTES, &slots).await;
        let body = read.map_err(|_| "its answer is broken or too long".to_owned())?;
        Ok(Answer { status, body: Zeroizing::new(body) })
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Ok(result) => result,
        Err(_) => Err(format!("it did not answer within {} s", LIMIT.as_secs())),
    }
}

/// Whether an address is one that only this machine reaches: loopback, link-local, and the
/// unique-local block of Amazon's instances, over plain HTTP.
#[must_use]
pub fn is_own(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        _ => return false,
    };
    let own = match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
    };
    own && url.scheme() == "http"
}

fn unreachable(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "it cannot be reached in time".to_owned()
    } else if error.is_connect() {
        "it cannot be reached".to_owned()
    } else {
        "it broke the connection off".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machines_own_addresses_are_asked() {
        for (url, own) in [
            ("http://169.254.169.254/latest", true),
            ("http://169.254.170.2/v2", true),
            ("http://127.0.0.1:1234/", true),
            ("http://[::1]/", true),
            ("http://[fe80::1]/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://[fd00:ec3::254]/", false),
            ("http://10.0.0.1/", false),
            ("http://203.0.113.7/", false),
            ("http://localhost/", false),
            ("http://metadata.example.org/", false),
            ("https://169.254.169.254/", false),
        ] {
            assert_eq!(is_own(&Url::parse(url).unwrap()), own, "{url}");
        }
    }

    #[tokio::test]
    async fn a_foreign_address_gets_no_request() {
        let url = Url::parse("http://metadata.example.org/").unwrap();
        let error = ask(http::Method::GET, &url, &[]).await.err().unwrap();
        assert!(error.contains("nothing was sent"), "{error}");
    }
}
