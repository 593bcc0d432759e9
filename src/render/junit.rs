//! JUnit XML for build servers: a suite is a server, a case is a check.
//!
//! The shape is the one that Jenkins, GitLab and Surefire share: `testsuites`, `testsuite`,
//! `testcase`, and in a case `failure`, `error`, `skipped` or `system-out`.

use std::fmt::Write as _;

use super::{Case, CheckRun, Suites};
use crate::model::text::visible;
use crate::model::{Code, Observation, Result, ServerReport, Status};

/// # Errors
/// None in practice: text is written into memory.
pub(super) fn render(run: &CheckRun) -> Result<String> {
    let mut suites = String::new();
    let mut sum = Counts::default();
    for report in &run.reports {
        let (suite, counts) = suite(run, report);
        suites.push_str(&suite);
        sum.tests += counts.tests;
        sum.failures += counts.failures;
        sum.errors += counts.errors;
    }
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"fhirctl {}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{}\">\n\
         {suites}</testsuites>\n",
        run.command,
        sum.tests,
        sum.failures,
        sum.errors,
        seconds(run.duration_ms),
    ))
}

/// Suites of cases that say themselves what became of them.
pub(super) fn suites(all: &Suites) -> String {
    let mut text = String::new();
    let (mut sum, mut whole) = (Counts::default(), 0.0);
    for suite in &all.suites {
        let mut counts = Counts { tests: suite.cases.len(), ..Counts::default() };
        let name = escaped(&suite.name);
        let cases: String =
            suite.cases.iter().map(|case| stated(case, &name, &mut counts)).collect();
        let time: f64 = suite.cases.iter().map(|case| case.duration_ms).sum();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
             skipped=\"{}\" time=\"{}\">\n{cases}  </testsuite>",
            counts.tests,
            counts.failures,
            counts.errors,
            counts.skipped,
            seconds(time),
        );
        sum.tests += counts.tests;
        sum.failures += counts.failures;
        sum.errors += counts.errors;
        whole += time;
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
         time=\"{}\">\n{text}</testsuites>\n",
        escaped(&all.name),
        sum.tests,
        sum.failures,
        sum.errors,
        seconds(whole),
    )
}

fn stated(case: &Case, suite: &str, counts: &mut Counts) -> String {
    let name = escaped(&case.name);
    let time = seconds(case.duration_ms);
    let head = format!("    <testcase name=\"{name}\" classname=\"{suite}\" time=\"{time}\"");
    let (tag, said) = if !case.failure.is_empty() {
        counts.failures += 1;
        ("failure", &case.failure)
    } else if !case.error.is_empty() {
        counts.errors += 1;
        ("error", &case.error)
    } else if let Some(why) = &case.skipped {
        counts.skipped += 1;
        let why = escaped(why);
        return format!("{head}>\n      <skipped message=\"{why}\"/>\n    </testcase>\n");
    } else {
        let notes = escaped(&case.notes.join("\n"));
        return if notes.is_empty() {
            format!("{head}/>\n")
        } else {
            format!("{head}>\n      <system-out>{notes}</system-out>\n    </testcase>\n")
        };
    };
    format!(
        "{head}>\n      <{tag} type=\"{name}\" message=\"{}\">{}</{tag}>\n    </testcase>\n",
        escaped(said.first().map_or("", String::as_str)),
        escaped(&[said.join("\n"), case.notes.join("\n")].join("\n")),
    )
}

#[derive(Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

enum Verdict {
    Passed,
    Failure,
    Error,
    Skipped(String),
}

