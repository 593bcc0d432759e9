//! From the libraries' errors to reason codes.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::resolve::ResolveError;
use super::timing::Instants;
use super::tls::{PinMismatch, Seen};
use super::{Failure, Stage};
use crate::model::Code;

/// What is known when an exchange fails.
pub struct Circumstances<'a> {
    /// Host and port, for messages.
    pub target: &'a str,
    pub instants: Instants,
    pub seen: &'a Seen,
    pub proxied: bool,
    /// Whether a user and a password for the proxy are set.
    pub proxy_login: bool,
    pub has_client_certificate: bool,
    /// `network.source_address`.
    pub source_address: Option<std::net::IpAddr>,
    /// How long it was waited, in seconds.
    pub waited: f64,
}

/// Names the failure behind a request that got no answer.
#[must_use]
pub fn request(error: &reqwest::Error, known: &Circumstances<'_>) -> Failure {
    if error.is_timeout() {
        return timeout(known);
    }
    chain(error, known)
}

/// Names the failure behind an error of any library below an exchange.
#[must_use]
pub fn chain(error: &(dyn StdError + 'static), known: &Circumstances<'_>) -> Failure {
    for source in sources(error) {
        if let Some(lookup) = source.downcast_ref::<ResolveError>() {
            let failure = lookup.failure();
            // Our own rules speak of the server also where a proxy is asked.
            return match lookup.code.as_str().starts_with("network.") {
                true => failure,
                false => behind_proxy(failure, known),
            };
        }
        if let Some(tls) = tls_error(source) {
            return self::tls(tls, known);
        }
    }
    for source in sources(error) {
        if let Some(found) =
            source.downcast_ref::<hyper::Error>().and_then(|error| http(error, known))
        {
            return found;
        }
        if let Some(found) = source.downcast_ref::<io::Error>().and_then(|error| tcp(error, known))
        {
            return behind_proxy(found, known);
        }
    }
    let pending = known.instants.pending();
    // The library has no type for it that could be asked for.
    if known.proxied
        && sources(error).any(|source| source.to_string().contains("proxy authorization required"))
    {
        return proxy_sign_in(known.proxy_login);
    }
    if known.proxied && pending != Stage::Http {
        return Failure::new(
            Stage::Tcp,
            Code::new("network.proxy"),
            format!("the proxy gave no way to {}", known.target),
        );
    }
    match pending {
        Stage::Tls => Failure::new(
            Stage::Tls,
            Code::new("tls.protocol"),
            format!("the TLS handshake with {} broke off", known.target),
        ),
        Stage::Dns | Stage::Tcp => Failure::new(
            Stage::Tcp,
            Code::new("tcp.unreachable"),
            format!("{} cannot be reached", known.target),
        ),
        Stage::Setup | Stage::Http => Failure::new(
            Stage::Http,
            Code::new("http.closed"),
            format!("{} ended the connection without an answer", known.target),
        ),
    }
}

/// The proxy's answer 407.
#[must_use]
pub fn proxy_sign_in(has_login: bool) -> Failure {
    let code = Code::new("network.proxy");
    if has_login {
        Failure::new(Stage::Tcp, code, "the proxy refuses the user and password (HTTP 407)")
            .hint("Check network.proxy: its username, and what its password refers to.")
    } else {
        Failure::new(Stage::Tcp, code, "the proxy demands a sign-in (HTTP 407)").hint(
            "Write network.proxy: {url: \"http://HOST:PORT\", username: USER, password: REFERENCE}.",
        )
    }
}

/// Names a wait that came to its end.
#[must_use]
pub fn timeout(known: &Circumstances<'_>) -> Failure {
    let after = format!("within {:.1} s", known.waited).replace(".0 s", " s");
    let (stage, code, message) = match known.instants.pending() {
        Stage::Dns => (Stage::Dns, "dns.timeout", format!("no name server answered {after}")),
        Stage::Tcp if known.proxied => {
            (Stage::Tcp, "network.proxy", format!("the proxy did not connect {after}"))
        }
        Stage::Tcp => (
            Stage::Tcp,
            "tcp.timeout",
            format!("{} did not accept a connection {after}", known.target),
        ),
        // There is no code for silence in a handshake: what a peer that says nothing lacks is TLS.
        Stage::Tls => (
            Stage::Tls,
            "tls.protocol",
            format!("{} did not finish the TLS handshake {after}", known.target),
        ),
        Stage::Setup | Stage::Http => {
            (Stage::Http, "http.timeout", format!("no complete answer {after}"))
        }
    };
    Failure::new(stage, Code::new(code), message)
}

/// Names the failure of a body that broke off.
#[must_use]
pub fn body(error: &reqwest::Error, known: &Circumstances<'_>) -> Failure {
    if error.is_timeout() {
        return timeout(known);
    }
    for source in sources(error) {
        if let Some(io) = source.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionReset
        {
            return Failure::new(
                Stage::Http,
                Code::new("tcp.reset"),
                format!("{} reset the connection in the middle of its answer", known.target),
            );
        }
    }
    Failure::new(
        Stage::Http,
        Code::new("http.closed"),
        "the connection ended before the answer was complete",
    )
}

fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn StdError + 'static)| {
        // An io::Error hides what it wraps: its source is the source of the wrapped one.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

fn tls_error<'a>(source: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    source.downcast_ref::<TlsError>()
}

