-- What a history is filtered by, beside the user's own index: a page and its total are read from that alone. The
-- state is that of a call that is over. Where the call's row came later than the participant's, and in rows from
-- before, the columns are NULL, and the call itself is asked.
ALTER TABLE call_participants
    ADD COLUMN call_type  TEXT,
    ADD COLUMN call_state TEXT,
    ADD COLUMN chat_id    TEXT;

DROP INDEX call_participants_by_user;
CREATE INDEX call_participants_by_user ON call_participants (user_id, call_created_at, call_id)
    INCLUDE (call_type, call_state, chat_id);
