//! The address of a FHIR server.

use url::Url;

/// A FHIR base URL: `http` or `https`, no query, no fragment, no user or password, no final slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl(Url);

/// Why a text is no base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    #[error("not a URL: {0}")]
    NotAUrl(url::ParseError),
    #[error("a base URL starts with https:// or http://")]
    Scheme,
    #[error("a password stands in the URL")]
    Credential,
    #[error("a base URL has no query and no fragment")]
    Query,
}

impl BaseUrl {
    /// # Errors
    /// When the text is no absolute `http` or `https` URL, or carries a credential, a query or a
    /// fragment.
    pub fn parse(text: &str) -> Result<BaseUrl, BaseUrlError> {
        let mut url = Url::parse(text.trim()).map_err(BaseUrlError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(BaseUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::Credential);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Query);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(BaseUrl(url))
    }

    /// Without a final slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// A path below the base, such as `metadata` or `Patient?_summary=count`.
    ///
    /// # Errors
    /// When base and path together are no URL.
    pub fn join(&self, path: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("{}/{}", self.as_str(), path.trim_start_matches('/')))
    }

    /// A path from the root of the host, such as `/actuator/health`.
    ///
    /// # Errors
    /// When origin and path together are no URL.
    pub fn at_root(&self, path: &str) -> Result<Url, url::ParseError> {
        self.0.join(path)
    }

    /// Whether the host is a loopback address or `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }
}

/// Whether a URL points at a loopback address or `localhost`.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => {
            name.eq_ignore_ascii_case("localhost")
                || name.to_ascii_lowercase().ends_with(".localhost")
        }
        None => false,
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_loses_its_final_slash_and_keeps_its_path() {
        let base = BaseUrl::parse("https://ehr.example.org/FHIR/api/FHIR/R4/").unwrap();
        assert_eq!(base.as_str(), "https://ehr.example.org/FHIR/api/FHIR/R4");
        assert_eq!(
            base.join("Patient?_summary=count").unwrap().as_str(),
            "https://ehr.example.org/FHIR/api/FHIR/R4/Patient?_summary=count"
        );
        assert_eq!(base.at_root("/health").unwrap().as_str(), "https://ehr.example.org/health");
    }

    #[test]
    fn a_password_in_a_url_is_refused() {
        assert_eq!(BaseUrl::parse("https://u:p@h/fhir"), Err(BaseUrlError::Credential));
        assert_eq!(BaseUrl::parse("ftp://h/fhir"), Err(BaseUrlError::Scheme));
    }
}
