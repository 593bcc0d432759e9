//! Bulk data at a sandbox server: export jobs, their manifests and files, import, and Bundles.
//!
//! Enters: a plan, from a persona, a scenario and flags; then requests that came through faults and
//! sign-in. Leaves: answers, right ones or those of the traps in the plan. Called by the sandbox's
//! server and its second port.

mod bundle;
mod content;
mod fetch;
mod files;
mod generate;
mod import;
mod job;
mod kick_off;
mod manifest;
mod plan;
mod storage;
mod trap;
mod value;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::answer::Reply;
use super::fhir::outcome::Refusal;
use super::site::Site;
use crate::serve::{Method, REQUEST_BODY_BYTES, Request};

use import::Imports;
use job::Jobs;
pub use plan::{BulkPlan, ImportStyle, Level, Verb};
pub(super) use storage::Storage;
pub use trap::{TRAPS, Trap};

/// Most bytes of a body, whatever a plan says.
const BODY_BYTES: usize = 64 * 1024 * 1024;
const STATUS_URL: &str = "/bulk-status/{job}";
const FILE_URL: &str = "/bulk-files/{job}/{file}";
const PAGE_URL: &str = "/bulk-pages/{job}/{page}";
const ERRORS_URL: &str = "/bulk-import-errors/{job}/{input}";

/// Where a path of bulk data leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    KickOff {
        level: Level,
        group: Option<String>,
    },
    Status {
        job: String,
    },
    Page {
        job: String,
        page: u32,
    },
    File {
        job: String,
        file: String,
    },
    Import,
    ImportStatus {
        job: String,
    },
    ImportErrors {
        job: String,
        input: usize,
    },
    /// A Bundle at the base.
    Bundle,
}

/// The bulk data side of one server.
pub(super) struct Bulk {
    pub(super) plan: BulkPlan,
    seed: u64,
    /// Whether the server has a sign-in.
    signed_in: bool,
    /// Where the second port is, as an origin.
    storage: Option<String>,
    /// A port at which nobody listens, as an origin.
    dead: Option<String>,
    jobs: Mutex<Jobs>,
    imports: Mutex<Imports>,
    /// How many Bundles came.
    bundles: AtomicU64,
}

impl Bulk {
    pub(super) fn new(
        plan: BulkPlan,
        seed: u64,
        signed_in: bool,
        storage: Option<String>,
        dead: Option<String>,
    ) -> Bulk {
        Bulk {
            plan,
            seed,
            signed_in,
            storage,
            dead,
            jobs: Mutex::default(),
            imports: Mutex::default(),
            bundles: AtomicU64::default(),
        }
    }

