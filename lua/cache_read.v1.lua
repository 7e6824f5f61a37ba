-- cache_read v1 - read one entry if nothing it depends on has changed, else take the fill lease
--
-- KEYS[1] hash   tf:1:{<namespace>}:entry:<key>  epoch, s (sequence it was loaded at), tags, v
-- KEYS[2] hash   tf:1:{<namespace>}:meta         epoch, clock (sequence), floor, replid
-- KEYS[3] zset   tf:1:{<namespace>}:tags         tag by the sequence it last moved at; '!<epoch>' at 0
-- KEYS[4] string tf:1:{<namespace>}:fill:<key>   token of the one who loads
-- ARGV[1] token      random, made by the caller
-- ARGV[2] lease_ttl  how long others wait for the loader, ms
-- ARGV[3] epoch      random, used if a new epoch must begin
-- ARGV[4] meta_ttl   longer than any entry's, ms
--
-- Returns {1, sequence, epoch, value, tags, left} a hit, of the sequence it was loaded at, its tags
--   joined by line feeds, for left more ms; {0, sequence, epoch, lease} a miss of the sequence as it
--   is now, lease 1 where the caller loads, 0 where another is at it
-- Clock: none; the order is the sequence's
-- Atomic because: sequence, validity and lease are one picture; a tag that moved between them
--   would let a value loaded before it count as loaded after
-- Epoch: meta or tags missing, disagreeing, or written under another replication id (a failover or
--   restart may have lost the last invalidation) begin a new epoch, in which everything misses
local function replication_id()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return 'none' end
  return not string.find(info, 'role:slave') and string.match(info, 'master_replid:(%w+)')
end

local replid = replication_id()
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'clock', 'floor', 'replid')
local epoch, clock, floor = meta[1], meta[2], meta[3]

if not (epoch and meta[4] == replid and redis.call('ZSCORE', KEYS[3], '!' .. epoch)) then
  epoch, clock, floor = ARGV[3], '0', '0'
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'clock', clock, 'floor', floor, 'replid', replid)
  redis.call('ZADD', KEYS[3], 0, '!' .. epoch)
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end

local function is_valid(entry)
  if entry[1] ~= epoch or tonumber(entry[2]) < tonumber(floor) then return false end
  for tag in string.gmatch(entry[3], '[^\n]+') do
    local moved = redis.call('ZSCORE', KEYS[3], tag)
    if moved and tonumber(moved) > tonumber(entry[2]) then return false end
  end
  return true
end

local entry = redis.call('HMGET', KEYS[1], 'epoch', 's', 'tags', 'v')
if entry[1] and is_valid(entry) then
  return {1, tonumber(entry[2]), epoch, entry[4], entry[3], redis.call('PTTL', KEYS[1])}
end

local lease = redis.call('SET', KEYS[4], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
return {0, tonumber(clock), epoch, lease}
