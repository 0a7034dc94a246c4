-- Times are milliseconds since 1970 UTC, durations whole seconds; ids are text, UUIDs in lower case.
-- A row carries the (epoch, seq) of the change that wrote it and never goes back to an older one.

CREATE TABLE calls (
    id                TEXT    NOT NULL PRIMARY KEY,
    room_id           TEXT    NOT NULL,
    type              TEXT    NOT NULL,
    state             TEXT    NOT NULL,
    initiator_id      TEXT    NOT NULL,
    chat_id           TEXT,
    is_group          INTEGER NOT NULL,
    max_participants  INTEGER NOT NULL,
    started_at        INTEGER,
    ended_at          INTEGER,
    duration          INTEGER,
    end_reason        TEXT,
    recording_enabled INTEGER NOT NULL DEFAULT 0,
    recording_url     TEXT,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    epoch             INTEGER NOT NULL,
    seq               INTEGER NOT NULL
) WITHOUT ROWID;

-- Statistics and retention read calls by their end; live calls stay out of the index.
CREATE INDEX calls_by_end ON calls (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE call_participants (
    id                   TEXT    NOT NULL,
    call_id              TEXT    NOT NULL,
    user_id              TEXT    NOT NULL,
    role                 TEXT    NOT NULL,
    joined_at            INTEGER,
    left_at              INTEGER,
    duration             INTEGER,
    connection_state     TEXT    NOT NULL,
    audio_enabled        INTEGER NOT NULL,
    video_enabled        INTEGER NOT NULL,
    screen_share_enabled INTEGER NOT NULL,
    connection_quality   TEXT,
    -- The call's own created_at, so that a user's history is one index range.
    call_created_at      INTEGER NOT NULL,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL,
    epoch                INTEGER NOT NULL,
    seq                  INTEGER NOT NULL,
    PRIMARY KEY (call_id, id)
) WITHOUT ROWID;

CREATE UNIQUE INDEX call_participants_by_user
    ON call_participants (user_id, call_created_at, call_id);

-- How many calls a user has had: the true total of a history without filters, at no cost.
CREATE TABLE call_counts (
    user_id TEXT    NOT NULL PRIMARY KEY,
    calls   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER call_counts_grow AFTER INSERT ON call_participants BEGIN
    INSERT INTO call_counts (user_id, calls) VALUES (NEW.user_id, 1)
        ON CONFLICT (user_id) DO UPDATE SET calls = calls + 1;
END;

CREATE TRIGGER call_counts_shrink AFTER DELETE ON call_participants BEGIN
    UPDATE call_counts SET calls = calls - 1 WHERE user_id = OLD.user_id;
    DELETE FROM call_counts WHERE user_id = OLD.user_id AND calls <= 0;
END;

-- Only an erasure renames a participant; nobody asks for the history of the name that stays.
CREATE TRIGGER call_counts_erase AFTER UPDATE OF user_id ON call_participants BEGIN
    UPDATE call_counts SET calls = calls - 1 WHERE user_id = OLD.user_id;
    DELETE FROM call_counts WHERE user_id = OLD.user_id AND calls <= 0;
END;

CREATE TABLE call_quality_metrics (
    id              TEXT    NOT NULL,
    call_id         TEXT    NOT NULL,
    participant_id  TEXT    NOT NULL,
    timestamp       INTEGER NOT NULL,
    jitter          REAL    NOT NULL,
    packet_loss     REAL    NOT NULL,
    round_trip_time REAL    NOT NULL,
    bandwidth       REAL,
    fps             REAL,
    resolution      TEXT,
    codec           TEXT,
    quality         TEXT    NOT NULL,
    PRIMARY KEY (call_id, participant_id, timestamp, id)
) WITHOUT ROWID;

CREATE INDEX call_quality_metrics_by_time ON call_quality_metrics (timestamp);

CREATE TABLE call_recordings (
    id         TEXT    NOT NULL PRIMARY KEY,
    call_id    TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    duration   INTEGER,
    file_size  INTEGER,
    s3_key     TEXT,
    url        TEXT,
    status     TEXT    NOT NULL
) WITHOUT ROWID;

CREATE INDEX call_recordings_by_call ON call_recordings (call_id);

-- The append-only story of a call: every event, and who was meant to see it.
CREATE TABLE call_events (
    call_id    TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    recipients TEXT    NOT NULL, -- JSON array of user ids
    data       TEXT    NOT NULL, -- JSON object, as it was sent
    PRIMARY KEY (call_id, seq)
) WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    user_id    TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    call_id    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);

-- The machine's own state of every call that is not over.
CREATE TABLE live_calls (
    call_id  TEXT    NOT NULL PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    snapshot TEXT    NOT NULL
);
