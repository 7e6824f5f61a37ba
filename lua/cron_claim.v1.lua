-- cron_claim v1 - claim one slot of a job: a hint that spares the others the work
--
-- KEYS[1] hash   tf:1:{cron:<job>}:lease        token, slot, holder, since; gone when the lease ends
-- KEYS[2] string tf:1:{cron:<job>}:done:<slot>  there once the slot's outcome has committed
-- ARGV[1] token   random, made by the caller; the same token gets its claim back
-- ARGV[2] ttl     lease, ms
-- ARGV[3] slot    seconds since the epoch
-- ARGV[4] holder  the instance, for operators to read
--
-- Returns {'claimed', ttl} the caller tries; {'running', left} another does, for left more ms;
--   {'done', 0} the outcome is in the database
-- Clock: the server's TIME, written for operators only
-- Atomic because: slot and lock are one decision; apart, a scheduler could lock a slot that
--   another has just finished. The database decides all the same: this is never the guard.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return {'done', 0}
end

local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then
  return {'running', redis.call('PTTL', KEYS[1])}
end

local since = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'slot', ARGV[3], 'holder', ARGV[4], 'since', since)
-- Without an end it would keep every scheduler waiting for good: what cannot expire must not stay.
local ends = redis.pcall('PEXPIRE', KEYS[1], ARGV[2])
if type(ends) == 'table' and ends.err then
  redis.call('DEL', KEYS[1])
  return ends
end
return {'claimed', tonumber(ARGV[2])}
