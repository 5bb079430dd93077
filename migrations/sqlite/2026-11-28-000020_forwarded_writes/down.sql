ALTER TABLE leaders DROP COLUMN follows_load;
ALTER TABLE changes DROP COLUMN request;
