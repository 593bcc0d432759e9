//! Truth in health: what a 200 answer of a health endpoint really says.
//!
//! Known are Spring Boot's actuator, ASP.NET, the RFC draft for health answers, flags as Medplum
//! has them, plain words, and an OperationOutcome.

use serde_json::{Map, Value};

use super::body::BodyKind;
use super::outcome::OperationOutcome;

/// What a health answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthVerdict {
    Up,
    /// It works, but something in it does not; with our words for what.
    Degraded(String),
    Down(String),
    /// It says nothing that is known; the status code stands alone.
    Unrecognised,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Up,
    Degraded,
    Down,
}

/// The words of health endpoints, in lower case with `_` for any separator.
const WORDS: [(&str, Level); 50] = [
    ("up", Level::Up),
    ("ok", Level::Up),
    ("okay", Level::Up),
    ("true", Level::Up),
    ("pass", Level::Up),
    ("passed", Level::Up),
    ("healthy", Level::Up),
    ("health_ok", Level::Up),
    ("operational", Level::Up),
    ("online", Level::Up),
    ("alive", Level::Up),
    ("live", Level::Up),
    ("ready", Level::Up),
    ("running", Level::Up),
    ("active", Level::Up),
    ("available", Level::Up),
    ("started", Level::Up),
    ("success", Level::Up),
    ("good", Level::Up),
    ("green", Level::Up),
    ("serving", Level::Up),
    ("warn", Level::Degraded),
    ("warning", Level::Degraded),
    ("degraded", Level::Degraded),
    ("partial", Level::Degraded),
    ("partially_operational", Level::Degraded),
    ("yellow", Level::Degraded),
    ("unknown", Level::Degraded),
    ("starting", Level::Degraded),
    ("down", Level::Down),
    ("fail", Level::Down),
    ("failed", Level::Down),
    ("failure", Level::Down),
    ("error", Level::Down),
    ("false", Level::Down),
    ("unhealthy", Level::Down),
    ("critical", Level::Down),
    ("fatal", Level::Down),
    ("not_ok", Level::Down),
    ("not_ready", Level::Down),
    ("not_operational", Level::Down),
    ("not_serving", Level::Down),
    ("out_of_service", Level::Down),
    ("unavailable", Level::Down),
    ("offline", Level::Down),
    ("stopped", Level::Down),
    ("inactive", Level::Down),
    ("dead", Level::Down),
    ("maintenance", Level::Down),
    ("red", Level::Down),
];

/// Members that speak for the whole, in lower case without separators.
const OVERALL: [&str; 12] = [
    "status",
    "overallstatus",
    "state",
    "health",
    "healthstatus",
    "result",
    "ok",
    "healthy",
    "ready",
    "alive",
    "up",
    "operational",
];

/// Members that hold the parts.
const PARTS: [&str; 10] = [
    "components",
    "details",
    "checks",
    "entries",
    "services",
    "dependencies",
    "results",
    "indicators",
    "subsystems",
    "groups",
];

/// Members that are a part each, with a flag or a word as value.
const KNOWN_PARTS: [&str; 19] = [
    "postgres",
    "postgresql",
    "redis",
    "db",
    "database",
    "mongo",
    "mongodb",
    "mysql",
    "sqlserver",
    "cosmosdb",
    "kafka",
    "rabbitmq",
    "elasticsearch",
    "opensearch",
    "cache",
    "queue",
    "storage",
    "diskspace",
    "search",
];

/// Parts within parts are followed so far.
const MOST_DEEP: usize = 6;
/// Most parts that a message names.
const NAMES: usize = 5;

