-- rate_refund v1 - give back what one admitted request took of its limits
--
-- KEYS[1]    string tf:1:{<identity>}:rate-reset    us since the epoch until which nothing is owed
-- KEYS[2..n] string tf:1:{<identity>}:rate:<limit>  coalesced log, as rate_admit writes it
-- ARGV[4i-7] at      the clock under which the decision stored its hits of KEYS[i], us
-- ARGV[4i-6] cost    how many they were
-- ARGV[4i-5] window  that limit's, ms
-- ARGV[4i-4] shared  1 where its hits of the same window/64 share an entry, 0 where none do
--
-- Returns of how many limits something was given back
-- Clock: the server's TIME, or the newest hit of the same log where that is later. The newest entry
--   stays, with no hits where all were given back, so that a log's clock never goes back
-- Atomic because: another hit stored between reading and writing the log would be lost
-- Strictness: the hit is in the oldest entry that is not older than it, and of the same cell;
--   taking it out leaves the entry's time, so that its other hits are held as long as before. Under
--   a clock that stands still several entries have that time: whichever is taken leaves the same. A
--   hit that has left its window, or was reset, is not there any more: what is would be another's.
-- Not idempotent by a token: it is sent once at most, and one that was lost leaves the hit counted
local CELLS, HEAD, ENTRY = 64, 4, 11
local byte, char, sub, floor = string.byte, string.char, string.sub, math.floor

local function time_at(log, at)
  local a, b, c, d, e, f, g = byte(log, at, at + 6)
  return (((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f) * 256 + g
end

local function count_at(log, at)
  local a, b, c, d = byte(log, at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function count_bytes(n)
  local high, low = floor(n / 65536), n % 65536
  return char(floor(high / 256), high % 256, floor(low / 256), low % 256)
end

-- Whether the entry of time `newest` may stand for a hit of time `taken`.
local function stands_for(newest, taken, shared, cell)
  return newest == taken or (shared and floor(newest / cell) == floor(taken / cell))
end

local reset_at, refunded = (redis.call('GET', KEYS[1]) or -1) + 0, 0
local clock = redis.call('TIME')
for i = 2, #KEYS do
  local taken_at, cost = ARGV[4 * i - 7] + 0, ARGV[4 * i - 6] + 0
  local window, shared = ARGV[4 * i - 5] * 1000, ARGV[4 * i - 4] == '1'
  local log, at, given = redis.call('GET', KEYS[i]) or '', HEAD + 1, 0
  local now = clock[1] * 1000000 + clock[2]
  if log ~= '' then now = math.max(now, time_at(log, #log - ENTRY + 1)) end
  if taken_at <= reset_at or taken_at + window <= now then cost = 0 end
  while at < #log and time_at(log, at) < taken_at do at = at + ENTRY end
  local kept = sub(log, HEAD + 1, at - 1)
  while given < cost and at < #log
    and stands_for(time_at(log, at), taken_at, shared, window / CELLS) do
    local hits = count_at(log, at + 7)
    local part, is_newest = math.min(hits, cost - given), at + ENTRY > #log
    if part < hits or is_newest then
      kept = kept .. sub(log, at, at + 6) .. count_bytes(hits - part)
    end
    given, at = given + part, at + ENTRY
  end
  if given > 0 then
    local total = count_bytes(count_at(log, 1) - given)
    redis.call('SET', KEYS[i], total .. kept .. sub(log, at), 'KEEPTTL')
    refunded = refunded + 1
  end
end
return refunded
