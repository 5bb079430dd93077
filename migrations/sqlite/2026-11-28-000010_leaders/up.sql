-- One node at a time may lead a graph: it writes without a look at the version first. Whoever takes
-- over counts this token up, and the conditional writes of former leaders compare it and are refused.
ALTER TABLE graphs ADD COLUMN leader_token BIGINT NOT NULL DEFAULT 0 CHECK (leader_token >= 0);

-- The nodes that may lead, as they tell each other of themselves. What is right does not rest on it.
CREATE TABLE leader_nodes (
    node       TEXT   NOT NULL PRIMARY KEY,
    -- Where its clients reach it; null if it does not say.
    address    TEXT,
    seen_at_ms BIGINT NOT NULL
);

-- Who leads a graph, as the leader says itself. What is right does not rest on it.
CREATE TABLE leaders (
    graph_id        BIGINT NOT NULL PRIMARY KEY REFERENCES graphs (id),
    node            TEXT   NOT NULL,
    -- What the take-over has counted the graph's token up to.
    token           BIGINT NOT NULL,
    since_ms        BIGINT NOT NULL,
    -- 1: it is about to give the graph up.
    is_leaving      BIGINT NOT NULL DEFAULT 0,
    -- The node that is to lead next, `*` for any; and 1 once that one waits for it.
    successor       TEXT,
    successor_waits BIGINT NOT NULL DEFAULT 0
);
