//! Servers by name: renamed, taken out; and notes on their incidents.

use jiff::Timestamp;

use super::db::{Mode, ServerRow, on};
use super::note::{Note, NoteRow};
use super::{Inner, Store, Window};
use crate::model::{Error, ErrorKind, Result};

impl Store {
    /// Gives a server's history another name. What an archived server of that name left behind steps
    /// aside, under its name and the day on which it was removed.
    ///
    /// # Errors
    /// 66 when history does not know it; 65 when a server that is in use has the new name.
    pub async fn rename(&self, old: &str, new: &str) -> Result<()> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Write).await?;
        let result = rename(&mut inner, old, new).await;
        inner.end(result).await
    }

    /// Marks that a server was taken out of the inventory; its history stays. A reading that is written
    /// later takes the mark away.
    ///
    /// # Errors
    /// 66 when history does not know it.
    pub async fn archive(&self, server: &str, at: Timestamp) -> Result<()> {
        let mut inner = self.inner().await?;
        let row = inner.server(server).await?;
        on!(&mut inner.db, db => db.archive(row.id, at.as_millisecond()).await)
    }

    /// The notes on incidents that began within a window, of one server or of all.
    ///
    /// # Errors
    /// 65 when one cannot be read.
    pub async fn notes(&self, server: Option<&str>, window: Window) -> Result<Vec<Note>> {
        let mut inner = self.inner().await?;
        let id = match server {
            None => None,
            Some(name) => {
                let row = on!(&mut inner.db, db => db.server(name.to_owned()).await)?;
                let Some(row) = row else { return Ok(Vec::new()) };
                Some(row.id)
            }
        };
        let rows = on!(&mut inner.db, db => db.notes(id, window.start, window.end).await)?;
        let notes = rows.into_iter().map(NoteRow::note).collect::<Option<_>>();
        notes.ok_or_else(|| {
            Error::new(ErrorKind::Data, format!("a note in {} cannot be read", self.place))
        })
    }

    /// Keeps a note and says its number.
    ///
    /// # Errors
    /// 64 when it is too long, and when the database cannot be written.
    pub async fn add_note(&self, note: &Note) -> Result<i64> {
        note.check()?;
        let mut inner = self.inner().await?;
        inner.begin(Mode::Write).await?;
        let result = put_note(&mut inner, note).await;
        inner.end(result).await
    }
}

async fn rename(inner: &mut Inner, old: &str, new: &str) -> Result<()> {
    let row = inner.server(old).await?;
    if old == new {
        return Ok(());
    }
    if let Some(other) = on!(&mut inner.db, db => db.server(new.to_owned()).await)? {
        let aside = aside(&other)?;
        on!(&mut inner.db, db => db.rename(other.id, aside).await)?;
    }
    on!(&mut inner.db, db => db.rename(row.id, new.to_owned()).await)
}

/// The name that an archived server's history goes on under.
fn aside(row: &ServerRow) -> Result<String> {
    let removed = row.removed_at.and_then(|at| Timestamp::from_millisecond(at).ok());
    match removed {
        Some(at) => Ok(format!("{} (removed {at})", row.name)),
        None => Err(Error::new(
            ErrorKind::Data,
            format!("history holds readings of a server {} already", row.name),
        )
        .hint("choose another name, or remove that server first")),
    }
}

async fn put_note(inner: &mut Inner, note: &Note) -> Result<i64> {
    let server = match &note.server {
        Some(name) => Some(on!(&mut inner.db, db => db.ensure_server(name.clone()).await)?),
        None => None,
    };
    on!(&mut inner.db, db => db.put_note(server, NoteRow::of(note)).await)
}
