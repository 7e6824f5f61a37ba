-- rate_refund v1 - give back what one admitted request took of its limits
--
-- KEYS[1]    string tf:1:{<identity>}:rate-reset    us since the epoch until which nothing is owed
-- KEYS[2..n] string tf:1:{<identity>}:rate:<limit>  coalesced log, as rate_admit writes it
-- ARGV[1]    at      the at_us of the decision that took
-- ARGV[3i-4] cost    hits that it took of KEYS[i]
-- ARGV[3i-3] window  that limit's, ms
-- ARGV[3i-2] shared  1 where its hits of the same window/64 share an entry, 0 where none do
--
-- Returns of how many limits something was given back
-- Clock: the server's TIME, or the newest hit stored where that is later
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

local taken_at, reset_at, refunded = ARGV[1] + 0, redis.call('GET', KEYS[1]), 0
if reset_at and reset_at + 0 >= taken_at then return 0 end

local clock = redis.call('TIME')
for i = 2, #KEYS do
  local window, shared = ARGV[3 * i - 3] * 1000, ARGV[3 * i - 2] == '1'
  local log, at = redis.call('GET', KEYS[i]) or '', HEAD + 1
  local now = clock[1] * 1000000 + clock[2]
  if log ~= '' then now = math.max(now, time_at(log, #log - ENTRY + 1)) end
  while at < #log and time_at(log, at) < taken_at do at = at + ENTRY end
  local cost, given = ARGV[3 * i - 4] + 0, 0
  if taken_at + window <= now then cost = 0 end
  local kept = sub(log, HEAD + 1, at - 1)
  while given < cost and at < #log
    and stands_for(time_at(log, at), taken_at, shared, window / CELLS) do
    local hits = count_at(log, at + 7)
    local part = math.min(hits, cost - given)
    if part < hits then kept = kept .. sub(log, at, at + 6) .. count_bytes(hits - part) end
    given, at = given + part, at + ENTRY
  end
  if given > 0 then
    kept = kept .. sub(log, at)
    if kept ~= '' then
      redis.call('SET', KEYS[i], count_bytes(count_at(log, 1) - given) .. kept, 'KEEPTTL')
    else
      redis.call('DEL', KEYS[i])
    end
    refunded = refunded + 1
  end
end
return refunded
