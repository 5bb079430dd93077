-- The memory of the lock that a Postgres database is for itself: which epoch a key's tokens are of, and what counts them.

-- Every exclusive grant of any key takes a number: a key's tokens rise, with gaps.
CREATE SEQUENCE lock_tokens AS BIGINT;

-- UNLOGGED: whatever could have made the server forget a token that it gave (a crash, a standby that took over, a backup that was restored)
-- empties this table, and a key without a row wants seeding.
CREATE UNLOGGED TABLE lock_epochs (
    key         TEXT   NOT NULL PRIMARY KEY,
    -- The run of the server that the key was seeded in: it is not trusted in another.
    incarnation TEXT   NOT NULL,
    epoch       BIGINT NOT NULL,
    -- The number that the first token of the epoch, whose counter is 1, stands for.
    base        BIGINT NOT NULL
);

-- Takes the session's advisory lock. wait_ms: 0 only tries, -1 waits for ever. From then on the server ends the session, and so gives the lock to
-- the next, once nothing was heard of it for lease_ms.
-- NULL: it was not to be had. Otherwise the epoch and the counter of an exclusive grant's token, or nothing where there is none.
-- A function, because each of its statements sees what was committed before that statement: a single statement would read the epoch as it was
-- before the wait.
CREATE FUNCTION take_lock(lock_key TEXT, advisory BIGINT, is_exclusive BOOLEAN, wait_ms INTEGER, lease_ms INTEGER, run TEXT)
RETURNS BIGINT[]
LANGUAGE plpgsql AS $$
DECLARE
    taken BOOLEAN;
BEGIN
    IF wait_ms = 0 THEN
        IF is_exclusive THEN
            taken := pg_try_advisory_lock(advisory);
        ELSE
            taken := pg_try_advisory_lock_shared(advisory);
        END IF;
        IF NOT taken THEN
            RETURN NULL;
        END IF;
    ELSE
        PERFORM set_config('lock_timeout', greatest(wait_ms, 0)::text, true);
        BEGIN
            IF is_exclusive THEN
                PERFORM pg_advisory_lock(advisory);
            ELSE
                PERFORM pg_advisory_lock_shared(advisory);
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            -- The time may run out just when the lock is granted, and a session's lock outlives the error.
            PERFORM pg_advisory_unlock_all();
            RETURN NULL;
        END;
    END IF;
    PERFORM set_config('idle_session_timeout', lease_ms::text, false);
    IF NOT is_exclusive THEN
        RETURN '{}';
    END IF;
    RETURN coalesce(
        (SELECT ARRAY[epoch, nextval('lock_tokens') - base + 1] FROM lock_epochs WHERE key = lock_key AND incarnation = run),
        '{}'
    );
END
$$;

-- Gives it back; whether the session held it.
CREATE FUNCTION give_lock(advisory BIGINT, is_exclusive BOOLEAN) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('idle_session_timeout', '0', false);
    IF is_exclusive THEN
        RETURN pg_advisory_unlock(advisory);
    END IF;
    RETURN pg_advisory_unlock_shared(advisory);
END
$$;
