DROP VIEW input_edges;
DROP VIEW output_edges;

ALTER TABLE jobs RENAME TO jobs_with_inputs;
ALTER TABLE datasets RENAME TO datasets_with_producers;
CREATE TABLE jobs (
    graph_id BIGINT NOT NULL REFERENCES graphs (id),
    id       BIGINT NOT NULL,
    name     TEXT   NOT NULL,
    spec     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    PRIMARY KEY (graph_id, id),
    UNIQUE (graph_id, name)
) WITHOUT ROWID;
INSERT INTO jobs SELECT graph_id, id, name, spec, version FROM jobs_with_inputs ORDER BY graph_id, id;
CREATE TABLE datasets (
    graph_id BIGINT NOT NULL REFERENCES graphs (id),
    id       BIGINT NOT NULL,
    name     TEXT   NOT NULL,
    metadata TEXT,
    PRIMARY KEY (graph_id, id),
    UNIQUE (graph_id, name)
) WITHOUT ROWID;
INSERT INTO datasets SELECT graph_id, id, name, metadata FROM datasets_with_producers ORDER BY graph_id, id;

CREATE TABLE job_inputs (
    graph_id   BIGINT NOT NULL,
    job_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL,
    PRIMARY KEY (graph_id, job_id, dataset_id),
    FOREIGN KEY (graph_id, job_id) REFERENCES jobs (graph_id, id),
    FOREIGN KEY (graph_id, dataset_id) REFERENCES datasets (graph_id, id)
) WITHOUT ROWID;
INSERT INTO job_inputs
SELECT old.graph_id, old.id, input.value
FROM jobs_with_inputs AS old CROSS JOIN json_each(old.inputs) AS input;
CREATE INDEX job_inputs_by_dataset ON job_inputs (graph_id, dataset_id);
CREATE TABLE job_outputs (
    graph_id   BIGINT NOT NULL,
    job_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL,
    PRIMARY KEY (graph_id, dataset_id),
    FOREIGN KEY (graph_id, job_id) REFERENCES jobs (graph_id, id),
    FOREIGN KEY (graph_id, dataset_id) REFERENCES datasets (graph_id, id)
) WITHOUT ROWID;
INSERT INTO job_outputs
SELECT graph_id, producer, id FROM datasets_with_producers WHERE producer IS NOT NULL;
CREATE INDEX job_outputs_by_job ON job_outputs (graph_id, job_id);

DROP TABLE jobs_with_inputs;
DROP TABLE datasets_with_producers;
