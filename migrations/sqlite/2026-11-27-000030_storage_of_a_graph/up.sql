-- How a graph is kept: as rows, or by its change log alone. Every conditional write compares it, so
-- that a program that takes a graph for another storage's writes nothing. A former program knows
-- only rows: end all of them before a graph is created in another storage.
ALTER TABLE graphs ADD COLUMN storage TEXT NOT NULL DEFAULT 'rows';
