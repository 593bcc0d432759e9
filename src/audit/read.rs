//! The records that are asked for.

use std::collections::VecDeque;

use glob::Pattern;
use jiff::Timestamp;

use super::lines::Lines;
use super::log::Log;
use super::record::{Kind, Outcome, Record};
use crate::model::Result;

/// Which records are wanted; what is empty lets all through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Names or globs of servers.
    pub servers: Vec<Pattern>,
    /// Commands by their words; the first of them is enough: `auth` means `auth rotate` too.
    pub commands: Vec<String>,
    pub users: Vec<String>,
    pub kinds: Vec<Kind>,
    pub outcomes: Vec<Outcome>,
    pub from: Option<Timestamp>,
    /// The first instant that is not wanted any more.
    pub to: Option<Timestamp>,
    /// At most this many, the last ones.
    pub last: usize,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// In the order of the log.
    pub records: Vec<Record>,
    /// How many records match, those beyond [`Filter::last`] too.
    pub matched: u64,
    /// How many lines are no record that can be shown.
    pub unreadable: u64,
}

impl Filter {
    fn wants(&self, record: &Record) -> bool {
        let server = || record.server.as_deref().unwrap_or_default();
        let is_of = |words: &String| {
            record
                .command
                .strip_prefix(words.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        (self.servers.is_empty()
            || record.server.is_some() && self.servers.iter().any(|it| it.matches(server())))
            && (self.commands.is_empty() || self.commands.iter().any(is_of))
            && (self.users.is_empty() || self.users.contains(&record.user))
            && (self.kinds.is_empty() || self.kinds.contains(&record.kind))
            && (self.outcomes.is_empty() || self.outcomes.contains(&record.outcome))
            && self.from.is_none_or(|from| record.time >= from)
            && self.to.is_none_or(|to| record.time < to)
    }
}

impl Log {
    /// Reads the records that a filter lets through. Their chain is not looked at.
    ///
    /// # Errors
    /// Exit 74 when the log cannot be read; a log that is not there is empty.
    pub fn read(&self, filter: &Filter) -> Result<Found> {
        let mut found = Found::default();
        let Some((file, length)) = self.open_to_read()? else { return Ok(found) };
        let mut lines = Lines::new(file, length);
        let mut last = VecDeque::new();
        while lines.advance().map_err(|error| self.broken("read", &error))? {
            match serde_json::from_slice::<Record>(&lines.line) {
                Ok(record) if filter.wants(&record) => {
                    found.matched += 1;
                    last.push_back(record);
                    if last.len() > filter.last {
                        last.pop_front();
                    }
                }
                Ok(_) => {}
                Err(_) => found.unreadable += 1,
            }
        }
        found.records = last.into();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::entry;
    use super::super::record::{Action, Entry};
    use super::*;

    #[test]
    fn every_filter_narrows_and_the_last_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::in_folder(dir.path());
        let made = |server: Option<&str>, command: &str, hour: u8, outcome| Entry {
            server: server.map(str::to_owned),
            command: command.to_owned(),
            time: format!("2026-11-01T{hour:02}:00:00Z").parse().unwrap(),
            outcome,
            ..entry("x")
        };
        log.append_all(&[
            made(Some("epic-a"), "set", 1, Outcome::Done),
            made(Some("epic-b"), "auth rotate", 2, Outcome::Failed),
            made(None, "init", 3, Outcome::Done),
            made(Some("hapi"), "authority", 4, Outcome::Refused),
            Entry {
                kind: Kind::Credential,
                action: Action::Resolved,
                ..made(Some("hapi"), "check", 5, Outcome::Done)
            },
        ])
        .unwrap();
        let all = || Filter { last: 100, ..Filter::default() };
        let globs = |text: &str| vec![Pattern::new(text).unwrap()];
        let time = |hour: u8| Some(format!("2026-11-01T{hour:02}:00:00Z").parse().unwrap());
        for (filter, expected) in [
            (all(), &[1, 2, 3, 4, 5][..]),
            (Filter { servers: globs("epic-*"), ..all() }, &[1, 2]),
            (Filter { servers: globs("*"), ..all() }, &[1, 2, 4, 5]),
            (Filter { commands: vec!["auth".into()], ..all() }, &[2]),
            (Filter { commands: vec!["set".into(), "auth rotate".into()], ..all() }, &[1, 2]),
            (Filter { users: vec!["nobody-of-this-name".into()], ..all() }, &[]),
            (Filter { kinds: vec![Kind::Credential], ..all() }, &[5]),
            (Filter { outcomes: vec![Outcome::Failed, Outcome::Refused], ..all() }, &[2, 4]),
            (Filter { from: time(2), to: time(4), ..all() }, &[2, 3]),
            (Filter { last: 2, ..all() }, &[4, 5]),
            (Filter { last: 0, ..all() }, &[]),
        ] {
            let found = log.read(&filter).unwrap();
            let told: Vec<u64> = found.records.iter().map(|record| record.sequence).collect();
            assert_eq!(told, expected, "{filter:?}");
        }
        assert_eq!(log.read(&Filter { last: 2, ..all() }).unwrap().matched, 5);
    }
}
