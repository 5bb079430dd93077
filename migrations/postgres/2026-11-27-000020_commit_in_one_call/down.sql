DROP FUNCTION fencepost_commit_1;
ALTER TABLE idempotency_keys DROP COLUMN attempt;
