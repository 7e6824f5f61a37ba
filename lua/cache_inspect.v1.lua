-- cache_inspect v1 - show a namespace and some of its entries to an operator, and change nothing
--
-- KEYS[1]    hash tf:1:{<namespace>}:meta         epoch, clock (sequence), floor, replid
-- KEYS[2]    zset tf:1:{<namespace>}:tags         tag by the sequence it last moved at; '!<epoch>' at 0
-- KEYS[3..n] hash tf:1:{<namespace>}:entry:<key>  epoch, s (sequence it was loaded at), tags, v
-- ARGV[1] values  1 to have them too
--
-- Returns {epoch, clock, floor, tags, entry, entry...}: epoch false where the next call begins a new
--   one, tags how many are remembered; an entry is false where there is none, else {sequence, tags
--   joined by line feeds, valid, bytes of the value, left (ms), value}, by cache_read's own rule
-- Clock: none; the order is the sequence's
-- Atomic because: an entry and the tags asked for one by one would be judged by another moment's
local function replication_id()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return 'none' end
  return not string.find(info, 'role:slave') and string.match(info, 'master_replid:(%w+)')
end

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'clock', 'floor', 'replid')
local epoch, clock, floor = meta[1], tonumber(meta[2] or 0), tonumber(meta[3] or 0)
if not (epoch and meta[4] == replication_id() and redis.call('ZSCORE', KEYS[2], '!' .. epoch)) then
  epoch = false
end

local function is_valid(entry)
  if not epoch or entry[1] ~= epoch or tonumber(entry[2]) < floor then return 0 end
  for tag in string.gmatch(entry[3], '[^\n]+') do
    local moved = redis.call('ZSCORE', KEYS[2], tag)
    if moved and tonumber(moved) > tonumber(entry[2]) then return 0 end
  end
  return 1
end

local reply = {epoch, clock, floor, math.max(0, redis.call('ZCARD', KEYS[2]) - 1)}
for i = 3, #KEYS do
  local entry = redis.call('HMGET', KEYS[i], 'epoch', 's', 'tags')
  reply[#reply + 1] = entry[1] and {
    tonumber(entry[2]), entry[3], is_valid(entry), redis.call('HSTRLEN', KEYS[i], 'v'),
    redis.call('PTTL', KEYS[i]), ARGV[1] == '1' and redis.call('HGET', KEYS[i], 'v'),
  }
end
return reply
