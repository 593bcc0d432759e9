//! Which proxy, if any, a request goes through.

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

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
    pub fn for_target(&self, target: &Url) -> Option<reqwest::Proxy> {
        let Environment::Set(matcher) = self else { return None };
        let target: http::Uri = target.as_str().parse().ok()?;
        let found = matcher.intercept(&target)?;
        let mut proxy = reqwest::Proxy::all(found.uri().to_string()).ok()?;
        if let Some((user, password)) = found.raw_auth() {
            proxy = proxy.basic_auth(user, password);
        }
        Some(proxy)
    }
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
