-- cache_store v2 - store what was loaded after a miss, unless what it depends on moved or room is out
--
-- KEYS[1] hash   tf:1:{<namespace>}:entry:<key>  epoch, s (sequence it was loaded at), tags, v, since, size
-- KEYS[2] hash   tf:1:{<namespace>}:meta         epoch, clock (sequence), floor, replid, since, used
-- KEYS[3] zset   tf:1:{<namespace>}:tags         tag by the sequence it last moved at; '!<epoch>' at 0
-- KEYS[4] string tf:1:{<namespace>}:fill:<key>   token of the one who loads
-- ARGV[1] token     the one that read the miss
-- ARGV[2] sequence  as the miss told it
-- ARGV[3] epoch     as the miss told it
-- ARGV[4] ttl       of the entry, ms
-- ARGV[5] meta_ttl  longer than any entry's, ms
-- ARGV[6] tags      joined by line feeds
-- ARGV[7] value     opaque bytes
-- ARGV[8] room      of the entries that are stored in one window, bytes
-- ARGV[9] window    at least as long as any entry lives, ms
--
-- Returns 1 stored; 0 refused: a tag, the floor or the epoch moved, and the value may be old; 2 refused
--   for want of room
-- Clock: TIME, for the windows alone; one that stepped back begins a new window. What is stored is
--   judged by the sequence
-- Atomic because: between the check and the write a tag could move, and the old value would stand
-- Room: meta counts what was stored since its window began, an entry of this window that is replaced
--   no more; what a namespace holds was stored in this window or the last, so it is twice the room at
--   most. A new epoch counts anew
local function replication_id()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return 'none' end
  return not string.find(info, 'role:slave') and string.match(info, 'master_replid:(%w+)')
end

if redis.call('GET', KEYS[4]) == ARGV[1] then
  redis.call('DEL', KEYS[4])
end

local sequence = tonumber(ARGV[2])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'floor', 'replid', 'since', 'used')
if meta[1] ~= ARGV[3] or sequence < tonumber(meta[2]) or meta[3] ~= replication_id()
  or not redis.call('ZSCORE', KEYS[3], '!' .. ARGV[3]) then
  return 0
end

for tag in string.gmatch(ARGV[6], '[^\n]+') do
  local moved = redis.call('ZSCORE', KEYS[3], tag)
  if moved and tonumber(moved) > sequence then return 0 end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since, used = tonumber(meta[4] or 0), tonumber(meta[5] or 0)
if now < since or now - since >= tonumber(ARGV[9]) then
  since, used = now, 0
end
local before = redis.call('HMGET', KEYS[1], 'since', 'size')
if tonumber(before[1] or -1) == since then
  used = used - tonumber(before[2])
end
local size = #KEYS[1] + #ARGV[6] + #ARGV[7] + 200 -- about what the server adds
if used + size > tonumber(ARGV[8]) then return 2 end

local window = string.format('%.0f', since)
redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 's', ARGV[2], 'tags', ARGV[6], 'v', ARGV[7],
  'since', window, 'size', size)
redis.call('HSET', KEYS[2], 'since', window, 'used', used + size)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return 1
