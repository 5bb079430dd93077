-- The lock of one graph, as one script: what it does is its first argument. Redis runs a script to
-- its end before anything else. docs/LOCK.md tells the protocol, and why it excludes.
--
-- Whatever it does, it first takes out what has expired. It grants in two places: an asker whom
-- nothing stands in the way of, in `acquire`, and those who wait, in `hand_over`; so an expired
-- lease hands the lock on as a release does.
--
-- A request is `PROCESS#NUMBER`. Times are milliseconds of this server's clock.

-- Builds for tests load it without one of the guards that `guards.rs` lists, to show that the tests
-- then fail.

-- state: a hash. readers: holders by the end of their leases. queue: waiting writers by ticket.
-- patience: the same by the end of their leases. crowd: waiting readers by the end of their leases.
-- ended: requests that must not be granted any more, until when.
local state, readers, queue = KEYS[1], KEYS[2], KEYS[3]
local patience, crowd, ended = KEYS[4], KEYS[5], KEYS[6]

local what = ARGV[1]
-- The run id of this server, as the client was told when it connected; a connection cannot outlive
-- it.
local run = ARGV[2]
-- A lease, and how long a grant that was handed over may stay unclaimed.
local lease_ms, claim_ms = tonumber(ARGV[3]), tonumber(ARGV[4])

local MOST_AT_ONCE = 100
local LAST_COUNTER = 1099511627775
local NEVER = 9007199254740992

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

local held = redis.call(
    'HMGET', state,
    'writer', 'ends', 'incarnation', 'epoch', 'counter', 'unsealed', 'last', 'soonest'
)
local writer, ends = held[1], tonumber(held[2] or 0)
local seeded, epoch, counter = held[3], held[4], tonumber(held[5] or 0)
-- Whether a writer's lease has run out since a writer has last sealed its token in the database.
local unsealed = held[6] == '1'
-- Whom the lock was last granted to, a reader or a writer.
local last = held[7]
-- Before then nothing expires but a writer's lease; nothing known means now. It saves looking at
-- four sets each time.
local soonest = tonumber(held[8] or 0)
if writer == '' then writer = false end

-- Whether there is anyone beside a writer. Most often there is not, and much need not be looked at.
local others = redis.call('EXISTS', readers, queue, crowd, ended) > 0

local function purge()
    if writer and ends <= now then
        writer = false
        unsealed = true
        redis.call('HSET', state, 'writer', '', 'unsealed', unsealed and 1 or 0)
    end
    if not others or now < soonest then return end
    redis.call('ZREMRANGEBYSCORE', readers, '-inf', now)
    redis.call('ZREMRANGEBYSCORE', ended, '-inf', now)
    redis.call('ZREMRANGEBYSCORE', crowd, '-inf', now)
    repeat
        local gone = redis.call('ZRANGEBYSCORE', patience, '-inf', now, 'LIMIT', 0, MOST_AT_ONCE)
        if #gone > 0 then
            redis.call('ZREM', patience, unpack(gone))
            redis.call('ZREM', queue, unpack(gone))
        end
    until #gone < MOST_AT_ONCE
    soonest = NEVER
    for _, key in ipairs({ readers, patience, crowd, ended }) do
        local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
        soonest = math.min(soonest, tonumber(first or NEVER))
    end
    redis.call('HSET', state, 'soonest', soonest)
end

-- Notes that something will expire then.
local function expects(expiry)
    if expiry < soonest then
        soonest = expiry
        redis.call('HSET', state, 'soonest', soonest)
    end
end

-- Which memory this is: of a server that was started, or made a primary, anew, it may have gone
-- back.
local this_memory
local function incarnation()
    if not this_memory then
        local replication = redis.call('INFO', 'replication')
        this_memory = run .. '-' .. string.match(replication, 'master_replid:(%w+)')
    end
    return this_memory
end

-- What a writer is told with its grant: epoch and counter of its token, both empty if the lock must
-- be seeded first.
local function token()
    local this = incarnation()
    if seeded ~= this or held[5] == false or counter == 0 then return '', '', this end
    return epoch, string.format('%.0f', counter), this
end

