-- lock_release v2 - give a lock back if it is still the caller's, and wake one of those who wait
--
-- KEYS[1] hash   tf:1:{lock:<name>}:lease    token, fence, holder, since
-- KEYS[2] zset   tf:1:{lock:<name>}:waiters  tokens that wait, by the ms until which they do
-- KEYS[3] list   tf:1:{lock:<name>}:wake     what a waiter blocks on; at most one element
-- ARGV[1] token     the one that took the lock
-- ARGV[2] wake_ttl  how long a wake-up that nobody took is kept, ms
--
-- Returns 1 released; 0 not the caller's (never was, expired, or another's by now)
-- Clock: the server's TIME, to leave out those who have given up waiting
-- Atomic because: between a check and a delete apart, the lease could expire and pass to another,
--   whose lock would be deleted. The lease goes first, by DEL, and the rest by pcall, so that it
--   is freed when memory is full too.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 0 then
  return 1
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now_ms))
-- An element that is still there means that nobody is blocked: whoever comes next will take it.
if redis.call('EXISTS', KEYS[2]) == 1 and redis.call('LLEN', KEYS[3]) == 0 then
  redis.pcall('RPUSH', KEYS[3], '1')
  redis.pcall('PEXPIRE', KEYS[3], ARGV[2])
end
return 1
