-- A list of graphs looks at no graph that was deleted: those keep their rows for ever.
CREATE INDEX open_graphs ON graphs (name) WHERE state <> 'deleted';
