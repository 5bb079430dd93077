-- A write that one node has passed on to another: the name of that request, and `+` after it if the
-- change has created something that the request names. When the answer is lost, the node that passed
-- it on looks the name up.
ALTER TABLE changes ADD COLUMN request TEXT;

-- 1: the graph is led by the node through which most of its writes come. That node is not asked to
-- give it up so that another has its share.
ALTER TABLE leaders ADD COLUMN follows_load BIGINT NOT NULL DEFAULT 0;
