-- A write that one node has passed on to another: the name of that request, and `+` after it if the
-- change has created something that the request names. When the answer is lost, the node that passed
-- it on looks the name up.
ALTER TABLE changes ADD COLUMN request TEXT;

-- 1: the graph is led by the node through which most of its writes come. That node is not asked to
-- give it up so that another has its share.
ALTER TABLE leaders ADD COLUMN follows_load BIGINT NOT NULL DEFAULT 0;

-- Commits a batch of writes to a graph, as one statement and so in one round trip. Either all of it
-- is written, or nothing. The number in its name is its version: a change makes a new function
-- beside it, so that programs of both versions can run at once. It is fencepost_commit_3, and notes
-- in the log which request made a change. For a graph that is kept by its log alone no rows are
-- given.
--
-- Each statement below sees what was committed before that statement began, as the transaction is
-- READ COMMITTED. So whatever follows the statement that locks the graph's row sees all that
-- earlier writers of the graph have done.
CREATE FUNCTION fencepost_commit_4(
    -- The session that the caller has set up; null: any. A pooler may have lent another one.
    own_backend INTEGER,
    graph BIGINT,
    -- The state that the batch was decided on. The UUID tells graphs apart whose histories are
    -- equal.
    read_uuid TEXT,
    read_storage TEXT,
    read_version BIGINT,
    read_chain BYTEA,
    -- The fencing token; null: the batch is written without a lock.
    token BIGINT,
    -- The token of the graph's leader; null: the batch is written by somebody else.
    leader BIGINT,
    -- Names the attempt in the log.
    this_attempt TEXT,
    -- Whether the same call was sent before, and its answer was lost.
    sent_before BOOLEAN,
    -- What it leads to.
    next_version BIGINT,
    next_chain BYTEA,
    -- Of the change log, from read_version + 1 on.
    log_token BIGINT,
    log_changes TEXT[],
    log_chains BYTEA[],
    log_actors TEXT[],
    -- Which request made each change; empty: of none is that noted.
    log_requests TEXT[],
    -- The rows.
    gone_jobs BIGINT[],
    gone_datasets BIGINT[],
    changed_datasets BIGINT[],
    changed_metadata TEXT[],
    changed_producers BIGINT[],
    changed_jobs BIGINT[],
    changed_specs TEXT[],
    changed_versions BIGINT[],
    changed_inputs TEXT[],
    new_datasets BIGINT[],
    new_dataset_names TEXT[],
    new_metadata TEXT[],
    new_producers BIGINT[],
    new_jobs BIGINT[],
    new_job_names TEXT[],
    new_specs TEXT[],
    new_versions BIGINT[],
    new_inputs TEXT[],
    -- Idempotency keys of all requests of the batch, and the answers to keep.
    batch_keys TEXT[],
    answer_keys TEXT[],
    answer_fingerprints TEXT[],
    answer_texts TEXT[],
    key_age_max_ms BIGINT,
    -- 'written', now or by an earlier call of this attempt; 'refused'; 'keys taken'; 'pruned':
    -- whether an earlier call was written cannot be told any more; 'another session'.
    OUT outcome TEXT,
    -- If refused: the graph's row as it is, and the first changes since read_version.
    OUT head_id BIGINT,
    OUT head_name TEXT,
    OUT head_state TEXT,
    OUT head_moved_to TEXT,
    OUT head_version BIGINT,
    OUT head_fence BIGINT,
    OUT head_epoch BIGINT,
    OUT head_lock_incarnation TEXT,
    OUT head_chain BYTEA,
    OUT head_uuid TEXT,
    OUT head_oldest BIGINT,
    OUT head_storage TEXT,
    OUT head_leader_token BIGINT,
    OUT since_changes TEXT[],
    OUT since_chains BYTEA[],
    -- If keys are taken: which, and the answers kept under them.
    OUT taken_keys TEXT[],
    OUT taken_fingerprints TEXT[],
    OUT taken_answers TEXT[]
) LANGUAGE plpgsql AS $$
DECLARE
    now_ms BIGINT;
    touched INTEGER;
    -- What of the rows was not as the batch was decided on; null: nothing.
    differing TEXT;
