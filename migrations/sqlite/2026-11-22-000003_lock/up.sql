-- Nothing: SQLite has no locks to lend, a directory guards it. Here so that both databases count the same migrations.
SELECT 1;
