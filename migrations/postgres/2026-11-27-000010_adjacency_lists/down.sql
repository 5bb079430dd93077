DROP VIEW input_edges;
DROP VIEW output_edges;

CREATE TABLE job_inputs (
    graph_id   BIGINT NOT NULL,
    job_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL
);
INSERT INTO job_inputs SELECT graph_id, id, unnest(inputs) FROM jobs ORDER BY graph_id, id;
CREATE TABLE job_outputs (
    graph_id   BIGINT NOT NULL,
    job_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL
);
INSERT INTO job_outputs
SELECT graph_id, producer, id FROM datasets WHERE producer IS NOT NULL ORDER BY graph_id, id;
ALTER TABLE jobs DROP COLUMN inputs;
ALTER TABLE datasets DROP COLUMN producer;

ALTER TABLE jobs ADD UNIQUE (graph_id, name);
ALTER TABLE datasets ADD UNIQUE (graph_id, name);
ALTER TABLE jobs ADD FOREIGN KEY (graph_id) REFERENCES graphs (id);
ALTER TABLE datasets ADD FOREIGN KEY (graph_id) REFERENCES graphs (id);
ALTER TABLE changes ADD FOREIGN KEY (graph_id) REFERENCES graphs (id);
ALTER TABLE idempotency_keys ADD FOREIGN KEY (graph_id) REFERENCES graphs (id);
ALTER TABLE job_inputs ADD PRIMARY KEY (graph_id, job_id, dataset_id);
ALTER TABLE job_inputs ADD FOREIGN KEY (graph_id, job_id) REFERENCES jobs (graph_id, id);
ALTER TABLE job_inputs ADD FOREIGN KEY (graph_id, dataset_id) REFERENCES datasets (graph_id, id);
CREATE INDEX job_inputs_by_dataset ON job_inputs (graph_id, dataset_id);
ALTER TABLE job_outputs ADD PRIMARY KEY (graph_id, dataset_id);
ALTER TABLE job_outputs ADD FOREIGN KEY (graph_id, job_id) REFERENCES jobs (graph_id, id);
ALTER TABLE job_outputs ADD FOREIGN KEY (graph_id, dataset_id) REFERENCES datasets (graph_id, id);
CREATE INDEX job_outputs_by_job ON job_outputs (graph_id, job_id);
