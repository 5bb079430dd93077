-- What an export wrote to is forgotten; how far it is stays.
ALTER TABLE consumers DROP COLUMN sink_identity;
ALTER TABLE consumers DROP COLUMN sink;
ALTER TABLE consumers DROP COLUMN lifetime_ms;
ALTER TABLE consumers DROP COLUMN seen_at_ms;