/// Says what the body of a 200 answer means. With `expect`, every member of it has to be in the
/// body; those members then count as right, whatever their words.
#[must_use]
pub fn judge(kind: BodyKind, body: &[u8], expect: Option<&Value>) -> HealthVerdict {
    if kind == BodyKind::Empty && expect.is_none() {
        return HealthVerdict::Unrecognised;
    }
    if let Some(outcome) = OperationOutcome::parse(kind, body)
        && expect.is_none()
    {
        return if outcome.has_error() {
            HealthVerdict::Down("the OperationOutcome has an error".to_owned())
        } else {
            HealthVerdict::Up
        };
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let value: Option<Value> = match kind {
        BodyKind::Html | BodyKind::Xml | BodyKind::Empty => None,
        // A bare word in quotes is JSON too.
        BodyKind::Json | BodyKind::Other => serde_json::from_slice(body).ok(),
    };
    let found = match &value {
        Some(Value::Object(members)) => whole(members, expect.and_then(Value::as_object)),
        Some(Value::String(word)) => from_level(level(word), "it"),
        Some(Value::Bool(flag)) => from_level(level(if *flag { "true" } else { "false" }), "it"),
        _ if kind == BodyKind::Other => plain(body),
        _ => HealthVerdict::Unrecognised,
    };
    let Some(expect) = expect else { return found };
    match value.as_ref().map(|actual| json_subset(expect, actual)) {
        Some(Ok(())) if found == HealthVerdict::Unrecognised => HealthVerdict::Up,
        Some(Ok(())) => found,
        _ if matches!(found, HealthVerdict::Down(_) | HealthVerdict::Degraded(_)) => found,
        Some(Err(path)) => HealthVerdict::Down(format!("{path} is not as expected")),
        None => HealthVerdict::Down("the body is not the JSON that is expected".to_owned()),
    }
}

/// Whether every member of `expected` is in `actual` with the same value; arrays need each expected
/// item somewhere.
///
/// # Errors
/// The path of the first member that differs, in names of `expected` only.
pub fn json_subset(expected: &Value, actual: &Value) -> Result<(), String> {
    subset(expected, actual, "the body")
}

fn subset(expected: &Value, actual: &Value, path: &str) -> Result<(), String> {
    let below = |name: &str| {
        if path == "the body" { name.to_owned() } else { format!("{path}.{name}") }
    };
    let equal = match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (name, wanted) in expected {
                match actual.get(name) {
                    Some(found) => subset(wanted, found, &below(name))?,
                    None => return Err(below(name)),
                }
            }
            true
        }
        (Value::Array(expected), Value::Array(actual)) => expected
            .iter()
            .all(|wanted| actual.iter().any(|found| subset(wanted, found, path).is_ok())),
        (Value::Number(expected), Value::Number(actual)) => {
            expected == actual || expected.as_f64() == actual.as_f64()
        }
        (expected, actual) => expected == actual,
    };
    if equal { Ok(()) } else { Err(path.to_owned()) }
}

/// An object that speaks for the whole service.
fn whole(members: &Map<String, Value>, expected: Option<&Map<String, Value>>) -> HealthVerdict {
    let mut overall: Option<(Level, String)> = None;
    let mut parts: Vec<(String, Level)> = Vec::new();
    let mut ready_parts = false;
    for (name, value) in members {
        if expected.is_some_and(|expected| expected.contains_key(name)) {
            overall = overall.or(Some((Level::Up, name.clone())));
            continue;
        }
        let plain = plain_name(name);
        if OVERALL.contains(&plain.as_str()) {
            if let Some(level) = level_of(value)
                && overall.as_ref().is_none_or(|(worst, _)| level > *worst)
            {
                overall = Some((level, word_of(value)));
            }
        } else if PARTS.contains(&plain.as_str()) {
            collect(value, &mut parts, 0);
        } else if KNOWN_PARTS.contains(&plain.as_str())
            && let Some(level) = part_level(value, &mut parts, 0)
        {
            ready_parts = true;
            parts.push((name.clone(), level));
        }
    }
    let bad: Vec<&str> = parts
        .iter()
        .filter(|(_, level)| *level > Level::Up)
        .map(|(name, _)| name.as_str())
        .collect();
    let parts_level = parts.iter().map(|(_, level)| *level).max();
    match overall {
        Some((Level::Down, word)) => HealthVerdict::Down(said(&word, &bad)),
        Some((Level::Degraded, word)) => HealthVerdict::Degraded(said(&word, &bad)),
        // The whole claims to be up and a part of it is not.
        Some((Level::Up, _)) | None if !bad.is_empty() => {
            HealthVerdict::Degraded(format!("not in order: {}", names(&bad)))
        }
        Some((Level::Up, _)) => HealthVerdict::Up,
        None if parts_level.is_some() && (ready_parts || !parts.is_empty()) => HealthVerdict::Up,
        None => HealthVerdict::Unrecognised,
    }
}

/// Parts as an object by name, or as an array of objects with a name.
fn collect(value: &Value, parts: &mut Vec<(String, Level)>, depth: usize) {
    if depth >= MOST_DEEP || parts.len() > 1_000 {
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, part) in members {
                if let Some(level) = part_level(part, parts, depth) {
                    parts.push((name.clone(), level));
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let name = ["name", "component", "id", "componentId", "key"]
                    .iter()
                    .find_map(|key| item.get(key)?.as_str())
                    .unwrap_or("a part");
                if let Some(level) = part_level(item, parts, depth) {
                    parts.push((name.to_owned(), level));
                }
            }
        }
        _ => {}
    }
}