fn suite(run: &CheckRun, report: &ServerReport) -> (String, Counts) {
    let mut cases = String::new();
    let mut counts = Counts::default();
    for check in &report.checks {
        counts.tests += 1;
        let _ = write!(
            cases,
            "    <testcase name=\"{}\" classname=\"{}\" time=\"{}\"",
            escaped(&check.name),
            escaped(&report.name),
            seconds(check.duration_ms),
        );
        let said = element(&verdict(run, report, check), check, &mut counts);
        if said.is_empty() {
            cases.push_str("/>\n");
        } else {
            let _ = write!(cases, ">\n{said}    </testcase>\n");
        }
    }
    // The common schemas want the instant without an offset; it is UTC.
    let timestamp = run.generated_at.strftime("%Y-%m-%dT%H:%M:%S");
    let suite = format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" \
         time=\"{}\" timestamp=\"{timestamp}\">\n    <properties>\n      \
         <property name=\"url\" value=\"{}\"/>\n      \
         <property name=\"status\" value=\"{}\"/>\n    </properties>\n{cases}  </testsuite>\n",
        escaped(&report.name),
        counts.tests,
        counts.failures,
        counts.errors,
        counts.skipped,
        seconds(report.duration_ms),
        escaped(&report.url),
        report.status,
    );
    (suite, counts)
}

fn verdict(run: &CheckRun, report: &ServerReport, check: &Observation) -> Verdict {
    if !run.counts(report) && !report.was_left_out() {
        return Verdict::Skipped(format!("in maintenance: {}", check.message));
    }
    if check.code.is_some_and(Code::is_left_out) {
        return Verdict::Skipped(check.message.clone());
    }
    if let Some(accepted) = &check.accepted {
        let until = accepted.until.map(|day| format!(" until {day}")).unwrap_or_default();
        return Verdict::Skipped(format!(
            "accepted{until}: {}: {}",
            accepted.reason, check.message
        ));
    }
    match check.status {
        Status::Healthy => Verdict::Passed,
        Status::Warning if !run.warning_fails => Verdict::Passed,
        Status::Warning | Status::Critical => Verdict::Failure,
        Status::Unknown => Verdict::Error,
    }
}

fn element(verdict: &Verdict, check: &Observation, counts: &mut Counts) -> String {
    let code = check.code.map_or("", Code::as_str);
    let tag = match verdict {
        Verdict::Passed => {
            let told = told(check);
            return if told.is_empty() {
                String::new()
            } else {
                format!("      <system-out>{}</system-out>\n", escaped(&told))
            };
        }
        Verdict::Skipped(why) => {
            counts.skipped += 1;
            return format!(
                "      <skipped type=\"{}\" message=\"{}\"/>\n",
                escaped(code),
                escaped(why)
            );
        }
        Verdict::Failure => {
            counts.failures += 1;
            "failure"
        }
        Verdict::Error => {
            counts.errors += 1;
            "error"
        }
    };
    format!(
        "      <{tag} type=\"{}\" message=\"{}\">{}</{tag}>\n",
        escaped(code),
        escaped(&check.message),
        escaped(&told(check)),
    )
}

/// What else is known, a line each. The server's own words stay out: build servers store these
/// files.
fn told(check: &Observation) -> String {
    let mut lines = Vec::new();
    if check.status != Status::Healthy {
        if let Some(code) = check.code {
            lines.push(format!("{code}: {}", check.message));
        }
        if let Some(party) = check.party {
            lines.push(format!("party: {party}"));
        }
        if let Some(hint) = &check.hint {
            lines.push(format!("next: {hint}"));
        }
    }
    if check.attempts > 1 {
        lines.push(format!("attempts: {}", check.attempts));
    }
    if check.status != Status::Healthy
        && let Some(id) = check.http.as_ref().and_then(|http| http.request_id.as_ref())
    {
        lines.push(format!("request id: {id}"));
    }
    for finding in &check.findings {
        lines.push(format!("{}: {}", finding.id, finding.message));
    }
    lines.join("\n")
}

fn seconds(ms: f64) -> String {
    format!("{:.3}", ms.max(0.0) / 1000.0)
}

/// Fit for an attribute and for text; what XML 1.0 cannot hold at all becomes visible or goes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&apos;"),
            // As a reference it survives in an attribute.
            '\n' => safe.push_str("&#10;"),
            '\t' => safe.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_an_attribute_and_illegal_characters_go() {
        assert_eq!(escaped("<a b='\"&\">"), "&lt;a b=&apos;&quot;&amp;&quot;&gt;");
        assert_eq!(escaped("a\u{0}\u{b}\u{1b}\u{ffff}b"), "a␀␋␛\u{fffd}b");
        assert_eq!(escaped("a\nb"), "a&#10;b");
    }
}
