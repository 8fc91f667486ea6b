-- Replace the beginning of an entity's string, whose events a client has moved into the ledger, by a new stamp, and write
-- that ledger; nothing if the beginning is not what the client saw: somebody else was first. What was added since stays.
--
-- KEYS: the entity, its ledger. ARGV: SHA-1 of the beginning, its bytes, the new stamp, the new ledger, expire.
-- Answers whether it was done.

local start = redis.call('GETRANGE', KEYS[1], 0, ARGV[2] - 1)
if #start ~= tonumber(ARGV[2]) or redis.sha1hex(start) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3] .. redis.call('GETRANGE', KEYS[1], ARGV[2], -1), 'EX', ARGV[5])
redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[5])
return 1
