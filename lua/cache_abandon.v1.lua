-- cache_abandon v1 - take back what a miss began, because the value could not be loaded
--
-- KEYS[1] hash   tf:1:{<namespace>}:meta         epoch, clock (sequence), floor, replid
-- KEYS[2] zset   tf:1:{<namespace>}:tags         tag by the sequence it last moved at; '!<epoch>' at 0
-- KEYS[3] string tf:1:{<namespace>}:fill:<key>   token of the one who loads
-- ARGV[1] token      the one that read the miss
-- ARGV[2] begun_ttl  what a miss gives to a namespace that it begins, ms; less than any other gives
--
-- Returns 1 if the namespace is gone: nothing was stored or moved in it since a miss began it, as
--   where somebody asked for what is not there. Else 0; another's entry or move has prolonged it.
--   Only the fill lease of its own token is freed
-- Clock: none; what is left of the namespace's time tells how it was last written
-- Atomic because: what another stored between the look and the deletion would be a miss for nothing
if redis.call('GET', KEYS[3]) == ARGV[1] then
  redis.call('DEL', KEYS[3])
end

local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
