-- cache_store v1 - store what was loaded after a miss, unless something it depends on moved since
--
-- KEYS[1] hash   tf:1:{<namespace>}:entry:<key>  epoch, s (sequence it was loaded at), tags, v
-- KEYS[2] hash   tf:1:{<namespace>}:meta         epoch, clock (sequence), floor, replid
-- KEYS[3] zset   tf:1:{<namespace>}:tags         tag by the sequence it last moved at; '!<epoch>' at 0
-- KEYS[4] string tf:1:{<namespace>}:fill:<key>   token of the one who loads
-- ARGV[1] token     the one that read the miss
-- ARGV[2] sequence  as the miss told it
-- ARGV[3] epoch     as the miss told it
-- ARGV[4] ttl       of the entry, ms
-- ARGV[5] meta_ttl  longer than any entry's, ms
-- ARGV[6] tags      joined by line feeds
-- ARGV[7] value     opaque bytes
--
-- Returns 1 stored; 0 refused: a tag, the floor or the epoch moved, and the value may be old
-- Clock: none; the order is the sequence's
-- Atomic because: between the check and the write a tag could move, and the old value would stand
local function replication_id()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return 'none' end
  return not string.find(info, 'role:slave') and string.match(info, 'master_replid:(%w+)')
end

if redis.call('GET', KEYS[4]) == ARGV[1] then
  redis.call('DEL', KEYS[4])
end

local sequence = tonumber(ARGV[2])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'floor', 'replid')
if meta[1] ~= ARGV[3] or sequence < tonumber(meta[2]) or meta[3] ~= replication_id()
  or not redis.call('ZSCORE', KEYS[3], '!' .. ARGV[3]) then
  return 0
end

for tag in string.gmatch(ARGV[6], '[^\n]+') do
  local moved = redis.call('ZSCORE', KEYS[3], tag)
  if moved and tonumber(moved) > sequence then return 0 end
end

redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 's', ARGV[2], 'tags', ARGV[6], 'v', ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return 1
