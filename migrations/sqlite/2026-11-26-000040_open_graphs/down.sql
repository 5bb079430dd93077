DROP INDEX open_graphs;
