-- Edges without rows of their own: a job holds the datasets that it reads, a dataset the job that
-- writes it. At most one producer then holds by construction. There are no foreign keys and no
-- index by name: a write holds the graph's row and was judged on the whole graph in memory, a load
-- refuses what refers to nothing and names that come twice, and `fencepost check-rows` compares
-- every row with the log. docs/DATABASES.md has the figures of this layout and of those that it was
-- chosen from, and what to add for looking up rows by name.

CREATE TABLE jobs_with_inputs (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     TEXT   NOT NULL,
    spec     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    -- Ids of datasets as a JSON array, rising.
    inputs   TEXT   NOT NULL,
    PRIMARY KEY (graph_id, id)
) WITHOUT ROWID;
INSERT INTO jobs_with_inputs
SELECT graph_id, id, name, spec, version,
    (SELECT json_group_array(dataset_id) FROM (
        SELECT dataset_id FROM job_inputs
        WHERE job_inputs.graph_id = jobs.graph_id AND job_inputs.job_id = jobs.id
        ORDER BY dataset_id))
FROM jobs ORDER BY graph_id, id;

-- metadata is null where only jobs mention the dataset.
CREATE TABLE datasets_with_producers (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     TEXT   NOT NULL,
    metadata TEXT,
    -- Id of the job that writes the dataset; null where none does.
    producer BIGINT,
    PRIMARY KEY (graph_id, id)
) WITHOUT ROWID;
INSERT INTO datasets_with_producers
SELECT graph_id, id, name, metadata,
    (SELECT job_id FROM job_outputs
     WHERE job_outputs.graph_id = datasets.graph_id AND job_outputs.dataset_id = datasets.id)
FROM datasets ORDER BY graph_id, id;

DROP TABLE job_inputs;
DROP TABLE job_outputs;
DROP TABLE jobs;
DROP TABLE datasets;
ALTER TABLE jobs_with_inputs RENAME TO jobs;
ALTER TABLE datasets_with_producers RENAME TO datasets;

-- For people: one row per edge.
CREATE VIEW input_edges AS
SELECT jobs.graph_id, jobs.id AS job_id, jobs.name AS job, datasets.id AS dataset_id, datasets.name AS dataset
FROM jobs CROSS JOIN json_each(jobs.inputs) AS input
JOIN datasets ON datasets.graph_id = jobs.graph_id AND datasets.id = input.value;

CREATE VIEW output_edges AS
SELECT jobs.graph_id, jobs.id AS job_id, jobs.name AS job, datasets.id AS dataset_id, datasets.name AS dataset
FROM datasets JOIN jobs ON jobs.graph_id = datasets.graph_id AND jobs.id = datasets.producer;
