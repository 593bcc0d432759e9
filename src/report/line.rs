//! `--line NAME=VALUE`: a line that somebody does not want to see crossed.

use std::time::Duration;

use super::trends::{LimitSource, Line, Metric};
use crate::model::text::nearest;
use crate::probe::gauges::{COUNT, Meaning, Unit, meaning, names, parts};
use crate::stats::capacity::{Limit, Side};

/// A line as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// As it was written.
    pub text: String,
    name: String,
    /// Which one of several: a disk, a pool, a type, a check.
    of: Option<String>,
    amount: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    /// In the unit of the figure.
    Of(f64),
    /// Of the limit that the server tells, 1 being all of it.
    Share(f64),
}

/// What a figure may be written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Percent,
    Milliseconds,
    Seconds,
    Bytes,
    Number,
}

/// What checks measure.
const MEASURED: [Metric; 5] = [
    Metric::Availability,
    Metric::ErrorRate,
    Metric::ResponseP50,
    Metric::ResponseP95,
    Metric::AnswerBytes,
];

/// The unit of a gauge as a report tells it.
pub(super) fn unit_of(meaning: &Meaning) -> &'static str {
    match meaning.unit {
        _ if meaning.is_counter => "per_second",
        Unit::Bytes => "bytes",
        Unit::Count => "count",
        Unit::Number => "number",
        Unit::Seconds => "seconds",
        Unit::Share => "percent",
    }
}

impl std::str::FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Asked, String> {
        let (figure, value) = text.split_once('=').ok_or(
            "write it as NAME=VALUE, such as disk=90%, count:Patient=5M or response_p95=2s",
        )?;
        let (name, of) = parts(figure.trim());
        let kind = kind(name).ok_or_else(|| unknown(name))?;
        let value = value.trim();
        let amount = match value.strip_suffix('%') {
            Some(share) if kind != Kind::Percent => {
                if matches!(kind, Kind::Milliseconds | Kind::Seconds) || name == COUNT {
                    return Err(format!("{name} has no limit of its own to be a share of"));
                }
                Amount::Share(number(share).ok_or("before % stands a number")? / 100.0)
            }
            _ => Amount::Of(read(kind, value)?),
        };
        let (Amount::Of(number) | Amount::Share(number)) = amount;
        if number < 0.0 {
            return Err("a line lies above nothing".to_owned());
        }
        let of = of.map(|of| of.trim().to_owned());
        Ok(Asked { text: text.to_owned(), name: name.to_owned(), of, amount })
    }
}

fn kind(name: &str) -> Option<Kind> {
    if let Some(metric) = MEASURED.into_iter().find(|metric| metric.as_str() == name) {
        return Some(match metric {
            Metric::Availability | Metric::ErrorRate => Kind::Percent,
            Metric::AnswerBytes => Kind::Bytes,
            _ => Kind::Milliseconds,
        });
    }
    if name == COUNT {
        return Some(Kind::Number);
    }
    Some(match unit_of(&meaning(name)?) {
        "bytes" => Kind::Bytes,
        "seconds" => Kind::Seconds,
        "percent" => Kind::Percent,
        _ => Kind::Number,
    })
}

