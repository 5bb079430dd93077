CREATE VIEW input_edges AS
    SELECT jobs.graph_id, jobs.id AS job_id, input.value AS dataset_id
    FROM jobs CROSS JOIN {each} (jobs.inputs) AS input {column}
    UNION ALL
    SELECT chunk.graph_id, chunk.job_id, input.value
    FROM job_inputs_chunks AS chunk CROSS JOIN {each} (chunk.inputs) AS input {column};
CREATE VIEW output_edges AS
    SELECT graph_id, producer AS job_id, id AS dataset_id FROM datasets WHERE producer IS NOT NULL;
