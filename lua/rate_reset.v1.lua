-- rate_reset v1 - forget what one identity has used up of its limits
--
-- KEYS[1]    string tf:1:{<identity>}:rate-reset    us since the epoch until which nothing is owed
-- KEYS[2..n] string tf:1:{<identity>}:rate:<limit>  coalesced log, as rate_admit writes it
-- ARGV[1]    owed    how long after its decision a refund may still come, ms
--
-- Returns how many limits had hits
-- Clock: the server's TIME, or the newest hit stored or the last reset where that is later
-- Atomic because: a refund between the reset and its note would take out a hit made after it
local ENTRY = 11
local clock = redis.call('TIME')
local now = math.max(clock[1] * 1000000 + clock[2], (redis.call('GET', KEYS[1]) or 0) + 0)

local had_hits = 0
for i = 2, #KEYS do
  local log = redis.call('GET', KEYS[i])
  if log then
    local at = #log - ENTRY + 1
    local a, b, c, d, e, f, g = string.byte(log, at, at + 6)
    now = math.max(now, (((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f) * 256 + g)
    redis.call('DEL', KEYS[i])
    if string.sub(log, 1, 4) ~= '\0\0\0\0' then had_hits = had_hits + 1 end
  end
end
redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', ARGV[1])
return had_hits
