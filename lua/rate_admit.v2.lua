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
-- Returns {admitted, time_us, then for each limit: remaining, reset_ms, retry_ms, ahead_us}. admitted
--   is 1 or 0; time_us is the server's TIME; reset_ms is how long from then until the oldest hit
--   leaves; retry_ms until this cost would be admitted, 0 where it is now, -1 where the cost exceeds
--   the limit; ahead_us is how far the limit's clock is ahead of TIME: its hit is stored at the sum
-- Clock: each limit has its own, the server's TIME clamped to the newest hit of its log, so that a
--   clock that steps back neither admits too many nor reorders the log, nor ends another's window
-- Atomic because: between looking and counting, another request could take the last place; and a
--   request denied by one limit must not have been counted by another
-- Strictness: hits of the same window/64 cell share an entry that keeps the newest time, so a hit
--   is held at most window/64 too long and never too short; limits up to 64, and exact ones, share
--   none. An entry of no hits, which a refund leaves, keeps the clock and makes way for the next hit
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
local time = clock[1] * 1000000 + clock[2]
local logs = redis.call('MGET', unpack(KEYS))
local reply, starts = {1, time}, {}
for i = 1, #KEYS do
  local limit, window = ARGV[4 * i - 3] + 0, ARGV[4 * i - 2] * 1000
  local cost, shadow = ARGV[4 * i - 1] + 0, floor(ARGV[4 * i] / 2) % 2 == 1
  local log, at, total, now, oldest = logs[i] or '', HEAD + 1, 0, time, time
  if log ~= '' then
    local newest = time_at(log, #log - ENTRY + 1)
    if newest > now then now = newest end
    total, oldest = count_at(log, 1), time_at(log, at)
    while oldest + window <= now do
      total, at = total - count_at(log, at + 7), at + ENTRY
      if at > #log then break end
      oldest = time_at(log, at)
    end
    if total == 0 then oldest = now end
  end

  -- Waits are of the client's time: from TIME on, however far ahead the log is.
  local retry, excess = 0, total + cost - limit
  if cost > limit then
    retry = -1
  elseif excess > 0 then
    local from = at
    while excess > count_at(log, from + 7) do
      excess, from = excess - count_at(log, from + 7), from + ENTRY
    end
    retry = ceil((time_at(log, from) + window - time) / 1000)
  end
  if retry ~= 0 and not shadow then reply[1] = 0 end

  starts[i] = at
  reply[4 * i - 1] = limit - total
  reply[4 * i] = ceil((oldest + window - time) / 1000)
  reply[4 * i + 1] = retry
  reply[4 * i + 2] = now - time
end

if reply[1] == 0 then return reply end

for i = 1, #KEYS do
  local limit, window = ARGV[4 * i - 3] + 0, ARGV[4 * i - 2] * 1000
  local cost, mode = ARGV[4 * i - 1] + 0, ARGV[4 * i] + 0
  if cost > 0 and mode < 4 and reply[4 * i + 1] == 0 then
    local log, hits, now = logs[i] or '', cost, time + reply[4 * i + 2]
    local keep = #log
    if keep >= starts[i] then
      local newest, count = time_at(log, keep - ENTRY + 1), count_at(log, keep - 3)
      local shared, cell = limit > CELLS and mode % 2 == 0, window / CELLS
      if count == 0 or (shared and floor(newest / cell) == floor(now / cell)) then
        hits, keep = cost + count, keep - ENTRY
      end
    end
    reply[4 * i - 1] = reply[4 * i - 1] - cost
    log = count_bytes(limit - reply[4 * i - 1]) .. sub(log, starts[i], keep)
      .. time_bytes(now) .. count_bytes(hits)
    redis.call('SET', KEYS[i], log, 'PX', ceil((now + window - time) / 1000))
  end
end
return reply
