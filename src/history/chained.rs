//! A piece of a server's chain, for who wants to prove something with it.

use std::sync::Arc;

use super::chain::{self, Head};
use super::coded::Coded;
use super::db::{Fresh, Mode, ServerRow, on};
use super::read::{Anonymous, EVERYTHING, Want};
use super::{Inner, Store, Window};
use crate::model::{Reading, Result};

/// Readings as they were written, one behind the other, with the head before and behind them.
#[derive(Clone, Debug, PartialEq)]
pub struct Chained {
    /// The name that the chain begins with.
    pub born: String,
    /// Which of the server's readings the first one is, from 0.
    pub position: u64,
    /// Hexadecimal.
    pub before: String,
    pub after: String,
    /// Their runs are not told.
    pub readings: Vec<Reading>,
}

/// Fresh rows that are read at once.
const AT_ONCE: usize = 2_000;

impl Store {
    /// The piece of a server's chain that holds every reading taken within a window: from the first of
    /// them to the last, in the order of writing, with all that was written between; whole segments.
    ///
    /// # Errors
    /// 66 when history does not know the server, 65 when what is stored cannot be read.
    pub async fn chained(&self, server: &str, window: Window) -> Result<Chained> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Read).await?;
        let result = match inner.server(server).await {
            Ok(row) => self.piece(&mut inner, &row, &window).await,
            Err(error) => Err(error),
        };
        inner.end(result).await
    }

    async fn piece(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        window: &Window,
    ) -> Result<Chained> {
        let name: Arc<str> = server.name.as_str().into();
        let segments = on!(&mut inner.db, db => db.segments(server.id).await)?;
        let packed = segments.last().map_or(server.kept, |last| last.position + last.readings);
        let fresh = on!(&mut inner.db, db => db.fresh(server, packed, i64::MIN).await)?;
        let meets = |from: i64, to: i64| from < window.end && to >= window.start;
        let wanted = segments
            .iter()
            .filter(|segment| meets(segment.from_at, segment.to_at))
            .map(|segment| (segment.position, segment.position + segment.readings))
            .chain(
                fresh
                    .iter()
                    .filter(|row| meets(row.at, row.at))
                    .map(|row| (row.position, row.position + 1)),
            );
        let range = wanted.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
        let (start, end) = range.unwrap_or((server.written, server.written));
        let mut piece = Piece {
            range: start..end,
            before: None,
            head: server.kept_head,
            end: server.kept_head,
            readings: Vec::new(),
        };
        for row in segments.iter().take_while(|row| row.position < end) {
            if row.position < start {
                (piece.head, piece.end) = (row.after, row.after);
                continue;
            }
            let all = self.unpack(inner, &server.name, row, Want::Samples, &EVERYTHING).await?;
            for (_, coded) in all {
                let position = start + piece.readings.len() as i64;
                let Anonymous(reading) = self.told(inner, &name, position, &coded).await?;
                piece.take(position, reading);
            }
            if piece.head != row.after {
                return Err(self.damaged(&server.name, row.position));
            }
        }
        // Up to the chain's end: only there is written what it has to be.
        let behind = if end > packed { fresh.as_slice() } else { &[] };
        for rows in behind.chunks(AT_ONCE) {
            let seqs = rows.iter().map(|row: &Fresh| row.seq).collect();
            for raw in on!(&mut inner.db, db => db.raw(server.id, seqs).await)? {
                let coded = Coded::from_bytes(raw.at, raw.run, &raw.body)
                    .ok_or_else(|| self.damaged(&server.name, raw.position))?;
                let Anonymous(reading) = self.told(inner, &name, raw.position, &coded).await?;
                piece.take(raw.position, reading);
            }
        }
        if end > packed && piece.end != server.head {
            return Err(self.damaged(&server.name, start));
        }
        Ok(Chained {
            born: server.born.clone(),
            position: start.unsigned_abs(),
            before: chain::hex(&piece.before.unwrap_or(piece.head)),
            after: chain::hex(&piece.head),
            readings: piece.readings,
        })
    }
}

struct Piece {
    /// Positions.
    range: std::ops::Range<i64>,
    before: Option<Head>,
    /// Behind the last reading of the piece, or of those before it.
    head: Head,
    /// Behind the last reading that was seen.
    end: Head,
    readings: Vec<Reading>,
}

impl Piece {
    /// The next reading; one outside of the piece only moves the heads.
    fn take(&mut self, position: i64, reading: Reading) {
        let is_inside = self.range.contains(&position);
        if is_inside {
            self.before.get_or_insert(self.end);
        }
        self.end = chain::advance(&self.end, &reading.text());
        if position < self.range.end {
            self.head = self.end;
        }
        if is_inside {
            self.readings.push(reading);
        }
    }
}
