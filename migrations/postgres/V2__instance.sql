-- The name of this deployment among those that share a media server: whose rooms are whose, whichever of its
-- nodes has the call. Made here, once for all nodes, as migrations run one after the other.
CREATE TABLE instance (
    id  TEXT    NOT NULL,
    -- There is one.
    one BOOLEAN NOT NULL PRIMARY KEY DEFAULT TRUE CHECK (one)
);

INSERT INTO instance (id) VALUES (replace(gen_random_uuid()::text, '-', ''));
