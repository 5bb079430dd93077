-- Edges without rows of their own: a job holds the datasets that it reads, a dataset the job that
-- writes it. At most one producer then holds by construction. There are no foreign keys and no
-- index by name: a write holds the graph's row and was judged on the whole graph in memory, a load
-- refuses what refers to nothing and names that come twice, and `fencepost check-rows` compares
-- every row with the log. docs/DATABASES.md has the figures of this layout and of those that it was
-- chosen from, and what to add for looking up rows by name.

ALTER TABLE changes DROP CONSTRAINT changes_graph_id_fkey;
ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_graph_id_fkey;

-- Tables of their own: an update of every row would leave each twice.
CREATE TABLE jobs_with_inputs (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    spec     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    -- Ids of datasets, rising. No default: a program that does not know the column must not write.
    inputs   INTEGER[] NOT NULL
);
-- A long list is not compressed: each change would compress it again.
ALTER TABLE jobs_with_inputs ALTER COLUMN inputs SET STORAGE EXTERNAL;
INSERT INTO jobs_with_inputs
SELECT jobs.graph_id, jobs.id, jobs.name, jobs.spec, jobs.version, coalesce(list.inputs, '{}')
FROM jobs LEFT JOIN (
    SELECT graph_id, job_id, array_agg(dataset_id::integer ORDER BY dataset_id) AS inputs
    FROM job_inputs GROUP BY graph_id, job_id
) AS list ON list.graph_id = jobs.graph_id AND list.job_id = jobs.id
ORDER BY jobs.graph_id, jobs.id;

-- metadata is null where only jobs mention the dataset.
CREATE TABLE datasets_with_producers (
    graph_id BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    metadata TEXT,
    -- Id of the job that writes the dataset; null where none does.
    producer BIGINT
);
INSERT INTO datasets_with_producers
SELECT datasets.graph_id, datasets.id, datasets.name, datasets.metadata, job_outputs.job_id
FROM datasets LEFT JOIN job_outputs
ON job_outputs.graph_id = datasets.graph_id AND job_outputs.dataset_id = datasets.id
ORDER BY datasets.graph_id, datasets.id;

-- Whoever may use the tables may use the new ones.
DO $$
DECLARE
    given RECORD;
BEGIN
    FOR given IN
        SELECT CASE relname WHEN 'jobs' THEN 'jobs_with_inputs' ELSE 'datasets_with_producers' END AS to_table,
            privilege_type, is_grantable,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS to_role
        FROM pg_class CROSS JOIN LATERAL aclexplode(relacl)
        WHERE pg_class.oid IN ('jobs'::regclass, 'datasets'::regclass)
    LOOP
        EXECUTE format(
            'GRANT %s ON %I TO %s%s', given.privilege_type, given.to_table, given.to_role,
            CASE WHEN given.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        );
    END LOOP;
END
$$;

DROP TABLE job_inputs;
DROP TABLE job_outputs;
DROP TABLE jobs;
DROP TABLE datasets;
ALTER TABLE jobs_with_inputs RENAME TO jobs;
ALTER TABLE datasets_with_producers RENAME TO datasets;
ALTER TABLE jobs ADD CONSTRAINT jobs_pkey PRIMARY KEY (graph_id, id);
ALTER TABLE datasets ADD CONSTRAINT datasets_pkey PRIMARY KEY (graph_id, id);

-- For people: one row per edge.
CREATE VIEW input_edges AS
SELECT jobs.graph_id, jobs.id AS job_id, jobs.name AS job, datasets.id AS dataset_id, datasets.name AS dataset
FROM jobs CROSS JOIN LATERAL unnest(jobs.inputs) AS input (id)
JOIN datasets ON datasets.graph_id = jobs.graph_id AND datasets.id = input.id;

CREATE VIEW output_edges AS
SELECT jobs.graph_id, jobs.id AS job_id, jobs.name AS job, datasets.id AS dataset_id, datasets.name AS dataset
FROM datasets JOIN jobs ON jobs.graph_id = datasets.graph_id AND jobs.id = datasets.producer;
