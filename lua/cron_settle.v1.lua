-- cron_settle v1 - end a claim: free the lease, and mark the slot done if its outcome committed
--
-- KEYS[1] hash   tf:1:{cron:<job>}:lease        token, slot, holder, since
-- KEYS[2] string tf:1:{cron:<job>}:done:<slot>  there once the slot's outcome has committed
-- ARGV[1] token     the one that claimed
-- ARGV[2] done      1 if the outcome has committed in the database, else 0
-- ARGV[3] done_ttl  how long to remember it, ms
--
-- Returns 1 the lease was the caller's and is free; 0 it was not (the mark is set all the same:
--   it states a fact of the database, whoever holds the lease)
-- Clock: none
-- Atomic because: a lease freed before the mark lets another scheduler try a finished slot. The
--   lease goes first, and the mark by pcall, so that the lease is freed when memory is full too.
local freed = 0
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  freed = redis.call('DEL', KEYS[1])
end
if ARGV[2] == '1' then
  redis.pcall('SET', KEYS[2], '1', 'PX', ARGV[3])
end
return freed
