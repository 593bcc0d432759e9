//! What went wrong how often: by HTTP class and status, reason code, FHIR issue type and check.
//!
//! A rate is a share of all samples that were taken: of those that had an answer to give. A check that
//! was skipped, or did not apply, asked nothing and is in neither number. A sample has failed when it
//! is critical and counts; warnings have their own number, and codes are counted for both.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Sample, Status};

/// Sums of samples, ready to be added to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    all: Counts,
    by_check: BTreeMap<Arc<str>, Counts>,
    by_http_status: BTreeMap<u16, u64>,
    /// Failed without an HTTP answer.
    without_answer: u64,
    by_code: BTreeMap<Arc<str>, u64>,
    by_issue: BTreeMap<Arc<str>, u64>,
}

/// What is counted of one sample, or of many that are equal.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub check: &'a Arc<str>,
    pub status: Status,
    pub code: Option<&'a Arc<str>>,
    /// Whether it takes part in the server's status.
    pub counts: bool,
    pub http_status: Option<u16>,
    pub issue: Option<&'a Arc<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    taken: u64,
    failed: u64,
    warned: u64,
    unknown: u64,
}

/// Sums as a report shows them, each list with the most frequent first.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Breakdown {
    pub samples: u64,
    pub failed: u64,
    pub warned: u64,
    /// Could not be judged.
    pub unknown: u64,
    /// Failed ÷ samples, from 0 to 1; null without a sample.
    pub error_rate: Option<f64>,
    /// 1xx to 5xx, and `none` for what failed before there was an answer.
    pub by_http_class: Vec<Share>,
    pub by_http_status: Vec<Share>,
    pub by_code: Vec<Share>,
    pub by_issue: Vec<Share>,
    pub by_check: Vec<CheckErrors>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Share {
    pub name: String,
    pub count: u64,
    /// Of all samples, from 0 to 1.
    pub rate: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CheckErrors {
    pub check: String,
    pub samples: u64,
    pub failed: u64,
    pub warned: u64,
    pub unknown: u64,
    pub error_rate: f64,
}

/// The class of an HTTP status, such as `5xx`; `none` without one.
#[must_use]
pub fn http_class(status: Option<u16>) -> &'static str {
    match status.map(|status| status / 100) {
        None => "none",
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        Some(_) => "other",
    }
}

impl Errors {
    pub fn add(&mut self, sample: &Sample) {
        let facts = Facts {
            check: &sample.check,
            status: sample.status,
            code: sample.code.as_ref(),
            counts: sample.counts,
            http_status: sample.http_status,
            issue: sample.issue.as_ref(),
        };
        self.add_many(&facts, 1);
    }

    /// Adds `times` samples that are equal.
    pub fn add_many(&mut self, facts: &Facts<'_>, times: u64) {
        let code = facts.code.map(|code| &**code);
        if times == 0 || matches!(code, Some("check.skipped" | "check.not_applicable")) {
            return;
        }
        let failed = facts.counts && facts.status == Status::Critical;
        let of = |is: bool| if is { times } else { 0 };
        let counts = Counts {
            taken: times,
            failed: of(failed),
            warned: of(facts.counts && facts.status == Status::Warning),
            unknown: of(facts.counts && facts.status == Status::Unknown),
        };
        self.all.merge(counts);
        self.by_check.entry(facts.check.clone()).or_default().merge(counts);
        match facts.http_status {
            Some(status) => *self.by_http_status.entry(status).or_default() += times,
            None => self.without_answer += of(failed),
        }
        if let Some(code) = facts.code {
            *self.by_code.entry(code.clone()).or_default() += times;
        }
        if let Some(issue) = facts.issue {
            *self.by_issue.entry(issue.clone()).or_default() += times;
        }
    }

    pub fn merge(&mut self, other: &Errors) {
        self.all.merge(other.all);
        for (check, counts) in &other.by_check {
            self.by_check.entry(check.clone()).or_default().merge(*counts);
        }
        for (status, count) in &other.by_http_status {
            *self.by_http_status.entry(*status).or_default() += count;
        }
        self.without_answer += other.without_answer;
        for (mine, theirs) in
            [(&mut self.by_code, &other.by_code), (&mut self.by_issue, &other.by_issue)]
        {
            for (name, count) in theirs {
                *mine.entry(name.clone()).or_default() += count;
            }
        }
    }

