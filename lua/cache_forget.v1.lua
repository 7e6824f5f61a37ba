-- cache_forget v1 - make everything that is cached in a namespace a miss, in every process
--
-- KEYS[1] hash tf:1:{<namespace>}:meta  epoch, clock (sequence), floor, replid
-- KEYS[2] zset tf:1:{<namespace>}:tags  tag by the sequence it last moved at; '!<epoch>' at 0
--
-- Returns 1 if there was anything to forget, else 0; the next call begins a new epoch, to which
--   neither an entry nor what a process holds, nor a load under way, belongs
-- Clock: none; the order is the sequence's
-- Atomic because: it is one command
return math.min(1, redis.call('DEL', KEYS[1], KEYS[2]))
