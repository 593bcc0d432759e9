//! Whether a published URL leads anywhere from outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::model::server::is_loopback;

/// Ends of names that no public name server answers for (RFC 6761, RFC 6762, RFC 8375).
const PRIVATE_ENDS: [&str; 8] =
    ["local", "internal", "lan", "intranet", "corp", "home.arpa", "invalid", "onion"];

/// Why a URL cannot be used from outside, in a few words; `None` when nothing speaks against it.
/// One on this machine is meant.
#[must_use]
pub fn unroutable(url: &Url) -> Option<String> {
    if is_loopback(url) {
        return None;
    }
    let why = match url.host()? {
        Host::Ipv4(address) => of_address(IpAddr::V4(address)),
        Host::Ipv6(address) => {
            of_address(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        Host::Domain(name) => of_name(name),
    };
    why.or_else(|| (url.scheme() != "https").then(|| "it is plain HTTP".to_owned()))
}

fn of_name(name: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if !name.contains('.') {
        return Some("its host has no domain".to_owned());
    }
    let end = PRIVATE_ENDS.iter().find(|end| name.ends_with(&format!(".{end}")))?;
    Some(format!("its host is private: .{end}"))
}

fn of_address(address: IpAddr) -> Option<String> {
    let kind = match address {
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => of_v6(address),
    }?;
    Some(format!("its host is a {kind} address"))
}

fn of_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        _ if address.is_private() => Some("private"),
        _ if address.is_link_local() => Some("link-local"),
        _ if address.is_multicast() => Some("multicast"),
        _ if address.is_documentation() => Some("reserved"),
        // 100.64.0.0/10 is shared by the customers of a carrier (RFC 6598), 198.18.0.0/15 is for
        // benchmarks (RFC 2544).
        (100, 64..=127, _) => Some("private"),
        (0, ..) | (240.., ..) | (192, 0, 0) | (198, 18..=19, _) => Some("reserved"),
        _ => None,
    }
}

fn of_v6(address: Ipv6Addr) -> Option<&'static str> {
    let first = address.segments()[0];
    match first {
        _ if address.is_unspecified() => Some("reserved"),
        0xfc00..=0xfdff => Some("private"),
        0xfe80..=0xfebf => Some("link-local"),
        0xff00.. => Some("multicast"),
        0x2001 if address.segments()[1] == 0x0db8 => Some("reserved"),
        0x2000..=0x3fff => None,
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_reached_from_outside_is_told() {
        for (url, expected) in [
            ("https://ehr.example.org/r4", None),
            ("https://8.8.8.8/r4", None),
            ("https://[2606:4700::1]/r4", None),
            ("http://127.0.0.1:8080/fhir", None),
            ("http://localhost/fhir", None),
            ("http://ehr.example.org/r4", Some("it is plain HTTP")),
            ("https://ehr/r4", Some("its host has no domain")),
            ("http://ehr/r4", Some("its host has no domain")),
            ("https://ehr.local/r4", Some("its host is private: .local")),
            ("https://10.1.2.3/r4", Some("its host is a private address")),
            ("https://172.16.0.1/r4", Some("its host is a private address")),
            ("https://192.168.1.1/r4", Some("its host is a private address")),
            ("https://100.64.0.1/r4", Some("its host is a private address")),
            ("https://169.254.169.254/r4", Some("its host is a link-local address")),
            ("https://192.0.2.1/r4", Some("its host is a reserved address")),
            ("https://0.0.0.0/r4", Some("its host is a reserved address")),
            ("https://255.255.255.255/r4", Some("its host is a reserved address")),
            ("https://224.0.0.1/r4", Some("its host is a multicast address")),
            ("https://[fd00::1]/r4", Some("its host is a private address")),
            ("https://[fe80::1]/r4", Some("its host is a link-local address")),
            ("https://[::ffff:10.0.0.1]/r4", Some("its host is a private address")),
            ("https://[::]/r4", Some("its host is a reserved address")),
            // 0x0a000001 is 10.0.0.1.
            ("https://0x0a000001/r4", Some("its host is a private address")),
        ] {
            assert_eq!(unroutable(&Url::parse(url).unwrap()).as_deref(), expected, "{url}");
        }
    }
}
