-- Whoever writes a participant for the first time counts it: beside a trigger SQLite copies every page that the
-- statement touches, in case it fails half-way.
DROP TRIGGER call_counts_grow;
