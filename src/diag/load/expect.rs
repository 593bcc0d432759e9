//! Thresholds as people write them: `p95<500ms`, `errors<1%`, `rate>100`.

use std::fmt;
use std::str::FromStr;

use crate::http::load::Latency;

/// What a measured value has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    metric: Metric,
    /// Whether the value has to be above the limit; else below.
    above: bool,
    /// Whether the limit itself is good.
    or_equal: bool,
    /// Milliseconds, percent, or requests a second.
    limit: f64,
    /// As it was written, without blanks.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Percentile(f64),
    Mean,
    Min,
    Max,
    /// In percent of the requests.
    Errors,
    /// In requests.
    ErrorCount,
    Rate,
}

/// What expectations are held against.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub latency: &'a Latency,
    pub requests: u64,
    pub failures: u64,
    /// Good answers a second.
    pub rate: f64,
}

impl Expectation {
    /// The measured value with its unit, and whether it is as expected. What could not be measured is
    /// not.
    #[must_use]
    pub fn judge(&self, seen: &Seen<'_>) -> (String, bool) {
        let value = match self.metric {
            Metric::Percentile(percent) => seen.latency.percentile(percent),
            Metric::Mean => seen.latency.mean(),
            Metric::Min => seen.latency.min(),
            Metric::Max => seen.latency.max(),
            Metric::Errors if seen.requests == 0 => None,
            Metric::Errors => Some(seen.failures as f64 * 100.0 / seen.requests as f64),
            Metric::ErrorCount => Some(seen.failures as f64),
            Metric::Rate => Some(seen.rate),
        };
        let Some(value) = value else { return ("nothing was measured".to_owned(), false) };
        let met = match self.above {
            true => value > self.limit,
            false => value < self.limit,
        } || self.or_equal && value == self.limit;
        let shown = match self.metric {
            Metric::Errors => format!("{value:.2} %"),
            Metric::ErrorCount => format!("{value:.0}"),
            Metric::Rate => format!("{value:.1}/s"),
            _ => format!("{value:.1} ms"),
        };
        (shown, met)
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Expectation, String> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let form = || "write it as p95<500ms, mean<=200ms, errors<1% or rate>100".to_owned();
        let at = text.find(['<', '>']).ok_or_else(form)?;
        let (name, rest) = text.split_at(at);
        let above = rest.starts_with('>');
        let rest = &rest[1..];
        let (or_equal, value) = match rest.strip_prefix('=') {
            Some(value) => (true, value),
            None => (false, rest),
        };
        let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
        let (number, unit) = value.split_at(digits);
        let number: f64 = number.parse().map_err(|_| form())?;
        let (metric, factor) = match name {
            "errors" => match unit {
                "%" => (Metric::Errors, 1.0),
                "" => (Metric::ErrorCount, 1.0),
                _ => return Err("errors are a number, or a share such as 1%".to_owned()),
            },
            "rate" => match unit {
                "" | "/s" => (Metric::Rate, 1.0),
                _ => return Err("a rate is requests a second, such as rate>100".to_owned()),
            },
            _ => (time_metric(name)?, millis(unit)?),
        };
        Ok(Expectation { metric, above, or_equal, limit: number * factor, text })
    }
}

fn time_metric(name: &str) -> Result<Metric, String> {
    let percentile = |digits: &str| {
        let percent: f64 = digits.parse().ok()?;
        let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        (plain && percent > 0.0 && percent <= 100.0).then_some(Metric::Percentile(percent))
    };
    match name {
        "mean" => Ok(Metric::Mean),
        "min" => Ok(Metric::Min),
        "max" => Ok(Metric::Max),
        _ => name.strip_prefix('p').and_then(percentile).ok_or_else(|| {
            "known are p50 to p99.9 (any percentile), mean, min, max, errors and rate".to_owned()
        }),
    }
}

/// How many milliseconds one of a unit is.
fn millis(unit: &str) -> Result<f64, String> {
    match unit {
        "us" | "µs" => Ok(0.001),
        "ms" => Ok(1.0),
        "s" => Ok(1000.0),
        "" => Err("a time needs its unit, such as p95<500ms".to_owned()),
        _ => Err("the units of a time are us, ms and s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn expectations_are_read_as_they_are_written() {
        for (text, limit) in [
            ("p95<500ms", Some(500.0)),
            ("p99.9 <= 1.5s", Some(1500.0)),
            ("p50<250us", Some(0.25)),
            ("mean<1s", Some(1000.0)),
            ("max<30s", Some(30_000.0)),
            ("errors<1%", Some(1.0)),
            ("errors<=0", Some(0.0)),
            ("rate>100", Some(100.0)),
            ("rate>=99.5/s", Some(99.5)),
            ("p95<500", None),
            ("p0<1ms", None),
            ("p101<1ms", None),
            ("p<1ms", None),
            ("p-1<1ms", None),
            ("p95=500ms", None),
            ("errors<1ms", None),
            ("rate>100ms", None),
            ("speed<1ms", None),
            ("p95<", None),
            ("p95<1.2.3ms", None),
            ("", None),
        ] {
            let read = text.parse::<Expectation>();
            assert_eq!(read.as_ref().ok().map(|read| read.limit), limit, "{text}: {read:?}");
        }
    }

    #[test]
    fn a_value_is_held_against_its_limit() {
        let mut latency = Latency::default();
        for millis in 1..=100 {
            latency.record(Duration::from_millis(millis));
        }
        let seen = Seen { latency: &latency, requests: 200, failures: 2, rate: 50.0 };
        for (text, met) in [
            ("p95<96ms", true),
            ("p95<90ms", false),
            ("max<101ms", true),
            ("min>2ms", false),
            ("errors<1%", false),
            ("errors<=1%", true),
            ("errors<3", true),
            ("rate>49", true),
            ("rate>50", false),
        ] {
            assert_eq!(text.parse::<Expectation>().unwrap().judge(&seen).1, met, "{text}");
        }
        let empty = Latency::default();
        let nothing = Seen { latency: &empty, requests: 0, failures: 0, rate: 0.0 };
        for text in ["p95<1s", "errors<1%", "rate>1"] {
            assert!(!text.parse::<Expectation>().unwrap().judge(&nothing).1, "{text}");
        }
    }
}