-- Whether a request waits for the lock.
local function is_wanted()
    return others and redis.call('EXISTS', queue, crowd) > 0
end

local function writer_holds()
    local of_epoch, count, this = token()
    return { 'held', of_epoch, count, this, unsealed and '1' or '0', is_wanted() and '1' or '0' }
end

-- The next token, unless the counter is used up or cannot be trusted: then 0, which no token has.
local function give_to_writer(request, term_ms)
    local counts = seeded == incarnation() and counter > 0 and counter < LAST_COUNTER
    counter = counts and counter + 1 or 0
    writer, ends, last = request, now + term_ms, 'w'
    redis.call('HSET', state, 'writer', writer, 'ends', ends, 'counter', counter, 'last', last)
end

local function process_of(request) return string.match(request, '^(.*)#') end
local function number_of(request) return string.match(request, '#(%d+)$') end

local function tell(process, message)
    redis.call('PUBLISH', 'fencepost:lock:' .. process, message)
end

local function admit_crowd()
    repeat
        local some = redis.call('ZRANGE', crowd, 0, MOST_AT_ONCE - 1)
        local until_claimed, told = {}, {}
        for at, request in ipairs(some) do
            until_claimed[2 * at - 1], until_claimed[2 * at] = now + claim_ms, request
            local process = process_of(request)
            told[process] = (told[process] or '') .. ' ' .. number_of(request)
        end
        if #some > 0 then
            redis.call('ZADD', readers, unpack(until_claimed))
            expects(now + claim_ms)
            redis.call('ZREM', crowd, unpack(some))
            for process, numbers in pairs(told) do
                tell(process, string.format('r %.0f', now_us) .. numbers)
            end
        end
    until #some < MOST_AT_ONCE
    last = 'r'
    redis.call('HSET', state, 'last', last)
end

-- Phase-fair: after a writer all readers that wait, after them the writer that has waited longest.
local function hand_over()
    if writer or not others then return end
    local first = redis.call('ZRANGE', queue, 0, 0)[1]
    local someone_reads = redis.call('EXISTS', readers) == 1
    local someone_would = redis.call('EXISTS', crowd) == 1
    if first and not someone_reads and not (someone_would and last == 'w') then
        redis.call('ZREM', queue, first)
        redis.call('ZREM', patience, first)
        give_to_writer(first, claim_ms)
        local of_epoch, count, this = token()
        local message = {
            'w', string.format('%.0f', now_us), number_of(first), of_epoch, count, this,
            unsealed and '1' or '0',
        }
        tell(process_of(first), table.concat(message, ' '))
    elseif someone_would and not (first and someone_reads) then
        admit_crowd()
    end
end

-- How long until those in the way will have expired, if nothing is heard of them.
local function until_free()
    if writer then return ends - now end
    local longest = redis.call('ZRANGE', readers, -1, -1, 'WITHSCORES')[2]
    return longest and tonumber(longest) - now or 0
end

-- The grant of a request that holds the lock, renewed; nil of one that does not, or not in that
-- mode.
local function renewed(request, mode)
    if writer == request then
        ends = now + lease_ms
        redis.call('HSET', state, 'ends', ends)
        return writer_holds()
    end
    if mode ~= 'w' and others and redis.call('ZSCORE', readers, request) then
        redis.call('ZADD', readers, now + lease_ms, request)
        expects(now + lease_ms)
        return { 'held' }
    end
end

-- REQUEST MODE PATIENCE_MS: takes the lock, or waits in line with a lease of that length; with 0,
-- does neither. The same request may come twice, if an answer was lost, and late, after its
-- release.
local function acquire(request, mode, patience_ms)
    purge()
    hand_over()
    if others and redis.call('ZSCORE', ended, request) then return { 'ended' } end
    local grant = renewed(request, mode)
    if grant then return grant end
    if mode == 'r' and not writer and not (others and redis.call('EXISTS', queue) == 1) then
        redis.call('ZADD', readers, now + lease_ms, request)
        expects(now + lease_ms)
        if last ~= 'r' then redis.call('HSET', state, 'last', 'r') end
        return { 'held' }
    end
    if mode == 'w' and not writer and not (others and redis.call('EXISTS', readers) == 1) then
        give_to_writer(request, lease_ms)
        return writer_holds()
    end
    if patience_ms == 0 then return { 'busy' } end
    -- A writer may keep the lock from one turn to the next. The first request to wait behind it
    -- tells it so.
    if writer and not is_wanted() then
        tell(process_of(writer), string.format('k %.0f ', now_us) .. number_of(writer))
    end
    if mode == 'r' then
        redis.call('ZADD', crowd, now + patience_ms, request)
    else
        -- A ticket that it has already, it keeps.
        redis.call('ZADD', queue, 'NX', redis.call('HINCRBY', state, 'tickets', 1), request)
        redis.call('ZADD', patience, now + patience_ms, request)
    end
    expects(now + patience_ms)
    return { 'queued', tostring(until_free()) }
