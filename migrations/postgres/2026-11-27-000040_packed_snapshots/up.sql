-- Graphs at one version, packed into bytes: a process that loads a graph begins with the newest, and
-- not with the first change. They can all be dropped, as long as the log is whole.
CREATE TABLE packed_snapshots (
    graph_id    BIGINT NOT NULL REFERENCES graphs (id),
    version     BIGINT NOT NULL CHECK (version > 0),
    -- Names its parts.
    snapshot    TEXT    NOT NULL,
    -- The graph's chain at that version: which history it is of.
    chain       BYTEA   NOT NULL,
    -- How the bytes are to be read.
    format      BIGINT NOT NULL,
    -- The graph's digest.
    digest      TEXT    NOT NULL,
    parts       BIGINT NOT NULL,
    bytes       BIGINT NOT NULL,
    taken_at_ms BIGINT NOT NULL,
    PRIMARY KEY (graph_id, version)
);

-- A snapshot is written part by part; its row above comes last, and nobody reads parts without one.
CREATE TABLE packed_parts (
    graph_id BIGINT NOT NULL REFERENCES graphs (id),
    snapshot TEXT    NOT NULL,
    part     BIGINT NOT NULL,
    -- SHA-256 of the content.
    checksum BYTEA   NOT NULL,
    content  BYTEA   NOT NULL,
    PRIMARY KEY (graph_id, snapshot, part)
);

-- Who takes a snapshot of a graph; others may claim it once that has expired.
CREATE TABLE packed_claims (
    graph_id      BIGINT NOT NULL PRIMARY KEY REFERENCES graphs (id),
    snapshot      TEXT    NOT NULL,
    expires_at_ms BIGINT NOT NULL
);
-- They are packed already.
ALTER TABLE packed_parts ALTER COLUMN content SET STORAGE EXTERNAL;
