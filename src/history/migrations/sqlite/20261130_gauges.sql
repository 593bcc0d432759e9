-- What servers say of themselves over time: memory, pools, disks, and how many resources of a type.
CREATE TABLE gauge (
    id INTEGER PRIMARY KEY,
    server INTEGER NOT NULL,
    -- Its name, such as heap, disk:/var or count:Patient.
    word INTEGER NOT NULL,
    -- When it was last asked for, whether anything came or not.
    asked_at INTEGER NOT NULL,
    UNIQUE (server, word)
) STRICT;

CREATE TABLE gauge_value (
    gauge INTEGER NOT NULL,
    at INTEGER NOT NULL,
    value REAL NOT NULL,
    -- What it cannot exceed, where the server said so.
    bound REAL,
    PRIMARY KEY (gauge, at)
) STRICT, WITHOUT ROWID;
