CREATE TABLE IF NOT EXISTS fact (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS file (
    id INTEGER PRIMARY KEY,
    -- Where it stands: which manifest page, which list in it (0 output, 1 error, 2 deleted), which place.
    page INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    position INTEGER NOT NULL,
    type TEXT NOT NULL,
    -- Counts within kind and type; makes the name.
    sequence INTEGER NOT NULL,
    url TEXT NOT NULL,
    -- What the manifest says of it.
    expected INTEGER,
    -- 0 wanted, 1 there, 2 given up, 3 there and in its object store, 4 joined with others of its
    -- type into a file that has a row of its own.
    state INTEGER NOT NULL DEFAULT 0,
    name TEXT,
    attempt INTEGER,
    lines INTEGER,
    bytes INTEGER,
    content_bytes INTEGER,
    sha256 TEXT,
    duration_ms INTEGER,
    retries INTEGER,
    code TEXT,
    message TEXT,
    -- Of a joined one: the file that it is in, and how many lines stand before it there.
    joined_into INTEGER,
    line_offset INTEGER,
    UNIQUE (page, kind, position)
);
CREATE INDEX IF NOT EXISTS file_state ON file (state, id);
CREATE INDEX IF NOT EXISTS file_joined ON file (joined_into, sequence);
CREATE INDEX IF NOT EXISTS file_name ON file (kind, type, sequence);

CREATE TABLE IF NOT EXISTS finding (
    id INTEGER PRIMARY KEY,
    file INTEGER,
    -- 1: found in the whole, not while the file came.
    overall INTEGER NOT NULL,
    line INTEGER,
    code TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS finding_file ON finding (file);

-- Uploads into an object store that were begun and are not over. Without the store's name for one
-- the process died while it was asking for it.
CREATE TABLE IF NOT EXISTS upload (
    name TEXT PRIMARY KEY,
    upload TEXT,
    part_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS upload_part (
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    part TEXT NOT NULL,
    PRIMARY KEY (name, number)
) WITHOUT ROWID;
