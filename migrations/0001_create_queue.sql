-- The queue. What the numbers and blobs mean stands in host/store/src/segment and host/store/src/queue.

-- One row: who this store is and how often it was opened.
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seed INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    probe INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE endpoint (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE route_name (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Bodies: pieces of one size, each filling a page, so that a piece is overwritten in place. Not
-- declared NOT NULL, here and below: SQLite would keep a journal for each statement to undo it alone.
CREATE TABLE slot (
    id INTEGER PRIMARY KEY,
    body BLOB
) STRICT;

-- A run of messages: where their bodies are and which queues they were put into.
CREATE TABLE segment (
    first INTEGER PRIMARY KEY,
    directory BLOB
) STRICT;

-- The next entry of a lane to hand out; what is before it and still owed has a row below.
CREATE TABLE cursor (
    endpoint INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    next INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (endpoint, priority)
) STRICT, WITHOUT ROWID;

CREATE TABLE owed (
    endpoint INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    route INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    state INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (endpoint, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    route INTEGER NOT NULL,
    at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    code TEXT,
    module_digest BLOB,
    record BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

CREATE INDEX dead_letter_endpoint ON dead_letter (endpoint, id);

CREATE TABLE module_state (
    module TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (module, key)
) STRICT, WITHOUT ROWID;
