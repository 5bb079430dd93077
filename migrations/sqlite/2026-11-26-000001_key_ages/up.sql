-- Old idempotency keys are deleted graph by graph, a few at a time: the index leads from a graph to
-- its oldest keys. A node of an earlier version, which looks for old keys by age alone, still works
-- and only reads more.

CREATE INDEX idempotency_keys_by_graph_and_age ON idempotency_keys (graph_id, created_at_ms);
DROP INDEX idempotency_keys_by_age;
