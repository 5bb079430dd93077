-- Takes the history back: the graphs stay, who changed what is lost.
DROP TABLE idempotency_keys;
DROP TABLE changes;
