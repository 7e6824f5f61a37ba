-- rate_admit v1 - decide all limits of one identity: admitted by every one, or counted by none
--
-- KEYS[1..n] string tf:1:{<identity>}:rate:<limit>  coalesced log: total hits (4 bytes), then up to
--   65 entries of 11 bytes, oldest first: newest hit of the entry (us since the epoch, 7 bytes)
--   and how many hits it stands for (4 bytes); big-endian
-- ARGV[3i-2] limit   hits admitted in any window
-- ARGV[3i-1] window  ms
-- ARGV[3i]   cost    hits to take; 0 only looks
--
-- Returns {admitted, at_us, then for each limit: remaining, reset_ms, retry_ms}. admitted is 1 or 0;
--   at_us is the clock the decision was made by; reset_ms is when the oldest hit leaves; retry_ms is
--   when this cost would be admitted, 0 where it is now, -1 where the cost exceeds the limit
-- Clock: the server's TIME, clamped to the newest hit stored, so that a clock that steps back
--   neither admits too many nor reorders the log
-- Atomic because: between looking and counting, another request could take the last place; and a
--   request denied by one limit must not have been counted by another
-- Strictness: hits of the same window/64 cell share an entry that keeps the newest time, so a hit
--   is held at most window/64 too long and never too short; limits up to 64 are exact
-- Not idempotent by a token: a call whose answer was lost is never sent again, and has counted at
--   most once, against the one who sent it
local CELLS, HEAD, ENTRY = 64, 4, 11
local byte, char, sub, floor, ceil = string.byte, string.char, string.sub, math.floor, math.ceil

local function entry_at(log, at)
  local a, b, c, d, e, f, g, h, i, j, k = byte(log, at, at + ENTRY - 1)
  local time = (((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f) * 256 + g
  return time, ((h * 256 + i) * 256 + j) * 256 + k
end

local function count_bytes(n)
  return char(floor(n / 16777216), floor(n / 65536) % 256, floor(n / 256) % 256, n % 256)
end

local function entry_bytes(time, hits)
  local high, low = floor(time / 16777216), time % 16777216
  return count_bytes(high) .. char(floor(low / 65536), floor(low / 256) % 256, low % 256)
    .. count_bytes(hits)
end

local clock = redis.call('TIME')
local real_now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = real_now

local logs = {}
for i = 1, #KEYS do
  local log = redis.call('GET', KEYS[i]) or ''
  logs[i] = log
  if #log > HEAD then
    local newest = entry_at(log, #log - ENTRY + 1)
    if newest > now then now = newest end
  end
end

local admitted = 1
local reply = {1, now}
local totals, starts = {}, {}
for i = 1, #KEYS do
  local limit, window = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]) * 1000
  local cost, log, at, total = tonumber(ARGV[3 * i]), logs[i], HEAD + 1, 0
  if #log > HEAD then
    local a, b, c, d = byte(log, 1, HEAD)
    total = ((a * 256 + b) * 256 + c) * 256 + d
  end

  local oldest, hits
  while at <= #log do
    oldest, hits = entry_at(log, at)
    if oldest + window > now then break end
    total, at, oldest = total - hits, at + ENTRY, nil
  end

  local retry = 0
  if cost > limit then
    admitted, retry = 0, -1
  elseif total + cost > limit then
    admitted = 0
    local excess, from, leaves = total + cost - limit, at, now
    while excess > 0 do
      leaves, hits = entry_at(log, from)
      excess, from = excess - hits, from + ENTRY
    end
    retry = ceil((leaves + window - now) / 1000)
  end

  totals[i], starts[i] = total, at
  reply[3 * i] = limit - total
  reply[3 * i + 1] = ceil(((oldest or now) + window - now) / 1000)
  reply[3 * i + 2] = retry
end

reply[1] = admitted
if admitted == 0 then return reply end

for i = 1, #KEYS do
  local limit, window = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]) * 1000
  local cost, log, keep = tonumber(ARGV[3 * i]), logs[i], #logs[i]
  if cost > 0 then
    local hits = cost
    if limit > CELLS and keep >= starts[i] then
      local newest, merged = entry_at(log, keep - ENTRY + 1)
      local cell = window / CELLS
      if floor(newest / cell) == floor(now / cell) then
        hits, keep = cost + merged, keep - ENTRY
      end
    end
    log = count_bytes(totals[i] + cost) .. sub(log, starts[i], keep) .. entry_bytes(now, hits)
    redis.call('SET', KEYS[i], log, 'PX', ceil((now - real_now + window) / 1000))
    reply[3 * i] = reply[3 * i] - cost
  end
end
return reply
