DROP FUNCTION fencepost_commit_3;
DROP TABLE leaders;
DROP TABLE leader_nodes;
ALTER TABLE graphs DROP COLUMN leader_token;
