CREATE VIEW input_edges AS
    SELECT jobs.graph_id, jobs.id AS job_id, jobs.name AS job, input.value AS dataset_id
    FROM jobs CROSS JOIN {each} (jobs.inputs) AS input {column};
CREATE VIEW output_edges AS
    SELECT graph_id, producer AS job_id, id AS dataset_id, name AS dataset
    FROM datasets WHERE producer IS NOT NULL;
