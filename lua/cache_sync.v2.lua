-- cache_sync v2 - what has moved in a namespace since a process last looked, to judge what it holds
--
-- KEYS[1] hash tf:1:{<namespace>}:meta  epoch, clock (sequence), floor, replid
-- KEYS[2] zset tf:1:{<namespace>}:tags  tag by the sequence it last moved at; '!<epoch>' at 0
-- ARGV[1] known      the epoch that the caller knows; '' for none
-- ARGV[2] seen       the sequence up to which it knows what moved
-- ARGV[3] most       tags told at most
-- ARGV[4] epoch      random, begun where there is none; '' to begin none: whoever asks may have
--                    named a namespace that nobody has, and asking must leave no keys
-- ARGV[5] meta_ttl   longer than any entry's, ms
--
-- Returns {epoch, clock, floor, replid, follows, tag, sequence, tag, sequence...}: follows 1 where all
--   that moved after `seen` is told; 0 where the caller must forget what it holds of the namespace: of
--   another epoch, not seen since the floor was raised, or too much has moved. The epoch is '' where
--   there is none
-- Clock: none; the order is the sequence's
-- Atomic because: a tag that moved between the clock and the tags would be missed for good
local function replication_id()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return 'none' end
  return not string.find(info, 'role:slave') and string.match(info, 'master_replid:(%w+)')
end

local replid = replication_id()
if not replid then return redis.error_reply('READONLY a replica has no history of its own') end

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'clock', 'floor', 'replid')
local epoch = meta[1]

if not (epoch and meta[4] == replid and redis.call('ZSCORE', KEYS[2], '!' .. epoch)) then
  epoch = ARGV[4]
  if epoch == '' then return {'', 0, 0, replid, 0} end
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'clock', 0, 'floor', 0, 'replid', replid)
  redis.call('ZADD', KEYS[2], 0, '!' .. epoch)
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  return {epoch, 0, 0, replid, 0}
end

local clock, floor = tonumber(meta[2]), tonumber(meta[3])
local reply = {epoch, clock, floor, replid, 0}
if epoch ~= ARGV[1] or tonumber(ARGV[2]) < floor then return reply end
if tonumber(ARGV[2]) == clock then
  reply[5] = 1
  return reply
end

local most = tonumber(ARGV[3])
local moved = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf', 'WITHSCORES',
  'LIMIT', 0, most + 1)
if #moved > 2 * most then return reply end
reply[5] = 1
for i = 1, #moved, 2 do
  reply[#reply + 1] = moved[i]
  reply[#reply + 1] = tonumber(moved[i + 1])
end
return reply