fn unknown(name: &str) -> String {
    let mut known: Vec<String> = MEASURED.iter().map(|metric| metric.as_str().to_owned()).collect();
    known.extend(names());
    known.push(format!("{COUNT}:TYPE"));
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("no figure is named {name:?}; did you mean {near}?"),
        None => format!("no figure is named {name:?}; known are {}", known.join(", ")),
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

fn read(kind: Kind, text: &str) -> Result<f64, String> {
    let time = |unit: Duration| {
        humantime::parse_duration(text)
            .map(|length| length.as_secs_f64() / unit.as_secs_f64())
            .map_err(|_| "write a time as 500ms, 2s or 1m".to_owned())
    };
    match kind {
        Kind::Percent => number(text.strip_suffix('%').unwrap_or(text))
            .filter(|percent| *percent <= 100.0)
            .ok_or_else(|| "write a share as 99.9%".to_owned()),
        Kind::Milliseconds => time(Duration::from_millis(1)),
        Kind::Seconds => time(Duration::from_secs(1)),
        Kind::Bytes => scaled(text).ok_or_else(|| "write a size as 500MB or 80GiB".to_owned()),
        Kind::Number => scaled(text)
            .filter(|_| !text.ends_with('B'))
            .ok_or_else(|| "write a number as 5000, 5k or 2.5M".to_owned()),
    }
}

/// A number with `k`, `M`, `G`, `T`, the same with `i` for powers of 1024, and `B`.
fn scaled(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    // 1e6 ends with digits, 1E has none.
    let number = number(digits)?;
    let unit = text.get(digits.len()..)?;
    let unit = unit.strip_suffix('B').unwrap_or(unit);
    let (prefix, base) = match unit.strip_suffix('i') {
        Some(prefix) => (prefix, 1024.0_f64),
        None => (unit, 1000.0),
    };
    let power = match prefix {
        "" if base == 1000.0 => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return None,
    };
    Some(number * base.powi(power))
}

impl Asked {
    fn is_meant(&self, line: &Line) -> bool {
        let name = line.gauge.as_deref().unwrap_or(line.metric.as_str());
        let which = line.of.as_deref().or(line.check.as_deref());
        name == self.name && self.of.as_deref().is_none_or(|of| which == Some(of))
    }

    /// The line in the unit of a figure; `None` for a share of a limit that nobody told.
    fn limit(&self, line: &Line) -> Option<Limit> {
        let value = match self.amount {
            Amount::Of(value) => value,
            Amount::Share(share) => line.limit?.value * share,
        };
        let side = match line.metric {
            Metric::Availability => Side::Below,
            _ => Side::Above,
        };
        Some(Limit { value, side })
    }
}

/// Puts the lines that are asked for in the place of those that are known, the last that is meant; and
/// what has to be said of those that changed nothing.
#[must_use]
pub fn drawn(lines: Vec<Line>, asked: &[Asked]) -> (Vec<Line>, Vec<String>) {
    let mut used = vec![false; asked.len()];
    let mut found = vec![false; asked.len()];
    let lines = lines
        .into_iter()
        .map(|line| {
            let mut limit = None;
            for (place, one) in asked.iter().enumerate().filter(|(_, one)| one.is_meant(&line)) {
                found[place] = true;
                if let Some(said) = one.limit(&line) {
                    used[place] = true;
                    limit = Some(said);
                }
            }
            match limit {
                Some(limit) => line.limited(Some(limit), LimitSource::Flag),
                None => line,
            }
        })
        .collect();
    let notes = asked.iter().zip(found.into_iter().zip(used)).filter(|(_, (_, used))| !used).map(
        |(one, (found, _))| match found {
            true => format!("--line {}: no limit is known to take a share of.", one.text),
            false => format!("--line {}: history has no such figure in this window.", one.text),
        },
    );
    (lines, notes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Asked, String> {
        text.parse()
    }

    #[test]
    fn a_line_is_read_in_the_unit_of_its_figure() {
        for (text, of, amount) in [
            ("disk=90%", None, Amount::Share(0.9)),
            ("disk:/var=80GiB", Some("/var"), Amount::Of(80.0 * 1_073_741_824.0)),
            ("heap=500MB", None, Amount::Of(5e8)),
            ("heap=1024", None, Amount::Of(1024.0)),
            ("count:Patient=2.5M", Some("Patient"), Amount::Of(2.5e6)),
            ("count=1e6", None, Amount::Of(1e6)),
            ("response_p95:metadata=2s", Some("metadata"), Amount::Of(2000.0)),
            ("availability=99.9%", None, Amount::Of(99.9)),
            ("cpu=80", None, Amount::Of(80.0)),
            ("gc_longest=500ms", None, Amount::Of(0.5)),
            ("hikari_pool_waiting=5", None, Amount::Of(5.0)),
            ("requests=200", None, Amount::Of(200.0)),
        ] {
            let found = asked(text).unwrap();
            assert_eq!((found.of.as_deref(), found.amount), (of, amount), "{text}");
        }
    }

    #[test]
    fn what_is_no_line_is_told_with_what_would_be_one() {
        for (text, says) in [
            ("disk", "NAME=VALUE"),
            ("dsik=90%", "did you mean disk?"),
            ("nonsense_of_any_kind=1", "known are availability"),
            ("disk=lots", "500MB or 80GiB"),
            ("disk=90 percent", "500MB"),
            ("disk=x%", "stands a number"),
            ("disk=-5GB", "above nothing"),
            ("count:Patient=90%", "no limit of its own"),
            ("count:Patient=5MB", "5000, 5k"),
            ("response_p95=90%", "no limit of its own"),
            ("response_p95=fast", "500ms"),
            ("availability=101%", "99.9%"),
            ("disk=infB", "500MB"),
        ] {
            let told = asked(text).unwrap_err();
            assert!(told.contains(says), "{text}: {told}");
        }
    }
}
