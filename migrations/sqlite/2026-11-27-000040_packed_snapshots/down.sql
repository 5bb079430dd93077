-- Without its snapshots a graph whose log was pruned could not be loaded any more.
CREATE TABLE kept_whole (
    oldest INTEGER CONSTRAINT "a log was pruned behind a snapshot: export and delete its graph first"
        CHECK (oldest <= 1)
);
INSERT INTO kept_whole SELECT oldest FROM graphs WHERE storage = 'log' AND state <> 'deleted';
DROP TABLE kept_whole;
DROP TABLE packed_claims;
DROP TABLE packed_parts;
DROP TABLE packed_snapshots;