end

-- REQUEST SEALED REMEMBER_MS: ends the request, whether it holds the lock or waits for it. SEALED
-- is 1 if its token was sealed in the database. With REMEMBER_MS, it is not granted for so long
-- even if an `acquire` of it arrives only now.
local function release(request, sealed, remember_ms)
    purge()
    local was, freed = 'none', false
    if writer == request then
        writer, was, freed = false, 'held', true
        if sealed == '1' then
            unsealed = false
            redis.call('HSET', state, 'unsealed', 0)
        end
    elseif others and redis.call('ZREM', readers, request) == 1 then
        was = 'held'
    elseif others and redis.call('ZREM', crowd, request) == 1 then
        was = 'queued'
    elseif others and redis.call('ZREM', queue, request) == 1 then
        redis.call('ZREM', patience, request)
        was = 'queued'
    end
    if remember_ms > 0 then
        redis.call('ZADD', ended, now + remember_ms, request)
        expects(now + remember_ms)
    end
    hand_over()
    -- Unless somebody else is written there by now.
    if freed and not writer then redis.call('HSET', state, 'writer', '') end
    return was
end

-- PATIENCE_MS REQUEST…: renews what they hold, and claims what was handed over; or renews their
-- place in line. The time in microseconds, and of each what `acquire` would say, or `none`.
local function renew(patience_ms, from)
    purge()
    hand_over()
    local answers = { string.format('%.0f', now_us) }
    for at = from, #ARGV do
        local request = ARGV[at]
        local answer = renewed(request, 'either')
        if answer then
        elseif others and redis.call('ZSCORE', queue, request) then
            redis.call('ZADD', patience, now + patience_ms, request)
            expects(now + patience_ms)
            answer = { 'queued', tostring(until_free()) }
        elseif others and redis.call('ZSCORE', crowd, request) then
            redis.call('ZADD', crowd, now + patience_ms, request)
            expects(now + patience_ms)
            answer = { 'queued', tostring(until_free()) }
        end
        answers[#answers + 1] = answer or { 'none' }
    end
    return answers
end

-- REQUEST INCARNATION EPOCH: the tokens are of this epoch from here on. The writer's own is the
-- first.
local function seed(request, of_incarnation, of_epoch)
    purge()
    hand_over()
    if writer ~= request then return 'none' end
    redis.call('HSET', state, 'incarnation', of_incarnation, 'epoch', of_epoch, 'counter', 1)
    return 'held'
end

-- All there is, up to so many of each; changes nothing.
local function inspect()
    local function some(key)
        local first = redis.call('ZRANGE', key, 0, MOST_AT_ONCE - 1, 'WITHSCORES')
        return { redis.call('ZCARD', key), first }
    end
    return {
        string.format('%.0f', now), incarnation(), redis.call('HGETALL', state),
        some(readers), some(queue), some(patience), some(crowd), some(ended),
    }
end

if what == 'acquire' then return acquire(ARGV[5], ARGV[6], tonumber(ARGV[7])) end
if what == 'release' then return release(ARGV[5], ARGV[6], tonumber(ARGV[7])) end
if what == 'renew' then return renew(tonumber(ARGV[5]), 6) end
if what == 'seed' then return seed(ARGV[5], ARGV[6], ARGV[7]) end
if what == 'inspect' then return inspect() end
return redis.error_reply('fencepost: no such operation: ' .. what)
