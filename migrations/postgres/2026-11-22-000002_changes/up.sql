-- How the graph came to be: one row for each version, written in the transaction that made it; and answers to be given again.

CREATE TABLE changes (
    graph_id        BIGINT NOT NULL REFERENCES graphs (id),
    version         BIGINT NOT NULL CHECK (version > 0),
    -- {"facts":[…],"version":N} as canonical JSON: the bytes that the chain covers.
    change          TEXT   NOT NULL,
    chain           BYTEA  NOT NULL,
    -- Names the attempt that wrote it, so that a lost answer to COMMIT can be looked up.
    attempt         TEXT   NOT NULL,
    token           BIGINT NOT NULL,
    committed_at_ms BIGINT NOT NULL,
    actor           TEXT,
    PRIMARY KEY (graph_id, version)
);

CREATE TABLE idempotency_keys (
    graph_id      BIGINT NOT NULL REFERENCES graphs (id),
    key           TEXT   NOT NULL,
    -- SHA-256 of method, path and body.
    fingerprint   TEXT   NOT NULL,
    answer        TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (graph_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at_ms);
