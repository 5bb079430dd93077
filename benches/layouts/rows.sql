-- An edge is a row: today's tables without their foreign keys.
CREATE TABLE jobs (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     {name} NOT NULL,
    spec     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    PRIMARY KEY (graph_id, id),
    UNIQUE (graph_id, name)
) {clustered};

CREATE TABLE datasets (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     {name} NOT NULL,
    metadata TEXT,
    PRIMARY KEY (graph_id, id),
    UNIQUE (graph_id, name)
) {clustered};

CREATE TABLE job_inputs (
    graph_id   BIGINT NOT NULL,
    job_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL,
    PRIMARY KEY (graph_id, job_id, dataset_id)
) {clustered};

CREATE TABLE job_outputs (
    graph_id   BIGINT NOT NULL,
    job_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL,
    PRIMARY KEY (graph_id, dataset_id)
) {clustered};
