-- What servers say of themselves over time: memory, pools, disks, and how many resources of a type.
CREATE TABLE gauge (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server bigint NOT NULL,
    -- Its name, such as heap, disk:/var or count:Patient.
    word bigint NOT NULL,
    -- When it was last asked for, whether anything came or not.
    asked_at bigint NOT NULL,
    UNIQUE (server, word)
) WITH (fillfactor = 50);

CREATE TABLE gauge_value (
    gauge bigint NOT NULL,
    at bigint NOT NULL,
    value double precision NOT NULL,
    -- What it cannot exceed, where the server said so.
    bound double precision,
    PRIMARY KEY (gauge, at)
);
