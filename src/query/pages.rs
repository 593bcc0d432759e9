//! All pages of a search, one after the other.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::{Asker, Question, Wanted, judge};
use crate::fhir::body::BodyKind;
use crate::fhir::text::compact;
use crate::http::Exchange;
use crate::model::{Error, ErrorKind, Result};

/// Follows `next` from page to page, at the server's own origin and never in a circle.
pub struct Pages<'a> {
    asker: &'a Asker,
    accept: &'static str,
    next: Next,
    /// Hashes of the addresses that were asked: a walk of a million pages costs 8 MB.
    asked: HashSet<u64>,
    hasher: RandomState,
    pages: u64,
}

enum Next {
    First(Box<Question>),
    At(Url),
    End,
}

/// What one page holds.
#[derive(Debug, Default)]
pub struct Page {
    /// The resources that were found, a line each.
    pub lines: Vec<Vec<u8>>,
    /// What the server said beside them.
    pub remarks: Vec<String>,
    /// How many of them the search found; the others were included with them.
    pub matches: u64,
    pub total: Option<u64>,
}

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(rename = "resourceType")]
    resource_type: String,
    total: Option<u64>,
    #[serde(default)]
    link: Vec<Link>,
    #[serde(borrow, default)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    relation: String,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    search: Option<Search>,
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    mode: String,
}

impl<'a> Pages<'a> {
    #[must_use]
    pub fn new(asker: &'a Asker, first: Question) -> Pages<'a> {
        Pages {
            asker,
            accept: first.accept,
            next: Next::First(Box::new(first)),
            asked: HashSet::new(),
            hasher: RandomState::new(),
            pages: 0,
        }
    }

    /// How many pages were read.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.pages
    }

    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// Where an answer is an error (see [`judge`]), is no searchset, or leads to another origin or
    /// back to a page that was read: exit 65.
    pub async fn next(&mut self) -> Result<Option<Page>> {
        let exchange = match std::mem::replace(&mut self.next, Next::End) {
            Next::End => return Ok(None),
            Next::First(question) => {
                self.asked.insert(self.hasher.hash_one(question.url.as_str()));
                self.asker.ask(&question).await?
            }
            Next::At(url) => self.asker.follow(&url, self.accept, &[]).await?,
        };
        self.pages += 1;
        if let Some(trouble) = judge(&exchange, Wanted::Resource).trouble {
            return Err(trouble);
        }
        let bundle = parse(&exchange, self.pages)?;
        self.next = self.after(&bundle)?;
        let mut page = Page { total: bundle.total, ..Page::default() };
        for entry in &bundle.entry {
            let Some(resource) = entry.resource else { continue };
            let mut line = Vec::new();
            compact(resource.get(), &mut line);
            if entry.search.as_ref().is_some_and(|search| search.mode == "outcome") {
                let outcome = crate::fhir::outcome::OperationOutcome::parse(BodyKind::Json, &line);
                page.remarks.extend(
                    outcome.map(|outcome| outcome.summary(crate::model::limits::SERVER_TEXT_CHARS)),
                );
            } else {
                let is_included =
                    entry.search.as_ref().is_some_and(|search| search.mode == "include");
                page.matches += u64::from(!is_included);
                page.lines.push(line);
            }
        }
        Ok(Some(page))
    }

    fn after(&mut self, bundle: &Bundle<'_>) -> Result<Next> {
        let Some(link) = bundle.link.iter().find(|link| link.relation == "next") else {
            return Ok(Next::End);
        };
        let own = self.asker.server().url.url();
        let base = format!("{}/", own.as_str().trim_end_matches('/'));
        let url = Url::parse(&base).and_then(|base| base.join(&link.url)).map_err(|_| {
            Error::new(
                ErrorKind::Data,
                format!("page {} names a next page that is no address", self.pages),
            )
        })?;
        if url.origin() != own.origin() {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "page {} leads to another origin, {}: it is not followed, and no credential goes there",
                    self.pages,
                    url.origin().ascii_serialization()
                ),
            )
            .hint("a proxy or a wrong base URL on the server may have written the link; fhirctl diag NAME query looks into it"));
        }
        if !self.asked.insert(self.hasher.hash_one(url.as_str())) {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "page {} leads back to a page that was read: the search never ends",
                    self.pages
                ),
            )
            .hint("tell the vendor: the server's paging runs in a circle"));
        }
        Ok(Next::At(url))
    }
}

fn parse(exchange: &Exchange, number: u64) -> Result<Bundle<'_>> {
    let bundle: Bundle<'_> = serde_json::from_slice(&exchange.body).map_err(|error| {
        Error::new(
            ErrorKind::Data,
            format!(
                "page {number} is no JSON that could be a Bundle, at line {}, column {}",
                error.line(),
                error.column()
            ),
        )
    })?;
    if bundle.resource_type != "Bundle" {
        return Err(Error::new(
            ErrorKind::Data,
            format!("page {number} is no Bundle but something else"),
        )
        .hint("--all is for searches, such as Patient?_count=100"));
    }
    Ok(bundle)
}
