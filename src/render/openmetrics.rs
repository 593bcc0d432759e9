//! Metrics for Prometheus: read by its text format (the node_exporter's textfile collector) and by
//! OpenMetrics alike, since every family is a gauge, families are whole, and `# EOF` ends the text.
//!
//! Names are those of blackbox_exporter where it has them, each with the server and where it
//! belongs the check as labels.

use std::fmt::Write as _;

use super::CheckRun;
use crate::model::{Code, Observation, ServerReport, State, Status};

pub(super) fn render(run: &CheckRun) -> String {
    let mut page = Page { text: String::new() };
    page.family(
        "fhirctl_run_timestamp_seconds",
        "When the run was judged, in seconds since 1970.",
        |family| {
            // Exact until the year 287396.
            family.sample(&[], run.generated_at.as_millisecond() as f64 / 1000.0);
        },
    );
    page.family("fhirctl_run_duration_seconds", "How long the whole run took.", |family| {
        family.sample(&[], run.duration_ms / 1000.0);
    });
    page.family(
        "fhirctl_status",
        "The raw worst of the servers that count: 0 healthy, 1 warning, 2 critical, 3 unknown.",
        |family| family.sample(&[], f64::from(run.status.exit_code())),
    );
    page.family(
        "fhirctl_servers",
        "Servers by status; those in maintenance or left out are counted apart.",
        |family| {
            for status in [Status::Healthy, Status::Warning, Status::Critical, Status::Unknown] {
                let count =
                    run.reports.iter().filter(|r| run.counts(r) && r.status == status).count();
                family.sample(&[("status", status.as_str())], number(count));
            }
            let left_out = run.reports.iter().filter(|r| r.was_left_out()).count();
            let count = run.reports.iter().filter(|r| !run.counts(r)).count() - left_out;
            family.sample(&[("status", "maintenance")], number(count));
            family.sample(&[("status", "skipped")], number(left_out));
        },
    );
    servers(&mut page, run);
    checks(&mut page, run);
    page.text.push_str("# EOF\n");
    page.text
}

fn servers(page: &mut Page, run: &CheckRun) {
    let each = |family: &mut Family<'_>, value: &dyn Fn(&ServerReport) -> Option<f64>| {
        // Where nothing was asked there is nothing to measure.
        for report in run.reports.iter().filter(|report| !report.was_left_out()) {
            if let Some(value) = value(report) {
                family.sample(&[("server", &report.name)], value);
            }
        }
    };
    page.family("probe_success", "Whether the server is healthy or at worst warning.", |family| {
        each(family, &|report| {
            Some(f64::from(u8::from(matches!(report.status, Status::Healthy | Status::Warning))))
        });
    });
    page.family("probe_duration_seconds", "How long the server's checks took.", |family| {
        each(family, &|report| Some(report.duration_ms / 1000.0));
    });
    page.family(
        "probe_dns_lookup_time_seconds",
        "How long the first name lookup of the server took.",
        |family| each(family, &|report| first(report, |timing| timing.dns_ms)),
    );
    page.family(
        "probe_ssl_earliest_cert_expiry",
        "When the server's certificate ends, in seconds since 1970.",
        |family| {
            // Seconds of this age are exact.
            each(family, &|report| {
                report.certificate.as_ref().map(|c| c.not_after.as_second() as f64)
            });
        },
    );
    page.family(
        "fhirctl_server_status",
        "0 healthy, 1 warning, 2 critical, 3 unknown; the labels say what decided it.",
        |family| {
            for report in run.reports.iter().filter(|report| !report.was_left_out()) {
                let state = match report.state {
                    State::Active => "active",
                    State::Maintenance => "maintenance",
                    State::Inactive => "inactive",
                };
                family.sample(
                    &[
                        ("server", &report.name),
                        ("vendor", report.vendor.as_deref().unwrap_or("")),
                        ("state", state),
                        ("fhir_version", report.fhir_version.as_deref().unwrap_or("")),
                        ("code", report.code.map_or("", Code::as_str)),
                        ("party", report.party.map_or("", |party| party.as_str())),
                    ],
                    f64::from(report.status.exit_code()),
                );
            }
        },
    );
}

