-- Beside lists: what a job reads beyond its first 256 inputs, 256 a row.
CREATE TABLE job_inputs_chunks (
    graph_id BIGINT  NOT NULL,
    job_id   BIGINT  NOT NULL,
    chunk    INTEGER NOT NULL,
    inputs   {list}  NOT NULL,
    PRIMARY KEY (graph_id, job_id, chunk)
) {clustered};