    #[must_use]
    pub fn breakdown(&self) -> Breakdown {
        let taken = self.all.taken;
        let mut by_class: BTreeMap<&str, u64> = BTreeMap::new();
        for (status, count) in &self.by_http_status {
            *by_class.entry(http_class(Some(*status))).or_default() += count;
        }
        if self.without_answer > 0 {
            by_class.insert(http_class(None), self.without_answer);
        }
        let text = |(name, count): (&Arc<str>, &u64)| (name.to_string(), *count);
        let mut by_check: Vec<CheckErrors> = self
            .by_check
            .iter()
            .map(|(check, counts)| CheckErrors {
                check: check.to_string(),
                samples: counts.taken,
                failed: counts.failed,
                warned: counts.warned,
                unknown: counts.unknown,
                error_rate: counts.failed as f64 / counts.taken as f64,
            })
            .collect();
        by_check.sort_by_key(|check| std::cmp::Reverse(check.failed));
        Breakdown {
            samples: taken,
            failed: self.all.failed,
            warned: self.all.warned,
            unknown: self.all.unknown,
            error_rate: (taken > 0).then(|| self.all.failed as f64 / taken as f64),
            by_http_class: shares(
                by_class.into_iter().map(|(name, count)| (name.to_owned(), count)),
                taken,
            ),
            by_http_status: shares(
                self.by_http_status.iter().map(|(status, count)| (status.to_string(), *count)),
                taken,
            ),
            by_code: shares(self.by_code.iter().map(text), taken),
            by_issue: shares(self.by_issue.iter().map(text), taken),
            by_check,
        }
    }
}

impl Counts {
    fn merge(&mut self, other: Counts) {
        self.taken += other.taken;
        self.failed += other.failed;
        self.warned += other.warned;
        self.unknown += other.unknown;
    }
}

/// The most frequent first; of as frequent ones, by name.
fn shares(counts: impl Iterator<Item = (String, u64)>, taken: u64) -> Vec<Share> {
    let share = |(name, count): (String, u64)| Share {
        name,
        count,
        rate: if taken == 0 { 0.0 } else { count as f64 / taken as f64 },
    };
    let mut shares: Vec<Share> = counts.map(share).collect();
    shares.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check, status, code, HTTP status, issue.
    type Row<'a> = (&'a str, Status, Option<&'a str>, Option<u16>, Option<&'a str>);

    fn errors(rows: &[Row<'_>]) -> Errors {
        let mut errors = Errors::default();
        for (check, status, code, http_status, issue) in rows {
            let check = Arc::from(*check);
            let (code, issue) = (code.map(Arc::from), issue.map(Arc::from));
            let facts = Facts {
                check: &check,
                status: *status,
                code: code.as_ref(),
                counts: true,
                http_status: *http_status,
                issue: issue.as_ref(),
            };
            errors.add_many(&facts, 1);
        }
        errors
    }

    fn names(shares: &[Share]) -> Vec<(&str, u64)> {
        shares.iter().map(|share| (share.name.as_str(), share.count)).collect()
    }

    #[test]
    fn errors_are_told_by_class_status_code_issue_and_check() {
        let errors = errors(&[
            ("metadata", Status::Healthy, None, Some(200), None),
            ("metadata", Status::Critical, Some("http.status"), Some(503), None),
            ("metadata", Status::Critical, Some("http.status"), Some(500), None),
            ("metadata", Status::Critical, Some("tcp.refused"), None, None),
            ("search", Status::Warning, Some("perf.slow"), Some(200), None),
            ("search", Status::Critical, Some("http.status"), Some(429), Some("throttled")),
            ("search", Status::Unknown, Some("check.deadline"), None, None),
            ("read", Status::Unknown, Some("check.skipped"), None, None),
        ]);
        let told = errors.breakdown();
        assert_eq!((told.samples, told.failed, told.warned, told.unknown), (7, 4, 1, 1));
        assert_eq!(told.error_rate, Some(4.0 / 7.0));
        assert_eq!(names(&told.by_http_class), [("2xx", 2), ("5xx", 2), ("4xx", 1), ("none", 1)]);
        assert_eq!(names(&told.by_http_status), [("200", 2), ("429", 1), ("500", 1), ("503", 1)]);
        assert_eq!(
            names(&told.by_code),
            [("http.status", 3), ("check.deadline", 1), ("perf.slow", 1), ("tcp.refused", 1)]
        );
        assert_eq!(names(&told.by_issue), [("throttled", 1)]);
        let checks: Vec<_> =
            told.by_check.iter().map(|check| (check.check.as_str(), check.failed)).collect();
        assert_eq!(checks, [("metadata", 3), ("search", 1)]);
    }

    #[test]
    fn what_the_inventory_accepts_has_not_failed_and_is_still_counted() {
        let check = Arc::from("search");
        let code = Arc::from("fhir.parameter_ignored");
        let facts = Facts {
            check: &check,
            status: Status::Critical,
            code: Some(&code),
            counts: false,
            http_status: Some(200),
            issue: None,
        };
        let mut errors = Errors::default();
        errors.add_many(&facts, 3);
        let told = errors.breakdown();
        assert_eq!((told.samples, told.failed, told.error_rate), (3, 0, Some(0.0)));
        assert_eq!(names(&told.by_code), [("fhir.parameter_ignored", 3)]);
    }

    #[test]
    fn sums_add_up_and_nothing_has_no_rate() {
        let one = [("a", Status::Critical, Some("tcp.refused"), None, None)];
        let two = [("b", Status::Critical, Some("http.status"), Some(500), Some("exception"))];
        let mut sum = errors(&one);
        sum.merge(&errors(&two));
        assert_eq!(sum, errors(&[one[0], two[0]]));
        assert_eq!(Errors::default().breakdown().error_rate, None);
    }
}
