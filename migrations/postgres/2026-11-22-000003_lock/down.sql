-- Takes the lock's memory back: it is empty when it comes again, and every graph's epoch is raised.
DROP FUNCTION give_lock;
DROP FUNCTION take_lock;
DROP TABLE lock_epochs;
DROP SEQUENCE lock_tokens;
