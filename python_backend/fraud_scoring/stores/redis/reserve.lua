-- A part of a batch on a cluster, first step: the transactions of one partition. Their windows lie on other servers, so
-- the records are entered as pending; `insert.lua` adds the events, and a later call confirms the records. Whoever is
-- asked again for a pending record adds its events, which changes nothing where they are, before it gives the answer.
--
-- KEYS: the keys of c transactions to confirm, then of n to enter.
-- ARGV: c, bytes of a record, bytes of it without its answer, oldest day, seconds to keep a record, the records.
-- Answers false if all were added, else for each transaction false or what stood there.

local c, size, without_answer, oldest_day = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for i = 1, c do
  local size = redis.call('STRLEN', KEYS[i])
  if size > REFERENCE + LABEL then
    redis.call('SETRANGE', KEYS[i], PENDING_AT, '\0')
  elseif size > 0 then -- a reference is never pending; a write all the same, which a client waits for
    redis.call('SETRANGE', KEYS[i], 0, redis.call('GETRANGE', KEYS[i], 0, 0))
  end
end
local before_it, all_added = {}, true
for i = 1, #KEYS - c do
  local record = string.sub(ARGV[6], (i - 1) * size + 1, i * size)
  local stood = enter(KEYS[c + i], record, without_answer, oldest_day, ARGV[5])
  before_it[i] = stood
  all_added = all_added and not stood
end
return not all_added and before_it