/// The level of one part; parts inside it are collected too.
fn part_level(part: &Value, parts: &mut Vec<(String, Level)>, depth: usize) -> Option<Level> {
    match part {
        Value::Bool(_) | Value::String(_) => level_of(part),
        Value::Object(members) => {
            for (name, value) in members {
                if PARTS.contains(&plain_name(name).as_str()) {
                    collect(value, parts, depth + 1);
                }
            }
            members
                .iter()
                .filter(|(name, _)| OVERALL.contains(&plain_name(name).as_str()))
                .filter_map(|(_, value)| level_of(value))
                .max()
        }
        // The RFC draft gives each check a list of measurements.
        Value::Array(items) => {
            items.iter().filter_map(|item| part_level(item, parts, depth + 1)).max()
        }
        _ => None,
    }
}

fn level_of(value: &Value) -> Option<Level> {
    match value {
        Value::String(word) => level(word),
        Value::Bool(true) => Some(Level::Up),
        Value::Bool(false) => Some(Level::Down),
        // Spring can nest: {"status": {"code": "UP"}}.
        Value::Object(members) => {
            ["code", "status", "value"].iter().find_map(|key| level(members.get(*key)?.as_str()?))
        }
        _ => None,
    }
}

/// The word itself when it is one of the table, so that nothing else of the body is repeated.
fn word_of(value: &Value) -> String {
    match value {
        Value::String(word) if level(word).is_some() => word.trim().to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Object(_) | Value::String(_) | Value::Null | Value::Number(_) | Value::Array(_) => {
            "not up".to_owned()
        }
    }
}

fn level(word: &str) -> Option<Level> {
    let word = word.trim();
    if word.len() > 40 {
        return None;
    }
    let plain: String = word
        .chars()
        .map(|c| if matches!(c, ' ' | '-') { '_' } else { c.to_ascii_lowercase() })
        .collect();
    let plain = plain.trim_end_matches(['.', '!']);
    WORDS.iter().find(|(known, _)| *known == plain).map(|(_, level)| *level)
}

/// A text: one word, or `status: word`.
fn plain(body: &[u8]) -> HealthVerdict {
    let Some(text) =
        body.get(..body.len().min(200)).and_then(|head| std::str::from_utf8(head).ok())
    else {
        return HealthVerdict::Unrecognised;
    };
    let line = text.trim().lines().next().unwrap_or_default();
    let word = line.split_once([':', '=']).map_or(line, |(_, word)| word);
    from_level(level(line).or_else(|| level(word)), "it")
}

fn from_level(level: Option<Level>, who: &str) -> HealthVerdict {
    match level {
        Some(Level::Up) => HealthVerdict::Up,
        Some(Level::Degraded) => HealthVerdict::Degraded(format!("{who} says that it is degraded")),
        Some(Level::Down) => HealthVerdict::Down(format!("{who} says that it is down")),
        None => HealthVerdict::Unrecognised,
    }
}

fn said(word: &str, bad: &[&str]) -> String {
    if bad.is_empty() {
        format!("it says {word}")
    } else {
        format!("it says {word}; not in order: {}", names(bad))
    }
}

/// Names of parts, in few and short words. What does not look like a name is not repeated.
fn names(bad: &[&str]) -> String {
    let is_name = |name: &&&str| {
        !name.is_empty()
            && name.len() <= 40
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.: ".contains(c))
    };
    let mut list: Vec<&str> = bad.iter().filter(is_name).take(NAMES).copied().collect();
    list.dedup();
    let rest = bad.len() - list.len();
    match (list.is_empty(), rest) {
        (true, rest) => format!("{rest} of its parts"),
        (false, 0) => list.join(", "),
        (false, rest) => format!("{}, and {rest} more", list.join(", ")),
    }
}

