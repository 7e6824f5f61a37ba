-- tag_invalidate v2 - make every entry that carries one of these tags a miss, however many there are
--
-- KEYS[1] hash tf:1:{<namespace>}:meta  epoch, clock (sequence), floor, replid
-- KEYS[2] zset tf:1:{<namespace>}:tags  tag by the sequence it last moved at; '!<epoch>' at 0
-- ARGV[1] epoch     random, used if a new epoch must begin
-- ARGV[2] meta_ttl  longer than any entry's, ms
-- ARGV[3] most      tags remembered at most; the oldest ones beyond it are pruned
-- ARGV[4..] tags
--
-- Returns {sequence, replid}: what the tags moved to, and the history of writes that holds it; the
--   sequence is 0 where memory is full and the whole namespace was made a miss by deleting its meta
--   and tags, which a full server still does. Doing it again is harmless
-- Clock: none; the order is the sequence's
-- Atomic because: a reader between the clock and the tags would store an old value under the new
--   sequence. Cost: O(tags), whatever the number of entries.
-- What is of a wrong type is deleted, and a new epoch begins: else it could never be told, and what
--   is not told keeps every process from believing what is cached
-- Pruning raises the floor: entries loaded before a tag that is no longer remembered are misses
local function replication_id()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return 'none' end
  return not string.find(info, 'role:slave') and string.match(info, 'master_replid:(%w+)')
end

local replid = replication_id()
local meta = redis.pcall('HMGET', KEYS[1], 'epoch', 'replid')
local epoch = meta[1]
local named = epoch and meta[2] == replid and redis.pcall('ZSCORE', KEYS[2], '!' .. epoch)
if type(named) ~= 'string' then
  epoch = ARGV[1]
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'clock', 0, 'floor', 0, 'replid', replid)
  redis.call('ZADD', KEYS[2], 0, '!' .. epoch)
end

local sequence = redis.pcall('HINCRBY', KEYS[1], 'clock', 1)
local full = type(sequence) == 'table'
for i = 4, #ARGV do
  full = full or type(redis.pcall('ZADD', KEYS[2], sequence, ARGV[i])) == 'table'
end
if full then
  redis.call('DEL', KEYS[1], KEYS[2])
  return {0, replid}
end

-- Rank 0 is the sentinel, at score 0.
local surplus = redis.call('ZCARD', KEYS[2]) - 1 - tonumber(ARGV[3])
if surplus > 0 then
  local last = redis.call('ZRANGE', KEYS[2], surplus, surplus, 'WITHSCORES')
  redis.call('HSET', KEYS[1], 'floor', last[2])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 1, surplus)
end

redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {sequence, replid}
