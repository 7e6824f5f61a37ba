-- lock_extend v1 - renew a lease from now on, if it is still the caller's
--
-- KEYS[1] hash   tf:1:{lock:<name>}:lease   token, fence, holder, since
-- ARGV[1] token  the one that took the lock
-- ARGV[2] ttl    the least that the lease will last, ms, counted from now
--
-- Returns 1 renewed; 0 not the caller's (expired, or another's by now): stop the work
-- Clock: none; PEXPIRE is relative
-- Atomic because: between a check and an expiry apart, the lease could pass to another, who
--   would be given this caller's time
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[2]), redis.call('PTTL', KEYS[1])))
end
return 0
