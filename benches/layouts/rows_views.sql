CREATE VIEW input_edges AS SELECT graph_id, job_id, dataset_id FROM job_inputs;
CREATE VIEW output_edges AS SELECT graph_id, job_id, dataset_id FROM job_outputs;
