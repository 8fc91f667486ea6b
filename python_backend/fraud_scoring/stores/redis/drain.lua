-- Write what waits for the entities of one partition, of all batches up to one, into their strings (waiting.py).
--
-- KEYS: entities, kind by kind, then the head, and what says up to which batch each partition is written.
-- ARGV: where in the latter the partition's number is; that number, and the new one; that batch's eight bytes by chance;
--       how many events each entity has (uint32 each), the events (32 bytes each, an entity's in order), then for each
--       kind: entities, keep, expire.
-- Answers false, and of which of KEYS, counted from 1, a client should seal the entity; or the number that stands there,
-- and nothing was done: somebody else was first, or what the client has followed is not what happened here.

local entities, at = #KEYS - 2, tonumber(ARGV[1])
local head, drained = KEYS[entities + 1], KEYS[entities + 2]
local stands = call('GETRANGE', drained, at, at + 7)
if stands ~= ARGV[2] or call('GETRANGE', head .. ARGV[3], BATCH_HEAD - 8, BATCH_HEAD - 1) ~= ARGV[4] then
  return { stands, {} }
end
local counts, events, full = ARGV[5], ARGV[6], {}
local i, from = 0, 0
for kind = 7, #ARGV, 3 do
  local keep, expire = tonumber(ARGV[kind + 1]), ARGV[kind + 2]
  for _ = 1, tonumber(ARGV[kind]) do
    local bytes = EVENT * unpack('<I4', counts, 4 * i + 1)
    i = i + 1
    if add(KEYS[i], sub(events, from + 1, from + bytes), keep, expire) then
      full[#full + 1] = i
    end
    from = from + bytes
  end
end
call('SETRANGE', drained, at, ARGV[3])
return { false, full }
