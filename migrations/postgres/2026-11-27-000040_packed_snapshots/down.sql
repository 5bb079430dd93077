-- Without its snapshots a graph whose log was pruned could not be loaded any more.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM graphs WHERE storage = 'log' AND state <> 'deleted' AND oldest > 1
    ) THEN
        RAISE EXCEPTION 'a log was pruned behind a snapshot: export and delete its graph first';
    END IF;
END
$$;
DROP TABLE packed_claims;
DROP TABLE packed_parts;
DROP TABLE packed_snapshots;
