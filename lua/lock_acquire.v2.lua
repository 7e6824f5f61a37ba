-- lock_acquire v2 - take a named lock, or say how long it stays taken and note who waits for it
--
-- KEYS[1] hash   tf:1:{lock:<name>}:lease    token, fence, holder, since; gone when the lease ends
-- KEYS[2] string tf:1:{lock:<name>}:fence    the last fence minted for this name
-- KEYS[3] zset   tf:1:{lock:<name>}:waiters  tokens that wait, by the ms until which they do
-- KEYS[4] list   tf:1:{lock:<name>}:wake     what a waiter blocks on; at most one element
-- ARGV[1] token      random, made by the caller; the same token gets its own lease back
-- ARGV[2] ttl        lease, ms
-- ARGV[3] holder     the instance, for operators to read
-- ARGV[4] fence_ttl  how long the fence outlives the last acquisition, ms
-- ARGV[5] wait       how long the caller will wait to be woken if the lock is taken, ms; 0 not at all
--
-- Returns {1, fence, left} the lease is the token's; {0, 0, left} another's; for left more ms
-- Clock: the server's TIME, as the floor of the fence: a fence still rises after a FLUSHALL,
--   a failover that lost the counter, or the counter's expiry, unless the clock stepped back
-- Atomic because: two callers between the check and the write would both hold the lock, a fence
--   minted apart from the lease could be overtaken by a later holder's, and a release between
--   the check and the note would wake nobody
local held = redis.call('HMGET', KEYS[1], 'token', 'fence')
local waits = ARGV[5] ~= '0'

if held[1] and held[1] ~= ARGV[1] then
  if waits then
    local time = redis.call('TIME')
    local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    local until_ms = string.format('%.0f', now_ms + tonumber(ARGV[5]))
    redis.call('ZADD', KEYS[3], until_ms, ARGV[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now_ms))
    -- A wake-up that is there while nobody else waits was for a waiter that died.
    if redis.call('ZCARD', KEYS[3]) == 1 then redis.call('DEL', KEYS[4]) end
    redis.call('PEXPIRE', KEYS[3], math.max(tonumber(ARGV[5]), redis.call('PTTL', KEYS[3])))
  end
  return {0, 0, redis.call('PTTL', KEYS[1])}
end

if held[1] then
  -- Never sooner than what an earlier answer has promised.
  local left = math.max(tonumber(ARGV[2]), redis.call('PTTL', KEYS[1]))
  redis.call('PEXPIRE', KEYS[1], left)
  if waits then redis.call('ZREM', KEYS[3], ARGV[1]) end
  return {1, tonumber(held[2]), left}
end

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local fence = string.format('%.0f', math.max(last + 1, now_us))

redis.call('SET', KEYS[2], fence, 'PX', ARGV[4])
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'fence', fence, 'holder', ARGV[3], 'since', time[1])
-- Without an end nobody would ever get it again: what cannot expire must not stay.
local ends = redis.pcall('PEXPIRE', KEYS[1], ARGV[2])
if type(ends) == 'table' and ends.err then
  redis.call('DEL', KEYS[1])
  return ends
end
if waits then redis.call('ZREM', KEYS[3], ARGV[1]) end
return {1, tonumber(fence), tonumber(ARGV[2])}
