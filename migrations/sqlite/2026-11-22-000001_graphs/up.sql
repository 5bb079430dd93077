-- The graph itself: what is true now. A name's row stays for ever, so that its versions never repeat.

-- One row: which database this is, and which lock guards it.
CREATE TABLE service (
    id            INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    database_id   TEXT    NOT NULL,
    lock_kind     TEXT,
    lock_identity TEXT
);
INSERT INTO service (id, database_id) VALUES (1, lower(hex(randomblob(16))));

CREATE TABLE graphs (
    id               INTEGER NOT NULL PRIMARY KEY,
    name             TEXT    NOT NULL UNIQUE,
    state            TEXT    NOT NULL CHECK (state IN ('open', 'deleted', 'frozen')),
    moved_to         TEXT,
    version          BIGINT  NOT NULL CHECK (version >= 0),
    -- The largest fencing token that a write, a seal or a seeding has carried.
    fence            BIGINT  NOT NULL CHECK (fence >= 0),
    -- Raised whenever a lock's state is seeded anew: tokens of another epoch are not trusted.
    epoch            BIGINT  NOT NULL CHECK (epoch >= 0),
    lock_incarnation TEXT    NOT NULL,
    -- SHA-256 of the previous chain and the last change's canonical bytes.
    chain            BLOB    NOT NULL
);

-- Ids are small numbers of our own, given under the version comparison: no round trip to learn them.
CREATE TABLE jobs (
    graph_id BIGINT NOT NULL REFERENCES graphs (id),
    id       BIGINT NOT NULL,
    name     TEXT   NOT NULL,
    spec     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    PRIMARY KEY (graph_id, id),
    UNIQUE (graph_id, name)
) WITHOUT ROWID;

-- metadata is null where only jobs mention the dataset.
CREATE TABLE datasets (
    graph_id BIGINT NOT NULL REFERENCES graphs (id),
    id       BIGINT NOT NULL,
    name     TEXT   NOT NULL,
    metadata TEXT,
    PRIMARY KEY (graph_id, id),
    UNIQUE (graph_id, name)
) WITHOUT ROWID;

CREATE TABLE job_inputs (
    graph_id   BIGINT NOT NULL,
    job_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL,
    PRIMARY KEY (graph_id, job_id, dataset_id),
    FOREIGN KEY (graph_id, job_id) REFERENCES jobs (graph_id, id),
    FOREIGN KEY (graph_id, dataset_id) REFERENCES datasets (graph_id, id)
) WITHOUT ROWID;
CREATE INDEX job_inputs_by_dataset ON job_inputs (graph_id, dataset_id);

-- The primary key is the rule: a dataset has at most one producer.
CREATE TABLE job_outputs (
    graph_id   BIGINT NOT NULL,
    job_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL,
    PRIMARY KEY (graph_id, dataset_id),
    FOREIGN KEY (graph_id, job_id) REFERENCES jobs (graph_id, id),
    FOREIGN KEY (graph_id, dataset_id) REFERENCES datasets (graph_id, id)
) WITHOUT ROWID;
CREATE INDEX job_outputs_by_job ON job_outputs (graph_id, job_id);
