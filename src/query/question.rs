//! A request as a user words it.

use http::header::{HeaderName, HeaderValue};
use url::Url;

use crate::model::server::{BaseUrl, Format};
use crate::model::{Error, ErrorKind, Result};

/// What is done to a path (FHIR R4, RESTful API).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    /// `POST [type]/_search`: a search whose parameters stand in the body (FHIR R4, §3.1.0.11).
    Search,
}

impl Method {
    #[must_use]
    pub fn http(self) -> http::Method {
        match self {
            Method::Get => http::Method::GET,
            Method::Head => http::Method::HEAD,
            Method::Post | Method::Search => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
            Method::Delete => http::Method::DELETE,
        }
    }

    /// Whether it changes nothing on the server (RFC 9110 §9.2.1).
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Search)
    }
}

/// One request, complete but for the sign-in.
#[derive(Clone, Debug)]
pub struct Question {
    pub method: Method,
    pub url: Url,
    pub accept: &'static str,
    pub content_type: &'static str,
    /// Beside those of every request.
    pub more_headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Option<Vec<u8>>,
}

/// Parameters that name or describe a person (FHIR R4, search parameters of Patient, Person,
/// Practitioner and RelatedPerson): their values do not belong in an address, which servers and
/// proxies log.
const PERSONAL: &[&str] = &[
    "address",
    "address-city",
    "address-country",
    "address-postalcode",
    "address-state",
    "birthdate",
    "death-date",
    "email",
    "family",
    "given",
    "identifier",
    "mothersMaidenName",
    "name",
    "phone",
    "phonetic",
    "telecom",
];

impl Question {
    /// A `GET` of a path below the base URL, such as `Patient?family=Smith`; an address is taken
    /// where it lies below the base URL.
    ///
    /// # Errors
    /// Exit 64 when the path leads elsewhere or says nothing.
    pub fn new(
        base: &BaseUrl,
        path: &str,
        parameters: &[(String, String)],
        format: Format,
    ) -> Result<Question> {
        let mut url = below(base, path)?;
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        Ok(Question {
            method: Method::Get,
            url,
            accept: media_type(format),
            content_type: media_type(format),
            more_headers: Vec::new(),
            body: None,
        })
    }

    /// Whether the address is a search by what identifies a person.
    #[must_use]
    pub fn identifies_a_person(&self) -> bool {
        self.url.query_pairs().any(|(name, _)| {
            // `subject:Patient.family:exact` asks for a family name, too.
            let last = name.rsplit('.').next().unwrap_or(&name);
            let bare = last.split(':').next().unwrap_or(last);
            PERSONAL.contains(&bare)
        })
    }

    /// The same search with its parameters in the body; `None` where the address is no search.
    #[must_use]
    pub fn as_search(&self) -> Option<Question> {
        let mut url = self.url.clone();
        let parameters = url.query().unwrap_or_default().to_owned();
        url.set_query(None);
        let path = url.path().trim_end_matches('/').to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        if last.starts_with('$') || last.is_empty() {
            return None;
        }
        if last != "_search" {
            url.set_path(&format!("{path}/_search"));
        }
        Some(Question {
            method: Method::Search,
            url,
            content_type: "application/x-www-form-urlencoded",
            body: Some(parameters.into_bytes()),
            ..self.clone()
        })
    }

    /// The same search with its parameters in the address again.
    #[must_use]
    pub fn as_get(&self) -> Question {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches("/_search").to_owned();
        url.set_path(&path);
        let parameters = self.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        if !parameters.is_empty() {
            url.set_query(Some(&parameters));
        }
        Question { method: Method::Get, url, content_type: self.accept, body: None, ..self.clone() }
    }

    pub(super) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.more_headers.clone()
    }
}

fn media_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/fhir+json",
        Format::Xml => "application/fhir+xml",
    }
}

