//! A place with placeholders, such as `exports/{date}`.

use std::path::{Path, PathBuf};

use jiff::Zoned;

/// What may stand in braces.
pub const PLACEHOLDERS: [&str; 4] = ["date", "time", "job", "server"];

/// A path or address in which placeholders are filled in at each run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// Against which a relative path is read.
    folder: PathBuf,
}

/// What goes into the placeholders.
#[derive(Clone, Debug)]
pub struct Filling<'a> {
    /// When the run began, in the job's zone.
    pub begun: &'a Zoned,
    pub job: &'a str,
    pub server: &'a str,
}

impl Template {
    /// Reads a path or address; a relative path is one below the folder.
    ///
    /// # Errors
    /// Which placeholder is not known, and which are.
    pub fn parse(text: &str, folder: &Path) -> Result<Template, String> {
        each(text, &mut |part| match part {
            Part::Text(_) => Ok(()),
            Part::Name(name) if PLACEHOLDERS.contains(&name) => Ok(()),
            Part::Name(name) => Err(format!("{{{name}}} is not known here; known: {}", known())),
            Part::Stray => Err(format!("a brace stands alone; known: {}", known())),
        })?;
        Ok(Template { text: text.to_owned(), folder: folder.to_owned() })
    }

    /// As the inventory writes it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.text.contains(&format!("{{{name}}}"))
    }

    /// Whether each run, or each day's, means another place.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        self.has("date") || self.has("time")
    }

    /// The place that is meant: an absolute path, or an address such as `s3://…` as it stands.
    #[must_use]
    pub fn fill(&self, filling: &Filling<'_>) -> String {
        let mut text = String::new();
        let filled = each(&self.text, &mut |part| {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Name("date") => {
                    text.push_str(&filling.begun.strftime("%Y-%m-%d").to_string());
                }
                Part::Name("time") => text.push_str(&filling.begun.strftime("%H%M%S").to_string()),
                Part::Name("job") => text.push_str(filling.job),
                Part::Name("server") => text.push_str(filling.server),
                Part::Name(_) | Part::Stray => return Err(String::new()),
            }
            Ok(())
        });
        // It was read once already.
        debug_assert!(filled.is_ok());
        if text.contains("://") {
            return text;
        }
        self.folder.join(text).display().to_string()
    }
}

fn known() -> String {
    PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ")
}

enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
    /// A brace without its other half.
    Stray,
}

fn each(text: &str, take: &mut dyn FnMut(Part<'_>) -> Result<(), String>) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        take(Part::Text(&rest[..at]))?;
        let behind = &rest[at + 1..];
        match behind.find(['{', '}']) {
            Some(end) if rest[at..].starts_with('{') && behind[end..].starts_with('}') => {
                take(Part::Name(&behind[..end]))?;
                rest = &behind[end + 1..];
            }
            _ => {
                take(Part::Stray)?;
                rest = behind;
            }
        }
    }
    take(Part::Text(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in() {
        let begun: Zoned = "2026-11-03T04:05:06+00:00[UTC]".parse().unwrap();
        let filling = Filling { begun: &begun, job: "nightly", server: "a" };
        for (text, place) in [
            ("exports/{date}", "/etc/fhir/exports/2026-11-03"),
            ("/srv/{server}/{job}-{date}T{time}", "/srv/a/nightly-2026-11-03T040506"),
            ("s3://bucket/{date}", "s3://bucket/2026-11-03"),
            ("out", "/etc/fhir/out"),
        ] {
            let template = Template::parse(text, Path::new("/etc/fhir")).unwrap();
            assert_eq!(template.fill(&filling), place, "{text}");
            assert_eq!(template.is_dated(), text.contains("{date}"), "{text}");
        }
    }

    #[test]
    fn what_is_no_placeholder_is_told_with_those_that_are() {
        for (text, told) in [
            ("exports/{day}", "{day}"),
            ("{}", "{}"),
            ("{DATE}", "{DATE}"),
            ("a{date", "alone"),
            ("a}", "alone"),
            ("{{date}}", "alone"),
        ] {
            let error = Template::parse(text, Path::new("/")).unwrap_err();
            assert!(
                error.contains(told) && error.contains("{date}, {time}, {job}, {server}"),
                "{text}: {error}"
            );
        }
    }
}
