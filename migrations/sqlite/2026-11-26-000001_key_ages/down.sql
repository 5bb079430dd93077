-- Back to the index by age alone; no row is changed.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at_ms);
DROP INDEX idempotency_keys_by_graph_and_age;
