-- Which attempt kept the answer: a commit that kept nothing but answers is found by it. Null where
-- a former program kept it.
ALTER TABLE idempotency_keys ADD COLUMN attempt TEXT;
