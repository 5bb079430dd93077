-- Pruning says who is in its way and since when, asks the sinks of exports what they have, and does
-- not wait for an export that ended long ago.

-- When the consumer last reported; acknowledged_at_ms is when it reached what it has acknowledged.
ALTER TABLE consumers ADD COLUMN seen_at_ms BIGINT NOT NULL DEFAULT 0;
UPDATE consumers SET seen_at_ms = acknowledged_at_ms;
-- Pruning stops waiting for it this long after its last report; null: it always waits.
ALTER TABLE consumers ADD COLUMN lifetime_ms BIGINT;
-- Of an export: the URL of its sink, without a password, and the identity that the engine reports
-- there. Null for all others.
ALTER TABLE consumers ADD COLUMN sink TEXT;
ALTER TABLE consumers ADD COLUMN sink_identity TEXT;
