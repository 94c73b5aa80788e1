-- Times are microseconds since 1970, UTC. Only what must be found without its number has an index: every further one
-- would cost each event another random page write.

-- The feed. Narrow on purpose: history looks through these rows, and the wide part of an event lies beside them.
CREATE TABLE event (
    seq              INTEGER PRIMARY KEY,
    kept_at_us       INTEGER NOT NULL,
    time_us          INTEGER NOT NULL,
    webhook          INTEGER NOT NULL,
    id               TEXT    NOT NULL,
    kind             TEXT    NOT NULL,
    route            TEXT    NOT NULL,
    subject          TEXT    NOT NULL,
    numbers          TEXT,             -- JSON array of text; NULL when there is none
    duration_seconds REAL,
    test             INTEGER NOT NULL
) STRICT;

-- The event as delivered, byte for byte.
CREATE TABLE event_json (
    seq  INTEGER PRIMARY KEY,
    json TEXT NOT NULL
) STRICT;

-- Recognises an event that comes again. Apart from the feed and 16 bytes a key, so that the random inserts touch a
-- small tree only.
CREATE TABLE event_key (
    key BLOB    NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE webhook (
    number         INTEGER PRIMARY KEY,
    received_at_us INTEGER NOT NULL,
    route          TEXT NOT NULL,
    method         TEXT NOT NULL,
    target         TEXT NOT NULL,
    peer           TEXT,
    form           TEXT NOT NULL,
    payload        TEXT,
    headers        TEXT NOT NULL,      -- JSON array of [name, value]
    body           BLOB NOT NULL
) STRICT;

CREATE TABLE quarantine (
    number INTEGER PRIMARY KEY,        -- of the webhook
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE subscriber (
    id             INTEGER PRIMARY KEY,
    name           TEXT    NOT NULL UNIQUE,
    cursor         INTEGER NOT NULL,
    stopped_at_us  INTEGER,
    stopped_reason TEXT,
    -- Its history stays readable; it holds nothing back any more.
    forgotten      INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The retry set: deliveries at or behind the cursor that are not settled.
CREATE TABLE waiting (
    seq        INTEGER NOT NULL,
    subscriber INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    due_at_us  INTEGER NOT NULL,
    PRIMARY KEY (seq, subscriber)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead (
    seq        INTEGER NOT NULL,
    subscriber INTEGER NOT NULL,
    at_us      INTEGER NOT NULL,
    PRIMARY KEY (seq, subscriber)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    seq             INTEGER NOT NULL,
    subscriber      INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    at_us           INTEGER NOT NULL,
    duration_us     INTEGER NOT NULL,
    status          INTEGER,
    outcome         TEXT NOT NULL,
    request_headers TEXT NOT NULL,
    response        TEXT NOT NULL,
    PRIMARY KEY (seq, subscriber, number)
) STRICT, WITHOUT ROWID;
