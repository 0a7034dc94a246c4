-- The tables of migrations/sqlite, written behind from there. Times are milliseconds since 1970 UTC,
-- durations whole seconds. A row carries the (epoch, seq) of the change that wrote it and never goes
-- back to an older one. The state of live calls stays with the node that has them.

CREATE TABLE calls (
    id                UUID    NOT NULL PRIMARY KEY,
    room_id           TEXT    NOT NULL,
    type              TEXT    NOT NULL,
    state             TEXT    NOT NULL,
    initiator_id      TEXT    NOT NULL,
    chat_id           TEXT,
    is_group          BOOLEAN NOT NULL,
    max_participants  BIGINT  NOT NULL,
    started_at        BIGINT,
    ended_at          BIGINT,
    duration          BIGINT,
    end_reason        TEXT,
    recording_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    recording_url     TEXT,
    created_at        BIGINT  NOT NULL,
    updated_at        BIGINT  NOT NULL,
    epoch             BIGINT  NOT NULL,
    seq               BIGINT  NOT NULL
);

-- Statistics and retention read calls by their end; live calls have an index of their own.
CREATE INDEX calls_by_end ON calls (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX calls_live ON calls (created_at) WHERE ended_at IS NULL;

CREATE TABLE call_participants (
    id                   UUID    NOT NULL,
    call_id              UUID    NOT NULL,
    user_id              TEXT    NOT NULL,
    role                 TEXT    NOT NULL,
    joined_at            BIGINT,
    left_at              BIGINT,
    duration             BIGINT,
    connection_state     TEXT    NOT NULL,
    audio_enabled        BOOLEAN NOT NULL,
    video_enabled        BOOLEAN NOT NULL,
    screen_share_enabled BOOLEAN NOT NULL,
    connection_quality   TEXT,
    -- The call's own created_at, so that a user's history is one index range.
    call_created_at      BIGINT  NOT NULL,
    created_at           BIGINT  NOT NULL,
    updated_at           BIGINT  NOT NULL,
    epoch                BIGINT  NOT NULL,
    seq                  BIGINT  NOT NULL,
    PRIMARY KEY (call_id, id)
);

CREATE INDEX call_participants_by_user ON call_participants (user_id, call_created_at, call_id);

-- One partition a day, made ahead by the service and dropped whole when its day is old enough. The
-- primary key serves reads by call and time.
CREATE TABLE call_quality_metrics (
    id              UUID             NOT NULL,
    call_id         UUID             NOT NULL,
    participant_id  UUID             NOT NULL,
    timestamp       BIGINT           NOT NULL,
    jitter          DOUBLE PRECISION NOT NULL,
    packet_loss     DOUBLE PRECISION NOT NULL,
    round_trip_time DOUBLE PRECISION NOT NULL,
    bandwidth       DOUBLE PRECISION,
    fps             DOUBLE PRECISION,
    resolution      TEXT,
    codec           TEXT,
    quality         TEXT             NOT NULL,
    PRIMARY KEY (call_id, participant_id, timestamp, id)
) PARTITION BY RANGE (timestamp);

CREATE TABLE call_recordings (
    id         UUID   NOT NULL PRIMARY KEY,
    call_id    UUID   NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT,
    duration   BIGINT,
    file_size  BIGINT,
    s3_key     TEXT,
    url        TEXT,
    status     TEXT   NOT NULL
);

CREATE INDEX call_recordings_by_call ON call_recordings (call_id);

-- The append-only story of a call: every event, and who was meant to see it.
CREATE TABLE call_events (
    call_id    UUID   NOT NULL,
    seq        BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    name       TEXT   NOT NULL,
    recipients TEXT   NOT NULL, -- JSON array of user ids
    data       TEXT   NOT NULL, -- JSON object, as it was sent
    PRIMARY KEY (call_id, seq)
);

CREATE TABLE idempotency_keys (
    user_id    TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    call_id    UUID   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, key)
);

CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
