//! Names to addresses: by the operating system, checked against the allowed ones.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::timing::Marks;
use crate::model::Code;

/// How long the second opinion on a failed lookup may take.
const SECOND_OPINION: Duration = Duration::from_secs(4);

/// Looks names up as every other program on the machine does (`getaddrinfo`), and lets only allowed
/// addresses through, so that a name cannot be bent to another place between check and connection.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    pub allowed: Vec<IpNet>,
    pub marks: Marks,
    /// The lookup is the proxy's: no phase of this exchange.
    pub behind_proxy: bool,
}

/// A lookup that gave no address to connect to.
#[derive(Clone, Debug)]
pub struct ResolveError {
    pub code: Code,
    pub message: String,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ResolveError {}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            if !this.behind_proxy {
                this.marks.with(|marks| marks.dns_start = Some(Instant::now()));
            }
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let addresses: Vec<SocketAddr> = match found {
                Ok(addresses) => addresses.collect(),
                Err(error) => return Err(classify(&host, &error).await.into()),
            };
            if !this.behind_proxy {
                this.marks.with(|marks| marks.dns_end = Some(Instant::now()));
            }
            if addresses.is_empty() {
                return Err(not_found(&host).into());
            }
            let usable: Vec<SocketAddr> = addresses
                .iter()
                .copied()
                .filter(|address| this.behind_proxy || is_allowed(&this.allowed, address.ip()))
                .collect();
            match usable.is_empty() {
                true => Err(address_not_allowed(&host, addresses[0].ip()).into()),
                false => Ok(Box::new(usable.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether an address may be connected to; an empty list allows every one.
#[must_use]
pub fn is_allowed(allowed: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    allowed.is_empty() || allowed.iter().any(|net| net.contains(&address))
}

#[must_use]
pub fn address_not_allowed(host: &str, address: IpAddr) -> ResolveError {
    ResolveError {
        code: Code::new("network.address_not_allowed"),
        message: format!("{host} is at {address}, which is not one of the allowed addresses"),
    }
}

fn not_found(host: &str) -> ResolveError {
    ResolveError {
        code: Code::new("dns.not_found"),
        message: format!("the name {host} does not exist"),
    }
}

/// `getaddrinfo` says only "not known" or "try again later"; the resolver library is asked for the
/// difference between a server that fails and one that is silent.
async fn classify(host: &str, error: &std::io::Error) -> ResolveError {
    let text = error.to_string();
    // RFC 6761 §6.4: names under .invalid never exist, whatever a resolver makes of them.
    let certain =
        ["not known", "No address associated", "does not resolve", "nodename nor servname"];
    if host.trim_end_matches('.').ends_with(".invalid")
        || certain.iter().any(|known| text.contains(known))
    {
        return not_found(host);
    }
    let servfail = ResolveError {
        code: Code::new("dns.servfail"),
        message: format!("the name server could not answer for {host}"),
    };
    let timeout = ResolveError {
        code: Code::new("dns.timeout"),
        message: format!("no name server answered for {host}"),
    };
    let Ok(resolver) = TokioResolver::builder_tokio().and_then(|builder| builder.build()) else {
        return servfail;
    };
    match tokio::time::timeout(SECOND_OPINION, resolver.lookup_ip(host)).await {
        Err(_) | Ok(Err(NetError::Timeout | NetError::NoConnections | NetError::Io(_))) => timeout,
        Ok(Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => not_found(host),
        Ok(_) => servfail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_allows_every_address_and_a_full_one_only_its_own() {
        let lan: Vec<IpNet> = vec!["198.51.100.0/24".parse().unwrap()];
        assert!(is_allowed(&[], "203.0.113.9".parse().unwrap()));
        assert!(is_allowed(&lan, "198.51.100.7".parse().unwrap()));
        assert!(is_allowed(&lan, "::ffff:198.51.100.7".parse().unwrap()));
        assert!(!is_allowed(&lan, "203.0.113.9".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_name_under_invalid_does_not_exist() {
        let error = std::io::Error::other("Temporary failure in name resolution");
        assert_eq!(classify("ehr.invalid", &error).await.code.as_str(), "dns.not_found");
    }
}
