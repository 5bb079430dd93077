-- A job's inputs are a list of datasets' ids in its row, and a dataset names the job that writes
-- it: no dataset can have two.
CREATE TABLE jobs (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     {name} NOT NULL,
    spec     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    inputs   {list} NOT NULL,
    PRIMARY KEY (graph_id, id){by_name}
) {clustered};

CREATE TABLE datasets (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     {name} NOT NULL,
    metadata TEXT,
    producer INTEGER,
    PRIMARY KEY (graph_id, id){by_name}
) {clustered};
