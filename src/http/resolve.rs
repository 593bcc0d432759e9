//! Names to addresses: by the operating system, checked against the allowed ones.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::timing::Marks;
use super::{Failure, Stage};
use crate::model::Code;
use crate::model::server::{MetadataService, Network};

/// How long the second opinion on a failed lookup may take.
const SECOND_OPINION: Duration = Duration::from_secs(4);

/// Looks names up as every other program on the machine does (`getaddrinfo`), and lets only allowed
/// addresses through. The connector connects to what comes from here and looks nothing up again, so
/// that a name cannot be bent to another place between check and connection.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    pub names: Names,
    pub rules: Rules,
    pub marks: Marks,
    /// Its own lookup is no phase of an exchange, and the rules are for the server.
    pub proxy_host: Option<String>,
}

#[cfg(test)]
type Tell = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

/// Who knows the addresses of a name.
#[derive(Clone)]
pub enum Names {
    System,
    /// A name that is bent at will.
    #[cfg(test)]
    Told(std::sync::Arc<Tell>),
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    async fn look_up(&self, host: &str) -> std::io::Result<Vec<SocketAddr>> {
        match self {
            Names::System => Ok(tokio::net::lookup_host((host, 0)).await?.collect()),
            #[cfg(test)]
            Names::Told(tell) => {
                Ok(tell(host).into_iter().map(|address| SocketAddr::new(address, 0)).collect())
            }
        }
    }
}

/// Which addresses one server may be at.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Empty: any.
    pub allowed: Vec<IpNet>,
    pub metadata_service: MetadataService,
    pub source_address: Option<IpAddr>,
}

impl Rules {
    #[must_use]
    pub fn of(network: &Network) -> Rules {
        Rules {
            allowed: network.allowed_addresses.clone(),
            metadata_service: network.metadata_service,
            source_address: network.source_address,
        }
    }

    /// Holds the address that stands in a URL against the rules.
    ///
    /// # Errors
    /// `network.address_not_allowed`, or `network.source_address` when it is of the other family.
    pub fn check_literal(&self, target: &str, address: IpAddr) -> Result<(), ResolveError> {
        let operators_word = self.metadata_service == MetadataService::ByAddress;
        self.check(target, address, operators_word)
    }

    /// Whether an address may be connected to at all, whatever it leaves from; `literal` where the
    /// URL itself names it.
    #[must_use]
    pub fn permits(&self, address: IpAddr, literal: bool) -> bool {
        let anywhere = Rules { source_address: None, ..self.clone() };
        let by_address = literal && self.metadata_service == MetadataService::ByAddress;
        anywhere.check("", address, by_address).is_ok()
    }

    fn check(&self, host: &str, address: IpAddr, by_address: bool) -> Result<(), ResolveError> {
        let refused = |message: String| {
            Err(ResolveError {
                code: Code::new("network.address_not_allowed"),
                message,
                hint: None,
            })
        };
        if !is_allowed(&self.allowed, address) {
            return refused(format!(
                "{host} is at {address}, which is not one of the allowed addresses"
            ));
        }
        let named = self.metadata_service == MetadataService::ByAddress && !self.allowed.is_empty();
        let open = by_address || named || self.metadata_service == MetadataService::Allowed;
        if !open && is_link_local(address) {
            return refused(format!(
                "{host} is at {address}, a link-local address or a cloud's metadata service"
            ));
        }
        match self.source_address {
            Some(source) if source.is_ipv4() != address.to_canonical().is_ipv4() => {
                Err(other_family(host, address, source))
            }
            _ => Ok(()),
        }
    }

    /// The addresses of a name that may be connected to, in their order.
    fn usable(&self, host: &str, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut first_refusal = None;
        let mut usable = Vec::with_capacity(found.len());
        for address in found {
            match self.check(host, address.ip(), false) {
                Ok(()) => usable.push(*address),
                Err(refusal) => drop(first_refusal.get_or_insert(refusal)),
            }
        }
        match first_refusal {
            Some(refusal) if usable.is_empty() => Err(refusal),
            _ => Ok(usable),
        }
    }
}

/// A lookup that gave no address to connect to.
#[derive(Clone, Debug)]
pub struct ResolveError {
    pub code: Code,
    pub message: String,
    /// Better advice than the code's own.
    pub hint: Option<String>,
}

