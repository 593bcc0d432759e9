//! Which proxy, if any, a request goes through.

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use super::{Failure, Identity, Stage};
use crate::model::Code;
use crate::model::server::{Proxy, Server};

/// The variables that are honoured, with their values as they stand; a password is cut out.
#[must_use]
pub fn environment() -> Vec<(&'static str, String)> {
    [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ]
    .into_iter()
    .filter_map(|name| Some((name, without_password(&std::env::var(name).ok()?))))
    .collect()
}

/// The proxy that a server's requests go through.
pub struct Way {
    pub proxy: reqwest::Proxy,
    /// The proxy's own name or address.
    pub host: String,
    /// Whether the proxy itself is spoken to in TLS.
    pub is_tls: bool,
    pub has_login: bool,
}

/// The proxy of the server's settings, else the one that the environment names; `None`: straight.
///
/// User and password are given to the proxy alone: with `CONNECT`, or beside a request for plain
/// HTTP that the proxy sends on without them.
///
/// # Errors
/// `network.proxy` of stage `Setup` when the URL or the login cannot be used.
pub fn way(
    server: &Server,
    identity: &Identity,
    environment: &Environment,
) -> Result<Option<Way>, Failure> {
    match &server.network.proxy {
        Some(proxy) => set(proxy, identity).map(Some),
        None => Ok(environment.for_target(server.url.url())),
    }
}

fn set(set: &Proxy, identity: &Identity) -> Result<Way, Failure> {
    let unusable = |why: &str| Failure::new(Stage::Setup, Code::new("network.proxy"), why);
    let mut url = set.url.clone();
    if let Some(login) = &set.login {
        let Some(password) = &identity.proxy_password else {
            return Err(unusable("the password of the proxy is not there"));
        };
        // In the URL, because that is the one way for every kind of proxy; it stays in this room.
        let put = url.set_username(&login.username);
        if put.and_then(|()| url.set_password(Some(password.expose()))).is_err() {
            return Err(unusable("the proxy's URL takes no user and password"));
        }
    }
    let proxy = reqwest::Proxy::all(url).map_err(|_| unusable("the proxy's URL cannot be used"))?;
    Ok(Way {
        proxy,
        host: set.url.host_str().unwrap_or_default().to_owned(),
        is_tls: set.url.scheme() == "https",
        has_login: set.login.is_some(),
    })
}

/// The proxy that the environment names for a target.
#[derive(Clone, Debug)]
pub enum Environment {
    /// No proxy variable is set: nothing has to be looked up.
    Empty,
    Set(std::sync::Arc<Matcher>),
}

impl Environment {
    #[must_use]
    pub fn read() -> Environment {
        if environment().iter().any(|(name, _)| !name.eq_ignore_ascii_case("NO_PROXY")) {
            Environment::Set(std::sync::Arc::new(Matcher::from_env()))
        } else {
            Environment::Empty
        }
    }

    /// The proxy for a target, credentials of its URL included.
    #[must_use]
    pub fn for_target(&self, target: &Url) -> Option<Way> {
        let Environment::Set(matcher) = self else { return None };
        let target: http::Uri = target.as_str().parse().ok()?;
        let found = matcher.intercept(&target)?;
        let mut proxy = reqwest::Proxy::all(found.uri().to_string()).ok()?;
        let mut has_login = found.basic_auth().is_some();
        if let Some((user, password)) = found.raw_auth() {
            proxy = proxy.basic_auth(user, password);
            has_login = true;
        }
        Some(Way {
            proxy,
            host: found.uri().host().unwrap_or_default().to_owned(),
            is_tls: found.uri().scheme_str() == Some("https"),
            has_login,
        })
    }
}

/// Host and port of the proxy that a server's requests go through; `None`: straight.
#[must_use]
pub(super) fn endpoint(server: &Server, environment: &Environment) -> Option<(String, u16)> {
    let port = |scheme: Option<&str>| match scheme {
        Some("https") => 443,
        Some(scheme) if scheme.starts_with("socks") => 1080,
        _ => 80,
    };
    if let Some(Proxy { url, .. }) = &server.network.proxy {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        return Some((host, url.port().unwrap_or_else(|| port(Some(url.scheme())))));
    }
    let Environment::Set(matcher) = environment else { return None };
    let target: http::Uri = server.url.as_str().parse().ok()?;
    let found = matcher.intercept(&target)?;
    let uri = found.uri();
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    Some((host, uri.port_u16().unwrap_or_else(|| port(uri.scheme_str()))))
}

fn without_password(value: &str) -> String {
    match Url::parse(value) {
        Ok(mut url) if url.password().is_some() => {
            let _ = url.set_password(Some("(redacted)"));
            url.to_string()
        }
        _ => match value.rsplit_once('@') {
            Some((_, host)) => format!("(redacted)@{host}"),
            None => value.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_proxy_password_is_never_shown() {
        for value in ["http://user:hunter2@proxy:3128", "user:hunter2@proxy:3128"] {
            let shown = without_password(value);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("proxy:3128"), "{shown}");
        }
        assert_eq!(without_password("http://proxy:3128"), "http://proxy:3128");
    }
}
