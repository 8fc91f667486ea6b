-- A part of a batch on a cluster, second step: the events of the entities of one partition and column.
--
-- KEYS: an entity for each event. ARGV: the events (32 bytes each), keep, expire.
-- Answers of which of KEYS, counted from 1, a client should seal the entity.

local keep, full = tonumber(ARGV[2]), {}
for i = 1, #KEYS do
  if add(KEYS[i], sub(ARGV[1], (i - 1) * EVENT + 1, i * EVENT), keep, ARGV[3]) then
    full[#full + 1] = i
  end
end
return full
