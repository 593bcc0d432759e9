-- Servers, their readings fresh and packed, what is rolled up of them, seals and notes.
CREATE TABLE meta (key text PRIMARY KEY, value bigint NOT NULL);

CREATE TABLE server (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    -- The name that its chain begins with.
    born text NOT NULL,
    head bytea NOT NULL,
    -- How many readings were ever written; each has its position, from 0.
    written bigint NOT NULL DEFAULT 0,
    -- The position of the first one that is still kept.
    kept bigint NOT NULL DEFAULT 0,
    -- The head before it.
    kept_head bytea NOT NULL,
    first_at bigint,
    last_at bigint,
    removed_at bigint,
    -- Hours before this instant are rolled up.
    rolled_to bigint,
    -- Readings before this instant are gone: their hours are not made anew.
    pruned_to bigint
) WITH (fillfactor = 50);

CREATE TABLE word (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL UNIQUE);

CREATE TABLE run (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    at bigint NOT NULL,
    vantage text,
    origin text NOT NULL
);

-- A partition a month of writing, made when it is first written to.
CREATE TABLE reading (
    server bigint NOT NULL,
    position bigint NOT NULL,
    run bigint NOT NULL,
    at bigint NOT NULL,
    written bigint NOT NULL,
    -- The newest instant of its server up to this row.
    newest bigint NOT NULL,
    body bytea NOT NULL
) PARTITION BY RANGE (written);
CREATE INDEX reading_position ON reading (server, position);

CREATE TABLE segment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server bigint NOT NULL,
    position bigint NOT NULL,
    readings bigint NOT NULL,
    day bigint NOT NULL,
    from_at bigint NOT NULL,
    to_at bigint NOT NULL,
    first_run bigint NOT NULL,
    head_before bytea NOT NULL,
    head_after bytea NOT NULL,
    points bytea NOT NULL,
    samples bytea NOT NULL,
    details bytea NOT NULL,
    UNIQUE (server, position)
);
-- Of the rows that are looked at for a window, most are not in it.
CREATE INDEX segment_time ON segment (server, to_at, position, from_at);
-- Packed already.
ALTER TABLE segment ALTER COLUMN points SET STORAGE EXTERNAL,
    ALTER COLUMN samples SET STORAGE EXTERNAL,
    ALTER COLUMN details SET STORAGE EXTERNAL;

-- level: 0 an hour, 1 a day; at: its beginning, UTC.
CREATE TABLE rollup (
    server bigint NOT NULL,
    level bigint NOT NULL,
    at bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (server, level, at)
);
ALTER TABLE rollup ALTER COLUMN body SET STORAGE EXTERNAL;

-- Hours that were rolled up before all their readings were there.
CREATE TABLE late (server bigint NOT NULL, hour bigint NOT NULL, PRIMARY KEY (server, hour));

CREATE TABLE day_seal (
    day bigint PRIMARY KEY,
    digest bytea NOT NULL,
    sealed_at bigint NOT NULL,
    heads bytea NOT NULL
);

CREATE TABLE note (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server bigint,
    at bigint NOT NULL,
    written_at bigint NOT NULL,
    author text NOT NULL,
    kind text NOT NULL,
    cause text,
    party text,
    case_number text,
    text text NOT NULL
);
CREATE INDEX note_at ON note (at);
