-- As lists, each id with the graph's before it: id = graph << 32 | id. SQLite only.
CREATE TABLE jobs (
    id      INTEGER NOT NULL PRIMARY KEY,
    name    TEXT    NOT NULL,
    spec    TEXT    NOT NULL,
    version BIGINT  NOT NULL,
    inputs  {list}  NOT NULL
);
CREATE UNIQUE INDEX jobs_by_name ON jobs (id >> 32, name);

CREATE TABLE datasets (
    id       INTEGER NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL,
    metadata TEXT,
    producer INTEGER
);
CREATE UNIQUE INDEX datasets_by_name ON datasets (id >> 32, name);
