-- The former program knows only rows, and would take other graphs for empty ones.
CREATE TABLE kept_as_rows (
    storage TEXT CONSTRAINT "a graph is not kept as rows: export and delete it first"
        CHECK (storage = 'rows')
);
INSERT INTO kept_as_rows SELECT storage FROM graphs WHERE state <> 'deleted';
DROP TABLE kept_as_rows;
ALTER TABLE graphs DROP COLUMN known_version;
ALTER TABLE graphs DROP COLUMN storage;
