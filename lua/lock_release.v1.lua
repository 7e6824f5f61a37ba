-- lock_release v1 - give a lock back, if it is still the caller's
--
-- KEYS[1] hash   tf:1:{lock:<name>}:lease   token, fence, holder, since
-- ARGV[1] token  the one that took the lock
--
-- Returns 1 released; 0 not the caller's (never was, expired, or another's by now)
-- Clock: none
-- Atomic because: between a check and a delete apart, the lease could expire and pass to another,
--   whose lock would be deleted. Only reads and DEL, so that it runs when memory is full.
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
