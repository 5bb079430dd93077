DROP FUNCTION fencepost_commit_4;
ALTER TABLE leaders DROP COLUMN follows_load;
ALTER TABLE changes DROP COLUMN request;
