-- lock_inspect v1 - show a lock to an operator, as of one moment
--
-- KEYS[1] hash   tf:1:{lock:<name>}:lease    token, fence, holder, since
-- KEYS[2] string tf:1:{lock:<name>}:fence    the last fence minted for this name
-- KEYS[3] zset   tf:1:{lock:<name>}:waiters  tokens that wait, by the ms until which they do
--
-- Returns {token, holder, since, left, last_fence, waiters, now}: token, holder and since (s) are
--   false and left (ms) is negative for a free lock; last_fence is false where none is remembered;
--   now is in s
-- Clock: the server's TIME, for the age and to leave out those who have given up waiting
-- Atomic because: holder, time left and waiters asked for one by one could be of three moments
local held = redis.call('HMGET', KEYS[1], 'token', 'holder', 'since')
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local waiters = redis.call('ZCOUNT', KEYS[3], string.format('(%.0f', now_ms), '+inf')
local left, last_fence = redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[2])
return {held[1], held[2], held[3], left, last_fence, waiters, time[1]}
