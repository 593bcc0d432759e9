//! The end of an export: the whole is judged, the receipt written, the verdict noted.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use url::Url;

use super::super::halt::Halt;
use super::super::ids::IdFile;
use super::super::ledger::{FINDINGS_KEPT, Finding, Severity, State, Totals};
use super::super::links::Pages;
use super::super::receipt;
use super::{Conclusion, Export, Job, Mode, Status};
use crate::model::Exit;

impl Export<'_> {
    /// Judges the whole, writes the receipt and notes how it ended.
    pub(super) fn conclude(
        &self,
        job: &Job,
        pages: &Pages,
        ids: &IdFile,
    ) -> Result<Conclusion, Halt> {
        let mut findings = self.twins(ids)?;
        for oddity in job.oddities.iter().chain(&pages.oddities) {
            findings.push((None, finding("bulk.odd_manifest", Severity::Warning, oddity.clone())));
        }
        if let Some(request) = &pages.head.request
            && !same_request(request, &job.kick_off_url)
        {
            let message = "the manifest's request is not the one that was sent".to_owned();
            findings.push((None, finding("bulk.odd_manifest", Severity::Warning, message)));
        }
        let totals = self.ledger.totals()?;
        if let Some((code, message, _)) = &pages.missing {
            let message = format!("a page of the manifest is missing: {message}");
            findings.push((None, finding(code, Severity::Error, message)));
        }
        self.ledger.conclude(&findings)?;
        let findings = self.ledger.findings()?;
        let is_missing = totals.files_done < totals.files || pages.missing.is_some();
        let is_bad = findings.iter().any(|it| it.severity == Severity::Error);
        let may_come_back = self.ledger.fact("may_come_back")?.unwrap_or(false)
            || pages.missing.as_ref().is_some_and(|missing| missing.2);
        let (status, exit) = match (is_missing, is_bad) {
            (true, _) if may_come_back => (Status::Incomplete, Exit::RESUMABLE),
            (true, _) => (Status::Incomplete, Exit::UNAVAILABLE),
            (false, true) => (Status::CompleteWithErrors, Exit::DATA),
            (false, false) => (Status::Complete, Exit::OK),
        };
        let finished_at = self.now();
        let head = self.receipt_head(job, pages, status, exit, &totals, finished_at);
        let sha256 = receipt::write(&self.identity.folder, &self.ledger, &head)?;
        let conclusion = Conclusion {
            status,
            exit_code: exit.0,
            transaction_time: pages.head.transaction_time.clone(),
            finished_at,
            duration_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            sha256,
        };
        self.ledger.note(&[("conclusion", json!(conclusion))])?;
        Ok(conclusion)
    }

    /// Resources that are there twice, or there and deleted.
    fn twins(&self, ids: &IdFile) -> Result<Vec<(Option<u32>, Finding)>, Halt> {
        let mut kept = std::collections::HashMap::new();
        self.ledger.each_file(&mut |file| {
            if let (State::There | State::Joined, Some(done)) = (file.state, &file.done) {
                kept.insert(file.id, (done.attempt, file.kind));
            }
            Ok(())
        })?;
        let counts = |file: u32, attempt: u64| {
            kept.get(&file).filter(|kept| kept.0 == attempt).map(|kept| kept.1)
        };
        let twins = ids.twins(&counts, FINDINGS_KEPT)?;
        let mut findings = Vec::new();
        // What is searched while it changes may be met twice; an export is made at one instant.
        let severity = match self.identity.mode {
            Mode::Bulk => Severity::Error,
            Mode::Crawl => Severity::Warning,
        };
        let mut tell = |places: &[(u32, u32)], count: u64, code: &str, what: &str| {
            for (file, line) in places {
                let row = self.ledger.file(*file)?;
                let (file, line) = match (row.state, row.joined) {
                    (State::Joined, Some((whole, offset))) => {
                        (Some(whole), Some(u64::from(*line) + offset))
                    }
                    (State::Joined, None) => (None, None),
                    _ => (Some(*file), Some(u64::from(*line))),
                };
                let found = finding(code, severity, what.to_owned());
                findings.push((file, Finding { line, ..found }));
            }
            let more = count - places.len() as u64;
            if more > 0 {
                findings.push((None, finding(code, severity, format!("{what}; {more} more"))));
            }
            Ok::<(), Halt>(())
        };
        tell(
            &twins.places,
            twins.count,
            "bulk.duplicate",
            "the resource stands in the export already",
        )?;
        tell(
            &twins.contradictions,
            twins.contradiction_count,
            "bulk.deleted_and_exported",
            "the resource is exported and said to be deleted",
        )?;
        Ok(findings)
    }

    fn receipt_head(
        &self,
        job: &Job,
        pages: &Pages,
        status: Status,
        exit: Exit,
        totals: &Totals,
        finished_at: Timestamp,
    ) -> Map<String, Value> {
        let identity = &self.identity;
        let mut head = Map::new();
        let mut put = |key: &str, value: Value| head.insert(key.to_owned(), value);
        put("fhirctl_version", env!("CARGO_PKG_VERSION").into());
        put("export_id", identity.id.as_str().into());
        put("server", identity.server.as_str().into());
        put("url", identity.url.as_str().into());
        put("status", status.as_str().into());
        put("exit_code", exit.0.into());
        put("mode", json!(identity.mode));
        put("request", json!(identity.request));
        put("request_url", job.kick_off_url.as_str().into());
        put("created_at", json!(identity.created_at));
        put("kicked_off_at", json!(job.kicked_off_at));
        put("finished_at", json!(finished_at));
        put("transaction_time", json!(pages.head.transaction_time));
        put("requires_access_token", json!(pages.head.requires_access_token));
        put("manifest_pages", pages.pages.into());
        put("compression", json!(identity.compression));
        put("split_by", json!(identity.split));
        put("totals", json!(totals));
        head
    }
}

fn finding(code: &str, severity: Severity, message: String) -> Finding {
    Finding { file: None, line: None, code: code.to_owned(), severity, message }
}

/// Whether a manifest speaks of our request: a POST has no parameters in it, and the order and the
/// way of writing a query differ.
fn same_request(told: &str, sent: &str) -> bool {
    let path = |text: &str| Url::parse(text).map(|url| url.path().to_owned());
    match (path(told), path(sent)) {
        (Ok(told), Ok(sent)) => told.trim_end_matches('/') == sent.trim_end_matches('/'),
        // A relative one says less, and nothing else.
        _ => sent.contains(told.split('?').next().unwrap_or_default()),
    }
}
