-- What was pruned does not come back.
DROP TABLE snapshot_parts;
DROP TABLE snapshots;
DROP TABLE consumers;
ALTER TABLE graphs DROP COLUMN oldest;
ALTER TABLE graphs DROP COLUMN uuid;
