//! One line for Nagios, Icinga, Naemon and their kin: `STATE - text | performance data`.
//!
//! The word is the one of the exit code, since that is what the monitoring system goes by.

use super::CheckRun;
use crate::model::text::{bounded, one_line};
use crate::model::{Error, ServerReport, Status};

/// Longest line in bytes. Nagios Core cuts at 8 KB, and a cut in performance data spoils all.
const LINE: usize = 8000;
/// Longest text in characters before the performance data.
const TEXT: usize = 1500;

pub(super) fn render(run: &CheckRun) -> String {
    let text = text(run);
    let mut line = format!("{} - {}", word(run), fit(&text));
    let data = performance(run, LINE.saturating_sub(line.len() + 4));
    if !data.is_empty() {
        line.push_str(" | ");
        line.push_str(&data);
    }
    line.push('\n');
    line
}

/// The line for an error before any verdict; the exit code beside it is 3.
#[must_use]
pub fn error(error: &Error) -> String {
    let mut text = error.message.clone();
    if let Some(hint) = error.hints.first() {
        text.push_str("; ");
        text.push_str(hint);
    }
    format!("UNKNOWN - {}\n", fit(&text))
}

fn word(run: &CheckRun) -> &'static str {
    match run.exit_code {
        0 => "OK",
        1 => "WARNING",
        2 => "CRITICAL",
        _ => "UNKNOWN",
    }
}

/// On one line, bounded, and without the bar that begins performance data.
fn fit(text: &str) -> String {
    bounded(&one_line(text).replace('|', "/"), TEXT)
}

fn text(run: &CheckRun) -> String {
    let counted: Vec<&ServerReport> = run.reports.iter().filter(|r| run.counts(r)).collect();
    if let [only] = run.reports.as_slice() {
        let in_maintenance = counted.is_empty() && !only.was_left_out();
        let state = if in_maintenance { "in maintenance, " } else { "" };
        let code = only.code.map(|code| format!("{code}: ")).unwrap_or_default();
        return format!("{}: {state}{code}{}", only.name, only.message);
    }
    if run.reports.is_empty() {
        return "no servers".to_owned();
    }
    let left_out = run.reports.iter().filter(|report| report.was_left_out()).count();
    let maintenance = run.reports.len() - counted.len() - left_out;
    if maintenance == run.reports.len() {
        return format!("all {maintenance} servers are in maintenance");
    }
    let mut parts = Vec::new();
    for status in [Status::Critical, Status::Unknown, Status::Warning] {
        let named: Vec<String> = counted
            .iter()
            .filter(|report| report.status == status)
            .map(|report| match report.code {
                Some(code) => format!("{} ({code})", report.name),
                None => report.name.clone(),
            })
            .collect();
        if !named.is_empty() {
            parts.push(format!("{} {status}: {}", named.len(), named.join(", ")));
        }
    }
    let healthy = counted.iter().filter(|report| report.status == Status::Healthy).count();
    parts.push(if counted.is_empty() {
        "no server was judged".to_owned()
    } else if healthy == counted.len() {
        format!("{healthy} servers healthy")
    } else {
        format!("{healthy} of {} healthy", counted.len())
    });
    if maintenance > 0 {
        parts.push(format!("{maintenance} in maintenance"));
    }
    if left_out > 0 {
        parts.push(format!("{left_out} not checked"));
    }
    parts.join("; ")
}

/// As much detail as fits: each check, else each server, else the counts alone.
fn performance(run: &CheckRun, room: usize) -> String {
    let single = run.reports.len() == 1;
    let counts = if single { Vec::new() } else { counts(run) };
    for checks in [true, false] {
        let mut items = counts.clone();
        for report in &run.reports {
            server(report, single, checks, &mut items);
        }
        let data = items.join(" ");
        if data.len() <= room {
            return data;
        }
    }
    counts.join(" ")
}

fn counts(run: &CheckRun) -> Vec<String> {
    let total = run.reports.len();
    let mut items = vec![format!("total={total};;;0;")];
    for status in [Status::Healthy, Status::Warning, Status::Critical, Status::Unknown] {
        let count = run.reports.iter().filter(|r| run.counts(r) && r.status == status).count();
        items.push(format!("{status}={count};;;0;{total}"));
    }
    let left_out = run.reports.iter().filter(|r| r.was_left_out()).count();
    let maintenance = run.reports.iter().filter(|r| !run.counts(r)).count() - left_out;
    items.push(format!("maintenance={maintenance};;;0;{total}"));
    if left_out > 0 {
        items.push(format!("skipped={left_out};;;0;{total}"));
    }
    items
}

fn server(report: &ServerReport, single: bool, checks: bool, items: &mut Vec<String>) {
    let label = |what: &str| {
        if single { quoted(what) } else { quoted(&format!("{}:{what}", report.name)) }
    };
    items.push(format!("{}={}s;;;0;", label("time"), seconds(report.duration_ms)));
    if checks {
        // A check that never ran has no time to draw.
        let ran = report.checks.iter().filter(|check| !check.code.is_some_and(|c| c.is_left_out()));
        for check in ran {
            let (warning, critical) =
                check.threshold_ms.map_or_else(Default::default, |(w, c)| (seconds(w), seconds(c)));
            items.push(format!(
                "{}={}s;{warning};{critical};0;",
                label(&check.name),
                seconds(check.duration_ms)
            ));
        }
    }
    if let Some(certificate) = &report.certificate {
        // `21:` alerts below 21.
        let (warning, critical) = report
            .certificate_threshold_days
            .map_or_else(Default::default, |(w, c)| (format!("{w}:"), format!("{c}:")));
        items.push(format!(
            "{}={};{warning};{critical};;",
            label("certificate_days"),
            certificate.days_left
        ));
    }
}

fn seconds(ms: f64) -> String {
    let text = format!("{:.6}", ms.max(0.0) / 1000.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A label holds neither an equals sign nor a bar; quotes are doubled inside quotes.
fn quoted(label: &str) -> String {
    let label = one_line(label).replace(['=', '|'], "_");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if label.chars().all(plain) { label } else { format!("'{}'", label.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted_where_they_must_be() {
        for (label, expected) in [
            ("metadata", "metadata"),
            ("search[1]", "'search[1]'"),
            ("epic-prod:time", "'epic-prod:time'"),
            ("it's=a|b", "'it''s_a_b'"),
        ] {
            assert_eq!(quoted(label), expected);
        }
    }

    #[test]
    fn an_error_is_one_line_without_a_bar() {
        let text = error(&Error::config("servers.yaml:3:1: bad | worse\n  | x").hint("fix\nit"));
        assert_eq!(text, "UNKNOWN - servers.yaml:3:1: bad / worse / x; fix it\n");
    }

    #[test]
    fn times_are_seconds_without_idle_zeros() {
        assert_eq!(seconds(6204.1), "6.2041");
        assert_eq!(seconds(5000.0), "5");
        assert_eq!(seconds(0.0), "0");
    }
}
