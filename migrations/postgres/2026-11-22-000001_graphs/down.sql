-- Takes everything back: all graphs are lost.
DROP TABLE job_outputs;
DROP TABLE job_inputs;
DROP TABLE datasets;
DROP TABLE jobs;
DROP TABLE graphs;
DROP TABLE service;