BEGIN
    IF own_backend <> pg_backend_pid() THEN
        outcome := 'another session';
        RETURN;
    END IF;

    IF sent_before OR cardinality(batch_keys) > 0 THEN
        PERFORM FROM graphs WHERE graphs.id = graph FOR NO KEY UPDATE;
    END IF;
    IF sent_before THEN
        IF EXISTS (
            SELECT FROM changes WHERE changes.graph_id = graph
            AND changes.version > read_version AND changes.attempt = this_attempt
        )
        OR cardinality(log_changes) = 0 AND NOT EXISTS (
            SELECT FROM unnest(answer_keys) AS answer (key) WHERE NOT EXISTS (
                SELECT FROM idempotency_keys AS kept
                WHERE kept.graph_id = graph AND kept.key = answer.key
                AND kept.attempt = this_attempt
            )
        ) THEN
            outcome := 'written';
            RETURN;
        END IF;
        IF EXISTS (
            SELECT FROM graphs WHERE graphs.id = graph AND graphs.oldest > read_version + 1
            AND graphs.storage <> 'rows_plain'
        ) THEN
            outcome := 'pruned';
            RETURN;
        END IF;
    END IF;
    IF cardinality(batch_keys) > 0 THEN
        now_ms := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
        -- The sum keeps the planner from the index by age, which has all keys of the graph.
        SELECT array_agg(kept.key), array_agg(kept.fingerprint), array_agg(kept.answer)
        INTO taken_keys, taken_fingerprints, taken_answers
        FROM idempotency_keys AS kept
        WHERE kept.graph_id = graph AND kept.key = ANY (batch_keys)
        AND kept.created_at_ms + 0 >= now_ms - key_age_max_ms
        AND kept.attempt IS DISTINCT FROM this_attempt;
        IF taken_keys IS NOT NULL THEN
            outcome := 'keys taken';
            RETURN;
        END IF;
    END IF;

    UPDATE graphs
    SET version = next_version, known_version = next_version, chain = next_chain,
        fence = coalesce(token, graphs.fence),
        -- There is nothing to read of a log that holds attempts only.
        oldest = CASE graphs.storage WHEN 'rows_plain' THEN next_version + 1 ELSE graphs.oldest END
    WHERE graphs.id = graph AND graphs.state = 'open'
    AND graphs.storage = read_storage
    AND graphs.uuid = read_uuid
    AND graphs.version = read_version
    AND graphs.chain = read_chain
    AND (token IS NULL OR graphs.fence <= token)
    AND (leader IS NULL OR graphs.leader_token = leader);
    IF NOT FOUND THEN
        outcome := 'refused';
        SELECT graphs.id, graphs.name, graphs.state, graphs.moved_to, graphs.version, graphs.fence,
            graphs.epoch, graphs.lock_incarnation, graphs.chain, graphs.uuid, graphs.oldest,
            graphs.storage, graphs.leader_token
        INTO head_id, head_name, head_state, head_moved_to, head_version, head_fence,
            head_epoch, head_lock_incarnation, head_chain, head_uuid, head_oldest,
            head_storage, head_leader_token
        FROM graphs WHERE graphs.id = graph;
        SELECT array_agg(since.change ORDER BY since.version),
            array_agg(since.chain ORDER BY since.version)
        INTO since_changes, since_chains
        FROM (
            SELECT page.*, sum(length(page.change)) OVER (ORDER BY page.version) AS characters
            FROM (
                SELECT changes.version, changes.change, changes.chain FROM changes
                WHERE changes.graph_id = graph AND changes.version > read_version
                AND changes.version <= head_version
                ORDER BY changes.version LIMIT 256
            ) AS page
        ) AS since
        WHERE since.characters <= 1048576;
        RETURN;
    END IF;
    now_ms := coalesce(now_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);

    -- What goes, goes first: ids are used again within one batch.
    IF cardinality(gone_jobs) > 0 THEN
        DELETE FROM jobs WHERE jobs.graph_id = graph AND jobs.id = ANY (gone_jobs);
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(gone_jobs) THEN
            differing := format('%s of %s jobs to be deleted', touched, cardinality(gone_jobs));
        END IF;
    END IF;
    IF cardinality(gone_datasets) > 0 THEN
        DELETE FROM datasets WHERE datasets.graph_id = graph AND datasets.id = ANY (gone_datasets);
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(gone_datasets) THEN
            differing :=
                format('%s of %s datasets to be deleted', touched, cardinality(gone_datasets));
        END IF;
    END IF;
    IF cardinality(changed_datasets) > 0 THEN
        UPDATE datasets SET metadata = new.metadata, producer = new.producer
        FROM unnest(changed_datasets, changed_metadata, changed_producers)
            AS new (id, metadata, producer)
        WHERE datasets.graph_id = graph AND datasets.id = ANY (changed_datasets)
        AND datasets.id = new.id;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(changed_datasets) THEN
            differing :=
                format('%s of %s datasets to be changed', touched, cardinality(changed_datasets));
        END IF;
    END IF;
    IF cardinality(changed_jobs) > 0 THEN
        UPDATE jobs SET spec = coalesce(new.spec, jobs.spec), version = new.version,
            inputs = coalesce(new.inputs::integer[], jobs.inputs)
        FROM unnest(changed_jobs, changed_specs, changed_versions, changed_inputs)
            AS new (id, spec, version, inputs)
        WHERE jobs.graph_id = graph AND jobs.id = ANY (changed_jobs) AND jobs.id = new.id;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(changed_jobs) THEN
            differing := format('%s of %s jobs to be changed', touched, cardinality(changed_jobs));
        END IF;
    END IF;
    IF cardinality(new_datasets) > 0 THEN
        INSERT INTO datasets (graph_id, id, name, metadata, producer)
        SELECT graph, new.*
        FROM unnest(new_datasets, new_dataset_names, new_metadata, new_producers) AS new;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(new_datasets) THEN
            differing :=
                format('%s of %s datasets to be added', touched, cardinality(new_datasets));
        END IF;
    END IF;
    IF cardinality(new_jobs) > 0 THEN
        INSERT INTO jobs (graph_id, id, name, spec, version, inputs)
        SELECT graph, new.id, new.name, new.spec, new.version, new.inputs::integer[]
        FROM unnest(new_jobs, new_job_names, new_specs, new_versions, new_inputs)
            AS new (id, name, spec, version, inputs);
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(new_jobs) THEN
            differing := format('%s of %s jobs to be added', touched, cardinality(new_jobs));
        END IF;
    END IF;

    IF cardinality(log_changes) > 0 THEN
        INSERT INTO changes
            (graph_id, version, change, chain, attempt, token, committed_at_ms, actor, request)
        SELECT graph, read_version + new.place, new.change, new.chain, this_attempt, log_token,
            now_ms, new.actor, new.request
        FROM unnest(log_changes, log_chains, log_actors, log_requests) WITH ORDINALITY
            AS new (change, chain, actor, request, place);
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(log_changes) THEN
            differing :=
                format('%s of %s changes to be added to the log', touched, cardinality(log_changes));
        END IF;
    END IF;
    -- The image was not what is stored, or a trigger or rule of the database interferes.
    IF differing IS NOT NULL THEN
        RAISE check_violation
            USING MESSAGE = 'the stored rows are not those that were read: ' || differing;
    END IF;
    IF cardinality(answer_keys) > 0 THEN
        -- One that is there is too old, or was kept by this attempt.
        INSERT INTO idempotency_keys AS kept
            (graph_id, key, fingerprint, answer, created_at_ms, attempt)
        SELECT graph, new.key, new.fingerprint, new.answer, now_ms, this_attempt
        FROM unnest(answer_keys, answer_fingerprints, answer_texts)
            AS new (key, fingerprint, answer)
        ON CONFLICT (graph_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
            answer = excluded.answer, created_at_ms = excluded.created_at_ms,
            attempt = excluded.attempt
        WHERE kept.created_at_ms < now_ms - key_age_max_ms OR kept.attempt = this_attempt;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched <> cardinality(answer_keys) THEN
            RAISE unique_violation
                USING MESSAGE = 'an answer is kept under a key that was not asked for';
        END IF;
    END IF;
    outcome := 'written';
END $$;
