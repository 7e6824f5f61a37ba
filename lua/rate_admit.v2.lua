-- rate_admit v2 - decide all limits of one identity: admitted by every one, or counted by none
--
-- KEYS[1..n] string tf:1:{<identity>}:rate:<limit>  coalesced log, as v1 reads and writes it: total
--   hits (4 bytes), then entries of 11 bytes, oldest first: newest hit of the entry (us since the
--   epoch, 7 bytes) and how many hits it stands for (4 bytes); big-endian
-- ARGV[4i-3] limit   hits admitted in any window
-- ARGV[4i-2] window  ms
-- ARGV[4i-1] cost    hits to take; 0 only looks
-- ARGV[4i]   mode    sum of: 1 exact (no two hits share an entry), 2 shadow (denies nothing; takes
--   nothing where it would have denied), 4 probe (denies as if it took the cost, and takes nothing)
--
-- Returns {admitted, at_us, then for each limit: remaining, reset_ms, retry_ms}. admitted is 1 or 0;
--   at_us is the clock the decision was made by; reset_ms is when the oldest hit leaves; retry_ms is
--   when this cost would be admitted, 0 where it is now, -1 where the cost exceeds the limit
-- Clock: the server's TIME, clamped to the newest hit stored, so that a clock that steps back
--   neither admits too many nor reorders the log
-- Atomic because: between looking and counting, another request could take the last place; and a
--   request denied by one limit must not have been counted by another
-- Strictness: hits of the same window/64 cell share an entry that keeps the newest time, so a hit
--   is held at most window/64 too long and never too short; limits up to 64, and exact ones, share
--   none
-- Not idempotent by a token: a call whose answer was lost is never sent again, and has counted at
--   most once, against the one who sent it
local CELLS, HEAD, ENTRY = 64, 4, 11
local byte, char, sub, floor, ceil = string.byte, string.char, string.sub, math.floor, math.ceil

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

local function time_bytes(time)
  local high, low = floor(time / 16777216), time % 16777216
  return count_bytes(high) .. char(floor(low / 65536), floor(low / 256) % 256, low % 256)
end

local clock = redis.call('TIME')
local real_now = clock[1] * 1000000 + clock[2]
local now = real_now

local logs = redis.call('MGET', unpack(KEYS))
for i = 1, #KEYS do
  local log = logs[i]
  if log then
    local newest = time_at(log, #log - ENTRY + 1)
    if newest > now then now = newest end
  end
end

local reply, starts = {1, now}, {}
for i = 1, #KEYS do
  local limit, window = ARGV[4 * i - 3] + 0, ARGV[4 * i - 2] * 1000
  local cost, shadow = ARGV[4 * i - 1] + 0, floor(ARGV[4 * i] / 2) % 2 == 1
  local log, at, total, oldest = logs[i] or '', HEAD + 1, 0, now
  if log ~= '' then
    total, oldest = count_at(log, 1), time_at(log, at)
    while oldest + window <= now do
      total, at = total - count_at(log, at + 7), at + ENTRY
      if at > #log then oldest = now break end
      oldest = time_at(log, at)
    end
  end

  local retry, excess = 0, total + cost - limit
  if cost > limit then
    retry = -1
  elseif excess > 0 then
    local from = at
    while excess > count_at(log, from + 7) do
      excess, from = excess - count_at(log, from + 7), from + ENTRY
    end
    retry = ceil((time_at(log, from) + window - now) / 1000)
  end
  if retry ~= 0 and not shadow then reply[1] = 0 end

  starts[i] = at
  reply[3 * i] = limit - total
  reply[3 * i + 1] = ceil((oldest + window - now) / 1000)
  reply[3 * i + 2] = retry
end

if reply[1] == 0 then return reply end

local now_bytes = time_bytes(now)
for i = 1, #KEYS do
  local limit, window = ARGV[4 * i - 3] + 0, ARGV[4 * i - 2] * 1000
  local cost, mode = ARGV[4 * i - 1] + 0, ARGV[4 * i] + 0
  if cost > 0 and mode < 4 and reply[3 * i + 2] == 0 then
    local log, hits = logs[i] or '', cost
    local keep = #log
    if limit > CELLS and mode % 2 == 0 and keep >= starts[i] then
      local cell = window / CELLS
      if floor(time_at(log, keep - ENTRY + 1) / cell) == floor(now / cell) then
        hits, keep = cost + count_at(log, keep - 3), keep - ENTRY
      end
    end
    reply[3 * i] = reply[3 * i] - cost
    log = count_bytes(limit - reply[3 * i]) .. sub(log, starts[i], keep)
      .. now_bytes .. count_bytes(hits)
    redis.call('SET', KEYS[i], log, 'PX', ceil((now - real_now + window) / 1000))
  end
end
return reply
