//! A server that may not be checked unless a person asks for it by name: its report, without a
//! request.

use super::verdict::left_out;
use super::{CheckName, Options};
use crate::model::server::{Auth, Server};
use crate::model::{Code, Party, ServerReport, Status, Unapproved};

/// Every check that would have been made, skipped for this reason; nothing is sent.
#[must_use]
pub fn unapproved(
    server: &Server,
    options: &Options,
    reason: &Unapproved,
    now: jiff::Timestamp,
) -> ServerReport {
    let code = Code::new("check.skipped");
    let message = reason.message();
    let checks = [
        (CheckName::Auth, server.auth != Auth::None),
        (CheckName::Health, server.checks.health.is_some()),
        (CheckName::Metadata, true),
        (CheckName::Search, !server.checks.search.is_empty()),
        (CheckName::Read, !server.checks.read.is_empty()),
        (CheckName::Assert, !server.checks.assert.is_empty()),
    ];
    let checks = checks
        .into_iter()
        .filter(|(name, declared)| *declared && options.wants(*name))
        .map(|(name, _)| {
            let mut check = left_out(name, code, &message, now);
            check.hint = Some(Unapproved::hint(&server.name));
            check
        })
        .collect();
    ServerReport {
        name: server.name.clone(),
        url: server.url.to_string(),
        vendor: server.vendor.clone(),
        state: server.state(now),
        status: Status::Unknown,
        code: Some(code),
        message,
        party: Some(Party::Ours),
        duration_ms: 0.0,
        fhir_version: None,
        software: None,
        certificate: None,
        certificate_threshold_days: None,
        checks,
    }
}
