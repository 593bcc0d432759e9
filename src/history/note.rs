//! What people write about incidents: a note, that one is closed, its cause, the vendor's case.

use jiff::Timestamp;

use crate::model::{Error, Party, Result};

/// One note, in our users' words; no patient's data belongs into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Given by the store; 0 before it is kept.
    pub id: i64,
    /// `None` for what concerns many.
    pub server: Option<String>,
    /// When the incident began that it is about, milliseconds since the epoch.
    pub at: i64,
    pub written_at: Timestamp,
    pub author: String,
    pub kind: NoteKind,
    pub cause: Option<String>,
    pub party: Option<Party>,
    /// The vendor's number.
    pub case_number: Option<String>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    Note,
    Close,
    Cause,
}

impl NoteKind {
    pub const ALL: [NoteKind; 3] = [NoteKind::Note, NoteKind::Close, NoteKind::Cause];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NoteKind::Note => "note",
            NoteKind::Close => "close",
            NoteKind::Cause => "cause",
        }
    }

    #[must_use]
    pub fn find(text: &str) -> Option<NoteKind> {
        NoteKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The longest text of a note, in characters.
pub const LONGEST: usize = 4_000;

impl Note {
    pub(super) fn check(&self) -> Result<()> {
        let others = [Some(&self.author), self.cause.as_ref(), self.case_number.as_ref()];
        let too_long = |text: &&String| text.chars().count() > LONGEST;
        if Some(&self.text).into_iter().chain(others.into_iter().flatten()).any(|t| too_long(&t)) {
            return Err(Error::usage(format!("a note has at most {LONGEST} characters")));
        }
        Ok(())
    }
}

/// A note as a row: its server by number, its words as texts.
#[derive(Clone, Debug)]
pub(super) struct NoteRow {
    pub id: i64,
    pub server: Option<String>,
    pub at: i64,
    pub written_at: i64,
    pub author: String,
    pub kind: String,
    pub cause: Option<String>,
    pub party: Option<String>,
    pub case_number: Option<String>,
    pub text: String,
}

impl NoteRow {
    pub fn of(note: &Note) -> NoteRow {
        NoteRow {
            id: note.id,
            server: note.server.clone(),
            at: note.at,
            written_at: note.written_at.as_millisecond(),
            author: note.author.clone(),
            kind: note.kind.as_str().to_owned(),
            cause: note.cause.clone(),
            party: note.party.map(|party| party.as_str().to_owned()),
            case_number: note.case_number.clone(),
            text: note.text.clone(),
        }
    }

    pub fn note(self) -> Option<Note> {
        let party = match self.party {
            None => None,
            Some(text) => {
                Some(super::coded::PARTIES.into_iter().find(|party| party.as_str() == text)?)
            }
        };
        Some(Note {
            id: self.id,
            server: self.server,
            at: self.at,
            written_at: Timestamp::from_millisecond(self.written_at).ok()?,
            author: self.author,
            kind: NoteKind::find(&self.kind)?,
            cause: self.cause,
            party,
            case_number: self.case_number,
            text: self.text,
        })
    }
}
