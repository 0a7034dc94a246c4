-- Whoever writes a participant for the first time counts it: beside a trigger SQLite copies every page that the
-- statement touches, in case it fails half-way.
DROP TRIGGER call_counts_grow;

-- As in Postgres not UNIQUE: a call that comes back may know somebody under another id than before. Who of them is
-- left over is deleted once all are written.
DROP INDEX call_participants_by_user;
CREATE INDEX call_participants_by_user ON call_participants (user_id, call_created_at, call_id);