    /// Where a path below the base leads, if it has to do with bulk data.
    pub(super) fn way(
        &self,
        request: &Request,
        below: &str,
        query: &[(String, String)],
    ) -> Option<Way> {
        let path = below.replace("%24", "$");
        if request.method == Method::POST && path.trim_matches('/').is_empty() {
            return Some(Way::Bundle);
        }
        if !self.plan.is_enabled() {
            return None;
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let kick_off = |level, group: Option<&str>| {
            Some(Way::KickOff { level, group: group.map(str::to_owned) })
        };
        match parts.as_slice() {
            ["$export"] => return kick_off(Level::System, None),
            ["Patient", "$export"] => return kick_off(Level::Patient, None),
            ["Group", id, "$export"] => return kick_off(Level::Group, Some(id)),
            ["$import"] => return Some(Way::Import),
            _ => {}
        }
        for style in [ImportStyle::Hapi, ImportStyle::Microsoft, ImportStyle::Manifest] {
            if let Some(mut found) = filled_in(import::url_of(style), &path, query) {
                return Some(Way::ImportStatus { job: found.remove("job")? });
            }
        }
        let status = self.plan.status_url.as_deref().unwrap_or(STATUS_URL);
        if let Some(mut found) = filled_in(status, &path, query) {
            return Some(Way::Status { job: found.remove("job")? });
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return None;
        }
        let file = self.plan.file_url.as_deref().unwrap_or(FILE_URL);
        if let Some(mut found) = filled_in(file, &path, query) {
            return Some(Way::File { job: found.remove("job")?, file: found.remove("file")? });
        }
        if let Some(mut found) = filled_in(ERRORS_URL, &path, query) {
            let input = found.remove("input")?.parse().ok()?;
            return Some(Way::ImportErrors { job: found.remove("job")?, input });
        }
        let mut found = filled_in(PAGE_URL, &path, query)?;
        Some(Way::Page { job: found.remove("job")?, page: found.remove("page")?.parse().ok()? })
    }

    /// Most bytes of a request's body.
    pub(super) fn body_limit(&self) -> usize {
        let most = self.plan.bundle_bytes.map_or(bundle::BYTES, |size| size.0);
        usize::try_from(most).unwrap_or(usize::MAX).clamp(REQUEST_BODY_BYTES, BODY_BYTES)
    }

    fn url(&self, base: &str, template: &str, job: &str, file: &str) -> String {
        format!("{base}{}", template.replace("{job}", job).replace("{file}", file))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// What is refused, with its status.
    pub(super) fn answer(
        &self,
        site: &Site,
        request: &Request,
        way: &Way,
        query: &[(String, String)],
    ) -> Result<Reply, Refusal> {
        match way {
            Way::KickOff { level, group } => {
                self.kick_off(site, request, *level, group.as_deref(), query)
            }
            Way::Status { job } => self.status(site, request, job),
            Way::Page { job, page } => self.page(site, job, *page),
            Way::File { job, file } => self.file(Some(site), request, job, file, query),
            Way::Import => self.import(site, request),
            Way::ImportStatus { job } => self.import_status(site, request, job),
            Way::ImportErrors { job, input } => self.import_errors(job, *input),
            Way::Bundle => self.bundle(site, request),
        }
    }
}

/// The values of the placeholders of a template such as `/$status?_id={job}`; `None` when path and
/// query are not of it.
fn filled_in(
    template: &str,
    path: &str,
    query: &[(String, String)],
) -> Option<HashMap<String, String>> {
    let (path_template, query_template) = template.split_once('?').unwrap_or((template, ""));
    let mut found = HashMap::new();
    placeholders(path_template.trim_end_matches('/'), path.trim_end_matches('/'), &mut found)?;
    for pair in query_template.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let (_, given) = query.iter().find(|(given, _)| given == name)?;
        placeholders(value, given, &mut found)?;
    }
    Some(found)
}

fn placeholders(template: &str, text: &str, found: &mut HashMap<String, String>) -> Option<()> {
    let Some((literal, rest)) = template.split_once('{') else {
        return (template == text).then_some(());
    };
    let text = text.strip_prefix(literal)?;
    let (name, rest) = rest.split_once('}')?;
    let until = rest.split('{').next().unwrap_or_default();
    let end = if until.is_empty() { text.len() } else { text.find(until)? };
    let value = &text[..end];
    if value.is_empty() || value.contains('/') {
        return None;
    }
    found.insert(name.to_owned(), value.to_owned());
    placeholders(rest, &text[end..], found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_read_back() {
        let query =
            [("_jobId".to_owned(), "7".to_owned()), ("filename".to_owned(), "a".to_owned())];
        for (template, path, expected) in [
            ("/bulk-status/{job}", "/bulk-status/7", Some(("job", "7"))),
            ("/bulk-status/{job}", "/bulk-status/7/", Some(("job", "7"))),
            ("/bulk-status/{job}", "/bulk-status/", None),
            ("/bulk-status/{job}", "/bulk-status/7/8", None),
            ("/$export-poll-status?_jobId={job}", "/$export-poll-status", Some(("job", "7"))),
            ("/$export-poll-status?_id={job}", "/$export-poll-status", None),
            ("/$x/?_id=1&_jobId={job}", "/$x/", None),
            (
                "/Binary/{job}.{file}",
                "/Binary/7.Patient-1.ndjson",
                Some(("file", "Patient-1.ndjson")),
            ),
        ] {
            let found = filled_in(template, path, &query);
            match expected {
                None => assert!(found.is_none(), "{template} {path}"),
                Some((name, value)) => assert_eq!(found.unwrap()[name], value, "{template} {path}"),
            }
        }
    }
}
