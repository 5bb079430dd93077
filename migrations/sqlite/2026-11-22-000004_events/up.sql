-- Changes leave the database: what a graph is called everywhere, who reads its log, and what stands in for a log's beginning once that was pruned.

-- A name for the graph's history that no other graph has, here or elsewhere; events are named after it.
ALTER TABLE graphs ADD COLUMN uuid TEXT NOT NULL DEFAULT '';
UPDATE graphs SET uuid = (
    SELECT lower(substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-4' || substr(hex, 14, 3) || '-a' || substr(hex, 18, 3) || '-' || substr(hex, 21, 12))
    FROM (SELECT hex(randomblob(16)) AS hex, graphs.id)
);
-- The oldest change that the log still has, or, where it has none, the next.
ALTER TABLE graphs ADD COLUMN oldest BIGINT NOT NULL DEFAULT 1;

-- Whoever reads the log and has said how far: pruning does not overtake it.
CREATE TABLE consumers (
    graph_id           BIGINT NOT NULL REFERENCES graphs (id),
    name               TEXT   NOT NULL,
    acknowledged       BIGINT NOT NULL CHECK (acknowledged >= 0),
    acknowledged_at_ms BIGINT NOT NULL,
    PRIMARY KEY (graph_id, name)
) WITHOUT ROWID;

-- The graph at a version that is not older than the change before the oldest, as the events that build it. One a graph; in parts, since it may be large.
CREATE TABLE snapshots (
    graph_id        BIGINT NOT NULL PRIMARY KEY REFERENCES graphs (id),
    version         BIGINT NOT NULL,
    -- When the version was; null of version 0.
    committed_at_ms BIGINT
);
CREATE TABLE snapshot_parts (
    graph_id BIGINT NOT NULL REFERENCES graphs (id),
    version  BIGINT NOT NULL,
    part     BIGINT NOT NULL,
    -- Whole lines.
    lines    TEXT   NOT NULL,
    PRIMARY KEY (graph_id, version, part)
);
