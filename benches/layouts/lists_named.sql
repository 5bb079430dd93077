-- As lists, without a key of ids: rows are found by name alone, and a loader compares the ids.
CREATE TABLE jobs (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     {name} NOT NULL,
    spec     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    inputs   {list} NOT NULL,
    PRIMARY KEY (graph_id, name)
) {clustered};

CREATE TABLE datasets (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     {name} NOT NULL,
    metadata TEXT,
    producer INTEGER,
    PRIMARY KEY (graph_id, name)
) {clustered};
