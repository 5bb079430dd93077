CREATE VIEW input_edges AS
    SELECT edge.graph_id, edge.job_id, jobs.name AS job, edge.dataset_id
    FROM job_inputs AS edge
    JOIN jobs ON jobs.graph_id = edge.graph_id AND jobs.id = edge.job_id;
CREATE VIEW output_edges AS
    SELECT edge.graph_id, edge.job_id, edge.dataset_id, datasets.name AS dataset
    FROM job_outputs AS edge
    JOIN datasets ON datasets.graph_id = edge.graph_id AND datasets.id = edge.dataset_id;
