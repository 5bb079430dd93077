-- How a graph is kept: as rows with a change log, as rows without, or by its log alone. Every
-- conditional write compares it, so that a program that takes a graph for another storage's writes
-- nothing. A former program knows only rows, and would take a graph of another storage for an empty
-- one: end all of them before such a graph is created. Should one be left, it cannot write: it sets
-- the version of such a graph and not the known version, which must be the same.
ALTER TABLE graphs ADD COLUMN storage TEXT NOT NULL DEFAULT 'rows';
ALTER TABLE graphs ADD COLUMN known_version BIGINT
    CHECK (storage = 'rows' OR known_version IS NOT NULL AND known_version = version);
