-- The name of the deployment of nodes that this one belongs to, as Postgres has it: a node that starts while
-- Postgres is away knows it from here.
ALTER TABLE instance ADD COLUMN deployment TEXT;