fn checks(page: &mut Page, run: &CheckRun) {
    let ran = || {
        run.reports.iter().flat_map(|report| {
            report
                .checks
                .iter()
                .filter(|check| !check.code.is_some_and(Code::is_left_out))
                .map(move |check| (report, check))
        })
    };
    let each = |family: &mut Family<'_>, value: &dyn Fn(&Observation) -> Option<f64>| {
        for (report, check) in ran() {
            if let Some(value) = value(check) {
                family.sample(&[("server", &report.name), ("check", &check.name)], value);
            }
        }
    };
    page.family(
        "fhirctl_check_status",
        "0 healthy, 1 warning, 2 critical, 3 unknown; accepted says that it does not count.",
        |family| {
            for (report, check) in ran() {
                family.sample(
                    &[
                        ("server", &report.name),
                        ("check", &check.name),
                        ("code", check.code.map_or("", Code::as_str)),
                        ("accepted", if check.accepted.is_some() { "true" } else { "false" }),
                    ],
                    f64::from(check.status.exit_code()),
                );
            }
        },
    );
    page.family("fhirctl_check_duration_seconds", "How long the check took.", |family| {
        each(family, &|check| Some(check.duration_ms / 1000.0));
    });
    page.family(
        "probe_http_duration_seconds",
        "How long each phase of the check's request took.",
        |family| {
            for (report, check) in ran() {
                let Some(timing) = &check.timing else { continue };
                for (phase, ms) in [
                    ("resolve", timing.dns_ms),
                    ("connect", timing.connect_ms),
                    ("tls", timing.tls_ms),
                    ("processing", timing.first_byte_ms),
                    ("transfer", timing.transfer_ms),
                ] {
                    if let Some(ms) = ms {
                        family.sample(
                            &[("server", &report.name), ("check", &check.name), ("phase", phase)],
                            ms / 1000.0,
                        );
                    }
                }
            }
        },
    );
    page.family(
        "probe_http_status_code",
        "The answer's status code; 0 when none came.",
        |family| {
            each(family, &|check| {
                check.http.as_ref().map(|http| f64::from(http.status.unwrap_or(0)))
            });
        },
    );
    page.family("probe_http_version", "The version of HTTP that was spoken.", |family| {
        each(family, &|check| match check.http.as_ref()?.version.as_deref()? {
            "h2" => Some(2.0),
            version => version.strip_prefix("http/")?.parse().ok(),
        });
    });
    page.family(
        "probe_http_uncompressed_body_length",
        "Bytes of the answer's body after decompression.",
        |family| {
            // Bodies are bounded.
            each(family, &|check| check.http.as_ref().map(|http| http.body_bytes as f64));
        },
    );
    page.family(
        "fhirctl_check_findings",
        "Remarks on the document that the check read.",
        |family| {
            each(family, &|check| check.http.as_ref().map(|_| number(check.findings.len())));
        },
    );
}

fn first(
    report: &ServerReport,
    phase: impl Fn(&crate::model::Timing) -> Option<f64>,
) -> Option<f64> {
    report
        .checks
        .iter()
        .filter_map(|check| check.timing.as_ref())
        .find_map(phase)
        .map(|ms| ms / 1000.0)
}

// Counts of servers and findings.
fn number(count: usize) -> f64 {
    count as f64
}

struct Page {
    text: String,
}

struct Family<'a> {
    name: &'a str,
    samples: String,
}

impl Page {
    /// Writes a family with its head, or nothing when it has no samples.
    fn family(&mut self, name: &str, help: &str, fill: impl FnOnce(&mut Family<'_>)) {
        let mut family = Family { name, samples: String::new() };
        fill(&mut family);
        if !family.samples.is_empty() {
            let _ =
                write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n{}", family.samples);
        }
    }
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.samples.push_str(self.name);
        for (index, (name, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.samples, "{open}{name}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.samples.push('}');
        }
        let _ = writeln!(self.samples, " {value}");
    }
}

fn escaped(label: &str) -> String {
    crate::model::text::visible(label)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\\b\"c\nd\u{1b}"), "a\\\\b\\\"c\\nd␛");
    }
}