impl ResolveError {
    /// As the failure of an exchange: an address that may not be used, or a name without one.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let ours = self.code.as_str().starts_with("network.");
        let stage = if ours { Stage::Tcp } else { Stage::Dns };
        let mut failure = Failure::new(stage, self.code, self.message.clone());
        failure.hint.clone_from(&self.hint);
        failure
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ResolveError {}

/// The addresses of a URL's host that may be connected to, with the port, in their order.
///
/// # Errors
/// As every exchange with the server would fail: no such name, or no allowed address.
pub async fn addresses(
    names: &Names,
    rules: &Rules,
    url: &Url,
) -> Result<Vec<SocketAddr>, Failure> {
    let port = url.port_or_known_default().unwrap_or(443);
    let literal = match url.host() {
        Some(url::Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(url::Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        _ => None,
    };
    if let Some(address) = literal {
        let target = super::client::target_of(url);
        rules.check_literal(&target, address).map_err(|refused| refused.failure())?;
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = url.host_str().unwrap_or_default();
    let found = match names.look_up(host).await {
        Ok(found) if found.is_empty() => return Err(not_found(host).failure()),
        Ok(found) => found,
        Err(error) => return Err(classify(host, &error).await.failure()),
    };
    let usable = rules.usable(host, &found).map_err(|refused| refused.failure())?;
    Ok(usable.into_iter().map(|address| SocketAddr::new(address.ip(), port)).collect())
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let is_proxy =
                this.proxy_host.as_ref().is_some_and(|proxy| proxy.eq_ignore_ascii_case(&host));
            if !is_proxy {
                this.marks.with(|marks| marks.dns_start = Some(Instant::now()));
            }
            let addresses = match this.names.look_up(&host).await {
                Ok(addresses) => addresses,
                Err(error) => return Err(classify(&host, &error).await.into()),
            };
            if !is_proxy {
                this.marks.with(|marks| marks.dns_end = Some(Instant::now()));
            }
            if addresses.is_empty() {
                return Err(not_found(&host).into());
            }
            let usable = if is_proxy { addresses } else { this.rules.usable(&host, &addresses)? };
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is in one of the networks; an empty list allows every one.
fn is_allowed(allowed: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    allowed.is_empty() || allowed.iter().any(|net| net.contains(&address))
}

/// Whether an address is link-local or that of a cloud's metadata service, however it is written.
fn is_link_local(address: IpAddr) -> bool {
    const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const ORACLE: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 192);
    const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const GOOGLE: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(four) => four.is_link_local() || [AZURE, ALIBABA, ORACLE].contains(&four),
        IpAddr::V6(six) => {
            // RFC 6052 §2.1: a gateway sends these on to the IPv4 address at their end.
            if let [0x64, 0xff9b, 0, 0, 0, 0, _, _] = six.segments() {
                let [.., a, b, c, d] = six.octets();
                return is_link_local(Ipv4Addr::new(a, b, c, d).into());
            }
            six.is_unicast_link_local() || [AWS, GOOGLE].contains(&six)
        }
    }
}

fn other_family(host: &str, address: IpAddr, source: IpAddr) -> ResolveError {
    let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let (to, from) = (family(address.to_canonical()), family(source));
    ResolveError {
        code: Code::new("network.source_address"),
        message: format!(
            "{host} is at {address}, which cannot be reached from the {from} address {source}"
        ),
        hint: Some(format!("Set network.source_address to an {to} address of this machine.")),
    }
}

/// The failure of a source address that this machine does not have.
#[must_use]
pub fn not_our_address(address: IpAddr) -> Failure {
    Failure::new(
        Stage::Tcp,
        Code::new("network.source_address"),
        format!("{address} is not an address of this machine, so no connection can leave from it"),
    )
}

fn not_found(host: &str) -> ResolveError {
    ResolveError {
        code: Code::new("dns.not_found"),
        message: format!("the name {host} does not exist"),
        hint: None,
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
        hint: None,
    };
    let timeout = ResolveError {
        code: Code::new("dns.timeout"),
        message: format!("no name server answered for {host}"),
        hint: None,
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

    fn rules(allowed: &[&str], metadata_service: MetadataService) -> Rules {
        let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Rules { allowed, metadata_service, source_address: None }
    }

    #[test]
    fn an_empty_list_allows_every_address_and_a_full_one_only_its_own() {
        use MetadataService::{Allowed, ByAddress, Refused};
        let lan: &[&str] = &["198.51.100.0/24", "2001:db8::/32"];
        // Whether it may be connected to: where a name leads there, and where the URL names it.
        for (allowed, service, address, by_name, by_literal) in [
            (&[][..], ByAddress, "203.0.113.9", true, true),
            (lan, ByAddress, "198.51.100.7", true, true),
            (lan, ByAddress, "::ffff:198.51.100.7", true, true),
            (lan, ByAddress, "2001:db8::1", true, true),
            (lan, ByAddress, "203.0.113.9", false, false),
            (lan, ByAddress, "::ffff:203.0.113.9", false, false),
            (lan, ByAddress, "127.0.0.1", false, false),
            (lan, Allowed, "169.254.169.254", false, false),
            (&[], ByAddress, "169.254.169.254", false, true),
            (&[], ByAddress, "fe80::1", false, true),
            (&["169.254.0.0/16"], ByAddress, "169.254.7.7", true, true),
            (&["169.254.0.0/16"], Refused, "169.254.7.7", false, false),
            (&[], Refused, "203.0.113.9", true, true),
            (&[], Refused, "127.0.0.1", true, true),
            (&[], Refused, "169.254.169.254", false, false),
            (&[], Refused, "::ffff:169.254.169.254", false, false),
            (&[], Refused, "64:ff9b::a9fe:a9fe", false, false),
            (&[], Refused, "fe80::1", false, false),
            (&[], Refused, "fd00:ec2::254", false, false),
            (&[], Refused, "fd00:ec2::255", true, true),
            (&[], Refused, "100.100.100.200", false, false),
            (&[], Refused, "168.63.129.16", false, false),
            (&[], Allowed, "169.254.169.254", true, true),
            (&[], Allowed, "fd00:ec2::254", true, true),
        ] {
            let rules = rules(allowed, service);
            let address: IpAddr = address.parse().unwrap();
            let found = rules.usable("ehr.example.org", &[SocketAddr::new(address, 0)]);
            assert_eq!(found.is_ok(), by_name, "{allowed:?} {service:?} {address} by name");
            let literal = rules.check_literal("ehr.example.org", address);
            assert_eq!(literal.is_ok(), by_literal, "{allowed:?} {service:?} {address}");
            for error in found.err().into_iter().chain(literal.err()) {
                assert_eq!(error.code.as_str(), "network.address_not_allowed");
            }
        }
    }

    #[test]
    fn of_an_answer_with_both_only_the_allowed_addresses_are_used() {
        let rules = rules(&["127.0.0.1/32", "::1/128"], MetadataService::ByAddress);
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let found = [at("203.0.113.9"), at("127.0.0.1"), at("169.254.169.254"), at("::1")];
        assert_eq!(rules.usable("h", &found).unwrap(), [at("127.0.0.1"), at("::1")]);
        let refused = rules.usable("h", &[at("203.0.113.9"), at("203.0.113.10")]).unwrap_err();
        assert!(refused.message.contains("203.0.113.9"), "{}", refused.message);
    }

    #[test]
    fn a_source_address_of_the_other_family_is_told() {
        let source_address = Some("192.0.2.10".parse().unwrap());
        let rules = Rules { source_address, ..Rules::default() };
        assert!(rules.check_literal("h", "203.0.113.9".parse().unwrap()).is_ok());
        assert!(rules.check_literal("h", "::ffff:203.0.113.9".parse().unwrap()).is_ok());
        let refused = rules.check_literal("h", "2001:db8::1".parse().unwrap()).unwrap_err();
        assert_eq!(refused.code.as_str(), "network.source_address");
        assert!(refused.hint.unwrap().contains("IPv6"));
    }

    #[tokio::test]
    async fn a_name_under_invalid_does_not_exist() {
        let error = std::io::Error::other("Temporary failure in name resolution");
        assert_eq!(classify("ehr.invalid", &error).await.code.as_str(), "dns.not_found");
    }
}
