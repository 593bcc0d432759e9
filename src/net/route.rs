//! The way that packets take from this machine, as its own routes say; nothing is sent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address that packets to `target` leave from.
///
/// # Errors
/// When this machine itself has no way there, or `source` is not its own; then no router far away
/// is the reason.
pub fn local_address(target: SocketAddr, source: Option<IpAddr>) -> io::Result<IpAddr> {
    let any = if target.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let source = source.filter(|source| source.is_ipv4() == target.is_ipv4()).unwrap_or(any);
    let socket = UdpSocket::bind(SocketAddr::new(source, 0))?;
    // Connecting a UDP socket looks the route up and sends nothing.
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_one_that_the_route_takes() {
        let target = "127.0.0.1:9".parse().unwrap();
        assert_eq!(local_address(target, None).unwrap(), Ipv4Addr::LOCALHOST);
        let bound = local_address(target, Some("127.0.0.9".parse().unwrap())).unwrap();
        assert_eq!(bound, Ipv4Addr::new(127, 0, 0, 9));
        assert!(local_address(target, Some("192.0.2.1".parse().unwrap())).is_err());
    }
}