fn behind_proxy(mut failure: Failure, known: &Circumstances<'_>) -> Failure {
    // Where we leave from is ours, whoever stands at the other end.
    let ours = failure.code == Code::new("network.source_address");
    if known.proxied && !ours {
        failure.message = format!("the proxy cannot be used: {}", failure.message);
        failure.code = Code::new("network.proxy");
        failure.stage = Stage::Tcp;
    }
    failure
}

fn tcp(error: &io::Error, known: &Circumstances<'_>) -> Option<Failure> {
    use io::ErrorKind as Kind;
    let in_exchange = known.instants.pending() == Stage::Http
        && known.instants.connect_start.is_some()
        || known.instants.connect_start.is_none();
    let stage = if in_exchange { Stage::Http } else { Stage::Tcp };
    let target = known.target;
    if let (Some(address), Kind::AddrNotAvailable) = (known.source_address, error.kind()) {
        return Some(super::resolve::not_our_address(address));
    }
    let (code, message) = match error.kind() {
        Kind::ConnectionRefused => ("tcp.refused", format!("{target} refused the connection")),
        Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => {
            ("tcp.reset", format!("{target} reset the connection"))
        }
        Kind::TimedOut => ("tcp.timeout", format!("{target} did not answer")),
        Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::AddrNotAvailable
        | Kind::PermissionDenied
        | Kind::NetworkDown => (
            "tcp.unreachable",
            format!("{target} cannot be reached: {}", crate::model::error::io_reason(error)),
        ),
        Kind::UnexpectedEof if known.instants.pending() == Stage::Tls => {
            return Some(Failure::new(
                Stage::Tls,
                Code::new("tls.protocol"),
                format!("{target} ended the connection during the TLS handshake"),
            ));
        }
        _ => return None,
    };
    Some(Failure::new(stage, Code::new(code), message))
}

fn http(error: &hyper::Error, known: &Circumstances<'_>) -> Option<Failure> {
    let target = known.target;
    let (code, message) = if error.is_parse_too_large() {
        ("http.too_large", format!("the header of {target}'s answer is too large"))
    } else if error.is_parse() {
        ("fhir.not_fhir", format!("what answers at {target} does not speak HTTP"))
    } else if error.is_incomplete_message() {
        ("http.closed", format!("{target} closed the connection without an answer"))
    } else {
        return None;
    };
    Some(Failure::new(Stage::Http, Code::new(code), message))
}

/// Names what TLS says.
#[must_use]
pub fn tls(error: &TlsError, known: &Circumstances<'_>) -> Failure {
    let target = known.target;
    let (code, message) = match error {
        TlsError::InvalidCertificate(reason) => certificate(reason, known),
        TlsError::AlertReceived(alert) => self::alert(*alert, known),
        TlsError::InvalidMessage(_) => {
            ("tls.protocol", format!("{target} does not answer in TLS; does it speak plain HTTP?"))
        }
        TlsError::PeerIncompatible(_) => (
            "tls.protocol",
            format!("{target} offers no TLS version or cipher suite that is allowed here"),
        ),
        other => (
            "tls.protocol",
            format!(
                "the TLS handshake with {target} failed: {}",
                crate::model::text::one_line(&other.to_string())
            ),
        ),
    };
    Failure::new(Stage::Tls, Code::new(code), message)
}

fn certificate(reason: &CertificateError, known: &Circumstances<'_>) -> (&'static str, String) {
    let target = known.target;
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("tls.expired", format!("the certificate of {target} has expired"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("tls.not_yet_valid", format!("the certificate of {target} is not valid yet"))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ("tls.hostname_mismatch", format!("the certificate was not issued for {target}"))
        }
        CertificateError::Other(other)
            if let Some(mismatch) = other.0.downcast_ref::<PinMismatch>() =>
        {
            (
                "tls.pin_mismatch",
                format!(
                    "no pinned key is in the certificate chain of {target}; its own key is {}",
                    mismatch.seen
                ),
            )
        }
        _ if known.seen.is_self_signed() => {
            ("tls.self_signed", format!("the certificate of {target} is self-signed"))
        }
        CertificateError::UnknownIssuer => (
            "tls.untrusted",
            format!("the certificate of {target} comes from an issuer that is not trusted here"),
        ),
        other => {
            ("tls.untrusted", format!("the certificate of {target} cannot be trusted: {other:?}"))
        }
    }
}

fn alert(alert: AlertDescription, known: &Circumstances<'_>) -> (&'static str, String) {
    use AlertDescription as Alert;
    let target = known.target;
    let about_client = matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    );
    match alert {
        Alert::CertificateRequired => {
            ("tls.client_certificate_required", format!("{target} demands a client certificate"))
        }
        _ if about_client && known.has_client_certificate => (
            "tls.client_certificate_rejected",
            format!("{target} refused the client certificate ({alert:?})"),
        ),
        _ if about_client => (
            "tls.client_certificate_required",
            format!("{target} demands a client certificate ({alert:?})"),
        ),
        _ => ("tls.protocol", format!("{target} refused the TLS handshake ({alert:?})")),
    }
}
