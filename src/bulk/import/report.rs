//! What came of an import.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ledger::Tally;

/// What came of the resources of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfType {
    pub r#type: String,
    pub read: u64,
    /// `None`: the server does not say.
    pub accepted: Option<u64>,
    /// Of the accepted: those that were not there before, as the server says.
    pub created: u64,
    pub deleted: u64,
    pub rejected: u64,
    /// How many times a resource was sent again.
    pub retried: u64,
    /// On the server; `None`: it gives no total.
    pub before: Option<u64>,
    pub after: Option<u64>,
}

impl OfType {
    /// What went in: as the server says it, else what its count grew by.
    #[must_use]
    pub fn gone_in(&self) -> u64 {
        self.accepted.unwrap_or(self.created)
    }
}

/// A whole import; kept in its ledger when it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub types: Vec<OfType>,
    /// Lines without a type that could not be sent.
    pub unreadable: u64,
    pub notes: Vec<Note>,
}

/// Something that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub code: String,
    /// `note`, `warning` or `error`.
    pub severity: String,
    /// Our words.
    pub message: String,
}

impl Note {
    #[must_use]
    pub fn new(severity: &str, code: &str, message: impl Into<String>) -> Note {
        Note { code: code.to_owned(), severity: severity.to_owned(), message: message.into() }
    }
}

impl Summary {
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.types.iter().map(|it| it.rejected).sum::<u64>() + self.unreadable
    }

    /// `None` where the server does not say it of every type.
    #[must_use]
    pub fn accepted(&self) -> Option<u64> {
        self.types.iter().map(|it| it.accepted).sum()
    }

    /// What went in: as the server says it, else what its counts grew by.
    #[must_use]
    pub fn gone_in(&self) -> u64 {
        self.types.iter().map(OfType::gone_in).sum()
    }

    #[must_use]
    pub fn deleted(&self) -> u64 {
        self.types.iter().map(|it| it.deleted).sum()
    }
}

/// What was counted on the server, by type; `None` where it gives no total.
pub type Counts = BTreeMap<String, Option<u64>>;

/// Puts together what was read, what became of it, and what the server counts.
#[must_use]
pub fn summary(
    read: &BTreeMap<String, u64>,
    tallies: &BTreeMap<String, Tally>,
    unfit: &BTreeMap<String, u64>,
    before: &Counts,
    after: &Counts,
) -> Summary {
    let mut names: Vec<&String> = read.keys().chain(tallies.keys()).collect();
    names.sort_by_key(|name| (super::order::layer(name), *name));
    names.dedup();
    let mut summary =
        Summary { unreadable: unfit.get("").copied().unwrap_or(0), ..Summary::default() };
    for name in names {
        let tally = tallies.get(name).copied().unwrap_or_default();
        let of_type = OfType {
            r#type: name.clone(),
            read: read.get(name).copied().unwrap_or(0),
            accepted: Some(tally.accepted),
            created: tally.created,
            deleted: tally.deleted,
            rejected: tally.rejected + unfit.get(name).copied().unwrap_or(0),
            retried: tally.retried,
            before: before.get(name).copied().flatten(),
            after: after.get(name).copied().flatten(),
        };
        summary.notes.extend(held_against(&of_type));
        summary.types.push(of_type);
    }
    summary
}

/// Holds the server's counts against what it accepted.
///
/// What was accepted twice, or was there before, does not raise the count; so between what it says
/// to have created and what it accepted everything is right.
fn held_against(it: &OfType) -> Option<Note> {
    let (Some(before), Some(after)) = (it.before, it.after) else {
        let message = format!("{}: the server gives no total to compare with", it.r#type);
        return Some(Note::new("note", "bulk.count_unknown", message));
    };
    let least = before.saturating_add(it.created).saturating_sub(it.deleted);
    let most = before.saturating_add(it.gone_in());
    if (least..=most).contains(&after) {
        return None;
    }
    let message = format!(
        "{}: {before} before and {after} after, though {} were accepted and {} deleted; somebody else writes, or the server is still indexing",
        it.r#type,
        it.gone_in(),
        it.deleted
    );
    Some(Note::new("warning", "bulk.count_mismatch", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_held_against_what_was_accepted() {
        for (before, after, is_odd) in
            [(0, 10, false), (0, 4, false), (0, 3, true), (5, 16, true), (7, 17, false)]
        {
            let of_type = OfType {
                accepted: Some(10),
                created: 4,
                before: Some(before),
                after: Some(after),
                ..OfType::default()
            };
            assert_eq!(held_against(&of_type).is_some(), is_odd, "{before} {after}");
        }
        let unknown = held_against(&OfType::default()).unwrap();
        assert_eq!(
            (unknown.severity.as_str(), unknown.code.as_str()),
            ("note", "bulk.count_unknown")
        );
    }

    #[test]
    fn types_stand_in_the_order_in_which_they_were_sent() {
        let read =
            [("Observation", 2), ("Patient", 3)].map(|(name, count)| (name.to_owned(), count));
        let unfit = [("Patient".to_owned(), 1), (String::new(), 2)];
        let summary =
            summary(&read.into(), &BTreeMap::new(), &unfit.into(), &Counts::new(), &Counts::new());
        assert_eq!(summary.types[0].r#type, "Patient");
        assert_eq!((summary.types[0].rejected, summary.rejected()), (1, 3));
    }
}
