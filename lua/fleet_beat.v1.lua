-- fleet_beat v1 - say that a process is alive, and learn how many are
--
-- KEYS[1] zset tf:1:{fleet}:processes  identities, by the ms since the epoch until which they count
-- ARGV[1] identity  of this process
-- ARGV[2] ttl       how long it counts without another beat, ms; 0 takes it off the list
--
-- Returns how many processes are alive
-- Clock: the server's TIME
-- Atomic because: between the beat and the count another one could sweep this process away
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + ARGV[2]), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('ZCARD', KEYS[1])
