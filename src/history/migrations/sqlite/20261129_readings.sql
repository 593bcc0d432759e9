-- Servers, their readings fresh and packed, what is rolled up of them, seals and notes.
CREATE TABLE server (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- The name that its chain begins with.
    born TEXT NOT NULL,
    head BLOB NOT NULL,
    -- How many readings were ever written; each has its position, from 0.
    written INTEGER NOT NULL DEFAULT 0,
    -- The position of the first one that is still kept.
    kept INTEGER NOT NULL DEFAULT 0,
    -- The head before it.
    kept_head BLOB NOT NULL,
    -- The newest row in reading.
    tail INTEGER,
    first_at INTEGER,
    last_at INTEGER,
    removed_at INTEGER,
    -- Hours before this instant are rolled up.
    rolled_to INTEGER,
    -- Readings before this instant are gone: their hours are not made anew.
    pruned_to INTEGER
) STRICT;

CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE run (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    vantage TEXT,
    origin TEXT NOT NULL
) STRICT;

-- Written at its end only. `prev` leads to the row before it of the same server: an index by server
-- would be touched all over by every run.
CREATE TABLE reading (
    seq INTEGER PRIMARY KEY,
    server INTEGER NOT NULL,
    prev INTEGER,
    position INTEGER NOT NULL,
    run INTEGER NOT NULL,
    at INTEGER NOT NULL,
    written INTEGER NOT NULL,
    -- The newest instant of its server up to this row.
    newest INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE segment (
    id INTEGER PRIMARY KEY,
    server INTEGER NOT NULL,
    position INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    day INTEGER NOT NULL,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    first_run INTEGER NOT NULL,
    head_before BLOB NOT NULL,
    head_after BLOB NOT NULL,
    points BLOB NOT NULL,
    samples BLOB NOT NULL,
    details BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX segment_position ON segment (server, position);
-- Of the rows that are looked at for a window, most are not in it.
CREATE INDEX segment_time ON segment (server, to_at, position, from_at);

-- level: 0 an hour, 1 a day; at: its beginning, UTC.
CREATE TABLE rollup (
    server INTEGER NOT NULL,
    level INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (server, level, at)
) STRICT, WITHOUT ROWID;

-- Hours that were rolled up before all their readings were there.
CREATE TABLE late (
    server INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    PRIMARY KEY (server, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE day_seal (
    day INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    sealed_at INTEGER NOT NULL,
    heads BLOB NOT NULL
) STRICT;

CREATE TABLE note (
    id INTEGER PRIMARY KEY,
    server INTEGER,
    at INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    author TEXT NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT,
    party TEXT,
    case_number TEXT,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX note_at ON note (at);
