-- The name of this service among those that share a media server: whose rooms are whose.
CREATE TABLE instance (
    id TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;

INSERT INTO instance (id) VALUES (lower(hex(randomblob(16))));

-- Those whose file nobody has told of yet.
CREATE INDEX call_recordings_unfinished ON call_recordings (ended_at)
    WHERE status IN ('recording', 'processing');
