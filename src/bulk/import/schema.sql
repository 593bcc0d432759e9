CREATE TABLE IF NOT EXISTS fact (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Steps that are over; their chunks are forgotten.
CREATE TABLE IF NOT EXISTS step (number INTEGER PRIMARY KEY);

CREATE TABLE IF NOT EXISTS chunk (
    step INTEGER NOT NULL,
    number INTEGER NOT NULL,
    -- 0 sent and not answered, noted only where it may not be sent twice; 1 done.
    state INTEGER NOT NULL,
    PRIMARY KEY (step, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS tally (
    type TEXT PRIMARY KEY,
    accepted INTEGER NOT NULL DEFAULT 0,
    -- Of the accepted: those that were not there before.
    created INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    retried INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS reject (
    file INTEGER NOT NULL,
    line INTEGER NOT NULL,
    part INTEGER NOT NULL,
    type TEXT,
    -- Of the server; none where nothing was sent.
    status INTEGER,
    code TEXT NOT NULL,
    -- Issue codes, joined by commas.
    issues TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (file, line, part)
) WITHOUT ROWID;
