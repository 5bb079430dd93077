DROP TABLE leaders;
DROP TABLE leader_nodes;
ALTER TABLE graphs DROP COLUMN leader_token;
