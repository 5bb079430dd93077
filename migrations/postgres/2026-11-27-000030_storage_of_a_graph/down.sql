-- The former program knows only rows, and would take other graphs for empty ones.
DO $$
BEGIN
    IF EXISTS (SELECT FROM graphs WHERE storage <> 'rows' AND state <> 'deleted') THEN
        RAISE EXCEPTION 'a graph is not kept as rows: export and delete it first';
    END IF;
END
$$;
DROP FUNCTION fencepost_commit_2;
ALTER TABLE graphs DROP COLUMN known_version;
ALTER TABLE graphs DROP COLUMN storage;