fn plain_name(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::body::sniff;
    use super::*;

    fn says(body: &str) -> HealthVerdict {
        judge(sniff(None, body.as_bytes()), body.as_bytes(), None)
    }

    fn down(why: &str) -> HealthVerdict {
        HealthVerdict::Down(why.to_owned())
    }

    fn degraded(why: &str) -> HealthVerdict {
        HealthVerdict::Degraded(why.to_owned())
    }

    #[test]
    fn the_body_says_more_than_the_status_code() {
        let cases = [
            (r#"{"status":"UP"}"#, HealthVerdict::Up),
            (r#"{"status":"DOWN"}"#, down("it says DOWN")),
            (r#"{"status":"OUT_OF_SERVICE"}"#, down("it says OUT_OF_SERVICE")),
            (r#"{"status":"UNKNOWN"}"#, degraded("it says UNKNOWN")),
            (
                r#"{"status":"DOWN","components":{"db":{"status":"DOWN"},"disk":{"status":"UP"}}}"#,
                down("it says DOWN; not in order: db"),
            ),
            (
                r#"{"status":"UP","components":{"db":{"status":"DOWN"}}}"#,
                degraded("not in order: db"),
            ),
            (r#"{"overallStatus":"Healthy","details":[]}"#, HealthVerdict::Up),
            (
                r#"{"overallStatus":"Degraded","details":[{"name":"DataStore","status":"Degraded"}]}"#,
                degraded("it says Degraded; not in order: DataStore"),
            ),
            (r#"{"overallStatus":"Unhealthy"}"#, down("it says Unhealthy")),
            ("Healthy", HealthVerdict::Up),
            ("\"Unhealthy\"", down("it says that it is down")),
            (
                r#"{"status":"pass","checks":{"db:responseTime":[{"status":"pass"}]}}"#,
                HealthVerdict::Up,
            ),
            (
                r#"{"status":"warn","checks":{"memory":[{"status":"warn"}]}}"#,
                degraded("it says warn; not in order: memory"),
            ),
            (r#"{"status":"fail"}"#, down("it says fail")),
            (r#"{"status":"NOT_OPERATIONAL"}"#, down("it says NOT_OPERATIONAL")),
            (r#"{"status":"OPERATIONAL"}"#, HealthVerdict::Up),
            (r#"{"ok":true,"version":"4","postgres":true,"redis":true}"#, HealthVerdict::Up),
            (
                r#"{"ok":true,"version":"4","postgres":false,"redis":true}"#,
                degraded("not in order: postgres"),
            ),
            (r#"{"ok":false}"#, down("it says false")),
            ("OK\n", HealthVerdict::Up),
            ("DOWN", down("it says that it is down")),
            ("status: not operational", down("it says that it is down")),
            ("hello there", HealthVerdict::Unrecognised),
            (r#"{"version":"1"}"#, HealthVerdict::Unrecognised),
            ("<html>fine</html>", HealthVerdict::Unrecognised),
            ("", HealthVerdict::Unrecognised),
            (r#"{"resourceType":"OperationOutcome","issue":[]}"#, HealthVerdict::Up),
            (
                r#"{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"exception"}]}"#,
                down("the OperationOutcome has an error"),
            ),
            (
                r#"{"status":"DOWN","components":{"<b>x</b>":{"status":"DOWN"}}}"#,
                down("it says DOWN; not in order: 1 of its parts"),
            ),
        ];
        for (body, verdict) in cases {
            assert_eq!(says(body), verdict, "{body}");
        }
    }

    #[test]
    fn what_the_inventory_expects_has_to_be_there_and_then_counts_as_right() {
        let expect = serde_json::json!({"status": "DEGRADED"});
        let ask = |body: &str| judge(BodyKind::Json, body.as_bytes(), Some(&expect));
        assert_eq!(ask(r#"{"status":"DEGRADED"}"#), HealthVerdict::Up);
        assert_eq!(ask(r#"{"status":"UP"}"#), down("status is not as expected"));
        assert_eq!(ask("{}"), down("status is not as expected"));
        assert_eq!(ask("oops"), down("the body is not the JSON that is expected"));
        let expect = serde_json::json!({"status": "UP"});
        assert_eq!(
            judge(BodyKind::Json, br#"{"status":"UP","redis":false}"#, Some(&expect)),
            degraded("not in order: redis")
        );
    }

    #[test]
    fn a_subset_names_the_path_that_differs() {
        let actual = serde_json::json!({"a": {"b": [1, 2], "c": "x"}, "n": 1.0});
        let yes = serde_json::json!({"a": {"b": [2]}, "n": 1});
        let no = serde_json::json!({"a": {"c": "y"}});
        assert_eq!(json_subset(&yes, &actual), Ok(()));
        assert_eq!(json_subset(&no, &actual), Err("a.c".to_owned()));
        assert_eq!(json_subset(&serde_json::json!(1), &actual), Err("the body".to_owned()));
    }
}
