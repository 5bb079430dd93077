-- Without foreign keys; otherwise as today.
CREATE TABLE graphs (
    id               BIGINT NOT NULL PRIMARY KEY,
    name             {name} NOT NULL UNIQUE,
    state            TEXT   NOT NULL CHECK (state IN ('open', 'deleted', 'frozen')),
    moved_to         TEXT,
    version          BIGINT NOT NULL CHECK (version >= 0),
    fence            BIGINT NOT NULL CHECK (fence >= 0),
    epoch            BIGINT NOT NULL CHECK (epoch >= 0),
    lock_incarnation TEXT   NOT NULL,
    chain            {bytes} NOT NULL
);

CREATE TABLE changes (
    graph_id        BIGINT NOT NULL,
    version         BIGINT NOT NULL CHECK (version > 0),
    change          TEXT   NOT NULL,
    chain           {bytes} NOT NULL,
    attempt         TEXT   NOT NULL,
    token           BIGINT NOT NULL,
    committed_at_ms BIGINT NOT NULL,
    actor           TEXT,
    PRIMARY KEY (graph_id, version)
);
