-- The way back along an edge.
CREATE INDEX job_inputs_by_dataset ON job_inputs (graph_id, dataset_id);
CREATE INDEX job_outputs_by_job ON job_outputs (graph_id, job_id);
