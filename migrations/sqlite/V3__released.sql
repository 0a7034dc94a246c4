-- Calls that are another node's now: what this file has of them is no longer the newest. Their rows leave
-- once they are written behind.
CREATE TABLE released_calls (
    call_id TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;