fn below(base: &BaseUrl, path: &str) -> Result<Url> {
    let root = format!("{}/", base.as_str().trim_end_matches('/'));
    let elsewhere = |found: &str| {
        Error::new(ErrorKind::Usage, format!("{found} does not lie below the base URL {base}"))
            .hint("write a path such as Patient/1, Observation?code=1234-5 or metadata")
    };
    let text = if path.starts_with("http://") || path.starts_with("https://") {
        path.to_owned()
    } else {
        format!("{root}{}", path.trim_start_matches('/'))
    };
    let mut url =
        Url::parse(&text).map_err(|error| Error::usage(format!("{path:?} is no path: {error}")))?;
    let own = Url::parse(&root)
        .map_err(|error| Error::usage(format!("the base URL is none: {error}")))?;
    url.set_fragment(None);
    // Compared after `..` was resolved, whichever way it was written.
    let is_below = url.path().starts_with(own.path()) || format!("{}/", url.path()) == own.path();
    if url.origin() != own.origin() || !is_below || !url.username().is_empty() {
        return Err(elsewhere(path));
    }
    Ok(url)
}

/// A path as it may be written down: types, operations and names of parameters, no id and no value.
#[must_use]
pub fn shape(base: &BaseUrl, url: &Url) -> String {
    let root = base.url().path().trim_end_matches('/');
    let path = url.path().strip_prefix(root).unwrap_or(url.path()).trim_start_matches('/');
    let word = |part: &str| {
        let is_known = part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.chars().all(|c| c.is_ascii_alphabetic())
            || matches!(part, "metadata" | "_history" | "_search" | "")
            || part.starts_with('$')
                && part[1..].chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if is_known { part.to_owned() } else { "{id}".to_owned() }
    };
    let mut shown = path.split('/').map(word).collect::<Vec<_>>().join("/");
    let names: Vec<_> = url
        .query_pairs()
        .map(|(name, _)| {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c));
            if plain { name.into_owned() } else { "…".to_owned() }
        })
        .collect();
    if !names.is_empty() {
        shown.push('?');
        shown.push_str(&names.join("&"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> BaseUrl {
        BaseUrl::parse("https://h.example/fhir/R4").unwrap()
    }

    fn question(path: &str) -> Result<Question> {
        Question::new(&base(), path, &[], Format::Json)
    }

    #[test]
    fn a_path_stays_below_the_base_url() {
        for (path, expected) in [
            ("Patient/1", "https://h.example/fhir/R4/Patient/1"),
            ("/Patient?a=b c", "https://h.example/fhir/R4/Patient?a=b%20c"),
            ("https://h.example/fhir/R4/Patient", "https://h.example/fhir/R4/Patient"),
            ("", "https://h.example/fhir/R4/"),
            ("Patient#x", "https://h.example/fhir/R4/Patient"),
        ] {
            assert_eq!(question(path).unwrap().url.as_str(), expected);
        }
        for path in [
            "../admin",
            "Patient/../../../x",
            "Patient/%2e%2e/%2e%2e/%2e%2e/x",
            "https://other.example/fhir/R4/Patient",
            "http://h.example/fhir/R4/Patient",
            "https://u:p@h.example/fhir/R4/Patient",
        ] {
            assert_eq!(question(path).unwrap_err().kind, ErrorKind::Usage, "{path}");
        }
    }

    #[test]
    fn what_identifies_a_person_goes_into_a_body() {
        for (path, expected) in [
            ("Patient?family=Smith", true),
            ("Patient?family:exact=Smith", true),
            ("Observation?subject:Patient.birthdate=1970-01-01", true),
            ("Observation?code=1234-5", false),
            ("Patient?_count=5", false),
        ] {
            assert_eq!(question(path).unwrap().identifies_a_person(), expected, "{path}");
        }
        let search = question("Patient?family=Smith&_count=2").unwrap().as_search().unwrap();
        assert_eq!(search.url.as_str(), "https://h.example/fhir/R4/Patient/_search");
        assert_eq!(search.body.unwrap(), b"family=Smith&_count=2");
        assert!(question("Patient/$everything?name=x").unwrap().as_search().is_none());
    }

    #[test]
    fn what_is_written_down_names_no_patient() {
        for (path, expected) in [
            ("Patient/123", "Patient/{id}"),
            ("Patient?family=Smith&given=A", "Patient?family&given"),
            ("Patient/abc/_history/2", "Patient/{id}/_history/{id}"),
            ("Patient/123/$everything?start=2020", "Patient/{id}/$everything?start"),
            ("metadata", "metadata"),
            ("Smith/1?x%20Smith=1", "Smith/{id}?…"),
        ] {
            assert_eq!(shape(&base(), &question(path).unwrap().url), expected);
        }
    }
}
